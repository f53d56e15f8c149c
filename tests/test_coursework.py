"""The coursework: sources in order, solutions right, naive answers wrong, and nothing secret in what students get.

Cells are executed in this process, which has the frameworks loaded; training is replaced by noise.
"""

import ast
import copy
import json
import re
import textwrap

import nbformat
import numpy as np
import pytest
import torch
from nbgrader.utils import is_grade, is_locked, is_solution

from companion.study.experiment import Experiment
from tests.test_notebooks import COLAB
from tools import coursework, publish, series

NAMES = ["1_convolution_by_hand", "2_the_padding_bug", "3_port_to_functional", "4_a_small_study", "5_a_tagger"]
BY_HAND = {"4_a_small_study": {"plan": 2, "study": 2, "page": 6}}  # points that a reader gives
STUB = "Not solved yet: put your code in place of this line."


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def source(name):
    return read(coursework.ROOT / coursework.SOURCE / name / f"{name}.ipynb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    into = tmp_path_factory.mktemp("release")
    written = coursework.build(into=into)
    assert written == [into / name / f"{name}.ipynb" for name in NAMES]
    return into


@pytest.fixture(scope="module")
def release(folder, name):
    return read(folder / name / f"{name}.ipynb")


@pytest.fixture(autouse=True)
def in_order(monkeypatch):
    """Assignments switch gradients off, and would train."""

    def noise(self, head, regime, seed, size=None):
        return np.random.default_rng(seed).normal(size=(len(self.texts["test"]), 2)), 0

    monkeypatch.setattr(Experiment, "logits", noise)
    monkeypatch.setenv("MPLBACKEND", "agg")
    yield
    torch.set_grad_enabled(True)


def execute(cells, namespace) -> dict[str, Exception]:
    """Run the code cells one after the other, as Jupyter does if told to go on after errors; {cell id: its error}."""
    errors = {}
    namespace.setdefault("__name__", "__main__")  # where a notebook's classes are defined
    for cell in cells:
        if cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", []):
            try:
                exec(compile(cell.source, cell.id, "exec"), namespace)
            except Exception as error:
                errors[cell.id] = error
    return errors


def answered(source: str, answer: str) -> str:
    """A task's cell with the answer in place of its solution."""
    before, found, _ = source.partition("    ### BEGIN SOLUTION")
    return before + textwrap.indent(answer, "    ") if found else answer


def machine_graded(cells):
    """The cells that the machine grades."""
    return [cell for cell in cells if is_grade(cell) and not is_solution(cell)]


def points(cells) -> float:
    return sum(cell.metadata.nbgrader.points for cell in cells)


# the sources ------------------------------------------------------------


def test_a_source_is_in_order(name, source):
    nbformat.validate(source)
    coursework.check(source, name)
    assert source.metadata == series.METADATA
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in source.cells)


def test_points_sum_to_twenty(name, source):
    graded = [cell for cell in source.cells if is_grade(cell)]
    assert points(graded) == 20
    by_hand = {cell.metadata.nbgrader.grade_id: points([cell]) for cell in graded if is_solution(cell)}
    assert by_hand == BY_HAND.get(name, {})
    assert f"**Points**: {20:.0f}" in source.cells[0].source


def test_points_in_the_text_are_those_of_the_cells(source):
    """Each task's heading says how many points there are until the next heading."""
    said, found = {}, {}
    for cell in source.cells:
        if cell.cell_type == "markdown" and (heading := re.match(r"## (.+)", cell.source)):
            title = heading[1]
            if stated := re.search(r"\((\d+) points?[,)]", title):
                said[title] = int(stated[1])
        if is_grade(cell):
            found[title] = found.get(title, 0) + cell.metadata.nbgrader.points
            if comment := re.search(r"# Hidden tests: .*\((\d+) points?\)", cell.source):
                assert int(comment[1]) == cell.metadata.nbgrader.points, cell.id
    assert said == found


def test_it_opens_as_all_do(source):
    header, colab = source.cells[:2]
    assert re.match(r"# Coursework \d · \S", header.source)
    for part in (
        "**You will be able to**",
        "**Needs**",
        "**Time**",
        "two CPU cores",
        "**Points**",
        "**How it works.**",
    ):
        assert part in header.source
    assert colab.metadata.tags == ["colab"] and colab.source == COLAB.format(
        repo=publish.repository() or publish.PLACEHOLDER
    )


