"""The project follows its own rules: include order, file sizes, compiler flags and docstrings."""

import ast
import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import documentation
import pytest
from conftest import ROOT

import cossim
import cossim.nn
import cossim.simclr

# A folder includes only itself and those before it. Only isa/ includes simd/.
FOLDERS = [
    "base",
    "simd",
    "kernels",
    "layer_kernels",
    "isa",
    "vectors",
    "pairwise",
    "results",
    "search",
    "sparse",
    "nn",
    "conv2d",
    "network",
    "simclr",
    "arguments",
    "python",
]
SOURCES = sorted((ROOT / "csrc").glob("*/*.[ch]"))
PACKAGE = Path(cossim.__file__).parent  # make test-wheel runs these tests with an installed package
if not SOURCES:
    pytest.skip("the C sources are not here", allow_module_level=True)


def includes(path):
    return re.findall(r'^\s*#\s*include\s+([<"])([^>"]+)', path.read_text(), re.M)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_folders_include_only_earlier_folders(path):
    layer = path.parent.name
    for bracket, name in includes(path):
        if bracket == '"':
            other = name.split("/")[0]
            assert FOLDERS.index(other) <= FOLDERS.index(layer), f"{layer} must not include {name}"
            assert other != "simd" or layer in ("simd", "isa"), f"{layer} must not include {name}"
        if "intrin" in name or name in ("arm_neon.h", "cpuid.h"):
            assert layer == "simd" or (layer == "base" and name == "cpuid.h")
        if name == "Python.h" or name.startswith("numpy/"):
            assert path.name == "numpy.h" and layer == "arguments"


def test_the_map_has_every_file_once():
    """A source file and its header need one row."""
    text = (ROOT / "csrc/README.md").read_text()
    named, folder = [], ""
    for cell in re.findall(r"^\| (`\w+/\w+\*?\.[ch]`[^|]*) \|", text, re.M):
        for name in re.findall(r"`([^`]+)`", cell):
            folder = name.split("/")[0] if "/" in name else folder
            files = sorted((ROOT / "csrc" / folder).glob(name.split("/")[-1]))
            assert files, f"{name} is in the map but not in {folder}/"
            named += files
    assert len(named) == len(set(named)), sorted({path.name for path in named if named.count(path) > 1})
    assert {path.with_suffix("") for path in SOURCES} == {path.with_suffix("") for path in named}


def test_each_recipe_stands_once_and_names_files_that_exist():
    recipes = (ROOT / "csrc/README.md").read_text().split("## Recipes")[1].split("\n## ")[0]
    titles = re.findall(r"^\*\*(.+?)\*\*: ", recipes, re.M)
    assert len(titles) == len(set(titles)) > 8
    for title, recipe in zip(titles, re.split(r"^\*\*.+?\*\*: ", recipes, flags=re.M)[1:], strict=True):
        steps = [int(number) for number in re.findall(r"^(\d+)\. ", recipe, re.M)]
        assert steps == list(range(1, len(steps) + 1)), title
        for name in re.findall(r"`((?:\w+/)+\w+\.\w+)`", recipe):
            places = (ROOT / name, ROOT / "csrc" / name, PACKAGE.parent / name)
            assert "NAME" in name or any(path.exists() for path in places), f"{title}: {name}"


def test_folders_are_small_enough_to_read():
    """A newcomer reads the list of a folder's files; more than 22 are more than one subject."""
    assert {path.parent.name for path in SOURCES} == set(FOLDERS)
    for folder in FOLDERS:
        assert len([path for path in SOURCES if path.parent.name == folder]) <= 22, folder


def assert_no_circle(edges):
    """edges maps each file to the files that it names; none may lead back to itself."""

    def visit(name, way):
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(edges.get(name, ())):
                visit(other, [*way, name])
            done.add(name)

    done = set()
    for name in edges:
        visit(name, [])


def test_no_circle_of_c_files():
    """NAME.c and NAME.h are one file here: none includes another that leads back to it."""
    module = lambda name: name.rsplit(".", 1)[0]  # noqa: E731
    edges = {}
    for path in SOURCES:
        named = {module(name) for bracket, name in includes(path) if bracket == '"'}
        here = module(f"{path.parent.name}/{path.name}")
        edges.setdefault(here, set()).update(named - {here})
    assert edges["python/module"]
    assert_no_circle(edges)


