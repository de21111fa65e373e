"""cossim topk and cossim pairs find, print and write the right pairs, and refuse bad input."""

import io
import json
import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refused, shown
from conftest import ROOT
from processes import printed, run
from public_inputs import npy_bytes

import cossim
from cossim.__main__ import main
from cossim.cli import result_files, search_commands
from cossim.search import functions

ENDING = "; (try|then): cossim .*\n"  # an error ends with the command that would work
NO_PYARROW = "pyarrow is not installed; for its size it is not among what the tests install"


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """A folder with queries.npy and corpus.npy, in which the test runs. Two rows of the corpus are the same."""
    corpus = rng.standard_normal((60, 8)).astype(np.float32)
    corpus[40] = corpus[7]
    np.save(tmp_path / "queries.npy", rng.standard_normal((5, 8)).astype(np.float32))
    np.save(tmp_path / "corpus.npy", corpus)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


INPUTS = ["corpus.npy", "queries.npy"]


def csv(text, dtype=np.float32):
    """Reads CSV as a dict of columns; the last column has the dtype of scores."""
    head, *lines = text.splitlines()
    columns = zip(*(line.split(",") for line in lines), strict=True)
    types = [np.int64] * head.count(",") + [dtype]
    return {
        name: np.array([float(cell) if kind is dtype else int(cell) for cell in column], kind)
        for name, column, kind in zip(head.split(","), columns, types, strict=True)
    }


def equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].dtype == expected[name].dtype, name
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def long_form(found):
    count, k = found.values.shape
    return {
        "query": np.repeat(np.arange(count), k),
        "rank": np.tile(np.arange(k) + 1, count),
        "index": found.indices.ravel(),
        "value": found.values.ravel(),
    }


# ---- what they find ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int8, np.bool_, ">f4"])
@pytest.mark.parametrize("order", "CF")
def test_topk_prints_the_best_rows(folder, rng, dtype, order, capsys):
    queries, corpus = (np.asarray(3 * rng.standard_normal((n, 8)), dtype, order=order) for n in (5, 60))
    np.save("queries.npy", queries)
    np.save("corpus.npy", corpus)
    expected = functions.topk(queries, corpus, 3)
    equal(csv(shown(capsys, "topk queries.npy corpus.npy -k 3"), expected.values.dtype.type), long_form(expected))


def test_topk_of_one_file_leaves_out_each_row_itself(folder, capsys):
    equal(csv(shown(capsys, "topk corpus.npy -k 2")), long_form(functions.topk(np.load("corpus.npy"), None, 2)))


def test_pairs_prints_sorted_pairs(folder, capsys):
    x = np.load("corpus.npy")
    i, j, values = functions.pairs_above(x, 0.5)
    assert len(i) > 20
    equal(csv(shown(capsys, "pairs corpus.npy --threshold 0.5")), {"i": i, "j": j, "value": values})


def test_pairs_between_files(folder, capsys):
    x, y = np.load("corpus.npy"), np.load("queries.npy")
    i, j, values = functions.pairs_above(x, -0.25, y)
    equal(csv(shown(capsys, "pairs corpus.npy queries.npy --threshold -.25")), {"i": i, "j": j, "value": values})


def test_groups_prints_the_lowest_row_of_each_group(folder, capsys):
    labels = functions.duplicate_groups(np.load("corpus.npy"), 0.9)
    assert labels[40] == 7
    equal(
        csv(shown(capsys, "pairs corpus.npy --threshold 0.9 --groups"), np.int64),
        {"row": np.arange(60), "group": labels},
    )
    assert main(["pairs", "corpus.npy", "--threshold", "0.9", "--groups", "-o", "groups.npz"]) == 0
    equal(dict(np.load("groups.npz")), {"labels": labels})


def test_commands_run_as_programs(folder, capsys):
    arguments = ["topk", "queries.npy", "corpus.npy", "-k", "2"]
    assert main(arguments) == 0
    expected = capsys.readouterr().out
    assert printed("-W", "error", "-m", "cossim", *arguments) + "\n" == expected
    assert run(*arguments) == (0, expected, "")
    assert run(*arguments, "-o", "hits.csv") == (0, "", "")
    assert (folder / "hits.csv").read_text() == expected


