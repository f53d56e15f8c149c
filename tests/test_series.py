"""tools.series, on small notebooks of its own."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import series

MODULE = """import functools


class Model:
    @functools.cache
    def pool(self, maps):
        return max(maps)


def embed(text):
    return text
"""
POOL = "@functools.cache\ndef pool(self, maps):\n    return max(maps)"


@pytest.fixture
def project(tmp_path):
    """A project of one module and one notebook; write(cells) writes it."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "companion").mkdir()
    (tmp_path / "companion" / "model.py").write_text(MODULE)
    return tmp_path


def write(project, *cells):
    path = project / "notebooks" / "01_small.ipynb"
    series.save(new_notebook(cells=list(cells)), path)
    return path


def test_sync_finds_a_drifted_cell_and_mends_it(project):
    cell = new_code_cell("# companion/model.py: Model.pool\ndef pool(self, maps):\n    return min(maps)")
    path = write(project, cell, new_code_cell("# companion/model.py: embed\ndef embed(text):\n    return text"))
    before = path.read_text()
    drifted = series.sync([path], check=True, root=project)
    assert drifted == ["01_small.ipynb, cell 1: companion/model.py: Model.pool"]
    assert path.read_text() == before
    series.sync([path], root=project)
    mended = nbformat.read(path, as_version=4).cells[0]
    assert mended.source == f"# companion/model.py: Model.pool\n{POOL}"
    assert mended.id == cell.id
    assert series.sync([path], check=True, root=project) == []


def test_sync_reads_the_packages_inside_the_package(project):
    (project / "companion" / "tasks").mkdir()
    (project / "companion" / "tasks" / "model.py").write_text(MODULE)
    path = write(project, new_code_cell("# companion/tasks/model.py: embed\ndef embed(text): ..."))
    assert series.sync([path], root=project) == ["01_small.ipynb, cell 1: companion/tasks/model.py: embed"]
    assert nbformat.read(path, as_version=4).cells[0].source.endswith("def embed(text):\n    return text")


def test_sync_names_a_definition_that_is_not_there(project):
    path = write(project, new_code_cell("# companion/model.py: Model.poll"))
    with pytest.raises(ValueError, match=r"companion/model.py: Model.poll, but there is no poll"):
        series.sync([path], root=project)


def test_run_stores_outputs_that_are_the_same_everywhere(project, capsys):
    cells = [
        new_code_cell("print(1)", metadata={"tags": ["kept"], "execution": {"at": "now"}}, execution_count=7),
        new_markdown_cell("Text"),
        new_code_cell("import sys; print(2); sys.stdout.flush(); print(3); 4"),
    ]
    path = write(project, *cells)
    assert series.run([path], write=True) == 0
    stored = nbformat.read(path, as_version=4)
    first, _, last = stored.cells
    assert [cell.id for cell in stored.cells] == [cell.id for cell in cells]
    assert (first.execution_count, last.execution_count) == (1, 2)
    assert first.metadata == {"tags": ["kept"]}
    assert [output.get("text") for output in last.outputs] == ["2\n3\n", None]
    assert stored.metadata == series.METADATA
    assert "01_small.ipynb      2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "source, said",
    [
        ("1 / 0", "cell 2: ZeroDivisionError: division by zero"),
        ("import sys; print('careful', file=sys.stderr)", "cell 2 wrote to stderr: careful"),
    ],
)
def test_run_names_the_cell_that_failed_and_stores_nothing(project, capsys, source, said):
    path = write(project, new_code_cell("x = 1"), new_code_cell(source))
    before = path.read_text()
    assert series.run([path], write=True) == 1
    assert said in capsys.readouterr().out
    assert path.read_text() == before


def test_a_widget_keeps_no_output_and_only_where_it_is_announced():
    shown = {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.jupyter.widget-view+json": {}}}
    announced, sudden = (new_code_cell("box", outputs=[nbformat.from_dict(shown)]) for _ in range(2))
    announced.metadata["tags"] = ["widget", "nbval-ignore-output"]
    assert series.normalise(new_notebook(cells=[announced])) is None and announced.outputs == []
    assert series.normalise(new_notebook(cells=[sudden])) == "cell 1 shows a widget, which keeps no output"


def test_sync_reads_packages_inside_the_package(project):
    (project / "companion" / "study").mkdir()
    (project / "companion" / "study" / "heads.py").write_text(MODULE)
    path = write(project, new_code_cell("# companion/study/heads.py: embed"))
    assert series.sync([path], root=project) == ["01_small.ipynb, cell 1: companion/study/heads.py: embed"]
    assert nbformat.read(path, as_version=4).cells[0].source.endswith("def embed(text):\n    return text")