def test_no_circle_of_c_files_by_calls():
    """A .c file calls functions and reads tables only of files that do not lead back to it."""
    ignored = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
    texts = {path: ignored.sub("", path.read_text()) for path in SOURCES}
    # A list in a header, such as FOR_EACH_CONV2D_ALGORITHM, counts as part of the files that use it.
    headers = "".join(text for path, text in texts.items() if path.suffix == ".h")
    lists = dict(re.findall(r"^#define ([A-Z]\w+)\(\w+\)((?:.*\\\n)*.*)", headers, re.M))
    code = {
        f"{path.parent.name}/{path.name}": text + "".join(body for name, body in lists.items() if f"{name}(" in text)
        for path, text in texts.items()
        if path.suffix == ".c"
    }
    definition = re.compile(r"^(?!static|#)\w[\w *]*?(\w+(?:\([^;{}]*\)\n\{|(?:\[\w*\])* = \{))", re.M)
    owner = {}  # of "function(" or "table"
    for path, text in code.items():
        owner.update((re.match(r"\w+\(?", found)[0], path) for found in definition.findall(text))
    edges = {}
    for path, text in code.items():
        names = re.findall(r"(?<![\w.>])(?=(\w+)\b(\(?))", text)
        edges[path] = {owner.get(name + bracket) for name, bracket in names} - {None, path}
    assert {"conv2d/conv2d_winograd.c", "conv2d/conv2d_algorithm.c"} <= edges["conv2d/conv2d.c"]
    assert "base/pool.c" in edges["search/prefilter.c"]
    assert_no_circle(edges)


PYTHON = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for path in PACKAGE.rglob("*.py")
}