def test_options_reach_the_functions(folder, monkeypatch, capsys):
    seen = []

    def spy(function):
        def call(*arguments, **options):
            seen.append({"threads": cossim.get_num_threads(), **options})
            return function(*arguments, **options)

        return call

    for name in ("topk", "pairs_above", "duplicate_groups"):
        monkeypatch.setattr(functions, name, spy(getattr(functions, name)))
    common = ["--eps", "0.5", "--memory", "1.5M", "--threads", "3"]
    before = cossim.get_num_threads()
    assert main(["topk", "corpus.npy", "-k", "2", *common]) == 0
    assert main(["pairs", "corpus.npy", "--threshold", "0.9", "--max-pairs", "77", *common]) == 0
    assert main(["pairs", "corpus.npy", "--threshold", "0.9", "--groups", *common]) == 0
    options = {"eps": 0.5, "binary": False, "memory": 3 << 19, "threads": 3, "progress": None}
    assert seen == [options, {**options, "max_pairs": 77}, options]
    assert cossim.get_num_threads() == before


def test_eps_is_the_smallest_norm(folder, capsys):
    np.save("small.npy", np.array([[3, 4], [30, 40]], np.float64))
    assert shown(capsys, "topk small.npy -k 1 --eps 20").splitlines()[1:] == ["0,1,1,0.25", "1,1,0,0.25"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("1000", 1000),
        ("1000B", 1000),
        ("2k", 2048),
        ("256M", 256 << 20),
        ("256MiB", 256 << 20),
        ("256mib", 256 << 20),
        ("256 M", 256 << 20),
        ("256MB", 256 * 10**6),
        ("1.5G", 3 << 29),
        (".5GB", 5 * 10**8),
        ("0.1K", 102),
        ("2T", 2 << 40),
    ],
)
def test_memory_sizes_are_parsed(text, expected):
    assert search_commands.byte_count(text) == expected


# ---- what they write ----


ARRAYS = (".npz", ".safetensors")
TEXT = {".csv": "i,j,value\n", ".tsv": "i\tj\tvalue\n", ".jsonl": ""}


def written(path):
    if path.endswith(".npz"):
        with np.load(path) as file:
            return dict(file)
    if path.endswith((".csv", ".tsv")):
        return csv(Path(path).read_text().replace("\t", ","))
    if path.endswith(".jsonl"):
        lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
        dtypes = {name: np.float32 if name == "value" else np.int64 for name in (lines[0] if lines else ())}
        return {name: np.array([line[name] for line in lines], dtype) for name, dtype in dtypes.items()}
    if path.endswith(".safetensors"):
        found = pytest.importorskip("safetensors.numpy").load_file(path)
        return {name: found[name] for name in ("i", "j", "values", "indices") if name in found}
    table = pytest.importorskip("pyarrow.parquet").read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


@pytest.fixture(params=[".npz", ".csv", ".tsv", ".jsonl", ".parquet", ".safetensors"])
def suffix(request):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow", reason=NO_PYARROW)
    return request.param


def test_topk_writes_every_format(folder, suffix, monkeypatch, capsys):
    monkeypatch.setattr(result_files, "TEXT_LINES", 7)
    monkeypatch.setattr(result_files, "PARQUET_LINES", 100)
    expected = functions.topk(np.load("corpus.npy"), None, 3)
    assert main(["topk", "corpus.npy", "-k", "3", "-o", "hits" + suffix]) == 0
    equal(written("hits" + suffix), expected._asdict() if suffix in ARRAYS else long_form(expected))
    assert capsys.readouterr() == ("", "")
    assert names(folder) == sorted([*INPUTS, "hits" + suffix])


@pytest.mark.parametrize("threshold", ["0.3", "1"])
def test_pairs_writes_every_format(folder, suffix, threshold, rng):
    np.save("other.npy", rng.standard_normal((30, 8)).astype(np.float32))
    i, j, values = functions.pairs_above(np.load("other.npy"), float(threshold))
    assert bool(len(i)) == (threshold != "1")
    assert main(["pairs", "other.npy", "--threshold", threshold, "-o", "PAIRS" + suffix.upper()]) == 0
    os.rename("PAIRS" + suffix.upper(), "pairs" + suffix)
    last = "values" if suffix in ARRAYS else "value"
    if suffix in TEXT and not len(i):
        assert (folder / f"pairs{suffix}").read_text() == TEXT[suffix]
    else:
        equal(written("pairs" + suffix), {"i": i, "j": j, last: values})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_read_back_to_the_same_bits(dtype, rng):
    special = [0.0, -0.0, 1.0, -1.0, np.nan, 0.9, 1 / 3, np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal]
    values = np.concatenate((special, np.nextafter(dtype(1), dtype(0))[None], rng.uniform(-1, 1, 20000))).astype(dtype)
    result = result_files.Result({}, lambda line: {"row": line, "value": values[line]}, len(values))
    text = "".join(result_files._csv(result))
    assert "\n5,0.9\n" in text
    found = csv(text, dtype)["value"]
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(values))


