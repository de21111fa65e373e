"""Keeps results in benchmarks/results, a file for each processor. Writes docs/speed.md, its plots and README's rows."""

import json
import re
from dataclasses import dataclass, field


@dataclass
class Table:
    """How the results of one module of benchmarks appear in docs/speed.md."""

    title: str
    text: str
    # Column -> names of candidates, of which the fastest counts; other candidates have a column of their own. None: a
    # column for each library; its functions may differ from row to row.
    columns: dict | None = field(default_factory=dict)
    plot: str = ""


# A candidate whose name begins with one of these is another library's. Others, such as "random rows", are cossim's.
LIBRARIES = (
    "FAISS",
    "maxsim-cpu",
    "NumKong",
    "NumPy",
    "ONNX Runtime",
    "scikit-learn",
    "SciPy",
    "sentence-transformers",
    "SimSIMD",
    "sparse_dot_topn",
    "torch",
    "usearch",
)
BY_HAND = {"NumPy": ["NumPy by hand", "NumPy vecdot", "NumPy einsum"]}
# Module of benchmarks -> its table. The page has them in this order.
TABLES = {
    "vectors": Table("Vectors and pairs", "Each library's fastest way.", BY_HAND, "docs/speed.svg"),
    "search": Table(
        "Search",
        "Exact search. The other libraries get rows that are already normalised. FAISS is IndexFlatIP with its "
        "defaults; 'BLAS early' makes it multiply matrices from three queries on, which suits one thread. The Index is "
        "cossim's own: below 1, it is faster than the function. FAISS brings an OpenBLAS of its own, which takes slow "
        "kernels for processors that it does not know: see 'BLAS kernels'. In the lists, 'random rows' and 'float32' "
        "are cossim's own times for rows of that kind.",
        BY_HAND | {"FAISS": ["FAISS", "FAISS IndexBinaryFlat"]},
        "docs/speed-search.svg",
    ),
    "sparse": Table(
        "Sparse rows",
        "cossim normalises in each call; sparse_dot_topn gets rows that are already normalised, and their transpose.",
    ),
    "rows": Table("Columns in memory", "Small calls, where reading a column takes most of the time."),
    "neighbours": Table("Filters, living indexes and neighbours", "The same results from each library.", None),
    "encoder": Table(
        "The encoder and its training",
        "'ONNX Runtime, bound' has its input and output buffers bound beforehand. 'torch at its best' uses "
        "channels_last and addmm where they help, and no oneDNN for a single image. 'Freed memory kept' makes the C "
        "library keep freed memory, which saves torch page faults: they can take more than half of its time.",
        {
            "torch at its best": [
                "torch without oneDNN",
                "torch channels_last",
                "torch addmm",
                "torch channels_last, addmm",
            ]
        },
        "docs/speed-networks.svg",
    ),
    "layers": Table(
        "Layers", "One layer at a time; arrays are (N, C, H, W). channels_last is another layout of torch's."
    ),
}
# README's table: column -> names of candidates; module -> titles of results
FRONT = {
    "NumPy": ["NumPy by hand", "NumPy vecdot"],
    "SciPy": ["SciPy"],
    "scikit-learn": ["scikit-learn"],
    "torch": ["torch", "torch normalize, mm"],
    "FAISS": ["FAISS", "FAISS, BLAS early"],
}
FRONT_ROWS = {
    "vectors": ("one pair (768,) float32", "self-pairs (2048, 768) float32, out="),
    "search": ("10 nearest of (200000, 384), 16 queries",),
}
START, END = "<!-- speed: renewed by make bench -->", "<!-- end of speed -->"
INTRODUCTION = """\
Each processor has its own tables, and a run renews only those of the processor it runs on. Columns of other libraries:
their time as a multiple of cossim's, for the same work, one thread each. **Bold: the other library is faster.** Empty:
it cannot do the work, or was not measured. `of the limit`: how near cossim comes to the bytes that one core reads a
second from memory, or to the multiply-adds that it computes a second in this precision. Above 100 %, the data come from
a cache, or 8-bit codes replace floats.
"""
APART = ("processor", "isa", "cpus", "date", "BLAS kernels")  # the other entries of a machine are versions


# ---- results: {"machine": ..., "peak": ..., "results": [...]} of one table and processor ----


