"""Every notebook, as it is stored. That its outputs come out again is nbval's to test (make test)."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from tools import publish, series

ROOT = Path(__file__).parent.parent
PATHS = series.notebooks()
COMPARED_AT_LEAST = 100  # cells whose stored output nbval compares, in the whole series
ABSOLUTE = r"(?<![\w./<])/(home|root|tmp|work|Users|opt|usr|mnt)/\w|\b[A-Z]:\\+\w"
COLAB = """# On Colab this installs the companion and nothing else; elsewhere it does nothing.
import sys

if "google.colab" in sys.modules:
    %pip install -q "git+https://github.com/{repo}\""""


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    """The markdown, without the code that is quoted in it."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(r"(?ms)^```.*?^```", "", text)


def headings(notebook):
    return re.findall(r"(?m)^##+ .+$", prose(notebook))


def is_compared(cell):
    """Does nbval compare what this cell shows? Of a picture only the alternative text, so that one is out."""
    texts = [output for output in cell.outputs if "image/png" not in output.get("data", {})]
    ignored = {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", []))
    ignored = ignored or re.search(r"(?m)^#\s*NBVAL_(IGNORE_OUTPUT|SKIP)", cell.source)
    return bool(texts) and not ignored


def test_the_format_is_valid_and_the_file_small(path, notebook):
    nbformat.validate(notebook)
    assert path.stat().st_size <= 400_000
    assert notebook.metadata == series.METADATA
    assert path.read_bytes().endswith(b"}\n")


def test_it_was_run_from_top_to_bottom(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_outputs_are_fit_to_keep(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            assert not any("widget" in kind for kind in output.get("data", {})), cell.source
            assert not re.search(ABSOLUTE, json.dumps(output)), cell.source


def test_every_picture_has_alternative_text(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for kind in output.get("data", {}):
                if kind.startswith("image/"):
                    assert output.metadata.get(kind, {}).get("alt", "").strip(), cell.source
    for alt in re.findall(r"!\[(.*?)\]\(", prose(notebook)):
        assert alt.strip()


def test_it_opens_as_all_do(path, notebook):
    repo, (header, colab) = publish.repository(), notebook.cells[:2]
    assert header.cell_type == "markdown"
    title, *rest = header.source.split("\n\n")
    assert re.fullmatch(rf"# {path.name[:2]} · \S.*", title)
    if repo:
        assert rest.pop(0) == f"[Open in Colab]({publish.COLAB}/github/{repo}/blob/main/notebooks/{path.name})"
    assert rest[0].startswith("**You will be able to**")
    assert re.search(r"\*\*Needs\*\*: \S[\s\S]*\*\*Time\*\*: [\s\S]*\d", "\n\n".join(rest))
    assert colab.cell_type == "code" and colab.metadata.tags == ["colab"]
    assert colab.source == COLAB.format(repo=repo or publish.PLACEHOLDER)


def test_it_closes_as_all_do(notebook):
    sections = [heading for heading in headings(notebook) if heading.startswith("## ")]
    assert sections[-2:] == ["## Summary", "## Exercises"]


def test_it_shows_what_the_package_holds(path):
    assert series.sync([path], check=True) == []


def test_a_changed_definition_is_noticed(tmp_path):
    """Change each cell that shows a definition, in a copy, and see each reported."""
    shown = 0
    for path in PATHS:
        notebook = nbformat.read(path, as_version=4)
        cells = [c for c in code_cells(notebook) if c.source.startswith("# companion/")]
        for cell in cells:
            cell.source += "\n    ..."
        series.save(notebook, tmp_path / path.name)
        assert len(series.sync([tmp_path / path.name], check=True)) == len(cells)
        shown += len(cells)
    assert shown


def test_most_outputs_are_compared(notebook):
    cells = [cell for cell in code_cells(notebook) if cell.outputs]
    assert sum(map(is_compared, cells)) >= len(cells) / 2


def test_the_series_compares_enough():
    books = {path.stem: code_cells(nbformat.read(path, as_version=4)) for path in PATHS}
    compared = {name: sum(map(is_compared, cells)) for name, cells in books.items()}
    assert sum(compared.values()) >= COMPARED_AT_LEAST, compared


def test_the_variants_stand_side_by_side():
    first, *others = [headings(nbformat.read(path, as_version=4)) for path in series.notebooks(["03", "04", "05"])]
    assert first and all(other == first for other in others)


def test_the_readme_gives_the_minutes_that_the_notebooks_give(path, notebook):
    lines = (ROOT / "README.md").read_text("utf-8").replace("\xa0", " ").splitlines()
    row = next(line for line in lines if line.startswith("|") and f"(notebooks/{path.name})" in line)
    header = notebook.cells[0].source.replace("\n", " ")
    run, read = re.search(r"about (a minute|\d+ s).*; to read, (\d+) min", header).groups()
    assert f"| {run.replace('a minute', '60 s')} | {read} min |" in row


def test_the_readme_and_notebook_00_give_the_same_reading_orders():
    readme = re.findall(r"(?m)^\| ((?:know|want) .+?) \| (.+?) \|$", (ROOT / "README.md").read_text("utf-8"))
    first = nbformat.read(PATHS[0], as_version=4)
    listed = re.findall(r"(?m)^- \*\*You (.+?)\*\*: (.+)\.$", prose(first))
    assert len(listed) == 3 and readme == listed


def test_the_workspace_opens_them():
    workspace = json.loads((ROOT / "notebooks" / "side-by-side.jupyterlab-workspace").read_text("utf-8"))
    opened = [value["data"]["path"] for key, value in workspace["data"].items() if key.startswith("notebook:")]
    assert opened == [f"notebooks/{path.name}" for path in series.notebooks(["03", "04", "05"])]