def test_no_queries_give_an_empty_table(folder, capsys):
    np.save("queries.npy", np.zeros((0, 8), np.float32))
    assert shown(capsys, "topk queries.npy corpus.npy -k 3") == "query,rank,index,value\n"


def test_permissions_are_those_of_any_new_file(folder):
    before = os.umask(0o027)
    try:
        assert main(["topk", "corpus.npy", "-k", "1", "-o", "hits.csv"]) == 0
    finally:
        os.umask(before)
    assert os.stat("hits.csv").st_mode & 0o777 == 0o640


def test_a_file_that_is_replaced_keeps_its_permissions_and_links(folder):
    (folder / "real.csv").write_text("old")
    os.chmod("real.csv", 0o604)
    os.symlink("real.csv", "hits.csv")
    assert main(["topk", "corpus.npy", "-k", "1", "-o", "hits.csv"]) == 0
    assert os.path.islink("hits.csv")
    assert (folder / "real.csv").read_text().startswith("query,")
    assert os.stat("real.csv").st_mode & 0o777 == 0o604


# ---- other files and names of rows ----

WORDS = 'king 3 4\nqueen 4 3\nan, "odd" word 3 4.5\nfish 0 -1\n'


@pytest.fixture
def words(folder):
    Path("words.txt").write_text(WORDS)
    return np.array([[3, 4], [4, 3], [3, 4.5], [0, -1]], np.float32)


@pytest.mark.parametrize(
    "data", [b"3 4\n4 3\n", b"3,4\n4,3\n", b'{"v": [3, 4]}\n{"v": [4, 3]}', b"[3, 4]\n[4, 3]\n", None]
)
def test_standard_input_is_read_as_rows(words, data, monkeypatch, capsys):
    if data is not None and (b"," in data):
        pytest.importorskip("pyarrow", reason=NO_PYARROW)
    data = npy_bytes(words[:2]) if data is None else data
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert (
        shown(capsys, "topk - words.txt -k 1 --ids word")
        == "query,rank,index,value,index_id\n0,1,0,1.0,king\n1,1,1,1.0,queen\n"
    )


def test_ids_are_added_to_the_table(words, capsys):
    quoted = '"an, ""odd"" word"'
    lines = shown(capsys, "topk words.txt -k 1 --ids word").splitlines()
    assert lines[0] == "query,rank,index,value,query_id,index_id"
    assert lines[1].startswith("0,1,2,0.99") and lines[1].endswith(f",king,{quoted}")
    assert shown(capsys, "pairs words.txt -t 0.99 --ids word").splitlines() == [
        "i,j,value,i_id,j_id",
        f"0,2,{lines[1].split(',')[3]},king,{quoted}",
    ]
    Path("names").write_text("a\nb\nc\nd\n")
    assert (
        shown(capsys, "pairs words.txt -t 0.99 --groups --ids names")
        == "row,group,row_id,group_id\n0,0,a,a\n1,1,b,b\n2,0,c,a\n3,3,d,d\n"
    )


@pytest.mark.parametrize("suffix", [".npz", ".tsv", ".jsonl", ".parquet"])
def test_files_with_names_of_rows(words, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason=NO_PYARROW)
    path = "names" + suffix
    assert main(["topk", "words.txt", "-k", "1", "--ids", "word", "-o", path]) == 0
    expected = ['an, "odd" word', "queen"]
    if suffix == ".npz":
        with np.load(path) as file:
            assert file["query_ids"].tolist()[:2] == ["king", "queen"]
            found = file["index_ids"][:, 0].tolist()
    elif suffix == ".parquet":
        found = written(path)["index_id"].tolist()
    elif suffix == ".jsonl":
        found = [json.loads(line)["index_id"] for line in Path(path).read_text().splitlines()]
    else:
        found = [line.split("\t")[-1].strip('"').replace('""', '"') for line in Path(path).read_text().splitlines()[1:]]
    assert found[0] == expected[0] and found[3] == expected[1]


def test_column_chooses_the_vectors(folder, capsys):
    x, y = (np.load(f"{name}.npy") for name in ("corpus", "queries"))
    np.savez("both.npz", x=x, y=y)
    equal(csv(shown(capsys, "topk both.npz -k 2 --column y")), long_form(functions.topk(y, None, 2)))
    assert "'x', 'y'" in refused(capsys, "topk both.npz -k 2")