def imports(text):
    """The names that a module imports anywhere, within functions and for type checkers too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_circle_of_python_files():
    """Counts imports within functions too, and the modules that the C core imports."""
    core = "cossim._core"
    modules = {*PYTHON, core}
    edges = {core: set()}
    for path in SOURCES:
        found = re.findall(r'PyImport_Import\w*\("(cossim[\w.]*)"', path.read_text())
        assert modules.issuperset(found), path
        edges[core].update(found)
    for here, text in PYTHON.items():
        named = {name for name in imports(text) if name.split(".")[0] == "cossim"}
        named = {name if name in modules else name.rpartition(".")[0] for name in named}
        assert modules.issuperset(named), here
        # cossim/__init__.py imports by name only what it also imports for type checkers (see test_types.py).
        assert "import_module" not in text or here == "cossim"
        edges[here] = named
    assert edges[core] and core in edges["cossim.search.blocks"]
    assert "cossim.search.dask_arrays" in edges["cossim._finders"]  # within a function
    assert_no_circle(edges)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_memory_comes_from_scratch(path):
    calls = re.findall(r"\b(?:malloc|calloc|realloc|free|aligned_alloc|posix_memalign|alloca)\s*\(", path.read_text())
    assert not calls or path.name == "scratch.c"


def test_functions_have_at_most_eight_parameters():
    """A call with more arguments is hard to read: they go into a struct."""
    definition = re.compile(r"^\w[^;{}()=]*?(\w+(?:\(\w+\))?)(\((?:[^;{}()]|\([^()]*\))*\))\s*[;{]", re.M)
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.[ch]")]:
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        for name, parameters in definition.findall(text):
            count = re.sub(r"\([^()]*\)", "", parameters[1:-1]).count(",") + 1
            assert count <= 8, (path, name)


def test_files_have_at_most_700_lines():
    """A file has one subject. A file of more than 700 lines probably has two."""
    for path in [*SOURCES, *PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.[pc]*")]:
        if path.suffix in (".c", ".h", ".py"):
            assert len(path.read_text().splitlines()) <= 700, path


def test_c_lines_have_at_most_100_columns():
    """clang-format does not break strings, so it lets longer lines of messages pass."""
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.[ch]")]:
        long = [line for line in path.read_text().splitlines() if len(line) > 100]
        assert not long, (path, long[0])


def tracked():
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode or not run.stdout:
        pytest.skip("needs a git checkout")
    return [ROOT / name for name in run.stdout.splitlines()]


def test_the_source_archive_gets_every_file():
    """MANIFEST.in names each file that setuptools does not add itself. make dist checks the archive, after a build."""
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines()]
    folders = {"cossim", *(words[1] for words in lines if words[0] == "graft")}
    files = {"MANIFEST.in", "pyproject.toml", "setup.py", *(name for words in lines for name in words[1:])}
    names = [path.relative_to(ROOT) for path in tracked()]
    assert not [name for name in names if name.parts[0] not in folders and str(name) not in files]


def test_no_compiler_flag_changes_arithmetic():
    """No compiler flag changes arithmetic or ties the build to one machine."""
    forbidden = ["-ffast" + "-math", "-O" + "fast", "-march=" + "native", "-funsafe" + "-math"]
    for name in ("setup.py", "Makefile", "pyproject.toml", ".ci/run"):
        text = (ROOT / name).read_text()
        assert not [flag for flag in forbidden if flag in text], name


def test_emulated_processors_are_not_given_kernels_of_the_real_one():
    """A BLAS ends with SIGILL where the environment names kernels that the emulated processor cannot run."""
    for path in (ROOT / "Makefile", *(ROOT / "tests").rglob("*.py")):
        for line in path.read_text().splitlines():
            assert "-cpu" not in line or "qemu" not in line or "OPENBLAS_CORETYPE,OPENBLAS_L2_SIZE" in line, path


def test_no_paths_of_a_machine():
    for path in tracked():
        if path.suffix not in (".npz", ".hex") and path.is_file():
            text = path.read_text(errors="replace")
            found = re.findall(r"(?<![\w.])/(?:home|root|work|Users)/\w+", text)
            assert not found or path.name == "test_house.py", (path, found)


def test_tests_import_torch_only_from_oracle():
    """Tests import torch from oracle.py, which works without torch."""
    for path in (ROOT / "tests").rglob("*.py"):
        found = re.findall(r"^ *(?:import|from) torch\b", path.read_text(), re.M)
        assert not found or path.name == "oracle.py", path


def skip_special_builds():
    if any(os.environ.get(name) for name in ("COSSIM_DEBUG", "COSSIM_SANITIZE", "COSSIM_COVERAGE", "COSSIM_SYMBOLS")):
        pytest.skip("not an ordinary build")


def test_the_installed_package_has_at_most_3_mb():
    """At most 3 MB, nearly all of it the extension; builds with sanitizers or coverage are larger."""
    skip_special_builds()
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".so", ".pyi", ".typed")]
    assert sum(path.stat().st_size for path in files) <= 3e6


def test_the_extension_exports_only_what_is_needed():
    """Only the names that Python and threadpoolctl look for; others could clash with another library's."""
    skip_special_builds()
    if sys.platform != "linux" or shutil.which("nm") is None:
        pytest.skip("needs Linux and nm")
    run = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--format=just-symbols", cossim._core.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(run.stdout.split()) == ["PyInit__core", "cossim_get_num_threads", "cossim_set_num_threads"]


# ---- documentation ----

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (cossim, cossim.nn, cossim.simclr)
    for name in module.__all__
    if name not in ("nn", "simclr", "__version__")
}


METHODS = {  # by the class that defines them; forward() is shown as a call of the layer
    f"{method.__module__}.{method.__qualname__}": method
    for value in PUBLIC.values()
    if isinstance(value, type)
    for method in (getattr(value, name) for name in dir(value) if not name.startswith("_") and name != "forward")
    if getattr(method, "__module__", "").startswith("cossim") and method.__doc__ is not None
}


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_docstrings_run(name):
    text = {**PUBLIC, **METHODS}[name].__doc__
    assert text
    try:
        examples, failures = documentation.docstring_failures(text, name, flags=doctest.NORMALIZE_WHITESPACE)
    except documentation.Missing as missing:
        pytest.skip(f"needs {missing}")
    assert examples, f"{name} shows no example"
    assert not failures, failures[0]


def test_the_readme_shows_the_commands():
    text, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for verb in ("demo", "test", "bench"):
        assert f"make {verb}" in text
        assert re.search(rf"^{verb}:", makefile, re.M)
    assert "make test" in (ROOT / ".ci/run").read_text()
