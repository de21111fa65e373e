"""Errors of the command line end with a command that works, and `cossim` alone shows examples."""

import gzip
import io
import random
import re
import shlex
import time
import zipfile
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from commands import shown

import cossim
from cossim.__main__ import _parser, _problem, main
from cossim.cli import EXAMPLES, WHAT_FOR, suggestions


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.eye(12, 4) + np.ones(4)
    for name in ("queries", "corpus"):
        np.save(f"{name}.npy", x)
    np.savez("both.npz", a=x, b=x)
    sparse = {"data": x.ravel(), "indices": np.tile(np.arange(4), 12), "indptr": np.arange(0, 49, 4)}
    np.savez("sparse.npz", format=np.array(b"csr"), shape=np.array(x.shape), **sparse)
    np.save("narrow.npy", x[:, :3])
    np.save("none.npy", np.zeros((0, 28, 28)))
    np.save("digits.npy", np.zeros((4, 28, 28), np.uint8))
    cossim.Index(x).save("kept.index")
    cossim.Index(x.astype(np.float32)).save("small.index")
    (tmp_path / "named.csv").write_text("name,a,b\nfirst,1,2\nsecond,2,4\n")
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    (tmp_path / "names.txt").write_text("name\n" * 12)
    (tmp_path / "rows.txt").write_text("1 2\n")
    for name in ("damaged.txt", "two words.txt"):
        (tmp_path / name).write_text("1 x\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folders").mkdir()
    (tmp_path / "corpus.pkl").write_bytes(b"")
    np.save("folders/x.npy", x)
    np.save("packed.npy", np.arange(24, dtype=np.uint8).reshape(12, 2))
    np.savez("named.npz", vectors=x)
    np.savez("others.npz", title=x, body=x)
    np.savez("wide.npz", a=x, b=np.ones((3, 6)))
    np.savez("small.npz", a=x, b=x)
    np.save("my rows.npy", x)
    (tmp_path / "parts").mkdir()
    for number in (1, 2):
        np.save(f"parts/{number}.npy", x)
    return tmp_path


def error_of(command, capsys):
    try:
        code = main(shlex.split(command))
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert code in (1, 2) and out == ""
    return err.splitlines()[-1]


def test_a_file_of_an_unknown_format_is_converted_before_the_command_that_works(folder, capsys):
    (folder / "rows.json").write_text('[{"x": [1, 2]}, {"x": [2, 1]}]')
    error = error_of("topk rows.json -k 1", capsys)
    assert error.endswith("; then: cossim topk rows.parquet -k 1")
    pandas = pytest.importorskip("pandas", reason="converts the file")
    pytest.importorskip("pyarrow", reason="writes Parquet")
    conversion = re.search(r"such as (pandas\S+to_parquet\S+\))", error)[1]
    eval(conversion, {"pandas": pandas})
    assert main(shlex.split(error.split("; then: cossim ")[1])) == 0
    assert capsys.readouterr().out.splitlines()[1] == "0,1,1,0.8"
    (folder / "rows.pkl").write_bytes(b"")
    assert error_of("topk rows.pkl -k 1", capsys).endswith("vectors); then: cossim topk rows.npy -k 1")
    with zipfile.ZipFile(folder / "saved.pt", "w") as archive:  # as torch.save writes it
        archive.writestr("saved/data.pkl", b"\x80\x02.")
    assert error_of("topk saved.pt -k 1", capsys).endswith("vectors); then: cossim topk saved.npy -k 1")


def test_a_file_that_cannot_be_piped_is_named(folder, capsys, monkeypatch):
    for start, suffix, file in ((b"PAR1", ".parquet", "corpus.parquet"), (b"PK\3\4", ".npz", "named.npz")):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(start + b"\0" * 9)))
        error = error_of("topk - -k 1", capsys)
        assert error.startswith(f"cossim: standard input: a {suffix} file")
        assert error.endswith(f"; try: cossim topk {file} -k 1")


def test_what_is_piped_may_be_gzipped(folder, capsys, monkeypatch):
    wanted = ["0,1,1,0.8", "1,1,0,0.8"]
    for data in ((lambda file: np.save(file, [[1, 0, 0], [4, 3, 0]])), b"1 0 0\n4 3 0\n", b"a,b,c\n1,0,0\n4,3,0\n"):
        if callable(data):
            file = io.BytesIO()
            data(file)
            data = file.getvalue()
        elif b"," in data:
            pytest.importorskip("pyarrow", reason="reads CSV")
        for piped in (data, gzip.compress(data)):
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(piped)))
            assert shown(capsys, "topk - -k 1").splitlines()[1:] == wanted
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(gzip.compress(data)[:-9])))
        assert error_of("topk - -k 1", capsys).startswith("cossim: standard input: Compressed file ended")


