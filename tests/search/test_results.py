"""TopK and Pairs print as tables, convert to pandas, SciPy and JSON, and work with len, bool and for as documented."""

import json
import pickle

import numpy as np
import pytest

import cossim

X = np.array([[1.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, 2.0]])
NAMES = ["east", "north-east", "far", "north"]
FEW = cossim.topk(X[1:2], X, 4)
PAIRS = cossim.pairs_above(X, 0.6)
NONE = cossim.pairs_above(X, 1.0, -X)
PARTIAL = cossim.TopK(np.array([[0.5, np.nan], [np.nan, np.nan]]), np.array([[3, -1], [-1, -1]]))


def test_both_are_tuples_of_arrays():
    values, indices = FEW
    i, j, of_pairs = PAIRS
    assert len(FEW) == 2 and len(PAIRS) == 3
    assert indices is FEW.indices and of_pairs is PAIRS.values
    assert pickle.loads(pickle.dumps(PAIRS)).i.tolist() == i.tolist()
    assert values.shape == (1, 4) and j.dtype == np.int64


def test_bool_says_whether_anything_was_found():
    assert FEW and PAIRS and PARTIAL
    assert not NONE
    assert not cossim.TopK(PARTIAL.values[1:], PARTIAL.indices[1:])


def test_text_shows_ten_rows():
    x = np.random.default_rng(0).standard_normal((300, 8))
    pairs, many = cossim.pairs_above(x, 0.0), cossim.topk(x, x, 20)
    lines = repr(pairs).splitlines()
    assert len(lines) == 13 and lines[0] == f"{len(pairs.i)} pairs" and lines[-1] == f"... and {len(pairs.i) - 10} more"
    assert len(repr(many).splitlines()) == 13 and max(map(len, repr(many).splitlines())) < 100
    assert repr(NONE) == "0 pairs"
    assert "1: 1" in repr(FEW) and repr(FEW).startswith("TopK of 1 query, k = 4\n")
    assert repr(PARTIAL).splitlines()[2:] == ["    0  3: 0.5", "    1"]


def test_html_has_the_same_cells():
    html = PAIRS._repr_html_()
    assert html.count("<tr>") == 1 + len(PAIRS.i) and "<td>0.8</td>" in html
    assert FEW._repr_html_().count("<td>") == 5


def test_results_of_other_shapes_print_their_fields():
    assert repr(cossim.Pairs(1, 2, 3)) == "Pairs(i=1, j=2, values=3)"
    assert repr(cossim.TopK(None, None)) == "TopK(values=None, indices=None)"
    assert cossim.Pairs(1, 2, 3)._repr_html_() is None


def test_sorted_is_by_value_then_by_row():
    found = cossim.pairs_above(np.random.default_rng(1).integers(-2, 3, (40, 4)), 0.5).sorted()
    keys = list(zip((-found.values).tolist(), found.i.tolist(), found.j.tolist(), strict=True))
    assert keys == sorted(keys)


def test_to_list_is_what_json_takes():
    assert json.loads(json.dumps(PAIRS.to_list())) == [
        {"i": i, "j": j, "value": v} for i, j, v in zip(*(a.tolist() for a in PAIRS), strict=True)
    ]
    assert PAIRS.to_list((NAMES, list("abcd")))[0] == {"i": "east", "j": "b", "value": 0.6}
    assert PARTIAL.to_list() == [[{"index": 3, "value": 0.5}], []]
    assert PARTIAL.to_list(np.array(NAMES)) == [[{"id": "north", "value": 0.5}], []]
    nan = cossim.topk([[np.nan]], [[1.0]], 1).to_list()
    assert nan == [[{"index": 0, "value": None}]]
    one = cossim.TopK(FEW.values[0], FEW.indices[0])
    assert one.to_list() == FEW.to_list()[0]


def test_to_pandas():
    pandas = pytest.importorskip("pandas")
    table = FEW.to_pandas(pandas.Series(NAMES, index=[7, 7, 8, 9]))
    assert list(table.columns) == ["query", "rank", "id", "value"]
    assert table["id"].tolist() == ["north-east", "far", "north", "east"]
    assert PARTIAL.to_pandas().values.tolist() == [[0, 1, 3, 0.5]]
    assert PAIRS.to_pandas(NAMES)["j"].tolist() == [NAMES[j] for j in PAIRS.j]
    assert PAIRS.to_pandas()["i"].dtype == np.int64


def test_to_csr():
    pytest.importorskip("scipy")
    graph = PAIRS.to_csr((4, 4))
    dense = np.zeros((4, 4))
    dense[PAIRS.i, PAIRS.j] = PAIRS.values
    assert (graph.toarray() == dense).all()
    distances = PAIRS.sorted().to_csr((4, 5), distance=True)
    assert distances.nnz == len(PAIRS.i) and distances.shape == (4, 5)
    assert (distances.toarray()[:, :4] == np.where(dense, 1 - dense, 0)).all()
    assert FEW.to_csr().shape == (1, 4) and FEW.to_csr().toarray()[0, 3] == 0.8
    assert PARTIAL.to_csr((2, 9)).nnz == 1
    assert NONE.to_csr().shape == (0, 0) and NONE.to_csr((4, 4)).nnz == 0


@pytest.mark.parametrize("shape", [(4, 3), (1, 4), (-1, 4), 5, "ab"])
def test_to_csr_refuses_shapes_that_do_not_fit(shape):
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match=r"to_csr\(\).*shape"):
        cossim.topk(X, X, 4).to_csr(shape)
    with pytest.raises(ValueError, match=r"to_csr\(\).*shape"):
        PAIRS.to_csr(shape)


def test_too_few_ids_are_refused():
    for convert in (FEW.to_list, PAIRS.to_list):
        with pytest.raises(ValueError, match="ids has 3"):
            convert(NAMES[:3])


@pytest.mark.parametrize("ids", ["abc", b"abc", 3, {"a", "b", "c"}, iter("abc")], ids=lambda ids: type(ids).__name__)
def test_ids_that_cannot_be_looked_up_are_refused(ids):
    for found in (cossim.topk(np.eye(3), np.eye(3), 1), cossim.pairs_above(np.eye(3), 0)):
        with pytest.raises(TypeError, match=rf"to_list\(\): ids must be .* not {type(ids).__name__}: pass frame"):
            found.to_list(ids=ids)


def test_ids_of_two_dimensions_are_refused():
    pandas = pytest.importorskip("pandas", reason="makes a frame")
    ids = np.array([["a", "b"]] * 3)
    for found in (cossim.topk(np.eye(3), np.eye(3), 1), cossim.pairs_above(np.eye(3), 0)):
        for convert in (found.to_list, found.to_pandas):
            with pytest.raises(TypeError, match=r"not ndarray of shape \(3, 2\): pass frame"):
                convert(ids=ids)
            with pytest.raises(TypeError, match=r"not DataFrame of shape \(3, 2\): pass frame"):
                convert(ids=pandas.DataFrame(ids))
