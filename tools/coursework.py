"""Builds the coursework: from notebooks with solutions and hidden tests, what students get.

python -m tools.coursework build [--into FOLDER]
python -m tools.coursework export FOLDER [--seed TEXT]    (a course of a teacher's own, with other names and numbers)
"""

import argparse
import io
import os
import random
import re
import secrets
import shutil
import sys
import tokenize
from collections import Counter
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)
from nbgrader.utils import is_grade, is_solution
from traitlets.config import Config, PyFileConfigLoader

from tools import publish

ROOT = Path(__file__).parent.parent
COURSE = Path("notebooks", "coursework")
SOURCE, RELEASE, CONFIG = COURSE / "source", COURSE / "release", COURSE / "nbgrader_config.py"
# nbgrader's own steps and order (GenerateAssignment) without SaveCells, which keeps a database.
STEPS = [LockCells, ClearSolutions, ClearOutput, CheckCellMetadata]
STEPS += [ClearHiddenTests, ClearMarkScheme, ComputeChecksums, CheckCellMetadata]
WORDS = "amber basalt cedar dune ember fjord garnet heron iris jade kelp linden maple nectar opal pine".split()
SEEDED = re.compile(r"(default_rng\(|manual_seed\(|random_state=)\d+")  # where a hidden test's numbers come from
REGIONS = {"SOLUTION": is_solution, "HIDDEN TESTS": is_grade}  # what may stand in which cells


def sources(folder: Path = ROOT / SOURCE) -> list[Path]:
    """NAME/NAME.ipynb of each assignment, in order. Raises ValueError if there is none."""
    paths = sorted(path for path in folder.glob("*/*.ipynb") if path.stem == path.parent.name)
    if not paths:
        raise ValueError(f"There is no assignment in {folder}: each is a folder NAME with a NAME.ipynb.")
    return paths


def load_config(course: Path) -> Config:
    """A course's settings of nbgrader; nbgrader's own where it has none."""
    file = course / CONFIG.name
    return PyFileConfigLoader(file.name, str(course)).load_config() if file.is_file() else Config()


def release(source: NotebookNode, config: Config | None = None) -> NotebookNode:
    """The students' version of a source notebook, with the checksums that show what was changed."""
    notebook = deepcopy(source)
    for step in STEPS:
        notebook, _ = step(config=config).preprocess(notebook, {})
    return notebook


def build(root: Path = ROOT, into: Path | None = None) -> list[Path]:
    """Write the students' version of every assignment, into NAME/NAME.ipynb each; the paths.

    Raises ValueError, with one sentence and before anything is written, for a source that is not in order, and for a
    version that would hold a part of a solution or of a hidden test.
    """
    config, released = load_config(root / COURSE), {}
    for path in sources(root / SOURCE):
        source = nbformat.read(path, as_version=4)
        check(source, path.stem)
        released[path.stem] = release(source, config)
        if found := leaks(source, released[path.stem]):
            raise ValueError(f"{path.stem}: the students' version would show {found[0]!r}.")
    written = []
    for name, notebook in released.items():
        path = (into or root / RELEASE) / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
        os.replace(temporary, path)
        written.append(path)
    return written


def export(into: Path, seed: str, root: Path = ROOT) -> list[Path]:
    """Write a course of a teacher's own: source/ to be kept private and graded with, release/ for students.

    The functions that students write have other names, and the hidden tests other numbers; both follow from the seed.
    Raises ValueError if the folder is in the repository, where it would be published.
    """
    if into.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{into} is in the repository, where the course would be published: choose another folder.")
    course = into / COURSE
    for path in sources(root / SOURCE):
        notebook, draw = nbformat.read(path, as_version=4), random.Random(f"{seed} {path.stem}")
        vary(notebook, random.Random(seed).choice(WORDS), draw)
        target = course / "source" / path.stem / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
    shutil.copyfile(root / CONFIG, into / CONFIG)
    return build(into)


def vary(notebook, word: str, draw: random.Random) -> None:
    """Give each task's function a name that ends in the word, and each hidden test other random numbers."""
    code = "\n".join(cell.source for cell in notebook.cells if is_solution(cell) and cell.cell_type == "code")
    names = set(re.findall(r"^def (\w+)", code, re.M))
    for cell in notebook.cells:
        if cell.cell_type == "code" and "%" not in cell.source[:1] and "colab" not in cell.metadata.get("tags", []):
            cell.source = renamed(cell.source, names, word)
        else:
            cell.source = re.sub(rf"`({'|'.join(names)})\b", rf"`\1_{word}", cell.source) if names else cell.source
        head, hidden, tests = cell.source.partition("### BEGIN HIDDEN TESTS")
        cell.source = head + hidden + SEEDED.sub(lambda found: f"{found[1]}{draw.randrange(10**6)}", tests)


