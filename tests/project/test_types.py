"""The annotations satisfy mypy and match the running package, and inspect and help() show the right signatures."""

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import cossim
import cossim.nn
import cossim.simclr
from cossim import _core

PACKAGES = (cossim, cossim.nn, cossim.simclr)
SOURCE = Path(cossim.__file__).parent
TYPED = sorted(path.relative_to(SOURCE) for pattern in ("*.py", "*.pyi") for path in SOURCE.rglob(pattern))

# ---- type checkers ----


def run(*arguments, folder=ROOT):
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("needs mypy")
    command = [sys.executable, "-m", *map(str, arguments)]
    # mypy reads what it finds through PYTHONPATH as an installed package.
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_users_program(tmp_path):
    """For a user of the installed package, mypy --strict accepts one program and finds the mistakes in another."""
    programs = [ROOT / "tests/typing/user_sample.py", ROOT / "tests/typing/mistakes.py"]
    run("mypy", "--strict", "--config-file=", "--cache-dir", "/dev/null", *programs, folder=tmp_path)


def test_the_users_program_uses_all_public_names():
    imports, text = (ROOT / "tests/typing/user_sample.py").read_text().split("\n\n\n", 1)
    assert "import cossim" in imports
    for package in PACKAGES:
        for name in package.__all__:
            assert re.search(rf"\b{name}\b", text), f"{package.__name__}.{name}"


def test_the_stub_is_that_of_the_core():
    run("mypy.stubtest", "--mypy-config-file=pyproject.toml", "cossim._core")