def test_column_concerns_the_files_that_have_names(folder, capsys):
    x, y = (np.load(f"{name}.npy") for name in ("corpus", "queries"))
    np.savez("both.npz", x=x, y=y)
    for files, expected in (("queries.npy both.npz", (y, x)), ("both.npz queries.npy", (x, y))):
        equal(csv(shown(capsys, "topk", files, "-k 2 --column x")), long_form(functions.topk(*expected, 2)))
    assert "queries.npy: rows in this format have no name" in refused(
        capsys, "topk queries.npy corpus.npy -k 2 --column x"
    )


# ---- what they refuse ----


class Trap:
    def __reduce__(self):
        return pytest.fail, ("the pickle was loaded",)


GOOD = npy_bytes(np.zeros((2, 8)))
BAD_INPUTS = {  # the other messages are in test_messages.py
    "pickle": (pickle.dumps([1.0]), r"\.npy\b.* 80 0"),
    "pickle with code": (pickle.dumps(Trap()), r"\.npy\b.* 80 0"),
    "object": (npy_bytes(np.array([[Trap()]]), allow_pickle=True), r"\bobjects\b.*\bnumbers\b"),
    "text array": (npy_bytes(np.full((2, 8), "x")), r"\breal\b.*<U1"),
    "records": (npy_bytes(np.zeros((2, 8), [("a", "f4")])), r"\breal\b.*'a'"),
    "3-d": (npy_bytes(np.zeros((2, 2, 2))), r"\(2, 2, 2\).*\brows\b"),
    "cut in the header": (GOOD[:50], "EOF: reading array header"),
    "cut in the first bytes": (GOOD[:7], r"\bversion\b.*\bdamaged\b"),
    "damaged header": (GOOD.replace(b"descr", b"descx"), "Header does not contain the correct keys"),
    "header that does not end": (GOOD.replace(b", }", b",  "), r"\bheader\b"),
    "header of names": (GOOD.replace(b"False", b"Flase"), r"\bheader\b"),
    "header of unequal keys": (GOOD.replace(b"'descr'", b"1234567"), r"\bheader\b"),
    "dtype of one part": (GOOD.replace(b"'<f8', 'fortran", b"('f8',),'fortran"), r"\bheader\b"),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_files_that_are_not_a_matrix_of_numbers_are_refused(folder, kind, capsys):
    data, message = BAD_INPUTS[kind]
    (folder / "bad.npy").write_bytes(data)
    error = refused(capsys, "topk queries.npy bad.npy -k 1 -o hits.npz")
    assert re.fullmatch(rf"cossim: bad\.npy: .*{message}.*\n", error)
    assert names(folder) == sorted([*INPUTS, "bad.npy"])


@pytest.mark.parametrize(
    ("path", "message"),
    [("no.npy", "No such file or directory"), ("empty", "there is no file: change the folder or the pattern")],
)
def test_files_that_cannot_be_opened(folder, path, message, capsys):
    os.mkdir("empty")
    error = refused(capsys, "pairs corpus.npy", path, "--threshold 0.5")
    assert re.fullmatch(re.escape(f"cossim: {path}: {message}") + ENDING, error)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("topk queries.npy corpus.npy -k 0", r"topk\(\): k\b.*\b1\b.* 0"),
        ("topk queries.npy corpus.npy -k -1", r"topk\(\): k\b.*\b1\b.* -1"),
        ("topk queries.npy -k 1 --eps -1", r".*\(\): eps\b.* -1.*"),
        ("topk queries.npy -k 1 --eps nan", r".*\(\): eps\b.*\bnan\b.*"),
        ("pairs corpus.npy --threshold 1.01", r"pairs_above\(\): threshold\b.*\[-1, 1\].* 1\.01"),
        ("pairs corpus.npy --threshold nan", r"pairs_above\(\): threshold\b.*\[-1, 1\].* nan"),
        ("pairs corpus.npy --threshold -1 --max-pairs 9", r"pairs_above\(\): .*\b9\b.* -1\.0\b.*\b1770\b.*"),
    ],
)
def test_numbers_out_of_range_are_refused(folder, command, message, capsys):
    assert re.fullmatch(f"cossim: {message}{ENDING}", refused(capsys, command, "-o result.csv"))
    assert names(folder) == INPUTS


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("topk", "required: QUERIES, -k"),
        ("topk queries.npy corpus.npy more.npy -k 1", "more.npy"),
        ("topk queries.npy -k x", "argument -k: "),
        ("topk queries.npy -k 1 --memory 1e9", "argument --memory: '1e9' "),
        ("topk queries.npy -k 1 --memory=-1", "argument --memory: '-1' "),
        ("topk queries.npy -k 1 --memory 9999999T", "argument --memory: '9999999T' "),
        ("topk queries.npy -k 1 -o hits.npy", "argument -o/--output: 'hits.npy' "),
        ("topk queries.npy -k 1 -o .csv", "argument -o/--output: '.csv' "),
        ("pairs corpus.npy", "required: -t/--threshold"),
        ("pairs corpus.npy --threshold high", "argument -t/--threshold: "),
        ("pairs corpus.npy --threshold 1 --groups --max-pairs 5", "argument --groups: "),
        ("train", "required: IMAGES, -o/--output"),
        ("train images.npy -o w.npz --checkpoint c", "argument --checkpoint: 'c' "),
        ("train images.npy -o w.npz --epochs many", "argument --epochs: "),
        ("train images.npy -o w.npz --lr fast", "argument --lr: "),
        ("train images.npy -o w.npz --threads 0", "argument --threads: 0 "),
        ("embed images.npy -o z.npy", "required: --weights"),
        ("embed images.npy --weights old.npz", "required: -o/--output"),
        ("embed images.npy --weights old.pt -o z.npy", "argument --weights: 'old.pt' "),
        ("embed images.npy --weights old.npz -o z.csv", "argument -o/--output: 'z.csv' "),
        ("nonsense", "'nonsense'"),
        ("demo --seed x", "argument --seed: "),
        ("demo --seed -1", "argument --seed: "),
        ("info extra", "extra"),
    ],
)
def test_invalid_arguments_exit_with_2(folder, command, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: cossim" in printed.err
    assert re.search(f"^cossim( {command.split(' ')[0]})?: error: .*{re.escape(message)}", printed.err, re.M)
    assert names(folder) == INPUTS


SEARCH = "topk queries.npy -k 1 -o"


@pytest.fixture
def no_search(monkeypatch):
    """Makes the test fail if a search begins."""
    for name in ("topk", "pairs_above", "duplicate_groups"):
        monkeypatch.setattr(functions, name, lambda *_, **__: pytest.fail("it searched"))


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("no/such/folder/hits.npz", "folder does not exist"),
        ("queries.npy/hits.npz", "Not a directory"),
        ("folder.npz", "file"),
        ("pipe.csv", "file"),
        (f"{'x' * 300}.csv", "File name too long"),
    ],
)
def test_results_that_could_not_be_written_are_refused_at_once(folder, no_search, output, reason, capsys):
    (folder / "folder.npz").mkdir()
    os.mkfifo("pipe.csv")
    before = names(folder)
    assert re.fullmatch(rf"cossim: {re.escape(output)}: .*{reason}\b.*\n", refused(capsys, SEARCH, output))
    assert names(folder) == before


