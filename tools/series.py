"""Keeps the notebook series in order.

python -m tools.series run [--write] [NN ...]  execute notebooks, end with a table; --write stores the outputs
python -m tools.series sync [--check]          copy the definitions that cells show from the package
"""

import argparse
import ast
import re
import sys
import textwrap
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

ROOT = Path(__file__).parent.parent
CELL_TIMEOUT = 300  # seconds; a dead kernel, too, is noticed by then
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebooks(numbers=(), root=ROOT) -> list[Path]:
    """The series in order, or those whose names start with one of the numbers."""
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    for number in numbers:
        if not any(path.name.startswith(f"{number}_") for path in paths):
            raise ValueError(f"There is no notebook {number}; there are {', '.join(p.name for p in paths)}.")
    return [path for path in paths if not numbers or path.name[:2] in numbers]


def save(notebook, path: Path) -> None:
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


# run ------------------------------------------------------------


def run(paths, write=False) -> int:
    """Execute the notebooks and print the table. The exit code: 0 if all passed."""
    books = {path: nbformat.read(path, as_version=4) for path in paths}
    rows = []
    with tqdm(total=sum(len(code_cells(book)) for book in books.values()), unit="cell", leave=False) as bar:
        for path, book in books.items():
            bar.set_description(path.stem)
            started = time.monotonic()
            failure = execute(book, path.parent, bar.update)
            if write and failure is None:
                failure = normalise(book)
            if write and failure is None:
                save(book, path)
            rows.append((path.name, len(code_cells(book)), time.monotonic() - started, failure or "passed"))
    width = max((len(row[0]) for row in rows), default=8)
    print(f"{'notebook':{width}}  cells  seconds  result")
    for name, cells, seconds, result in rows:
        print(f"{name:{width}}  {cells:5}  {seconds:7.1f}  {result}")
    return int(any(result != "passed" for *_, result in rows))


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def execute(notebook, folder: Path, after_each=lambda: None, kernel="python3", timeout=CELL_TIMEOUT) -> str | None:
    """Run all cells in a fresh kernel; None, or what failed."""
    at = 0

    def started(cell, cell_index):
        nonlocal at
        at = cell_index

    def done(cell, cell_index, **_):
        after_each()

    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name=kernel,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: no word about the local connection
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        on_cell_start=started,
        on_cell_executed=done,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return f"cell {at + 1}: {error.ename}: {error.evalue.splitlines()[0] if error.evalue else ''}"
    except (CellTimeoutError, DeadKernelError) as error:
        return f"cell {at + 1}: {type(error).__name__}: {str(error).splitlines()[0]}"
    return None


def normalise(notebook) -> str | None:
    """Make outputs the same on every machine; None, or why they are not fit to keep."""
    notebook.metadata = nbformat.from_dict(METADATA)
    count = 0
    for number, cell in enumerate(notebook.cells, 1):
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        if "widget" in cell.metadata.get("tags", []):  # what it shows lives in the reader's browser
            cell.outputs = []
        for output in cell.outputs:
            if output.get("name") == "stderr":
                return f"cell {number} wrote to stderr: {output.text.splitlines()[0]}"
            if any("widget" in kind for kind in output.get("data", {})):
                return f"cell {number} shows a widget, which keeps no output"
            if output.output_type == "execute_result":
                output.execution_count = count
    return None


# sync ------------------------------------------------------------


def definition(file: str, name: str, root=ROOT) -> str:
    """The source text of a function, a class, or a method (dedented), its decorators included."""
    text = (root / file).read_text(encoding="utf-8")
    node = ast.parse(text)
    for part in name.split("."):
        node = next((child for child in node.body if getattr(child, "name", None) == part), None)
        if node is None:
            raise ValueError(f"A cell shows {file}: {name}, but there is no {part} in it.")
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno]))


def sync(paths, check=False, root=ROOT) -> list[str]:
    """Rewrite the cells that open with `# companion/FILE.py: Name`; return those that differed."""
    drifted = []
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        for number, cell in enumerate(notebook.cells, 1):
            shown = re.match(r"# (companion/(?:\w+/)?\w+\.py): ([\w.]+)(?=\n|$)", cell.source)
            if cell.cell_type != "code" or not shown:
                continue
            source = f"{shown[0]}\n{definition(shown[1], shown[2], root)}"
            if cell.source != source:
                drifted.append(f"{path.name}, cell {number}: {shown[1]}: {shown[2]}")
                cell.source = source
        if not check and any(line.startswith(f"{path.name},") for line in drifted):
            save(notebook, path)
    return drifted


def perform() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run")
    command.add_argument("--write", action="store_true", help="store the outputs in the notebooks")
    command.add_argument("numbers", nargs="*", metavar="NN", help="these notebooks only")
    command = commands.add_parser("sync")
    command.add_argument("--check", action="store_true", help="report only")
    args = parser.parse_args()
    if args.command == "run":
        return run(notebooks(args.numbers), args.write)
    drifted = sync(notebooks(), args.check)
    print("\n".join(drifted) or "No cell differs from the package.")
    return int(args.check and bool(drifted))


def main() -> int:
    try:
        return perform()
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