def _file(root, about):
    name = re.sub(r"\(.*?\)|\bprocessor\b", "", about["processor"].lower())
    return root / "benchmarks/results" / f"{re.sub(r'[^a-z0-9.]+', '-', name).strip('-')}-{about['isa']}.json"


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def store(root, table, measured):
    """Replaces the results of one table for the processor that measured them."""
    path = _file(root, measured["machine"])
    path.parent.mkdir(exist_ok=True)
    tables = json.loads(path.read_text()) if path.exists() else {}
    tables[table] = _rounded(measured)
    lines = json.dumps(tables, indent=1, ensure_ascii=False)
    # One line for each candidate, not for each of its numbers.
    path.write_text(re.sub(r"\{\s+\"name\"[^{}]*\}", lambda m: re.sub(r"\s+", " ", m[0]), lines) + "\n")


def load(root):
    """Returns {table: measured} for each processor, the one with the latest date first."""
    machines = [json.loads(path.read_text()) for path in sorted((root / "benchmarks/results").glob("*.json"))]
    return sorted(machines, key=lambda tables: max(each["machine"]["date"] for each in tables.values()), reverse=True)


# ---- tables ----


def _duration(seconds):
    name, scale = next(
        (name, scale) for name, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if seconds * scale >= 1 or scale == 1e6
    )
    return f"{seconds * scale:.3g} {name}"


def _library(name):
    """Returns the library of a candidate, or "" for cossim's own."""
    return next((library for library in LIBRARIES if name.lower().startswith(library.lower())), "")


def _columns(results, merged):
    """Returns column -> names of candidates: those of `merged`, and a column for each other name.

    cossim's own columns come first.
    """
    names = {row["name"] for result in results for row in result["candidates"]} - {"cossim"}
    present = {name for name in names if _library(name) or name.startswith("cossim")}
    if merged is None:
        merged = {library: [name for name in present if _library(name) == library] for library in LIBRARIES}
    columns = {column: each for column, each in merged.items() if present & set(each)}
    columns |= {name: [name] for name in present - {name for each in merged.values() for name in each}}
    return dict(sorted(columns.items(), key=lambda item: (_library(item[1][0]) != "", item[0].lower())))


def _ratios(result, columns):
    """Returns column -> ratio of its fastest candidate, for columns with a candidate that ran."""
    ratios = {row["name"]: row["ratio"] for row in result["candidates"]}
    present = ((column, [ratios[name] for name in names if name in ratios]) for column, names in columns.items())
    return {column: min(found) for column, found in present if found}


def _ours(result):
    return next(row for row in result["candidates"] if row["name"] == "cossim")


def _limit(result):
    ours = _ours(result)
    kind = "read" if "GB/s" in ours else "multiply-adds"
    return f"{100 * ours['of peak']:.0f} % {kind}" if "of peak" in ours else ""


def _cell(column, ratio):
    text = f"{ratio:.3g}"
    return f"**{text}**" if _library(column) and ratio < 0.995 else text


