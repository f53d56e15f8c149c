"""Runs the series on Colab's versions, in an environment of its own (.venv-colab; several GB on Linux).

python -m tools.colab [--python PYTHON] [NN ...]
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-colab"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
COLABS_PYTHON = "3.13"
VERSIONS = ROOT / "tests" / "colab_versions.txt"


def uv(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run([find_uv_bin(), *arguments], cwd=ROOT, text=True, **options)


def make_environment(python: str | None) -> None:
    """With the named Python, else with Colab's, else with this one."""
    if PYTHON.exists():
        return
    if uv("venv", "--quiet", "--python", python or COLABS_PYTHON, str(ENVIRONMENT)).returncode:
        if python:
            raise ValueError(f"There is no Python '{python}' to run the series with.")
        print(f"No Python {COLABS_PYTHON} was found, so it is this one; --python names another.", file=sys.stderr)
        uv("venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT), check=True)


def install(constraints: list[str]) -> bool:
    """The companion as it is now, within the constraints; False where there is no such set of packages."""
    what = [".", "ipykernel", "nbclient", "--reinstall-package", "bert-cnn-companion"]
    command = ["pip", "install", "--python", str(PYTHON), "--constraint", "-", *what]
    return uv(*command, input="\n".join(constraints)).returncode == 0


def exists(pin: str) -> bool:
    """Is there such a version for this Python and this machine?"""
    command = ["pip", "compile", "--quiet", "--no-deps", "--python", str(PYTHON), "-"]
    return uv(*command, input=pin, capture_output=True).returncode == 0


def installed() -> dict[str, str]:
    listed = uv("pip", "list", "--python", str(PYTHON), "--format", "json", capture_output=True, check=True).stdout
    return {canonicalize_name(package["name"]): package["version"] for package in json.loads(listed)}


def differences(pins: list[str], versions: dict[str, str]) -> list[str]:
    """What of Colab's could not be had, in words."""
    wanted = [Requirement(pin) for pin in pins]
    return [
        f"{requirement.name} is {versions[requirement.name]}, on Colab {requirement.specifier}"
        for requirement in wanted
        if not requirement.specifier.contains(versions[requirement.name])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help=f"a version or a path; on Colab it is {COLABS_PYTHON}")
    parser.add_argument("numbers", nargs="*", metavar="NN", help="these notebooks only")
    args = parser.parse_args()
    try:
        make_environment(args.python)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    pins = [line for line in VERSIONS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    if not install(pins) and not install(list(filter(exists, pins))):
        raise SystemExit("Colab's versions could not be installed; uv says above why.")
    done = subprocess.run([PYTHON, "-m", "tools.series", "run", *args.numbers], cwd=ROOT)
    print(subprocess.run([PYTHON, "--version"], capture_output=True, text=True).stdout.strip(), "and", end=" ")
    others = differences(pins, installed())
    print("; ".join(others) or f"Colab's versions of all {len(pins)} packages", end=".\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