def test_a_folder_of_several_formats_is_replaced_by_a_pattern(folder, capsys):
    (folder / "mixed").mkdir()
    (folder / "mixed" / "titles.csv").write_text("1,2\n")
    for name in ("corpus.npy", "queries.npy"):
        (folder / "mixed" / name).write_bytes((folder / name).read_bytes())
    assert error_of("topk mixed -k 1", capsys).endswith("; try: cossim topk 'mixed/*.npy' -k 1")
    assert main(["topk", "mixed/*.npy", "-k", "1"]) == 0
    capsys.readouterr()
    files = "mixed/corpus.npy mixed/queries.npy mixed/titles.csv"  # as a shell writes mixed/*
    assert error_of(f"topk {files} -k 1", capsys).endswith("; try: cossim topk 'mixed/*.npy' -k 1")
    (folder / "mixed" / "README.md").write_text("About these files\n")
    files = f"mixed/README.md {files}"
    assert error_of(f"topk {files} -k 1", capsys).endswith("; try: cossim topk 'mixed/*.npy' -k 1")
    error = error_of(f"topk queries.npy {files} -k 1", capsys)
    assert error.endswith("; try: cossim topk queries.npy 'mixed/*.npy' -k 1")
    (folder / "mixed").rename(folder / "set[1]")
    assert error_of("topk set[1] -k 1", capsys).endswith("; try: cossim topk 'set[[]1]/*.npy' -k 1")
    assert shown(capsys, "topk set[[]1]/*.npy -k 1")
    for number in (1, 2):
        (folder / "set[1]" / f"{number}.txt.gz").write_bytes(gzip.compress(b"1 2\n"))
    (folder / "set[1]" / "corpus.npy").unlink()
    assert error_of("topk set[1] -k 1", capsys).endswith("; try: cossim topk 'set[[]1]/*.txt*' -k 1")
    assert shown(capsys, "topk set[[]1]/*.txt* -k 1")


