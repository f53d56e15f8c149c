"""Every exercise has a worked solution, which runs and prints what its page shows."""

import os
import subprocess
import sys

import nbformat
import pytest

from tools import book, series, solutions

NOTEBOOKS = series.notebooks()
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_every_exercise_has_a_solution(notebook):
    found = solutions.sections(solutions.page(notebook).read_text(encoding="utf-8"))
    asked = solutions.exercises(nbformat.read(notebook, as_version=4).cells[-1].source)
    assert list(found) == asked and asked
    for text in found.values():
        assert "What to see" in text or "There is no single answer" in text
        for code, kind, printed in solutions.BLOCK.findall(text):
            assert bool(printed.strip()) == bool(kind) and ("print(" not in code or printed), code


@each_notebook
def test_the_code_prints_what_the_page_shows(notebook):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tools.solutions", notebook.name[:2]]
    done = subprocess.run(command, cwd=series.ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


def test_output_that_differs_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(solutions, "FOLDER", tmp_path)
    monkeypatch.setattr(solutions, "definitions", lambda notebook: {})
    notebook = NOTEBOOKS[0]
    for kind, differences in {"text": 1, "text varies": 0}.items():
        page = f"## Exercise 1\n\n```python\nprint(1 + 1)\n```\n\n```{kind}\n3\n```\n"
        solutions.page(notebook).write_text(page, encoding="utf-8")
        assert len(solutions.run(notebook)) == differences
    solutions.run(notebook, write=True)
    assert "\n2\n" in solutions.page(notebook).read_text(encoding="utf-8")


def test_the_book_folds_them_away():
    page = solutions.page(NOTEBOOKS[0]).read_text(encoding="utf-8")
    folded = book.folded(page)
    assert folded.count(":::::{dropdown}") == len(solutions.sections(page)) + 1
    assert "## Exercise" not in folded


def test_the_readme_links_them():
    readme = (series.ROOT / "README.md").read_text(encoding="utf-8")
    for notebook in NOTEBOOKS:
        assert f"(notebooks/solutions/{notebook.stem}.md)" in readme
