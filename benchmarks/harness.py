"""Times candidates side by side, A B C A B C ..., so that a machine whose speed drifts treats them all alike."""

import gc
import statistics
import sys
from dataclasses import dataclass, field
from time import perf_counter

OURS = "cossim"


@dataclass
class Case:
    """One comparison: calls that do the same work. The first named OURS is what ratios refer to."""

    title: str
    candidates: dict  # name -> call
    goals: list = field(default_factory=list)  # (names of rivals, the least ratio to the fastest of them)
    bytes_read: int = 0
    flops: int = 0
    dtype: str = "float32"
    threads: int = 1
    rounds: int = 15


def _calls_per_round(call, least_seconds):
    """So many calls that a round lasts long enough for the clock; warms up meanwhile."""
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
    """Seconds of a call, round by round, for each named candidate."""
    calls = {name: _calls_per_round(call, least_seconds) for name, call in candidates.items()}
    seconds = {name: [] for name in candidates}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in candidates.items():
                repeat = range(calls[name])
                start = perf_counter()
                for _ in repeat:
                    call()
                seconds[name].append((perf_counter() - start) / calls[name])
    finally:
        gc.enable()
    return seconds


def measure(case, peak):
    """Runs a case. Returns what there is to know of it as a dict: candidates, fastest first, and goals."""
    medians = {name: statistics.median(times) for name, times in race(case.candidates, case.rounds).items()}
    ours = medians[OURS]
    candidates = []
    for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
        row = {"name": name, "seconds": seconds, "ratio": seconds / ours}
        if case.bytes_read:
            row["GB/s"] = case.bytes_read / seconds / 1e9
            row["of peak"] = case.bytes_read / seconds / peak["read"]
        elif case.flops:
            row["GFLOP/s"] = case.flops / seconds / 1e9
            row["of peak"] = case.flops / seconds / (peak[case.dtype] * case.threads)
        candidates.append(row)
    goals = []
    for rivals, least in case.goals:
        best = min(rivals, key=medians.get)
        goals.append({"rivals": list(rivals), "best": best, "least": least, "ratio": medians[best] / ours})
    return {"title": case.title, "threads": case.threads, "ours": ours, "candidates": candidates, "goals": goals}


def _duration(seconds):
    for unit, scale in (("s ", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1 or unit == "us":
            return f"{seconds * scale:9.3f} {unit}"


def show(result, file=sys.stdout):
    """The result of a case as a table to read."""
    print(f"\n{result['title']}", file=file)
    for row in result["candidates"]:
        speed = next((f"{row[unit]:8.1f} {unit:7}" for unit in ("GB/s", "GFLOP/s") if unit in row), "")
        share = f"{row['of peak']:5.0%} of peak" if "of peak" in row else ""
        print(f"  {row['name']:28}{_duration(row['seconds'])}  ratio {row['ratio']:7.2f} {speed} {share}", file=file)
    for goal in result["goals"]:
        verdict = "holds" if goal["ratio"] >= goal["least"] else "MISSED"
        print(f"  {goal['ratio']:.2f} times {goal['best']}, at least {goal['least']:g} wanted: {verdict}", file=file, flush=True)