@pytest.mark.parametrize(
    ("command", "works"),
    [
        ("topk queries.npy -k 0", "topk queries.npy -k 1"),
        ("topk queries.npy -k many", "topk queries.npy -k 10"),
        ("topk queries.npy", "topk queries.npy -k 10"),
        ("topk", "topk queries.npy -k 10"),
        ("topk querys.npy corpus.npy -k 3", "topk queries.npy corpus.npy -k 3"),
        ("topk both.npz -k 3", "topk both.npz -k 3 --column a"),
        ("topk both.npz -k 3 --column c", "topk both.npz -k 3 --column a"),
        ("topk queries.npy -k 3 --ids few.txt", "topk queries.npy -k 3"),
        ("topk queries.npy -k 3 --ids word", "topk queries.npy -k 3"),
        ("topk queries.npy -k 3 --binary", "topk queries.npy -k 3"),
        ("topk queries.npy -k 3 --memory 1X", "topk queries.npy -k 3 --memory 256M"),
        ("topk queries.npy -k 3 -o hits.npy", "topk queries.npy -k 3 -o hits.npz"),
        ("topk queries.npy -k 3 -o no/hits.csv", "topk queries.npy -k 3 -o hits.csv"),
        ("topk queries.npy -k 3 -o folder.csv", "topk queries.npy -k 3 -o new-folder.csv"),
        ("topk queries.npy corpus.npy both.npz -k 3", "topk queries.npy corpus.npy -k 3"),
        ("pairs corpus.npy -t 95", "pairs corpus.npy -t 0.95"),
        ("pairs corpus.npy -t 80", "pairs corpus.npy -t 0.8"),
        ("pairs corpus.npy --threshold 90% --quiet", "pairs corpus.npy --quiet -t 0.9"),
        ("pairs corpus.npy --threshold=2", "pairs corpus.npy --threshold 0.95"),
        ("pairs corpus.npy -t 0.9 --eps -1", "pairs corpus.npy -t 0.9 --eps 1e-8"),
        ("pairs corpus.npy -t 0.9 --max-pairs -1", "pairs corpus.npy -t 0.9 --max-pairs 1000000"),
        ("topk queries.npy -k 3 --threads 99999999999", "topk queries.npy -k 3 --threads 2"),
        ("pairs corpus.npy -t nan --eps -1 --threads 2", "pairs corpus.npy -t 0.95 --eps 1e-8 --threads 2"),
        ("topk queries.npy -k 0 --memory lots", "topk queries.npy -k 1 --memory 256M"),
        ("pairs corpus.npy -t 0.5 --max-pairs 2", "pairs corpus.npy -t 0.5 --max-pairs 66"),
        ("pairs corpus.npy -t 0.9 --groups --max-pairs 9", "pairs corpus.npy -t 0.9 --groups"),
        ("pairs corpus.npy", "pairs corpus.npy -t 0.95"),
        ("pairs corpus.npy --treshold 0.9", "pairs corpus.npy --threshold 0.9"),
        ("pairs corpus.npy --threshhold=0.9", "pairs corpus.npy --threshold 0.9"),
        ("pairs corpus.npy -t 0.9 --ouput hits.npz", "pairs corpus.npy -t 0.9 --output hits.npz"),
        ("topk queries.npy --topk 2", "topk queries.npy -k 2"),
        ("topk queries.npy -n 2", "topk queries.npy -k 2"),
        ("index build corpus.npy", "index build corpus.npy -o corpus.index"),
        ("index build 'c*.npy'", "index build 'c*.npy' -o corpus.index"),
        ("index add narrow.npy queries.npy", "index build narrow.npy -o narrow.index"),
        # two files: their columns have different names, or both are written as one word
        ("topk both.npz others.npz -k 3", "topk both.npz others.npz -k 3 --column a --column title"),
        ("topk both.npz others.npz -k 3 --column b", "topk both.npz others.npz -k 3 --column b --column title"),
        ("topk both.npz others.npz -k 3 --column body", "topk both.npz others.npz -k 3 --column a --column body"),
        ("pairs named.npz others.npz -t 0.9", "pairs named.npz others.npz -t 0.9 --column vectors --column title"),
        ("topk both.npz named.npz --column b", "topk both.npz named.npz -k 10 --column b --column vectors"),
        ("topk both.npz queries.npy -k 3 --column c", "topk both.npz queries.npy -k 3 --column a"),
        ("topk both.npz -k 3 --column a --column b", "topk both.npz -k 3 --column a"),
        ("topk queries.npy,corpus.npy -k 3", "topk queries.npy corpus.npy -k 3"),
        ("pairs 'queries.npy; corpus.npy' -t 0.9", "pairs queries.npy corpus.npy -t 0.9"),
        ("topk corpus.npy, queries.npy -k 3", "topk corpus.npy queries.npy -k 3"),
        ("topk queries.npy:corpus.npy -k 3", "topk queries.npy corpus.npy -k 3"),
        (
            "topk others.npz both.npz -k 3 --column b --column body",
            "topk others.npz both.npz -k 3 --column body --column b",
        ),
        ("topk both.npz others.npz -k 3 --column b body", "topk both.npz others.npz -k 3 --column b --column body"),
        ("index add kept.index wide.npz --column b", "index build wide.npz -o wide.index --column b"),
        # values and names of several words, and patterns without quotes
        ("topk queries.npy -k 3 --memory 2 GB", "topk queries.npy -k 3 --memory 2GB"),
        ("topk my rows.npy -k 3", "topk 'my rows.npy' -k 3"),
        ("topk queries.npy --k 3 my rows.npy", "topk queries.npy 'my rows.npy' -k 3"),
        ("topk queries.npy parts/1.npy parts/2.npy -k 3", "topk queries.npy 'parts/*.npy' -k 3"),
        ("dedupe parts/1.npy parts/2.npy -t 0.9", "dedupe 'parts/*.npy' -t 0.9"),
        ("topk --corpus corpus.npy --queries queries.npy -k 3", "topk queries.npy corpus.npy -k 3"),
        ("topk --queries queries.npy --corpus corpus.npy -k 3", "topk queries.npy corpus.npy -k 3"),
        ("topk queries.npy --corpus parts/1.npy parts/2.npy -k 3", "topk queries.npy 'parts/*.npy' -k 3"),
        ("topk --corpus parts/1.npy parts/2.npy --queries queries.npy -k 3", "topk queries.npy 'parts/*.npy' -k 3"),
        ("topk -k 3 --corpus corpus.npy queries.npy", "topk queries.npy corpus.npy -k 3"),
        # other names of commands and options
        ("--topk queries.npy corpus.npy 5", "topk queries.npy corpus.npy -k 5"),
        ("--topk queries.npy corpus.npy -k 5", "topk queries.npy corpus.npy -k 5"),
        ("pairs corpus.npy \u2014threshold 0.9", "pairs corpus.npy --threshold 0.9"),
        ("topk queries.npy corpus.npy \u2013k 3", "topk queries.npy corpus.npy -k 3"),
        ("duplicates corpus.npy -t 0.9", "dedupe corpus.npy -t 0.9"),
        ("nearest queries.npy corpus.npy 3", "topk queries.npy corpus.npy -k 3"),
        ("similar corpus.npy -t 0.9", "pairs corpus.npy -t 0.9"),
        ("search queries.npy corpus.npy -k 3", "topk queries.npy corpus.npy -k 3"),
        ("topk -k queries.npy corpus.npy", "topk queries.npy corpus.npy -k 10"),
        ("pairs packed.npy -t 0.9 --bits", "pairs packed.npy -t 0.9 --binary"),
        ("topk queries.npy -k 3 --filter rows.txt", "topk queries.npy -k 3 --where rows.txt"),
        # options of pairs given to topk, also under other names
        ("topk corpus.npy --tresh 0.8", "pairs corpus.npy --threshold 0.8"),
        ("topk corpus.npy --cutoff 0.8", "pairs corpus.npy -t 0.8"),
        ("pairs corpus.npy --cutoff 0.8", "pairs corpus.npy -t 0.8"),
        ("topk corpus.npy --nearest 7", "topk corpus.npy -k 7"),
        ("topk corpus.npy -t 0.8 -k ten", "pairs corpus.npy -t 0.8"),
        ("topk corpus.npy 3 -t 0.8", "pairs corpus.npy -t 0.8"),
        ("topk corpus.npy --groups", "pairs corpus.npy --groups -t 0.95"),
        ("dedupe corpus.npy -t 7", "dedupe corpus.npy -t 0.95"),
        ("info now", "info"),
        ("dedupe sparse.npz -t 0.9 --kept", "pairs sparse.npz -t 0.9 --groups"),
        ("index build sparse.npz -o new.index", "topk sparse.npz -k 10"),
        ("index search corpus.npy queries.npy -k 3", "topk queries.npy corpus.npy -k 3"),
        ("index search corpus.npy -t 0.9", "pairs corpus.npy -t 0.9"),
        ("topk kept.index -k 3", "index search kept.index -k 3"),
        ("pairs kept.index -t 0.9", "index search kept.index -t 0.9"),
        ("topk nothing.npy -k 1", "topk corpus.npy -k 1"),
        ("topk queries.npy nothing.npy -k 1", "topk queries.npy corpus.npy -k 1"),
        ("topk queries.npy narrow.npy -k 1", "topk queries.npy -k 1"),
        ("pairs corpus.npy queries.npy -t 0.9 --groups", "pairs corpus.npy queries.npy -t 0.9"),
        ("topk queries.npy -k 3 --column a", "topk queries.npy -k 3"),
        ("index build corpus.npy -o corpus.npy", "index build corpus.npy -o new-corpus.index"),
        ("pairs corpus.npy 0.9", "pairs corpus.npy -t 0.9"),
        ("topk queries.npy 3", "topk queries.npy -k 3"),
        ("topk queries.npy corpus.npy 0.9", "pairs queries.npy corpus.npy -t 0.9"),
        ("topk corpus.npy -k .9 --quiet", "pairs corpus.npy --quiet -t .9"),
        ("index search kept.index -k 0.9", "index search kept.index -t 0.9"),
        ("pairs corpus.npy 3", "pairs corpus.npy -t 0.95"),
        ("cossim topk corpus.npy -k 3", "topk corpus.npy -k 3"),
        ("topk queries.npy --top-k=3", "topk queries.npy -k 3"),
        ("topk both.npz --name b -k 3", "topk both.npz --column b -k 3"),
        ("pairs corpus.npy -t 0.9 queries.npy", "pairs corpus.npy queries.npy -t 0.9"),
        ("topk corpus.npy queries.npy corpus.npy -k 3", "topk corpus.npy queries.npy -k 3"),
        ("topk queries.npy kept.index -k 3", "index search kept.index queries.npy -k 3"),
        ("pairs named.csv -t 0.9 --ids nam", "pairs named.csv -t 0.9 --ids name"),
        ("topk queries.npy corpus.npy --memory lots", "topk queries.npy corpus.npy --memory 256M -k 10"),
        ("topk queries.npy corpus.npy -t 0.5", "pairs queries.npy corpus.npy -t 0.5"),
        ("pairs corpus.npy -k 3 --groups", "topk corpus.npy -k 3"),
        ("pairs corpus.npy -t 0,9", "pairs corpus.npy -t 0.9"),
        ("topk queries.npy -k 5.0", "topk queries.npy -k 5"),
        ("topk queries.npy -k 1e1", "topk queries.npy -k 10"),
        ("topk queries.csv corpus -k 3", "topk queries.npy corpus.npy -k 3"),
        ("topk folder -k 0", "topk folders -k 1"),
        ("pairs - - -t 2", "pairs - -t 0.95"),
        ("dedupe packed.npy -t 95 --binary --kept", "pairs packed.npy -t 0.95 --binary --groups"),
        ("find corpus.npy -k 3", "topk corpus.npy -k 3"),
        ("index create corpus.npy", "index build corpus.npy -o corpus.index"),
        ("index query kept.index -k 3", "index search kept.index -k 3"),
        ("index topk kept.index queries.npy -k 3", "index search kept.index queries.npy -k 3"),
        ("index pairs kept.index -t 0.9", "index search kept.index -t 0.9"),
        ("index build corpus.npy new.index", "index build corpus.npy -o new.index"),
        ("index build corpus.npy -o folders", "index build corpus.npy -o folders.index"),
        ("train digits.npy w.npz --epochs 0 --learning-rate 1", "train digits.npy --epochs 0 --lr 1 -o w.npz"),
        ("topk queries.npy -k 2 -o out.foo --memory=lots", "topk queries.npy -k 2 -o out.npz --memory 256M"),
        ("topk -k 3 queries.npy --kk 3 corpus.npy", "topk queries.npy corpus.npy -k 3"),
        ("pairs corpus.npy -t 0.9 queries.npy --quiet", "pairs corpus.npy queries.npy -t 0.9 --quiet"),
        ("pairs corpus.npy -threshold 0.9 --grops", "pairs corpus.npy --threshold 0.9 --groups"),
        ("pairs corpus.npy --m 99 -t x", "pairs corpus.npy --max-pairs 99 -t 0.95"),
        ("dedupe corpus.npy -k 3", "dedupe corpus.npy -t 0.95"),
        ("dedupe kept.index -t 0.9 --kept", "index search kept.index -t 0.9"),
        ("index build kept.index -o new.index", "index search kept.index -o new.npz -k 10"),
        ("index search kept.index kept.index -k 3", "index search kept.index -k 3"),
        ("index search kept.index queries.npy -k 3 -t 0.5", "index search kept.index queries.npy -k 3"),
        ("index search queries.npy kept.index -k 3", "index search kept.index queries.npy -k 3"),
        ("index search kept.index narrow.npy -k 3", "index search kept.index -k 3"),
        ("index search kept.index 0.9", "index search kept.index -t 0.9"),
        ("topk kept.index queries.npy -k 3", "index search kept.index queries.npy -k 3"),
        ("topk queries.npy -k 3 --column", "topk queries.npy -k 3"),
        ("topk queries.npy -k 3 --memory corpus.npy", "topk queries.npy corpus.npy -k 3 --memory 256M"),
        ("--quiet topk queries.npy -k 3", "topk queries.npy --quiet -k 3"),
        ("topk queries.npy -k 0 -o hits.foo", "topk queries.npy -k 1 -o hits.npz"),
        ("topk queries.npy -k 0 --eps -1", "topk queries.npy -k 1 --eps 1e-8"),
        ("topk queries.npy narrow.npy -k 0", "topk queries.npy -k 1"),
        ("pairs corpas.npy -t 95", "pairs corpus.npy -t 0.95"),
        ("pairs corpus.npy -t 0.5 --max-pairs -1", "pairs corpus.npy -t 0.5 --max-pairs 1000000"),
        ("topk querys.npy corpas.npy -k 3", "topk queries.npy corpus.npy -k 3"),
        ("topk querys.npy nothing.npy -k 0", "topk queries.npy corpus.npy -k 1"),
        ("topk queries.npy -k 3 -o hits.json", "topk queries.npy -k 3 -o hits.jsonl"),
        ("topk queries.npy -k 3 -o hits.cvs", "topk queries.npy -k 3 -o hits.csv"),
        ("topk queries.npy -k 3 --ids missing.txt", "topk queries.npy -k 3"),
        ("topk queries.npy -k 3 --ids name.txt", "topk queries.npy -k 3 --ids names.txt"),
        ("topk queries.npy -k 3 --where row.txt", "topk queries.npy -k 3 --where rows.txt"),
        # mistakes that show only when the files are opened
        ("topk both.npz queries.npy --binary", "topk both.npz queries.npy -k 10 --column a"),
        ("topk querys.npy narrow.npy -k 3 --ids few.txt -o no/hits.csv", "topk queries.npy -k 3 -o hits.csv"),
        ("topk queries.npy -k 0 --column b --ids few.txt -o hits.foo", "topk queries.npy -k 1 -o hits.npz"),
        ("pairs nothing.npy -t 2 --ids nobody", "pairs corpus.npy -t 0.95"),
        ("index serch none.index narrow.npy -k 3 --ids few.txt", "index search kept.index -k 3"),
        ("index add keep.index corpus.npy --column a", "index add kept.index corpus.npy"),
        ("index add kept.index narrow.npy", "index build narrow.npy -o narrow.index"),
        ("index add missing.index corpus.npy", "index build corpus.npy -o missing.index"),
        ("index build sparse.npz", "topk sparse.npz -k 10"),
        ("index build corpus.npy -o no/new.index --binary", "index build corpus.npy -o new.index"),
        ("dedupe kept.index -t 0.9 --ids few.txt", "index search kept.index -t 0.9"),
        (
            "train digits.npy -o w.npz --epochs -1 --batch-size 1 --lr nan --temperature 0 --seed -3",
            "train digits.npy -o w.npz --epochs 60 --batch-size 128 --lr 0.002 --temperature 0.2 --seed 0",
        ),
    ],
)
def test_the_command_at_the_end_of_an_error_works(folder, command, works, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"1 0\n3 4\n")))
    if ".csv" in works and "pairs" in works:
        pytest.importorskip("pyarrow", reason="reads CSV")
    assert error_of(command, capsys).endswith(f"; try: cossim {works}")
    assert main(shlex.split(works)) == 0


