"""Makes one folder from which the series is installed and read where there is no network.

python -m tools.offline [FOLDER] [--encoder FOLDER ...] [--dataset FOLDER ...]

In it: the wheels of everything, the project's own included, for this Python and this kind of machine; the notebooks;
copies of encoders and datasets other than the embedded ones; INSTALL.md, with the two commands. If it is stopped, the
next run goes on with FOLDER.part, and pip with what it has downloaded.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parent.parent
PYTHON = r".venv\Scripts\python" if os.name == "nt" else ".venv/bin/python"
INSTALL = f"""# The series, without a network

For {{python}} on {{machine}}. In this folder:

```
python -m venv .venv
{PYTHON} -m pip install --no-index --no-deps --find-links wheels --requirement requirements.txt
```

Then `{PYTHON} -m jupyterlab notebooks` opens the series. The small BERT and the corpus it uses are in the package.
"""
SWITCH = """
{kind}s to use instead, one at a time, by the environment variable `COMPANION_{KIND}` with the folder's full path:
{folders}.
"""


def once(folder: Path, make) -> None:
    """make(part), then rename: a folder of this name is whole."""
    if folder.exists():
        return
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    make(part)
    part.rename(folder)


def collect_wheels(folder: Path, requirements: list[str]) -> None:
    options = ["--quiet", "--constraint", "constraints.txt", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, *requirements], cwd=ROOT, check=True)


def copy_notebooks(folder: Path) -> None:
    """The series and what it reads; the coursework, which holds solutions, stays here."""
    folder.mkdir()
    for path in (ROOT / "notebooks").glob("*.*"):
        if path.suffix in (".ipynb", ".jupyterlab-workspace"):
            shutil.copy(path, folder)
    shutil.copytree(ROOT / "notebooks" / "results", folder / "results", ignore=shutil.ignore_patterns("*lock"))


def bundle(folder: Path, requirements: list[str], others: dict[str, list[Path]]) -> None:
    """others: {"encoder": folders, "dataset": folders}."""
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    once(part / "wheels", lambda wheels: collect_wheels(wheels, requirements))
    once(part / "notebooks", copy_notebooks)
    text = INSTALL.format(
        python=f"Python {sys.version_info.major}.{sys.version_info.minor}",
        machine=f"{platform.system()}, {platform.machine()}",
    )
    for kind, sources in others.items():
        (part / f"{kind}s").mkdir(exist_ok=True)
        for source in sources:
            once(part / f"{kind}s" / source.name, lambda target, source=source: shutil.copytree(source, target))
        if sources:
            folders = ", ".join(f"`{kind}s/{source.name}`" for source in sources)
            text += SWITCH.format(kind=kind.capitalize(), KIND=kind.upper(), folders=folders)
    wheels = sorted(parse_wheel_filename(path.name)[:2] for path in (part / "wheels").glob("*.whl"))
    (part / "requirements.txt").write_text("".join(f"{name}=={version}\n" for name, version in wheels))
    (part / "INSTALL.md").write_text(text, encoding="utf-8")
    part.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "bert-cnn-offline")
    for kind, embedded in (("encoder", "embedded"), ("dataset", "matinee")):
        named = os.environ.get(f"COMPANION_{kind.upper()}", embedded)
        default = [] if named == embedded else [Path(named)]
        parser.add_argument(f"--{kind}", nargs="*", type=Path, default=default, metavar="FOLDER")
    args = parser.parse_args()
    others = {"encoder": args.encoder, "dataset": args.dataset}
    for kind, sources in others.items():
        for source in sources:
            if not source.is_dir():
                raise SystemExit(f"The {kind} '{source}' is not a folder; download it to one, and name that.")
    if args.folder.exists():
        raise SystemExit(f"{args.folder} is there already: move it away, or name another folder.")
    bundle(args.folder, [".[lab]"], others)
    size = sum(path.stat().st_size for path in args.folder.rglob("*") if path.is_file())
    print(f"{args.folder}: {size / 2**20:,.0f} MB. How to install from it: INSTALL.md")


if __name__ == "__main__":
    main()
