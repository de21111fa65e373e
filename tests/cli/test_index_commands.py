"""cossim index build, add and search, and cossim dedupe, find what Index and deduplicate find, and refuse bad input."""

import re

import numpy as np
import pytest
from commands import refused, shown
from test_commands import csv, equal

import cossim
from cossim.__main__ import main


@pytest.fixture
def rows(tmp_path, rng, monkeypatch):
    """Rows in files, with near-duplicates, in the folder where the test runs."""
    x = rng.standard_normal((60, 16)).astype(np.float32)
    x[40:50] = x[:10] + 0.01
    np.save(tmp_path / "first.npy", x[:45])
    np.save(tmp_path / "more.npy", x[45:])
    np.save(tmp_path / "queries.npy", x[3:8] + 0.02)
    (tmp_path / "ids.txt").write_text("".join(f"row {n}\n" for n in range(60)))
    monkeypatch.chdir(tmp_path)
    return x


def test_an_index_is_built_grows_and_is_searched(rows, capsys):
    assert shown(capsys, "index build first.npy -o x.index --eps 1e-6") == ""
    assert cossim.Index.load("x.index").eps == 1e-6
    assert shown(capsys, "index add x.index more.npy") == "first,rows\n45,15\n"
    index = cossim.Index.load("x.index")
    np.testing.assert_array_equal(index.corpus, rows)
    queries = np.load("queries.npy")
    found = cossim.topk(queries, rows, 3)
    query, rank = np.divmod(np.arange(15), 3)
    expected = {"query": query, "rank": rank + 1, "index": found.indices.ravel(), "value": found.values.ravel()}
    equal(csv(shown(capsys, "index search x.index queries.npy -k 3")), expected)
    pairs = cossim.pairs_above(queries, 0.9, rows)
    equal(
        csv(shown(capsys, "index search x.index queries.npy -t 0.9")),
        dict(zip(("i", "j", "value"), pairs, strict=True)),
    )


def test_numbers_and_names_of_an_index_from_which_rows_were_removed(rows, capsys):
    index = cossim.Index(rows)
    index.remove([0, 2, 58, 59])
    index.save("x.index")
    assert shown(capsys, "index add x.index queries.npy -o y.index") == "first,rows\n60,5\n"
    assert len(cossim.Index.load("x.index")) == 56
    table = shown(capsys, "index search x.index -t 0.99 --ids ids.txt")
    found = index.pairs_above(None, 0.99)
    lines = [f"{i},{j},{v!s},row {i},row {j}" for i, j, v in zip(*found, strict=True)]
    assert table.splitlines() == ["i,j,value,i_id,j_id", *lines]
    np.save("where.npy", np.arange(60) % 3 > 0)  # a mask over all numbers that were given
    with open("exclude.txt", "w") as file:
        file.write("4 5\n7")
    found = index.topk(rows[:60], 2, where=np.arange(60) % 3 > 0, exclude=[4, 5, 7])
    np.save("all.npy", rows)
    table = csv(shown(capsys, "index search x.index all.npy -k 2 --where where.npy --exclude exclude.txt"))
    np.testing.assert_array_equal(table["index"], found.indices.ravel())
    shown(capsys, "index search x.index -k 70 -o x.npz --ids ids.txt")
    with np.load("x.npz") as arrays:
        np.testing.assert_array_equal(arrays["queries"], index.numbers)
        np.testing.assert_array_equal(arrays["indices"], index.topk(None, 70).indices)
        assert (arrays["index_ids"][:, 55:] == "").all()
    assert shown(capsys, "index search x.index -k 70").count("\n") == 1 + 56 * 55  # no line for an empty place


def test_packed_bits_are_indexed_and_searched(rows, capsys):
    np.save("bits.npy", np.packbits(rows > 0, axis=1))
    shown(capsys, "index build bits.npy -o b.index --binary")
    assert cossim.Index.load("b.index").binary
    shown(capsys, "index add b.index bits.npy")
    found = csv(shown(capsys, "index search b.index bits.npy -k 2"), np.float64)
    assert (found["value"] == 1).all()
    assert re.fullmatch(r"cossim: first\.npy: .*uint8.*\n", refused(capsys, "index add b.index first.npy"))


def test_dedupe_finds_what_deduplicate_finds(rows, capsys):
    np.save("all.npy", rows)
    kept, like = cossim.deduplicate(rows, 0.99)
    found = csv(shown(capsys, "dedupe all.npy -t 0.99"), np.int64)
    equal(found, {"row": np.arange(60), "like": like})
    equal(csv(shown(capsys, "dedupe all.npy -t 0.99 --kept"), np.int64), {"row": kept})
    shown(capsys, "dedupe all.npy -t 0.99 -o x.npz --ids ids.txt")
    with np.load("x.npz") as arrays:
        np.testing.assert_array_equal(arrays["kept"], kept)
        np.testing.assert_array_equal(arrays["like"], like)
        assert arrays["kept_ids"].tolist() == [f"row {n}" for n in kept]


def test_mistakes_leave_the_index_as_it_is(rows, capsys):
    shown(capsys, "index build first.npy -o x.index")
    with open("x.index", "rb") as file:
        before = file.read()
    np.save("wide.npy", np.ones((3, 17), np.float32))
    np.save("double.npy", rows.astype(float))
    for command, message in (
        ("index add x.index wide.npy", r"rows of x\.index have 16 elements, rows of wide\.npy 17"),
        ("index add x.index double.npy", r"double\.npy: float64.*astype"),
        ("index add x.index none.npy", r"none\.npy: "),
        ("index add none.index more.npy", r"none\.index: "),
        ("index search first.npy -k 1", r"'first\.npy': not an index file"),
        ("index search x.index -k 0", r"Index\.topk\(\): k must be at least 1"),
        ("index search x.index -t 2", r"Index\.pairs_above\(\): threshold"),
        ("index search x.index -k 1 --ids ids.txt", r"ids\.txt: write 45 .*, not 60;"),
    ):
        assert re.match(rf"cossim: .*{message}", refused(capsys, command)), command
    with open("x.index", "rb") as file:
        assert file.read() == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("index", "required: COMMAND"),
        ("index build first.npy", "required: -o/--output"),
        ("index build first.npy -o first.npy", "argument -o/--output: "),
        ("index search x.index", "one of the arguments -k -t/--threshold"),
        ("index search x.index -k 1 -t 1", "not allowed with argument -k"),
        ("index search x.index -k 1 --max-pairs 3", "argument --max-pairs: "),
        ("dedupe first.npy", "required: -t/--threshold"),
    ],
)
def test_invalid_arguments_exit_with_2(rows, capsys, command, message):
    with pytest.raises(SystemExit, match="2"):
        main(command.split())
    assert message in capsys.readouterr().err