# Lines that parse: the command with its files, then the options. A mistake changes one thing, or adds a wrong one.
LINES = (
    ("topk queries.npy corpus.npy", "-k 3", "--memory 1G", "--ids names.txt", "-o hits.csv", "--eps 0.1"),
    ("pairs corpus.npy both.npz", "-t 0.5", "--max-pairs 7", "--column a", "--where rows.txt", "--quiet"),
    ("pairs corpus.npy", "--threshold 0.5", "--groups", "--eps 0.1", "--threads 3"),
    ("dedupe corpus.npy", "-t 0.7", "--kept", "--memory 2M", "--output kept.npz"),
    ("index build corpus.npy", "-o new.index", "--eps 0.1", "--threads 3"),
    ("index add kept.index both.npz", "-o new.index", "--column b", "--quiet"),
    ("index search kept.index queries.npy", "-k 4", "--exclude rows.txt", "--memory 3M"),
    ("index search kept.index", "-t 0.25", "--max-pairs 8", "--quiet"),
    ("train images.npy", "-o w.npz", "--epochs 3", "--batch-size 64", "--lr 0.1", "--seed 5", "--checkpoint c.npz"),
    ("embed images.npy", "--weights weights.npz", "-o e.npy", "--threads 3"),
    ("demo", "--seed 3", "--output demo.png", "--no-plot"),
)
WRONG = {
    "-k": "ten",
    "--memory": "lots",
    "--threads": "0",
    "--max-pairs": "1.5",
    "-o": "hits.foo",
    "--output": "hits.foo",
}
WRONG |= {"--weights": "w.foo", "--checkpoint": "c.foo"}
WRONG |= dict.fromkeys(("-t", "--threshold", "--eps", "--epochs", "--batch-size", "--lr", "--seed"), "x")


