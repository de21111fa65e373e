"""python -m benchmarks: compares cossim with other libraries, and renews the tables and plots of docs/speed.md.

    python -m benchmarks                   all comparisons; renews all tables, a table at a time
    python -m benchmarks --renew sparse    one table: the comparisons of benchmarks/sparse.py
    python -m benchmarks rows pairs        these comparisons, and only prints their results

Tables are kept for each processor, in benchmarks/results: a run on one processor leaves those of others as they are.
"""

import argparse
import contextlib
import datetime
import json
import platform
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import cossim
from benchmarks import blas_kernels, report
from benchmarks.harness import measure, show

ROOT = Path(__file__).resolve().parent.parent
# Each table of docs/speed.md has a module of its name with BENCHES: name of a comparison -> function that yields cases.
# Its ONLY_NAMED are comparisons that take too much time or disk to run with the others.
_MODULES = {name: import_module(f"benchmarks.{name}") for name in report.TABLES if find_spec(f"benchmarks.{name}")}
TABLES = {name: module for name, module in _MODULES.items() if hasattr(module, "BENCHES")}
PACKAGES = (
    "torch", "scikit-learn", "scipy", "simsimd", "numkong", "faiss-cpu", "usearch", "sparse_dot_topn", "onnxruntime",
    "maxsim-cpu", "sentence-transformers",
)  # fmt: skip


def measured_peak(isa):
    """Measures the limits of one core: operations a second in both precisions, bytes read a second (see peak.c)."""
    header = isa.partition("_")[0]  # avx512_vnni extends avx512.h
    program = ROOT / "build" / "c" / f"peak_{header}"
    subprocess.run(["make", "--silent", str(program.relative_to(ROOT))], check=True, cwd=ROOT)
    return json.loads(subprocess.run([program], check=True, capture_output=True).stdout)


def machine():
    """Describes the machine and the versions of the libraries."""
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    about = {
        "processor": model,
        "isa": cossim._core.config()["isa"],
        "cpus": cossim.get_num_threads(),
        "date": datetime.date.today().isoformat(),
        "cossim": cossim.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # its comparisons end early, or leave it out
            about[name] = version(name)
    return about


def run(bench, peak):
    """Runs the cases of one comparison. Returns (their results, the error that ended it or None)."""
    results = []
    try:
        for case in bench():
            start = time.perf_counter()
            with threadpool_limits(1), cossim.threads(1):  # here, because every library of the case is loaded now
                results.append(measure(case, peak))
            show(results[-1], time.perf_counter() - start)
    except (Exception, SystemExit) as error:  # a library that is missing or wrong; the other comparisons still run
        print(f"\n{bench.__name__} ended early: {type(error).__name__}: {error}", flush=True)
        return results, error
    return results, None


def chosen(names, parser):
    """Returns {table: {name: comparison}} for names of tables and comparisons; all tables without names."""
    if not names:
        return {table: module.BENCHES for table, module in TABLES.items()}
    found = {}
    for name in names:
        if name in TABLES:
            found.setdefault(name, {}).update(TABLES[name].BENCHES)
            continue
        everything = {table: module.BENCHES | getattr(module, "ONLY_NAMED", {}) for table, module in TABLES.items()}
        table = next((table for table, benches in everything.items() if name in benches), None)
        if table is None:
            benches = "; ".join(f"{table}: {', '.join(benches)}" for table, benches in everything.items())
            parser.error(f"there is no table or comparison {name}; there are {benches}")
        found.setdefault(table, {})[name] = everything[table][name]
    return found


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a table or a comparison (default: all tables)")
    parser.add_argument("--renew", action="store_true", help="renews the named tables of docs/speed.md")
    arguments = parser.parse_args()
    benches = chosen(arguments.names, parser)
    if arguments.renew and not set(arguments.names) <= set(TABLES):
        parser.error(f"--renew takes whole tables: {', '.join(TABLES)}")
    about = machine()
    peak = measured_peak(about["isa"])
    print(*(f"{key} {value}" for key, value in about.items()), sep=", ")
    print(report.limits(peak), flush=True)
    torch.set_num_threads(1)
    failed, begin = [], time.perf_counter()
    for table, named in benches.items():
        results, start = [], time.perf_counter()
        for name, bench in named.items():
            found, error = run(bench, peak)
            results += found
            failed += [name] if error else []
        print(f"\n{table}: {time.perf_counter() - start:.0f} s", flush=True)
        if results and (not arguments.names or arguments.renew):
            kernels = {"BLAS kernels": blas_kernels()}  # here, because every library of the table is loaded now
            report.store(ROOT, table, {"machine": about | kernels, "peak": peak, "results": results})
            report.renew(ROOT)
    print(f"all: {(time.perf_counter() - begin) / 60:.1f} minutes; BLAS kernels: {blas_kernels()}")
    if failed:
        print(f"ended early: {', '.join(failed)}; what they measured before is in the tables")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
