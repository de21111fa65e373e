"""docs/speed.md shows the stored results of every processor; a run on one leaves those of the others as they are."""

import json

import pytest
from conftest import ROOT

from benchmarks import report

if not (ROOT / "benchmarks/results").is_dir():
    pytest.skip("the results are not here", allow_module_level=True)


def measured(processor, date, ours=1e-3, **rivals):
    """The results of one comparison, in which cossim takes `ours` seconds and the others multiples of that."""
    rows = [{"name": name, "seconds": ratio * ours, "ratio": ratio} for name, ratio in {"cossim": 1, **rivals}.items()]
    machine = {"processor": processor, "isa": "avx2", "cpus": 2, "date": date, "numpy": "2.0.0"}
    return {"machine": machine, "peak": {}, "results": [{"title": "work", "in table": True, "candidates": rows}]}


@pytest.mark.parametrize("page", ["docs/speed.md", "README.md"])
def test_pages_show_the_stored_results(page):
    machines = report.load(ROOT)
    text = report.page(machines) if page == "docs/speed.md" else report.front(machines)
    assert f"{report.START}\n{text}\n{report.END}" in (ROOT / page).read_text(encoding="utf-8")


def test_a_run_renews_only_its_own_table_and_processor(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    report.store(tmp_path, "sparse", measured("Old(R) Processor 1", "2026-01-01", SciPy=2.5))
    report.store(tmp_path, "search", measured("Old(R) Processor 1", "2026-01-01", FAISS=3.5))
    report.store(tmp_path, "sparse", measured("New", "2026-02-01", SciPy=4.5))
    report.store(tmp_path, "sparse", measured("Old(R) Processor 1", "2026-01-02", SciPy=0.5))
    files = sorted((tmp_path / "benchmarks/results").iterdir())
    assert [path.name for path in files] == ["new-avx2.json", "old-1-avx2.json"]
    assert json.loads(files[1].read_text())["search"]["results"][0]["candidates"][1]["ratio"] == 3.5
    page = report.page(report.load(tmp_path))
    assert page.index("### Sparse rows on New") < page.index("### Sparse rows on Old(R) Processor 1")
    assert "| work | 1 ms | **0.5** |" in page and "| work | 1 ms | 4.5 |" in page and "2.5" not in page
    assert "Another library is faster in 1 of 1 rows." in page and "Another library is faster in 0 of 1 rows." in page


def test_columns_name_every_library_and_cossims_own_are_not_rivals():
    (result,) = measured(
        "New", "2026-02-01", **{"cossim Index": 0.3, "torch": 2, "NumPy by hand": 3, "NumPy vecdot": 2.5}
    )["results"]
    result["candidates"][0]["GB/s"], result["candidates"][0]["of peak"] = 9.0, 0.87
    columns = report._columns([result], report.BY_HAND)
    assert list(columns) == ["cossim Index", "NumPy", "torch"]
    line = report.table([result], columns).splitlines()[2]
    assert line == "| work | 1 ms | 87 % read | 0.3 | 2.5 | 2 |"


def test_a_library_has_one_column_where_its_functions_differ_from_row_to_row():
    rows = [{"FAISS IDSelectorBitmap": 4, "without a mask": 0.1}, {"FAISS remove_ids": 500}, {"scikit-learn": 0.9}]
    results = [measured("New", "2026-02-01", **row)["results"][0] for row in rows]
    columns = report._columns(results, None)
    assert list(columns) == ["FAISS", "scikit-learn"]
    lines = report.table(results, columns, limits=False).splitlines()[2:]
    assert lines == ["| work | 1 ms | 4 |  |", "| work | 1 ms | 500 |  |", "| work | 1 ms |  | **0.9** |"]


def test_rows_compare_times_with_another_library_and_all_other_results_are_lines():
    (result,) = measured("New", "2026-02-01", **{"random rows": 0.5})["results"]
    result["in table"] = False
    assert not report._is_row(result)
    assert report._is_row(result | {"candidates": [*result["candidates"], {"name": "torch", "seconds": 1, "ratio": 2}]})
    assert not report._is_row(result | {"candidates": [{"name": "torch", "bytes": 1, "ratio": 2}]})
