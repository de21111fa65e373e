"""python -m benchmarks [NAME ...]: runs the named comparisons. Without names, runs all and renews tables and plots."""

import argparse
import datetime
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import cossim
from benchmarks import blas_kernels, cases, encoder, report, search
from benchmarks.harness import measure, show

ROOT = Path(__file__).resolve().parent.parent
ALL = cases.BENCHES | search.BENCHES | encoder.BENCHES
BENCHES = ALL | search.ONLY_NAMED


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
    packages = ("torch", "scikit-learn", "scipy", "simsimd", "numkong", "faiss-cpu", "usearch", "onnxruntime")
    versions = {name: version(name) for name in packages}
    return {
        "processor": model,
        "isa": cossim._core.config()["isa"],
        "cpus": cossim.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **versions,
        "date": datetime.date.today().isoformat(),
    }


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    names = parser.parse_args().names
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    about = machine()
    peak = measured_peak(about["isa"])
    print(*(f"{key} {value}" for key, value in about.items()), sep=", ")
    best = f"{peak['float32'] / 1e9:.0f} GFLOP/s float32, {peak['float64'] / 1e9:.0f} float64"
    print(f"one core: {best}, reads {peak['read'] / 1e9:.1f} GB/s")
    results = []
    torch.set_num_threads(1)
    for name in names or ALL:
        for case in BENCHES[name]():
            with threadpool_limits(1), cossim.threads(1):  # here, because every library of the case is loaded now
                results.append(measure(case, peak))
            show(results[-1])
    about["BLAS kernels"] = blas_kernels()  # here, because every library is loaded now
    print(f"\nBLAS kernels: {about['BLAS kernels']}")
    everything = {"machine": about, "peak": peak, "results": results}
    (ROOT / "bench.json").write_text(json.dumps(everything, indent=1) + "\n")
    if not names:
        report.renew(ROOT, everything)


if __name__ == "__main__":
    main()