def wrong_line(rng, count):
    """Returns a line with `count` mistakes, and the words that they do not touch."""
    files, *options = rng.choice(LINES)
    command, *files = files.split()
    if command == "index":
        command = f"index {files.pop(0)}"
    options = [[option.split()[0], option] for option in options]  # the right option, and the option as it is written
    kept, extra = {option: right.split() for option, right in options}, []
    for mistake in rng.sample(
        ["value", "bare", "letter", "long", "unknown", "number", "command", "order", "lost"], count
    ):
        option = rng.choice(options)
        name, _, value = option[1].partition(" ")
        if option[0] not in kept or option[1] != " ".join(kept[option[0]]):
            continue  # it has a mistake already
        if mistake == "value" and name in WRONG and command.split()[-1] not in ("build", "add", "demo"):
            option[1] = f"{name} {WRONG[name]}"
        elif mistake == "bare" and value:
            option[1] = name
        elif mistake == "letter" and len(name) > 5:
            option[1] = f"{name[:3]}{name[4:]} {value}"
        elif mistake == "long" and len(name) > 4 and value:
            option[1] = f"{name[1:]} {value}" if rng.random() < 0.5 else f"{name}={value}"
        elif mistake == "lost" and name in ("-k", "-t", "-o", "--weights", "--threshold"):
            options.remove(option)
        elif mistake == "unknown":
            extra.append(rng.choice(["--foo", "--foo 7", "--foo=7", "-q", "--fuzzy word"]))
        elif mistake == "number" and command not in ("topk", "pairs", "demo") and not command.endswith("search"):
            files.append("12")
        elif mistake == "command" and " " not in command:
            command = command[:-1]
        elif mistake == "order" and files:
            options.append([None, files.pop()])
        if mistake in ("value", "bare", "lost") and option[1] != " ".join(kept[option[0]]) or option not in options:
            del kept[option[0]]
    good = [word for word in (*files, *(written for option, written in options if option is None)) if word != "12"]
    return command, [*files, *(written for _, written in options), *extra], good + sum(kept.values(), [])