def test_what_is_given_is_locked(source):
    """nbgrader restores locked cells; a code cell that is neither given nor solved nor a test is there to play."""
    free = [c.id for c in source.cells if c.cell_type == "code" and not (is_locked(c) or is_solution(c))]
    assert set(free) <= {"colab", "payoff"}
    assert all(is_locked(cell) for cell in machine_graded(source.cells))


def test_each_test_stands_on_its_own(source):
    """It imports what it checks with, and shows no value, which nbgrader would take for a share of the points."""
    for cell in machine_graded(source.cells):
        tree = ast.parse(cell.source)
        assert "from companion.checks import check_close" in cell.source, cell.id
        last = tree.body[-1]
        assert not isinstance(last, ast.Expr) or ast.unparse(last).startswith(("print(", "check_")), cell.id


def test_the_solutions_pass(source, capfd):
    """stderr, too, would cost a test's points."""
    assert execute(source.cells, {}) == {}
    assert capfd.readouterr().err == ""


def test_a_blank_answer_gets_nothing(source):
    cells = copy.deepcopy(source.cells)
    for cell in filter(is_solution, cells):
        cell.source = answered(cell.source, "raise NotImplementedError")
    errors = execute([cell for cell in cells if cell.id != "payoff"], {})
    assert {cell.id for cell in machine_graded(cells)} <= set(errors)


# what students get ------------------------------------------------------------


def test_nothing_secret_is_released(source, release):
    assert coursework.leaks(source, release) == []
    text = json.dumps(release)
    assert "HIDDEN TESTS" not in text and "BEGIN SOLUTION" not in text and "END SOLUTION" not in text


def test_every_cell_is_released_with_its_points(source, release):
    nbformat.validate(release)
    assert [cell.id for cell in release.cells] == [cell.id for cell in source.cells]
    kinds = ("grade_id", "points", "grade", "solution", "locked", "schema_version")
    for ours, theirs in zip(release.cells, source.cells, strict=True):
        metas = [cell.metadata.get("nbgrader", {}) for cell in (ours, theirs)]
        assert [metas[0].get(kind) for kind in kinds] == [metas[1].get(kind) for kind in kinds]
        assert bool(metas[0]) == ("checksum" in metas[0])


def test_an_unsolved_task_says_so(release):
    """Not one NameError on the way: every error is the stub's sentence."""
    errors = execute(release.cells, {})
    visible = [cell.id for cell in machine_graded(release.cells) if ast.parse(cell.source).body]
    assert visible and set(visible) <= set(errors)
    assert {str(error) for error in errors.values()} == {STUB}


def test_a_planted_leak_is_noticed(source, release):
    """Each line of a region, put back where it came from, is named; so are outputs and metadata."""
    planted = 0
    for number, cell in enumerate(source.cells):
        lines = [line.strip() for line in cell.source.split("\n")]
        visible = [] if is_solution(cell) and "### BEGIN SOLUTION" not in lines else list(coursework.outside(cell))
        secret = set(lines) - {line.strip() for line in visible} - {""}
        for line in secret:
            leaky = copy.deepcopy(release)
            leaky.cells[number].source += f"\n    {line}"
            assert coursework.leaks(source, leaky) == [line]
            planted += 1
    assert planted > 50
    leaky = copy.deepcopy(release)
    code = next(cell for cell in leaky.cells if cell.cell_type == "code")
    code.outputs = [nbformat.v4.new_output("stream", text="42")]
    code.metadata["answer"] = "42"
    assert coursework.leaks(source, leaky) == [f"an output of {code.id}", f"metadata of {code.id}: answer"]


# a source that is not in order ------------------------------------------------------------


def build(tmp_path, change):
    """Build a copy of the course in which one assignment has been changed."""
    for part in (coursework.CONFIG, *(p.relative_to(coursework.ROOT) for p in coursework.sources()[:2])):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).write_bytes((coursework.ROOT / part).read_bytes())
    path = coursework.sources(tmp_path / coursework.SOURCE)[-1]
    notebook = read(path)
    change({cell.id: cell for cell in notebook.cells})
    series.save(notebook, path)
    return coursework.build(tmp_path)


def replace(old, new):
    def change(cells):
        assert old in cells["leak"].source
        cells["leak"].source = cells["leak"].source.replace(old, new)

    return change