def test_write_protection_is_kept(folder, no_search, capsys):
    """Uses /proc, because root may write everywhere else."""
    root = os.access("/", os.W_OK)
    if root and not os.path.isdir("/proc/self"):
        pytest.skip("root, without a /proc")
    os.mkdir("locked")
    os.chmod("locked", 0o555)
    error = refused(capsys, SEARCH, "/proc/hits.npz" if root else "locked/hits.npz")
    assert re.fullmatch(r"cossim: .*hits\.npz: .*\n", error)
    if not root:
        (folder / "hits.npz").write_bytes(b"old")
        os.chmod("hits.npz", 0o444)
        assert "write-protected" in refused(capsys, SEARCH, "hits.npz")


def test_parquet_without_pyarrow(folder, no_search, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert re.fullmatch(r"cossim: hits\.parquet: .*'cossim-c\[files\]'\n", refused(capsys, SEARCH, "hits.parquet"))
    assert names(folder) == INPUTS


# ---- documentation ----


def test_the_page_and_the_help_name_every_exit_code(capsys):
    text = (ROOT / "docs/command-line.md").read_text()
    assert re.findall(r"^\| (\d+) \|", text, re.M) == ["0", "1", "2", "130"]
    for arguments in (["-h"], ["topk", "-h"], ["pairs", "-h"], ["train", "-h"], ["embed", "-h"]):
        with pytest.raises(SystemExit):
            main(arguments)
        codes = capsys.readouterr().out.split("Exit codes:")[1]
        assert re.findall(r"\b\d+\b", codes) == ["0", "1", "2", "130"]