def test_lines_with_several_mistakes_end_with_a_command_that_keeps_the_right_words(folder):
    """The command at the end parses, and its files can be opened."""
    np.save("images.npy", np.zeros((4, 28, 28)))
    cossim.nn.save_weights("weights.npz", cossim.simclr.Encoder().state_dict())
    rng = random.Random(0)
    for number in range(150):
        command, parts, good = wrong_line(rng, 1 + number % 3)
        line = shlex.split(" ".join([command, *parts]))
        message = _problem(line)
        if not message:
            continue  # such as --threshold=0.5, which is no mistake
        end = suggestions.ending(line, message, _problem)
        assert end.startswith("; try: cossim "), (line, end)
        words = shlex.split(end)[3:]
        assert not _problem(words, with_files=True), (line, end)
        assert not Counter(good) - Counter(words), (line, message, end)
        assert words[0].startswith(command.split()[0]), (line, end)


def test_the_options_of_all_commands_are_known():
    def parsers(parser):
        for action in parser._actions:
            for sub in getattr(action, "choices", None) or () if action.nargs == "A..." else ():
                yield from parsers(action.choices[sub])
        yield parser

    actions = [action for parser in parsers(_parser(["x"])) for action in parser._actions if action.option_strings]
    assert {name for action in actions for name in action.option_strings} == set(suggestions.OPTIONS)
    assert {name for action in actions if action.nargs == 0 for name in action.option_strings} == set(suggestions.FLAGS)


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("topk damaged.txt -k 1", "topk damaged.txt -k 1"),
        ("topk 'two words.txt' -k 1", "topk 'two words.txt' -k 1"),
        ("topk damaged.txt -k 0", "topk damaged.txt -k 1"),
    ],
)
def test_an_error_that_the_user_has_to_repair_ends_with_the_same_command(folder, command, again, capsys):
    assert error_of(command, capsys).endswith(f"; then: cossim {again}")


