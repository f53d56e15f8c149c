"""Worked solutions to the exercises: notebooks/solutions/NN_name.md, with one section for each exercise.

python -m tools.solutions [NN ...]          run the code; fail where it prints something else than the page shows
python -m tools.solutions --write [NN ...]  run the code and store what it prints

The code of a page runs after the imports, definitions and constants (names in capitals) of its notebook, and after no
other cell: whatever else a solution needs, it makes itself.
"""

import argparse
import ast
import contextlib
import io
import os
import re
import sys
import warnings
from pathlib import Path

import nbformat

from tools import series

FOLDER = series.ROOT / "notebooks" / "solutions"
# Code, and what it prints; "varies" marks output that differs from machine to machine, which is not compared.
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```(text(?: varies)?)\n(.*?)```\n)?", re.DOTALL)
SECTION = re.compile(r"(?m)^## Exercise (\d+)\n")


def page(notebook: Path) -> Path:
    """Where the solutions to a notebook's exercises are."""
    return FOLDER / f"{notebook.stem}.md"


def exercises(source: str) -> list[str]:
    """The numbers of the exercises that a notebook's last cell sets."""
    return re.findall(r"(?m)^(\d+)\. ", source.split("## Exercises")[-1])


def sections(text: str) -> dict[str, str]:
    """Exercise number -> its solution."""
    parts = SECTION.split(text)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def definitions(notebook: Path) -> dict:
    """The names that a notebook imports, defines or sets as constants; its other statements do not run."""
    scope = {"__name__": "__main__"}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type != "code" or "colab" in cell.metadata.get("tags", []):
            continue
        for node in ast.parse(cell.source).body:
            defines = isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            if defines or (names and all(name.isupper() for name in names)):
                with contextlib.suppress(NameError):  # a constant that is computed from something that did not run
                    exec(compile(ast.Module([node], []), notebook.name, "exec"), scope)
    return scope


def run(notebook: Path, write: bool = False) -> list[str]:
    """Run a page's code from top to bottom. What it printed that the page does not show, one message per block."""
    path, differences = page(notebook), []
    text, scope = path.read_text(encoding="utf-8"), definitions(notebook)

    def executed(match: re.Match) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(match[1], path.name, "exec"), scope)
        found = "\n".join(line.rstrip() for line in printed.getvalue().rstrip().splitlines())
        kind, shown = match[2] or "text", (match[3] or "").rstrip()
        if kind == "text" and found != shown:
            differences.append(f"{path.name}: the page shows\n{shown}\nand the code prints\n{found}")
        output = f"\n```{kind}\n{found}\n```\n" if found else ""
        return f"```python\n{match[1]}```\n{output}"

    text = BLOCK.sub(executed, text)
    if write:
        path.write_text(text, encoding="utf-8", newline="\n")
        return []
    return differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store what the code prints")
    parser.add_argument("numbers", nargs="*", metavar="NN", help="these notebooks only")
    args = parser.parse_args()
    os.environ["MPLBACKEND"] = "Agg"
    warnings.simplefilter("ignore")
    import matplotlib.pyplot as plt

    from companion import display

    display.setup()
    display.show = lambda fig, alt: plt.close(fig)  # the pages show text only
    solved = [path for path in series.notebooks(args.numbers) if page(path).exists()]
    found = [message for path in solved for message in run(path, args.write)]
    print("\n\n".join(found) or "The solutions print what their pages show.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
