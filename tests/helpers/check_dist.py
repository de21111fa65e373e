"""Checks the contents of a source archive and a wheel: python tests/helpers/check_dist.py dist/*, as make dist does."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IN_A_WHEEL = (
    r"cossim/(\w+/)?\w+\.py|cossim/py\.typed|cossim/_core\.(pyi|[\w-]+\.(so|pyd))|cossim_c-[\d.]+\.dist-info/.+"
)


def of_source(path):
    """Problems of a source archive, which must hold the files that git tracks and those that setuptools adds."""
    with tarfile.open(path) as archive:
        found = {name.partition("/")[2] for name in (m.name for m in archive.getmembers() if m.isfile())}
    added = {name for name in found if re.fullmatch(r"PKG-INFO|setup\.cfg|cossim_c\.egg-info/.+", name)}
    known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    wanted = set(filter(None, known))
    return [f"missing: {name}" for name in wanted - found] + [f"too much: {name}" for name in found - wanted - added]


def of_wheel(path):
    with zipfile.ZipFile(path) as archive:
        found = {name for name in archive.namelist() if not name.endswith("/")}
    wanted = {str(p.relative_to(ROOT)) for p in (ROOT / "cossim").rglob("*") if p.suffix in (".py", ".pyi", ".typed")}
    problems = [f"missing: {name}" for name in wanted - found]
    problems += [f"too much: {name}" for name in found if not re.fullmatch(IN_A_WHEEL, name)]
    for part in (r"cossim/_core\..+\.(so|pyd)", r".+/licenses/LICENSE"):
        if len([name for name in found if re.fullmatch(part, name)]) != 1:
            problems.append(f"not one {part}")
    return problems


def main(paths):
    problems = []
    for path in paths:
        check = of_wheel if path.endswith(".whl") else of_source
        problems += [f"{path}: {text}" for text in sorted(check(path))]
    print("\n".join(problems) or f"{len(paths)} archives hold what they should")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