@pytest.mark.parametrize(
    ("command", "end"),
    [
        ("topk querys.npy damaged.txt -k 3", "then: cossim topk queries.npy damaged.txt -k 3"),
        ("train corpus.npy -o w.pt", "then: cossim train corpus.npy -o w.npz"),
        ("demo --images corpus.npy --no-plots", "then: cossim demo --images corpus.npy --no-plot"),
        (
            "topk both.npz --where 1,2 -k 1",
            "> new-rows.txt; then: cossim topk both.npz -k 1 --column a --where new-rows.txt",
        ),
        ("index add smal.index corpus.npy", "then: cossim index add small.index new-corpus.npy"),
        ("index add smal.index small.npz --columns b", "then: cossim index add small.index small.npy"),
        ("topk querys.npy --where 1 2 -k 3", "> new-rows.txt; then: cossim topk queries.npy -k 3 --where new-rows.txt"),
    ],
)
def test_a_mistake_without_a_remedy_is_shown_after_the_first_one(folder, command, end, capsys):
    error = error_of(command, capsys)
    assert error.endswith(f"; {end}" if end.startswith("then") else end)
    assert "; try" not in error and len(error.split("; then: ")[0].split("; ")) == 2


def test_the_demo_leaves_out_a_file_without_images(folder, capsys):
    assert error_of("demo --images none.npy --no-plot", capsys).endswith("; try: cossim demo --no-plot")


def test_training_with_numbers_out_of_range_or_another_checkpoint(folder, capsys):
    np.save("images.npy", np.random.default_rng(0).random((4, 28, 28)))
    np.savez("other.npz", a=np.ones(3))
    numbers = error_of("train images.npy -o w.npz --epochs 0 --lr -1 --temperature 0 --batch-size 1 --seed -1", capsys)
    paths = error_of("train images.npy -o w.npz --epochs 0 --checkpoint other.npz", capsys)
    for error in (numbers, paths):
        assert main(shlex.split(error.split("; try: cossim ")[1])) == 0


def test_weights_that_are_missing_or_do_not_fit_are_replaced_or_trained(folder, capsys):
    np.save("images.npy", np.zeros((4, 28, 28)))
    np.savez("other.npz", a=np.ones(3))
    np.save("w.npy", np.ones(3))
    lines = [f"embed images.npy --weights {name} -o e.npy" for name in ("none.npz", "other.npz", "w.npy")]
    for line in lines:
        assert error_of(line, capsys).endswith("; try: cossim train images.npy -o weights.npz"), line
    cossim.nn.save_weights("w.npz", cossim.simclr.Encoder().state_dict())
    for line in [*lines, "embed images.npy -o e.npy"]:
        works = error_of(line, capsys).split("; try: cossim ")[1]
        assert sorted(works.split()) == sorted(["embed", "images.npy", "--weights", "w.npz", "-o", "e.npy"])
        assert main(works.split()) == 0


def test_row_numbers_in_place_of_a_file_are_written_to_one_first(folder, capsys):
    end = "echo 1 2 > new-rows.txt; then: cossim topk queries.npy -k 1 --where new-rows.txt"
    for given in ("'1 2'", "1,2"):
        assert error_of(f"topk queries.npy -k 0 --where {given}", capsys).endswith(end)
    end = "echo 0 2 > new-rows.txt; then: cossim topk queries.npy -k 1 --exclude new-rows.txt"
    assert error_of("topk queries.npy -k 1 --exclude queries.npy", capsys).endswith(end)  # not to be overwritten


def test_a_name_of_rows_that_is_a_missing_file_is_said_to_be_missing(folder, capsys):
    error = error_of("topk queries.npy -k 3 --ids missing.txt", capsys)
    assert error.startswith("cossim: missing.txt: there is no such file: --ids takes a file with")


def test_a_file_that_is_missing_or_holds_other_arrays_ends_with_the_help(folder, capsys):
    assert error_of("topk none.parquet -k 1", capsys).endswith("; try: cossim topk --help")
    assert error_of("train pictures.gz -o weights.npz", capsys).endswith("; try: cossim train --help")
    assert error_of("topk queries.npy -k 1 --where mask.npy", capsys).endswith("; try: cossim topk --help")
    np.save(folder / "wide.npy", np.zeros((5, 7), np.float32))
    assert error_of("train wide.npy -o weights.npz", capsys).endswith("; try: cossim train --help")
    for name in ("kept.index", "small.index"):
        (folder / name).unlink()
    assert error_of("index search none.index queries.npy -k 1", capsys).endswith("; try: cossim index search --help")


def test_a_word_that_is_not_a_command(folder, capsys):
    assert error_of("pears corpus.npy", capsys).endswith("; try: cossim pairs corpus.npy -t 0.95")
    assert error_of("search kept.index -k 3", capsys).endswith("; try: cossim index search kept.index -k 3")
    assert error_of("corpus.npy -t 0.9", capsys).endswith("; try: cossim pairs corpus.npy -t 0.9")
    assert error_of("index kept.index queries.npy", capsys).endswith(
        "; try: cossim index search kept.index queries.npy -k 10"
    )
    assert error_of("7", capsys).endswith("; try: cossim --help")
    assert error_of("help", capsys).endswith("; try: cossim --help")
    assert error_of("help topk", capsys).endswith("; try: cossim topk --help")


