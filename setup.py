"""Builds cossim._core from csrc/. pyproject.toml has all other settings of the package.

Switches, for development (make test, make asan and the like set them):
    COSSIM_DEBUG=1                      -O0 -g, assertions on
    COSSIM_SANITIZE=address,undefined   those sanitizers
    COSSIM_COVERAGE=1                   gcov counters
    COSSIM_WERROR=1                     warnings are errors
    COSSIM_SYMBOLS=1                    keeps the names of static functions, for profilers (Linux)
"""

import os
import platform
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

# Each function begins a cache line. Otherwise the time of a small call depends on the size of all code before its
# kernel, by up to 5 %.
compile_args = ["-std=c11", "-O3", "-g0", "-fno-math-errno", "-falign-functions=64", "-fvisibility=hidden", "-pthread"]
compile_args += ["-Wall", "-Wextra"]
link_args = ["-pthread"]
macros = [("_GNU_SOURCE", None)]

# The sources are for gcc and clang, with POSIX threads. On Windows the compiler is the clang of the package ziglang,
# unless CC names another. Python's headers define MS_WIN64 only for Microsoft's compiler, so it is defined here.
if sys.platform == "win32":
    machine = "aarch64" if platform.machine() == "ARM64" else "x86_64"
    python = sys.executable.replace("\\", "/")
    os.environ.setdefault("CC", f'"{python}" -m ziglang cc -target {machine}-windows-gnu')
    macros += [("MS_WIN64", "")]

if os.environ.get("COSSIM_DEBUG"):
    compile_args += ["-O0", "-g", "-UNDEBUG"]
if os.environ.get("COSSIM_SANITIZE"):
    flags = ["-fsanitize=" + os.environ["COSSIM_SANITIZE"], "-fno-omit-frame-pointer", "-g"]
    compile_args += [*flags, "-fno-sanitize-recover=all"]
    link_args += flags
if os.environ.get("COSSIM_COVERAGE"):
    compile_args += ["--coverage", "-O1"]
    link_args += ["--coverage"]
if os.environ.get("COSSIM_WERROR"):
    compile_args += ["-Werror"]
special = ("COSSIM_DEBUG", "COSSIM_SANITIZE", "COSSIM_COVERAGE", "COSSIM_SYMBOLS")
if sys.platform == "linux" and not any(os.environ.get(name) for name in special):
    # The names of static functions take 70 kB, and the gaps between code and constants 8 kB.
    link_args += ["-Wl,--strip-all", "-Wl,-z,noseparate-code"]


# On x86 only processors from before 2013 run the kernels in plain C. The other files check and convert arguments, or
# call kernels. At -O2 and without gaps between functions they take 0.3 MB less, and are compiled in less time.
SMALLER = (
    "isa_generic",
    "conv2d_grad",
    "augment",
    "colour",
    "normal_rng",
    *(os.path.join("csrc", folder, "") for folder in ("python", "arguments", "network")),
)
small = platform.machine().lower() in ("x86_64", "amd64") and not os.environ.get("COSSIM_DEBUG")
smaller_args = ["-O2", "-falign-functions=16"] if small else []


class ParallelBuild(build_ext):
    """Compiles the C files in parallel."""

    def finalize_options(self):
        super().finalize_options()
        if sys.platform == "win32" and self.compiler is None:
            self.compiler = "mingw32"

    def build_extension(self, extension):
        compile_in_turn = self.compiler.compile

        def compile_one(source, *args, extra_postargs, **kwargs):
            flags = [*extra_postargs, *(smaller_args if any(name in source for name in SMALLER) else ())]
            return compile_in_turn([source], *args, extra_postargs=flags, **kwargs)

        def compile_all(sources, *args, **kwargs):
            with ThreadPoolExecutor(os.cpu_count()) as executor:
                objects = executor.map(lambda source: compile_one(source, *args, **kwargs), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_all
        try:
            super().build_extension(extension)
        except CompileError:
            self.explain_what_is_missing()
            raise

    def explain_what_is_missing(self):
        """Says what to install where there is no C compiler, or where Python's headers are missing."""
        if shutil.which(program := self.compiler.compiler_so[0]) is None:
            missing = f"the C compiler {program}"
        elif not any(os.path.exists(os.path.join(path, "Python.h")) for path in self.include_dirs):
            missing = "Python.h, one of Python's C headers,"
        else:
            return
        raise SystemExit(
            f"error: {missing} was not found. cossim is compiled from C. Install a C compiler and Python's headers; on "
            "Debian and Ubuntu: apt-get install gcc python3-dev; on Fedora: dnf install gcc python3-devel; on Alpine: "
            "apk add gcc musl-dev python3-dev; on macOS: xcode-select --install. CC=... names another compiler."
        )


setup(
    cmdclass={"build_ext": ParallelBuild},
    ext_modules=[
        Extension(
            "cossim._core",
            sources=glob("csrc/*/*.c"),
            depends=sorted(glob("csrc/*/*.h")),
            include_dirs=["csrc", numpy.get_include()],
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
            export_symbols=["cossim_get_num_threads", "cossim_set_num_threads"],  # Windows wants a list: see module.c
        )
    ],
)
