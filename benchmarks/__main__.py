"""python -m benchmarks [NAME ...]: all comparisons, or those named."""

import argparse
import json

import subprocess

import cossim
from benchmarks.cases import BENCHES
from benchmarks.harness import measure, show


def measured_peak(isa):
    """What one core does at best: multiply-adds per second of both precisions, bytes read per second."""
    program = f"build/c/peak_{isa}"
    subprocess.run(["make", "--silent", program], check=True)
    return json.loads(subprocess.run([program], check=True, capture_output=True).stdout)


def single_threaded():
    """Rivals get one thread, as cossim does; those not installed are left out of it."""
    from threadpoolctl import threadpool_limits

    import torch

    torch.set_num_threads(1)
    return threadpool_limits(1)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    names = parser.parse_args().names
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    isa = cossim._core.config()["isa"]
    peak = measured_peak(isa)
    print(f"{isa}, one core: {peak['float32'] / 1e9:.0f} GFLOP/s float32, {peak['float64'] / 1e9:.0f} float64, reads {peak['read'] / 1e9:.1f} GB/s")
    results = []
    with single_threaded(), cossim.threads(1):
        for name in names or BENCHES:
            for case in BENCHES[name]():
                results.append(measure(case, peak))
                show(results[-1])
    with open("bench.json", "w") as file:
        json.dump({"isa": isa, "peak": peak, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