def test_commands_within_a_command(folder, capsys):
    assert error_of("index", capsys).endswith(f"; try: {EXAMPLES['index']}")
    assert error_of("index search x.index", capsys).endswith("; try: cossim index search kept.index -k 10")
    alone = error_of("index search kept.index -k 1 --max-pairs 9", capsys)
    assert alone.endswith("; try: cossim index search kept.index -k 1")
    both = error_of("index search kept.index -k 1 -t 0.5", capsys)
    assert both.endswith("; try: cossim index search kept.index -k 1")
    assert error_of("index serch kept.index", capsys).endswith("; try: cossim index search kept.index -k 10")
    assert error_of("index remove x.index 3", capsys).endswith("; try: cossim index --help")


def test_a_filter_of_the_wrong_dtype_is_an_error_of_one_line(folder, capsys):
    np.save("mask.npy", np.ones(12, bool))
    np.save("floats.npy", np.ones(12))
    assert main(shlex.split("topk queries.npy -k 1 --where mask.npy")) == 0
    capsys.readouterr()
    for option in ("--exclude mask.npy", "--exclude floats.npy", "--where floats.npy"):
        assert error_of(f"topk queries.npy -k 1 {option}", capsys).startswith(f"cossim: {option.split()[1]}: ")


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("topk queries.npy corpus.npy -k 2 -o both.zip", "new-new-both.npz"),
        ("topk queries.npy corpus.npy -k 2 -o named.csv/result.csv", "new-result.csv"),
        ("topk both.npz --column a -k 2 -o both.npz", "new-new-result.npz"),
    ],
)
def test_no_file_that_is_there_is_suggested_as_the_output(folder, command, output, capsys):
    for name in ("new-both.npz", "result.csv", "new-result.npz"):
        (folder / name).write_bytes(b"")
    assert error_of(command, capsys).endswith(f" -o {output}")


def test_no_example_that_would_overwrite_a_file_is_suggested(folder, capsys):
    assert error_of("index", capsys).endswith(f"; try: {EXAMPLES['index']}")
    (folder / "corpus.index").write_bytes(b"")
    assert error_of("index", capsys).endswith("; try: cossim index --help")


def test_a_list_of_many_shards_is_replaced_by_a_pattern(folder):
    names = [f"parts/rows-of-a-long-name-{number:03}.npy" for number in range(100)]
    (folder / "parts" / "1.npy").unlink()
    (folder / "parts" / "2.npy").rename(names[0])
    for name in names[1:]:
        (folder / name).hardlink_to(folder / names[0])
    words = ["topk", "queries.npy", *names, "-k", "3"]
    assert suggestions.ending(words, _problem(words), _problem) == "; try: cossim topk queries.npy 'parts/*.npy' -k 3"


def test_a_long_message_takes_no_time(folder):
    """Patterns with several fields take minutes on a name of thousands of characters that holds their separators."""
    words = ["topk", "x: " * 20_000, "-k", "2"]
    started = time.process_time()
    assert suggestions.ending(words, f"{words[1]}: no known format, x", _problem).startswith("; then: cossim topk ")
    many = ["topk", "corpus.npy", *["(): ', '"] * 5_000]
    assert suggestions.ending(many, _problem(many), _problem).startswith("; try: cossim topk ")
    assert time.process_time() - started < 10


def test_a_message_that_ends_with_a_command_gets_no_other():
    assert suggestions.ending(["info"], "x: this format needs pyarrow: pip install pyarrow", _problem) == ""


def test_examples(capsys):
    assert list(EXAMPLES) == list(WHAT_FOR)
    for example in EXAMPLES.values():
        assert not _problem(shlex.split(example)[1:]), example
    examples = re.findall(r"^    (cossim .*?) +# ", shown(capsys), re.M)
    assert examples == list(EXAMPLES.values())[:5]


def test_the_new_file_of_a_conversion_is_no_other_file_of_the_line(folder, capsys):
    """The conversion that the error shows works as it is, and overwrites nothing."""
    error = error_of("index add small.index small.npz --column b", capsys)
    conversion = re.search(r"numpy\.save\(.*\)", error)[0]
    assert conversion == "numpy.save('small.npy', cossim.open_rows('small.npz', 'b')[:].astype('float32'))"
    eval(conversion, {"numpy": np, "cossim": cossim})
    assert shown(capsys, error.split("; then: cossim ")[1]) == "first,rows\n12,12\n"
    error = error_of("topk corpus.npy corpus.pkl -k 1", capsys)
    assert "numpy.save('new-corpus.npy', vectors); " in error
    assert error.endswith("; then: cossim topk corpus.npy new-corpus.npy -k 1")