def renamed(source: str, names: set[str], word: str) -> str:
    """The code with these names, as functions and not as attributes or methods, lengthened by the word."""
    lines, before = source.split("\n"), ("", 0)
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        method = before[0] == "def" and before[1] > 0
        if token.type == tokenize.NAME and token.string in names and before[0] != "." and not method:
            found.append(token)
        before = token.string, token.start[1]
    for token in reversed(found):
        row, end = token.end
        lines[row - 1] = f"{lines[row - 1][:end]}_{word}{lines[row - 1][end:]}"
    return "\n".join(lines)


def check(source, name: str) -> None:
    """Raises ValueError, with one sentence that names the cell, for a source that cannot be built or graded."""
    seen = {}
    for number, cell in enumerate(source.cells, 1):
        where, meta = f"{name}, cell {number}", cell.metadata.get("nbgrader", {})
        list(outside(cell, where))
        if not any(meta.get(kind) for kind in ("grade", "solution", "locked", "task")):
            continue
        if not (grade_id := meta.get("grade_id")):
            raise ValueError(f"{where} has no grade_id.")
        if grade_id in seen:
            raise ValueError(f"{where} has the grade_id '{grade_id}', which cell {seen[grade_id]} has already.")
        seen[grade_id] = number
        points = meta.get("points")
        if (meta.get("grade") or meta.get("task")) and not (isinstance(points, (int, float)) and points > 0):
            raise ValueError(f"{where} ({grade_id}) is graded, but its points are {points} and not a number above 0.")
    try:
        MetadataValidator().validate_nb(source)
    except Exception as error:  # its own ValidationError, jsonschema's, and two about versions
        raise ValueError(f"{name}: nbgrader does not accept its metadata: {str(error).splitlines()[0]}") from None


def outside(cell, where: str = ""):
    """The lines of a cell that students may see: those outside solutions and hidden tests."""
    region = None
    for line in cell.source.split("\n"):
        begins = re.search(r"BEGIN (SOLUTION|HIDDEN TESTS)", line)
        ends = re.search(r"END (SOLUTION|HIDDEN TESTS)", line)
        if begins and region:
            raise ValueError(f"{where}: '{begins[0]}' stands inside another region, {region}.")
        if begins and not REGIONS[begins[1]](cell):
            raise ValueError(f"{where}: '{begins[0]}' stands in a cell that is not marked for it.")
        if ends and ends[1] != region:
            raise ValueError(f"{where}: '{ends[0]}' closes a region that was not opened.")
        if not (begins or ends or region):
            yield line
        region = begins[1] if begins else None if ends else region
    if region:
        raise ValueError(f"{where}: 'BEGIN {region}' is never closed.")


def leaks(source, released) -> list[str]:
    """Lines of solutions and hidden tests that the students' version shows, and whatever else it should not hold.

    A line such as `import numpy as np` may stand on both sides; it has leaked if it occurs more often than outside.
    """
    allowed, secret = Counter(), Counter()
    for cell in source.cells:
        lines = [line.strip() for line in cell.source.split("\n")]
        whole = is_solution(cell) and not any("BEGIN SOLUTION" in line for line in lines)
        visible = Counter() if whole else Counter(line.strip() for line in outside(cell))
        allowed += visible
        secret += Counter(lines) - visible
    shown = Counter(line.strip() for cell in released.cells for line in cell.source.split("\n"))
    allowed_metadata = {"nbgrader", "tags", "deletable", "editable"}
    found = [line for line in shown if line and secret[line] and shown[line] > allowed[line]]
    for cell in released.cells:
        found += [f"an output of {cell.id}"] if cell.get("outputs") else []
        found += [f"an attachment of {cell.id}"] if cell.get("attachments") else []
        found += [f"metadata of {cell.id}: {more}" for more in set(cell.metadata) - allowed_metadata]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build")
    command.add_argument("--into", type=Path, help=f"folder to write to (default: {RELEASE.as_posix()})")
    command = commands.add_parser("export")
    command.add_argument("folder", type=Path)
    command.add_argument("--seed", default="", help="the same seed makes the same course (default: one nobody knows)")
    args = parser.parse_args()
    try:
        if args.command == "build":
            paths = build(into=args.into)
        else:
            seed = args.seed or secrets.token_hex(8)
            paths = export(args.folder, seed)
            print(f"Seed {seed}. Keep {args.folder / COURSE / 'source'} to yourself, and hand out:")
        for path in paths:
            print(os.path.relpath(path))
        if not publish.repository():
            print("The cell for Colab has no address yet: make publish REPO=owner/name, then build again.")
    except ValueError as error:
        raise SystemExit(str(error)) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
