"""Runs a Python fuzzer: run.py TARGET RUNS FOLDER. Writes the C fuzzer's seeds to files: run.py --unpack plan FOLDER.

With atheris, mutations are guided by the coverage of Python code, and of the extension if it was built for that;
inputs that reach new code are kept in FOLDER. Without atheris, the seeds are mutated blindly.
"""

import importlib
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]

# name -> (module, key in its TARGETS, or None if the module has one target)
NAMES = {
    "arguments": ("fuzz_arguments", None),
    "changes": ("fuzz_changes", None),
    "layers": ("fuzz_layers", None),
    "columns": ("fuzz_columns", None),
    "rows": ("fuzz_files", "rows"),
    "index": ("fuzz_files", "index"),
    "images": ("fuzz_files", "images"),
    "weights": ("fuzz_files", "weights"),
    "checkpoints": ("fuzz_files", "checkpoints"),
}
LONGEST = {"arguments": 160, "changes": 160, "layers": 160, "columns": 160}
# Coverage is measured in these: the package, and the modules that read files for it.
FOLLOWED = ["cossim", "gzip", "json", "numpy.lib", "zipfile"]


def target_of(name):
    """(function that is called with each input, seeds)."""
    module, key = NAMES[name]
    module = importlib.import_module(module)
    run, seeds = (module.run, module.seeds) if key is None else module.TARGETS[key]
    return run, [*seeds(), *kept(name)]


def kept(name):
    """Stored inputs, one per line in hexadecimal: former findings, and the first inputs that reached some code."""
    path = Path(__file__).parent / "corpus" / f"{name}.hex"
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []


def unpack(seeds, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(seeds):
        (folder / f"seed-{i}").write_bytes(data)


def blindly(name, runs):
    from source import mutations

    run, seeds = target_of(name)
    for data in mutations(seeds, runs, int.from_bytes(os.urandom(4), "little")):
        try:
            run(data)
        except BaseException:
            print(data.hex())
            raise
    print(f"ok: {len(seeds)} seeds, {runs} mutations, without atheris")


def main():
    name, runs, folder = sys.argv[1:]
    folder = Path(folder)
    if name == "--unpack":
        unpack(kept(runs), folder)
        return
    try:
        import atheris
    except ImportError:
        blindly(name, int(runs))
        return
    with atheris.instrument_imports(include=FOLLOWED):
        run, seeds = target_of(name)
    unpack(seeds, folder)
    longest = LONGEST.get(name, max(map(len, seeds)) + 256)
    options = [f"-runs={runs}", f"-max_len={longest}", "-timeout=60", "-rss_limit_mb=4096", "-detect_leaks=0"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}-", str(folder)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