def table(results, columns, limits=True):
    head = ["work", "cossim", *(["of the limit"] if limits else []), *columns]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for result in results:
        ratios = _ratios(result, columns)
        cells = [result["title"], _duration(_ours(result)["seconds"]), *([_limit(result)] if limits else [])]
        cells += [_cell(column, ratios[column]) if column in ratios else "" for column in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _line(result):
    """Returns a result as a line below a table: memory, start-up, several threads, or other kinds of rows."""
    unit = "bytes" if "bytes" in result["candidates"][0] else "seconds"
    amounts = (
        f"{row['name']} {_duration(row[unit]) if unit == 'seconds' else f'{row[unit] / 1e6:.3g} MB'}"
        for row in result["candidates"]
    )
    return f"- {result['title']}: {', '.join(amounts)}"


def _is_row(result):
    """Says whether a result is a row of the table: it holds times, and names another library or was meant as a row."""
    times = "seconds" in result["candidates"][0]
    return times and (result["in table"] or any(_library(row["name"]) for row in result["candidates"]))


def _in_table(measured):
    return [result for result in measured["results"] if _is_row(result)]


def limits(peak):
    floats = f"{peak['float32'] / 1e9:.0f} GFLOP/s in float32, {peak['float64'] / 1e9:.0f} in float64"
    return f"One core reads {peak['read'] / 1e9:.1f} GB/s and computes {floats}."


def _section(name, measured):
    """Returns one table of one processor, with the lines below it."""
    kind, about, rows = TABLES[name], measured["machine"], _in_table(measured)
    columns = _columns(rows, kind.columns)
    slower = [row for row in rows if any(c["ratio"] < 0.995 and _library(c["name"]) for c in row["candidates"])]
    versions = ", ".join(f"{key} {about[key]}" for key in about if key not in APART)
    kernels = f" BLAS kernels: {about['BLAS kernels']}." if "BLAS kernels" in about else ""
    peak = f" {limits(measured['peak'])}" if measured.get("peak") else ""
    return "\n\n".join(
        part
        for part in (
            f"### {kind.title} on {about['processor']}, {about['isa']}",
            f"Another library is faster in {len(slower)} of {len(rows)} rows." if rows else "",
            table(rows, columns, any(map(_limit, rows))) if rows else "",
            "\n".join(_line(result) for result in measured["results"] if not _is_row(result)),
            f"{about['processor']} ({about['isa']}, {about['cpus']} CPUs), {about['date']}.{peak} "
            f"Versions: {versions}.{kernels}",
        )
        if part
    )


def plot(name, measured, path):
    """Draws a table as a plot, in the SVG file at path."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.fonttype"] = "none"  # text stays text
    plt.rcParams["svg.hashsalt"] = "cossim"  # the same figures give the same file
    results = _in_table(measured)[::-1]
    columns = _columns(results[::-1], TABLES[name].columns)
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(results) + 1.6), layout="constrained")
    markers = "osD^vP*Xph<>"
    for number, column in enumerate(columns):
        found = ((_ratios(result, columns), y) for y, result in enumerate(results))
        points = [(ratios[column], y) for ratios, y in found if column in ratios]
        color = plt.cm.tab10.colors[number % 10]
        axes.plot(*zip(*points, strict=True), markers[number % len(markers)], color=color, label=column, markersize=6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axes.set_yticks(range(len(results)), [result["title"] for result in results])
    axes.set_xlabel(
        "time as a multiple of cossim's, one thread (right of the line: cossim is faster)\n"
        f"{measured['machine']['processor']}, {measured['machine']['date']}"
    )
    axes.grid(axis="x", color="0.85")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


# ---- pages ----


def _replace(path, text):
    """Replaces the part of a page between its two marks."""
    old = path.read_text()
    pattern = re.escape(START) + ".*?" + re.escape(END)
    if not re.search(pattern, old, re.DOTALL):
        raise SystemExit(f"{path.name} has no place for the figures: {START} ... {END}")
    path.write_text(re.sub(pattern, lambda _: f"{START}\n{text}\n{END}", old, flags=re.DOTALL))


def _newest(machines):
    """Returns, for each table, the results of the processor that was measured last."""
    found = {}
    for tables in machines:
        found = tables | found
    return found


def page(machines):
    """Returns the tables of docs/speed.md."""
    parts = [INTRODUCTION.rstrip()]
    for name, kind in TABLES.items():
        sections = [_section(name, tables[name]) for tables in machines if name in tables]
        picture = f"![{kind.title}: time of other libraries as a multiple of cossim's]({kind.plot[5:]})"
        text = [f"## {kind.title}", kind.text, *([picture] if kind.plot else [])]
        parts += [*text, *sections] if sections else []
    return "\n\n".join(parts)


def front(machines):
    """Returns README's table: the rows FRONT_ROWS of the newest tables."""
    tables = {name: each for name, each in _newest(machines).items() if name in FRONT_ROWS}
    found = {result["title"]: result for measured in tables.values() for result in measured["results"]}
    rows = [found[title] for titles in FRONT_ROWS.values() for title in titles if title in found]
    processors = ", ".join(sorted({measured["machine"]["processor"] for measured in tables.values()}))
    return (
        "The columns of other libraries show their time as a multiple of cossim's, with one thread and each library's "
        f"fastest call ({processors}):\n\n{table(rows, FRONT, limits=False)}"
    )


def renew(root):
    """Writes docs/speed.md, its plots and README's rows from all stored results."""
    machines = load(root)
    for name, measured in _newest(machines).items():
        if TABLES[name].plot:
            plot(name, measured, root / TABLES[name].plot)
    _replace(root / "docs/speed.md", page(machines))
    _replace(root / "README.md", front(machines))