def test_names_that_are_imported_on_first_use():
    """Type checkers find each of these names where the running package finds it."""
    blocks = [node for node in ast.parse((SOURCE / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    found = {alias.name: node.module for node in imports for alias in node.names}
    code = "import cossim; print(*sorted(set(cossim.__all__) - set(vars(cossim))))"
    late = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(found) == late
    for name, module in found.items():
        assert getattr(importlib.import_module(module), name) is getattr(cossim, name)


with_sources = pytest.mark.skipif(not (ROOT / "cossim").exists(), reason="the sources of the package are not here")


@with_sources
def test_the_packages_own_code():
    run("mypy", "--cache-dir", "/dev/null", "cossim")


@with_sources
def test_typed_files_are_installed(tmp_path):
    """A wheel has all Python files and the stub. It is built without the C core, which takes a minute to compile."""
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("needs setuptools 77, as the build does")
    # Uses fresh metadata, because the sources' egg-info remembers files of earlier builds.
    metadata, library = tmp_path / "metadata", tmp_path / "library"
    metadata.mkdir()
    command = ["setup.py", "-q", "egg_info", f"--egg-base={metadata}", "build_py", f"--build-lib={library}"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    installed = {path.relative_to(library) for path in library.rglob("*") if path.is_file()}
    sources = {path.relative_to(ROOT) for pattern in ("*.py", "*.pyi") for path in (ROOT / "cossim").rglob(pattern)}
    assert installed == sources | {Path("cossim/py.typed")}


def test_only_the_core_has_a_stub():
    """The types of a Python module are in the module."""
    assert [str(path) for path in TYPED if path.suffix == ".pyi"] == ["_core.pyi"]


def functions_of(body):
    """(path of names, function) of each function of a module or stub, with those of its classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield (node.name,), node
        elif isinstance(node, ast.ClassDef):
            yield from (((node.name, *names), function) for names, function in functions_of(node.body))
        elif isinstance(node, ast.If):
            yield from functions_of(node.body)


def defaults_of(arguments, names):
    """(parameter, value) of each default; names are those of the module that has the function."""
    positional = [*arguments.posonlyargs, *arguments.args]
    by_position = zip(positional[::-1], arguments.defaults[::-1], strict=False)
    by_name = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    for argument, default in [*by_position, *by_name]:
        if default is not None:
            yield argument.arg, eval(compile(ast.Expression(default), "default", "eval"), dict(names))


def overloads():
    """(module, path of names, arguments) of each overload, and of each function of the stub."""
    for path in (
        path for path in TYPED if path.name != "_typing.py"
    ):  # the overloads of _typing.py belong to protocols, which nobody calls
        module = ".".join(("cossim", *path.with_suffix("").parts)).removesuffix(".__init__")
        for names, function in functions_of(ast.parse((SOURCE / path).read_text()).body):
            overloaded = any(getattr(decorator, "id", "") == "overload" for decorator in function.decorator_list)
            if overloaded or path.suffix == ".pyi":
                yield module, names, function.args


OVERLOADED = {(module, names): [] for module, names, _ in overloads()}
for module, names, arguments in overloads():
    OVERLOADED[module, names].append(arguments)


@pytest.mark.parametrize(("module", "names"), OVERLOADED, ids=str)
def test_defaults_of_the_overloads(module, names):
    """Compares defaults, which neither mypy nor stubtest does. They compare names and kinds of parameters."""
    found = vars(importlib.import_module(module))
    parameters = inspect.signature(functools.reduce(getattr, names[1:], found[names[0]])).parameters
    for name, value in (pair for arguments in OVERLOADED[module, names] for pair in defaults_of(arguments, found)):
        assert parameters[name].default == value, name


# ---- signatures ----


def public_callables():
    for package in PACKAGES:
        for name in package.__all__:
            value = getattr(package, name)
            if callable(value):
                yield f"{package.__name__}.{name}", value
                if isinstance(value, type):
                    yield from public_methods(f"{package.__name__}.{name}", value)


def public_methods(name, kind):
    for method, value in inspect.getmembers(kind, callable):
        ours = any(method in vars(base) for base in kind.__mro__ if base.__module__.startswith("cossim"))
        if ours and not isinstance(value, type) and (not method.startswith("_") or method == "__call__"):
            yield f"{name}.{method}", value


CALLABLES = dict(public_callables())
CORE = {name: value for name, value in vars(_core).items() if callable(value)}


def documented(text):
    """The parameter section of a docstring, or the whole docstring without one."""
    found = re.search(r"^Parameters\n-+\n(.*?)(?:\n\n\w[\w ]*\n-+\n|\Z)", text, re.M | re.S)
    return text if found is None else found[1]


@pytest.mark.parametrize("name", CALLABLES)
def test_help_shows_signature_and_parameters(name):
    function = CALLABLES[name]
    signature = inspect.signature(function)
    shown = pydoc.plain(pydoc.render_doc(function))
    if signature.parameters or not isinstance(function, type):  # help() shows none for a class without parameters
        assert f"{name.rsplit('.', 1)[1]}{signature}" in shown
    text = inspect.getdoc(function)
    if name.endswith((".forward", ".__call__")):  # their class documents these parameters
        return
    assert text
    summary = text.split("\n", 1)[0]
    assert summary[-1] in ".:"
    assert summary in shown
    for parameter in signature.parameters:
        assert parameter == "self" or re.search(rf"\b{parameter}\b", documented(text)), parameter


@pytest.mark.parametrize("name", CORE)
def test_the_core_has_signatures(name):
    """The signatures also show how many positional arguments a function takes."""
    function = CORE[name]
    signature = inspect.signature(function)
    parameters = [parameter for parameter in signature.parameters if parameter != "self"]
    assert inspect.getdoc(function)
    assert f"{name.rsplit('.')[-1]}{signature}" in pydoc.plain(pydoc.render_doc(function))
    if len(parameters) > 1 and all(p.kind is p.POSITIONAL_ONLY for p in signature.parameters.values()):
        for wrong in (len(parameters) - 1, len(parameters) + 1):
            with pytest.raises(TypeError, match=rf"exactly {len(parameters)} arguments \({wrong} given\)"):
                function(*[None] * wrong)


SIMILARITIES = [cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot, cossim.cosine_similarity_vjp]
NORMS = [cossim.vector_norm, cossim.normalize]


@pytest.mark.parametrize("function", [*SIMILARITIES, *NORMS, cossim.pairwise], ids=lambda f: f.__name__)
@pytest.mark.parametrize("scale", [1.0, 3e-9, 3e-13])
def test_defaults_are_those_of_the_signature(rng, function, scale):
    """Passing all defaults, by name or by position, gives the same result as passing none."""
    operands = scale * rng.standard_normal((len(required(function)), 4, 4))
    optional = [p for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
    expected = values(function(*operands))
    by_name = {parameter.name: parameter.default for parameter in optional}
    np.testing.assert_array_equal(values(function(*operands, **by_name)), expected)
    by_position = [parameter.default for parameter in optional if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    np.testing.assert_array_equal(values(function(*operands, *by_position)), expected)
    with pytest.raises(TypeError, match=r"positional arguments|at most"):
        function(*operands, *by_position, None)


@pytest.mark.parametrize("function", [*SIMILARITIES, *NORMS], ids=lambda f: f.__name__)
def test_axis_is_in_the_signature(function):
    parameter = inspect.signature(function).parameters["axis"]
    assert (parameter.kind, parameter.default) == (parameter.KEYWORD_ONLY, None)


def required(function):
    return [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]


def values(result):
    return result[0] if isinstance(result, tuple) else result


def test_the_import_loads_few_modules():
    """`import cossim` must stay fast: modules that only some calls need are imported by these calls."""
    code = "import sys, numpy; before = set(sys.modules); import cossim; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    own = {name for name in loaded if name.split(".")[0] == "cossim"}
    names = "_arguments _core _errors _finders _hooks _interrupts _threadpoolctl _threads _version"
    assert own == {"cossim", *(f"cossim.{name}" for name in names.split())}
    aliases = {"numpy._core", "numpy._core._multiarray_umath"}  # NumPy 1.26 imports them for code built with 2
    assert not set(loaded) - own - aliases - {"_signal", "__future__"}


CORE_FINDS = """
import sys, numpy as np, cossim
numpy_file, x = sys.argv[1], np.eye(3)
np.save(numpy_file, x)
{call}
"""


@pytest.mark.parametrize(
    "call",
    [
        "assert (cossim.pairwise(numpy_file) == x).all()",
        "import scipy.sparse as s; assert (cossim.pairwise(s.csr_matrix(x)) == x).all()",
        "import dask.array as da; assert (cossim.cosine_similarity(da.from_array(x), x).compute() == 1).all()",
    ],
    ids=["a path", "sparse rows", "Dask"],
)
def test_the_first_call_finds_what_the_import_left_out(call, tmp_path):
    for name in ("scipy", "dask"):
        if f"import {name}" in call:
            pytest.importorskip(name)
    subprocess.run([sys.executable, "-c", CORE_FINDS.format(call=call), tmp_path / "x.npy"], check=True)


def test_threads_may_use_a_name_first_at_the_same_time():
    code = """
import threading, cossim
start, found = threading.Barrier(8), []
def use(name):
    start.wait()
    found.append(getattr(cossim, name))
threads = [threading.Thread(target=use, args=(name,)) for name in ["topk", "Index", "diverse", "communities"] * 2]
[t.start() for t in threads], [t.join(60) for t in threads]
assert len(found) == 8 and len(set(found)) == 4
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_type_checkers_need_no_runtime():
    """Types cost no import time: nothing imports what only annotations use."""
    code = (
        "import sys, cossim, cossim.nn, cossim.simclr; print(not {'cossim._typing', 'numpy.typing'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
