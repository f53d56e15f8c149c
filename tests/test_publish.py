"""tools.publish: addresses where they belong once they are known, and no link that leads nowhere before."""

import re
import shutil

import nbformat
import pytest

from tests.test_house import project_texts
from tools import publish, series


@pytest.fixture
def project(tmp_path):
    """A copy of what is stamped."""
    for name in ("pyproject.toml", "README.md", "CITATION.cff"):
        shutil.copy(series.ROOT / name, tmp_path)
    for path in [*series.notebooks(), *(series.ROOT / "notebooks" / "coursework" / "source").glob("*/*.ipynb")]:
        (tmp_path / path.relative_to(series.ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(series.ROOT))
    publish.publish("", tmp_path)
    return tmp_path


def texts(project) -> dict[str, str]:
    files = sorted(path for path in project.rglob("*") if path.is_file())
    return {path.relative_to(project).as_posix(): path.read_text(encoding="utf-8") for path in files}


def links(text: str) -> list[str]:
    """Addresses that a reader can follow: of this project on GitHub, or of a notebook on Colab."""
    found = re.findall(r"\]\((https://[^)]*(?:bert-cnn|ada/words|colab)[^)]*)\)", text)
    return found + re.findall(r"(?m)^(?:repository-code: |Repository = \")(https://[^\s\"]*)", text)


def test_an_address_is_stamped_wherever_it_belongs(project):
    changed = publish.publish("ada/words", project)
    assert {"pyproject.toml", "README.md", "CITATION.cff"} < set(changed) and len(changed) == len(texts(project))
    assert publish.repository(project) == "ada/words"
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert "https://github.com/ada/words/actions/workflows/ci.yml/badge.svg" in readme
    assert "```\ngit clone https://github.com/ada/words\ncd words\nmake lab" in readme
    for path in series.notebooks(root=project):
        header, colab = nbformat.read(path, as_version=4).cells[:2]
        link = f"https://colab.research.google.com/github/ada/words/blob/main/notebooks/{path.name}"
        assert header.source.split("\n\n")[1] == f"[Open in Colab]({link})"
        assert 'git+https://github.com/ada/words"' in colab.source
        assert f"[![Open {path.name[:2]} in Colab]({publish.BADGE})]({link}) |" in readme
    assert publish.publish("ada/words", project) == []


def test_the_last_address_goes_and_so_do_all_that_were_stamped(project):
    before = texts(project)
    publish.publish("ada/words", project)
    once = texts(project)
    publish.publish("bob/other.name", project)
    assert not [name for name, text in texts(project).items() if "ada/words" in text]
    publish.publish("ada/words", project)
    assert texts(project) == once
    publish.publish("", project)
    assert texts(project) == before
    assert publish.repository(project) == ""


def test_before_it_is_stamped_no_link_leads_nowhere(project):
    assert [name for name, text in texts(project).items() if links(text)] == []
    publish.publish("ada/words", project)
    assert len([name for name, text in texts(project).items() if links(text)]) == 3 + len(series.notebooks())


def test_this_copy_has_one_address_or_none():
    known = publish.repository()
    for name, text in project_texts():
        if not name.startswith("tests/"):
            assert known or not links(text), name
            assert all(known in link or "colab-badge" in link for link in links(text)), name


@pytest.mark.parametrize("repo", ["ada", "ada/words/more", "https://github.com/ada/words", "a b/c"])
def test_what_is_no_repository_is_refused(project, repo):
    with pytest.raises(ValueError, match="REPO must be an owner and a name as on GitHub"):
        publish.publish(repo, project)


@pytest.mark.parametrize("arguments", [[], [""], ["ada/words", "--remove"]])
def test_the_command_wants_an_address_or_its_removal(monkeypatch, capsys, arguments):
    monkeypatch.setattr("sys.argv", ["publish.py", *arguments])
    monkeypatch.setattr(publish, "publish", lambda repo: pytest.fail("something was stamped"))
    with pytest.raises(SystemExit):
        publish.main()
    assert "name the repository" in capsys.readouterr().err
