"""Times candidates side by side: A B C A B C ..., so that a machine whose speed drifts treats them all alike."""

import gc
import json
import statistics
from time import perf_counter


def _calls_per_round(call, least_seconds):
    """So many calls that a round lasts long enough for the clock."""
    calls = 1
    while True:
        start = perf_counter()
        for _ in range(calls):
            call()
        seconds = perf_counter() - start
        if seconds >= least_seconds or calls >= 1 << 20:
            return calls
        calls = max(2 * calls, int(calls * least_seconds / max(seconds, 1e-9)))


def race(candidates, rounds=15, least_seconds=0.01):
    """Median seconds of a call for each named candidate; the first round warms up and sets the number of calls."""
    calls = {name: _calls_per_round(call, least_seconds) for name, call in candidates.items()}
    seconds = {name: [] for name in candidates}
    gc.collect()
    for _ in range(rounds):
        for name, call in candidates.items():
            start = perf_counter()
            for _ in range(calls[name]):
                call()
            seconds[name].append((perf_counter() - start) / calls[name])
    return {name: statistics.median(times) for name, times in seconds.items()}


def report(title, medians, bytes_read=0, flops=0, ours="cossim"):
    """Prints a table, and returns its rows: median, ratio (the rival's time over ours), GB/s or GFLOP/s."""
    rows = []
    print(f"\n{title}")
    for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
        row = {"bench": title, "candidate": name, "seconds": seconds, "ratio": seconds / medians[ours]}
        speed = ""
        if bytes_read:
            row["GB/s"] = bytes_read / seconds / 1e9
            speed = f"{row['GB/s']:8.1f} GB/s"
        if flops:
            row["GFLOP/s"] = flops / seconds / 1e9
            speed = f"{row['GFLOP/s']:8.1f} GFLOP/s"
        print(f"  {name:24} {seconds * 1e3:12.4f} ms {speed}   ratio {row['ratio']:7.2f}")
        rows.append(row)
    return rows


def save(rows, path):
    with open(path, "w") as file:
        json.dump(rows, file, indent=1)
