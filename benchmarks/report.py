"""Writes the results of a full run into docs/speed.md (tables), docs/*.svg (plots) and README.md (a few rows)."""

import re

# table -> column -> names of candidates
TABLES = {
    "vectors": {
        "SimSIMD": ["SimSIMD"],
        "NumKong": ["NumKong"],
        "NumPy": ["NumPy by hand", "NumPy vecdot", "NumPy einsum"],
        "SciPy": ["SciPy"],
        "scikit-learn": ["scikit-learn"],
        "torch": ["torch"],
        "torch normalize, mm": ["torch normalize, mm"],
        "FAISS": ["FAISS"],
    },
    "search": {
        "cossim Index": ["cossim Index"],
        "FAISS": ["FAISS"],
        "FAISS, BLAS early": ["FAISS, BLAS early"],
        "torch": ["torch normalize, mm"],
        "NumPy": ["NumPy by hand"],
        "usearch": ["usearch"],
        "scikit-learn": ["scikit-learn"],
    },
    "networks": {
        "ONNX Runtime": ["ONNX Runtime"],
        "ONNX Runtime, bound": ["ONNX Runtime, bound"],
        "torch": ["torch"],
        "torch at its best": [
            "torch without oneDNN",
            "torch channels_last",
            "torch addmm",
            "torch channels_last, addmm",
        ],
        "torch, broadcast": ["torch, broadcast"],
    },
}
# The rows of README's table: column -> names of candidates, of which the fastest counts; and titles of results.
FRONT = {
    "NumPy": ["NumPy by hand", "NumPy vecdot"],
    "SciPy": ["SciPy"],
    "scikit-learn": ["scikit-learn"],
    "torch": ["torch", "torch normalize, mm"],
    "FAISS": ["FAISS", "FAISS, BLAS early"],
}
FRONT_ROWS = (
    "one pair (768,) float32",
    "self-pairs (2048, 768) float32, out=",
    "10 nearest of (200000, 384), 16 queries",
)
# table -> its plot; README shows the first, docs/speed.md all of them
PLOTS = {"vectors": "docs/speed.svg", "search": "docs/speed-search.svg", "networks": "docs/speed-networks.svg"}
START, END = "<!-- speed: renewed by make bench -->", "<!-- end of speed -->"


def _duration(seconds):
    name, scale = next(
        (name, scale) for name, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if seconds * scale >= 1 or scale == 1e6
    )
    return f"{seconds * scale:.3g} {name}"


def _ratios(result, columns=None):
    """Returns column -> ratio of its fastest rival, for columns with a rival that ran (default: those of its table)."""
    ratios = {row["name"]: row["ratio"] for row in result["candidates"]}
    columns = (TABLES.get(result["table"], {}) if columns is None else columns).items()
    present = ((column, [ratios[name] for name in names if name in ratios]) for column, names in columns)
    return {column: min(found) for column, found in present if found}


def _timed(results, *names):
    """Returns the results for the tables of these names. A result without rivals is in no table."""
    return [r for r in results if r["table"] in names and _ratios(r)]


def table(results, columns):
    lines = ["| work | cossim | " + " | ".join(columns) + " |", "| --- | --- |" + " --- |" * len(columns)]
    for result in results:
        ratios = _ratios(result, columns)
        ours = next(row["seconds"] for row in result["candidates"] if row["name"] == "cossim")
        cells = [f"{ratios[c]:.3g}" if c in ratios else "" for c in columns]
        lines.append(f"| {result['title']} | {_duration(ours)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def others(everything):
    """Returns one line for each result that is in no table: memory, start-up, and calls on several threads."""
    lines = []
    for result in everything["results"]:
        if result in _timed(everything["results"], *TABLES):
            continue
        unit = "bytes" if "bytes" in result["candidates"][0] else "seconds"
        amounts = (
            f"{row['name']} {_duration(row[unit]) if unit == 'seconds' else f'{row[unit] / 1e6:.3g} MB'}"
            for row in result["candidates"]
        )
        lines.append(f"- {result['title']}: {', '.join(amounts)}")
    return "\n".join(lines)


def plot(everything, name, path):
    """Draws the table of that name as a plot, in the SVG file at path."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.fonttype"] = "none"  # text stays text
    plt.rcParams["svg.hashsalt"] = "cossim"  # the same figures give the same file
    columns, results = TABLES[name], _timed(everything["results"], name)[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(results) + 1.3), layout="constrained")
    markers = "osD^vP*X"
    for column, marker, color in zip(columns, markers, plt.cm.tab10.colors, strict=False):
        points = [(ratios[column], y) for y, ratios in enumerate(map(_ratios, results)) if column in ratios]
        if not points:
            continue
        axes.plot(*zip(*points, strict=True), marker, color=color, label=column, markersize=6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axes.set_yticks(range(len(results)), [r["title"] for r in results])
    axes.set_xlabel("time as a multiple of cossim's, one thread\n(right of the line: cossim is faster)")
    axes.grid(axis="x", color="0.85")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _replace(path, text):
    """Replaces the part of a page between its two marks."""
    old = path.read_text()
    pattern = re.escape(START) + ".*?" + re.escape(END)
    if not re.search(pattern, old, re.DOTALL):
        raise SystemExit(f"{path.name} has no place for the figures: {START} ... {END}")
    path.write_text(re.sub(pattern, lambda _: f"{START}\n{text}\n{END}", old, flags=re.DOTALL))


def renew(root, everything):
    """Replaces the tables of docs/speed.md, the rows of README and the plots in docs/."""
    about, results = everything["machine"], everything["results"]
    apart = ("processor", "isa", "cpus", "date", "BLAS kernels")
    versions = ", ".join(f"{name} {about[name]}" for name in about if name not in apart)
    tables = {name: table(_timed(results, name), columns) for name, columns in TABLES.items()}
    text = (
        "Time of the other libraries as a multiple of cossim's, for the same work, with one thread each: medians of\n"
        "one interleaved run. Above 1, cossim is faster. Empty: the library cannot do it, or was not measured.\n\n"
        f"{tables['vectors']}\n\n"
        f"![the same as a plot]({PLOTS['vectors'].removeprefix('docs/')})\n\n"
        "Exact search, measured in the same way. The other libraries get rows that are already normalised. FAISS is\n"
        "IndexFlatIP with its defaults; 'BLAS early' makes it multiply matrices from three queries on, which suits\n"
        "one thread. The Index is cossim's own: below 1, it is faster than the function.\n\n"
        f"{tables['search']}\n\n"
        "Networks and their training. 'ONNX Runtime, bound' has its input and output buffers bound beforehand. 'torch\n"
        "at its best' uses channels_last and addmm where they help, and no oneDNN for a single image. 'Freed memory\n"
        "kept' makes the C library keep freed memory, which saves torch page faults: they can take more than half of\n"
        "its time.\n\n"
        f"{tables['networks']}\n\n"
        f"{others(everything)}\n\n"
        f"{about['processor']} ({about['isa']}, {about['cpus']} CPUs), {about['date']}; {versions}.\n"
        f"BLAS kernels: {about['BLAS kernels']}."
    )
    _replace(root / "docs/speed.md", text)
    front = [result for title in FRONT_ROWS for result in results if result["title"] == title]
    _replace(
        root / "README.md",
        "Time of the other libraries as a multiple of cossim's, one thread each, each library's fastest way:\n\n"
        + table(front, FRONT),
    )
    for name, path in PLOTS.items():
        plot(everything, name, root / path)
