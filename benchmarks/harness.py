"""Measures candidates in turn, A B C A B C ..., so that a drift in the machine's speed affects all of them equally."""

import gc
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from time import perf_counter, process_time, thread_time

import cossim

OURS = "cossim"


@dataclass
class Case:
    """Calls that do the same work. The ratio of a candidate is its time divided by the time of OURS."""

    title: str
    candidates: dict  # name -> call
    # each: (names of rivals, least ratio of the fastest rival's time to the time of OURS[, candidate in place of OURS])
    goals: list = field(default_factory=list)
    limit: float | None = None  # the longest time that OURS may take, in seconds
    bytes_read: int = 0
    flops: int = 0
    dtype: str = "float32"
    threads: int = 1
    table: str | None = None  # "": a line below the table of its module, unless another library is compared


@dataclass
class ProgramCase:
    """Programs that print one number each. Each runs in its own process, to measure memory or start-up."""

    title: str
    candidates: dict  # name -> source
    unit: str  # "seconds" or "bytes"
    limit: float | None = None  # the largest number that OURS may print
    goals: list = field(default_factory=list)  # as in Case
    bytes_read: int = 0
    rounds: int = 1


def on(threads, call):
    """Returns the call, with that number of cossim's threads."""

    def limited():
        with cossim.threads(threads):
            return call()

    return limited


_PEAK = """
import numpy as np
{imports}
def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))
z = {data}
{warm_up}
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
result = {call}
parts = result if isinstance(result, tuple) else (result,)
print(status("VmHWM") - before - sum(part.nbytes for part in parts))
"""


def peak_program(imports, data, warm_up, call):
    """Returns a program for Linux that prints the peak memory of `call` in bytes, without counting the result.

    In `call`, z is the data.
    """
    return _PEAK.format(imports=imports, data=data, warm_up=warm_up, call=call)


def _calls_per_round(call, least_seconds):
    """Returns how many calls make a round long enough for the clock, and the seconds of that round. Also warms up.

    A first call below a second is not counted: it may do work that later calls find done.
    """
    calls, counted = 1, False
    while True:
        start = perf_counter()
        for _ in range(calls):
            call()
        seconds = perf_counter() - start
        if not counted and seconds < 1:
            counted = True
            continue
        if seconds >= least_seconds or calls >= 1 << 20:
            return calls, seconds
        calls = max(2 * calls, int(calls * least_seconds / max(seconds, 1e-9)))


def race(candidates, least_seconds=0.01, total_seconds=2.0, threads=1):
    """Returns the median seconds of a call for each candidate, over 7 to 51 rounds.

    A candidate that has run for 5 seconds needs only 3 rounds, and one whose call takes as long only 1. With threads=1,
    a candidate that uses other threads ends the run.
    """
    calls, lasts = {}, 0.0
    for name, call in candidates.items():
        calls[name], seconds = _calls_per_round(call, least_seconds)
        lasts += seconds
    seconds, elsewhere = {name: [] for name in candidates}, dict.fromkeys(candidates, 0.0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(min(51, max(7, int(total_seconds / lasts)))):
            for name, call in candidates.items():
                lasted = calls[name] * sum(seconds[name])
                if lasted > 5 and (len(seconds[name]) >= 3 or seconds[name][0] > 5):
                    continue
                repeat = range(calls[name])
                others = process_time() - thread_time()
                start = perf_counter()
                for _ in repeat:
                    call()
                seconds[name].append((perf_counter() - start) / calls[name])
                elsewhere[name] += process_time() - thread_time() - others
    finally:
        gc.enable()
    name = max(
        elsewhere, key=elsewhere.get
    )  # the maximum, because threads of a candidate that still spin are also counted for the next one
    if threads == 1 and elsewhere[name] > 0.1 * calls[name] * sum(seconds[name]):
        raise SystemExit(f"{name} does not keep to one thread")
    return {name: statistics.median(times) for name, times in seconds.items()}


def _run(program):
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def measure(case, peak):
    """Runs a case. Returns a dict of its candidates, best first, and its goals."""
    if isinstance(case, ProgramCase):
        values = {name: [] for name in case.candidates}
        for _ in range(case.rounds):
            for name, program in case.candidates.items():
                values[name].append(_run(program))
        unit, medians = case.unit, {name: statistics.median(each) for name, each in values.items()}
    else:
        unit, medians = "seconds", race(case.candidates, threads=case.threads)
    ours, rows = medians[OURS], []
    for name, value in sorted(medians.items(), key=lambda item: item[1]):
        row = {"name": name, unit: value, "ratio": value / ours}
        if case.bytes_read:
            row["GB/s"] = case.bytes_read / value / 1e9
            row["of peak"] = case.bytes_read / value / peak["read"]
        elif getattr(case, "flops", 0):
            row["GFLOP/s"] = case.flops / value / 1e9
            row["of peak"] = case.flops / value / (peak[case.dtype] * case.threads)
        rows.append(row)
    in_table = getattr(case, "table", "") != ""
    result = {"title": case.title, "in table": in_table, "candidates": rows, "goals": []}
    for rivals, least, *whose in case.goals:
        best = min(rivals, key=medians.get)
        ratio = medians[best] / medians[whose[0] if whose else OURS]
        text = f"{''.join(f'{name}: ' for name in whose)}{ratio:.2f} times {best}, at least {least:g} wanted"
        result["goals"].append({"text": text, "holds": ratio >= least})
    if case.limit is not None:
        text = f"{_amount(unit, ours).strip()}, at most {_amount(unit, case.limit).strip()} wanted"
        result["goals"].append({"text": text, "holds": ours <= case.limit})
    return result


def _amount(unit, value):
    if unit == "bytes":
        return f"{value / 1e6:10.1f} MB"
    for name, scale in (("s ", 1), ("ms", 1e3), ("us", 1e6)):
        if value * scale >= 1 or name == "us":
            return f"{value * scale:10.3f} {name}"


def show(result, seconds):
    """Prints the result of a case as a table. seconds: how long its measurement took."""
    print(f"\n{result['title']} ({seconds:.1f} s)")
    for row in result["candidates"]:
        amount = next(_amount(unit, row[unit]) for unit in ("seconds", "bytes") if unit in row)
        speed = next((f"{row[unit]:8.1f} {unit:7}" for unit in ("GB/s", "GFLOP/s") if unit in row), "")
        share = f"{row['of peak']:5.0%} of peak" if "of peak" in row else ""
        print(f"  {row['name']:26}{amount}  ratio {row['ratio']:8.2f} {speed} {share}".rstrip())
    for goal in result["goals"]:
        print(f"  {goal['text']}: {'holds' if goal['holds'] else 'MISSED'}", flush=True)