BAD = {
    "is never closed": replace("### END SOLUTION", ""),
    "closes a region that was not opened": replace("### BEGIN SOLUTION", ""),
    "stands inside another region": replace("### END SOLUTION", "### BEGIN SOLUTION"),
    "stands in a cell that is not marked for it": replace("SOLUTION", "HIDDEN TESTS"),
    r"has the grade_id 'leak', which cell \d+ has already": lambda c: c["convolve"].metadata.nbgrader.update(
        grade_id="leak"
    ),
    "has no grade_id": lambda c: c["leak"].metadata.nbgrader.pop("grade_id"),
    "its points are None": lambda c: c["check_leak"].metadata.nbgrader.pop("points"),
    "its points are 0": lambda c: c["check_leak"].metadata.nbgrader.update(points=0),
    "nbgrader does not accept its metadata": lambda c: c["leak"].metadata.nbgrader.update(schema_version=2),
}


@pytest.mark.parametrize("said", BAD)
def test_a_source_that_is_not_in_order_is_refused(tmp_path, said):
    with pytest.raises(ValueError, match=said) as error:
        build(tmp_path, BAD[said])
    assert "\n" not in str(error.value) and "2_the_padding_bug" in str(error.value)
    assert not (tmp_path / coursework.RELEASE).exists()


def test_a_build_is_whole_and_leaves_nothing_else(tmp_path):
    written = build(tmp_path, lambda cells: None)
    course = tmp_path / coursework.COURSE
    files = {path.relative_to(course).as_posix() for path in course.rglob("*") if path.is_file()}
    expected = {f"{part}/{name}/{name}.ipynb" for part in ("source", "release") for name in NAMES[:2]}
    assert files == expected | {"nbgrader_config.py"}
    assert [path.parent.name for path in written] == NAMES[:2]


def test_a_version_that_would_leak_is_not_written(tmp_path, monkeypatch):
    steps = [step for step in coursework.STEPS if step.__name__ != "ClearHiddenTests"]
    monkeypatch.setattr(coursework, "STEPS", steps)
    with pytest.raises(ValueError, match="the students' version would show"):
        build(tmp_path, lambda cells: None)
    assert not (tmp_path / coursework.RELEASE).exists()


def test_no_course_no_build(tmp_path):
    with pytest.raises(ValueError, match="There is no assignment in"):
        coursework.build(tmp_path)


# a course of a teacher's own ------------------------------------------------------------


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    into = tmp_path_factory.mktemp("private")
    coursework.export(into, "seed 1")
    return into


def test_a_course_of_ones_own_has_other_names_and_other_hidden_numbers(private, name, source):
    path = private / coursework.COURSE / "source" / name / f"{name}.ipynb"
    ours = read(path)
    coursework.check(ours, name)
    release = read(private / coursework.RELEASE / name / f"{name}.ipynb")
    assert coursework.leaks(ours, release) == []
    functions = [re.findall(r"^def (\w+)", c.source, re.M) for c in source.cells if is_solution(c)]
    for function in {name for names in functions for name in names}:
        code = "\n".join(c.source for c in ours.cells if is_solution(c))
        assert re.search(rf"^def {function}_[a-z]+\(", code, re.M) and not re.search(rf"^def {function}\(", code, re.M)
    seeds = [
        re.findall(r"(?:default_rng|manual_seed)\((\d+)", "\n".join(c.source for c in nb.cells))
        for nb in (source, ours)
    ]
    assert seeds[0] != seeds[1]
    assert points(c for c in ours.cells if is_grade(c)) == points(c for c in source.cells if is_grade(c))


def test_its_own_solutions_pass_and_published_ones_do_not(private):
    published, ours = (
        read(root / coursework.SOURCE / NAMES[0] / f"{NAMES[0]}.ipynb") for root in (coursework.ROOT, private)
    )
    assert execute(ours.cells, {}) == {}
    cells = copy.deepcopy(ours.cells)
    for cell, theirs in zip(cells, published.cells, strict=True):
        cell.source = theirs.source if is_solution(cell) else cell.source
    errors = execute(cells, {})
    assert {cell.id for cell in machine_graded(cells)} <= set(errors)


def test_the_seed_makes_the_course(tmp_path):
    texts = []
    for number, seed in enumerate(("one", "one", "two")):
        coursework.export(tmp_path / str(number), seed)
        files = sorted((tmp_path / str(number)).rglob("*.ipynb"))
        texts.append([path.read_text(encoding="utf-8") for path in files])
    assert texts[0] == texts[1] != texts[2]


def test_a_course_of_ones_own_does_not_go_into_the_repository():
    with pytest.raises(ValueError, match="is in the repository"):
        coursework.export(coursework.ROOT / "mine", "seed")
    assert not (coursework.ROOT / "mine").exists()


def test_an_address_that_is_missing_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["coursework.py", "export", str(tmp_path)])
    assert coursework.main() == 0
    assert ("no address yet" in capsys.readouterr().out) == (not publish.repository())
