"""What can be tested of Colab elsewhere: its versions, and how it installs the companion."""

import ast
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
from uv import find_uv_bin

from tools import publish, series

ROOT = Path(__file__).parent.parent
PATIENCE = 900  # seconds a cell, for what takes a minute on a machine that does nothing else
UNREACHABLE = re.compile(r"(?i)failed to fetch|error sending request|connection refused|timed out|dns error")


def resolve(*more: str):
    """Ask for the companion where Colab's versions are installed, without installing anything."""
    options = ["--python-version", "3.13", "--python-platform", "linux", "--no-header", "--no-annotate"]
    constraints = ["--constraint", "tests/colab_versions.txt"]
    done = subprocess.run(
        [find_uv_bin(), "pip", "compile", "--quiet", "-", *constraints, *options],
        input="\n".join([".", *more]),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode and "No solution found" not in done.stderr and UNREACHABLE.search(done.stderr):
        pytest.skip("the package index cannot be reached: " + done.stderr.strip().splitlines()[-1])
    return done


@pytest.mark.network
def test_installing_changes_none_of_colabs_versions():
    done = resolve()
    assert done.returncode == 0, done.stderr
    assert "keras==3.13.2" in done.stdout


@pytest.mark.network
def test_a_requirement_that_changes_one_is_noticed():
    done = resolve("keras>=3.14")
    assert done.returncode == 1 and "No solution found" in done.stderr


def files(folder) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The working tree as a commit in a repository of its own."""
    folder = tmp_path_factory.mktemp("repository")

    def git(*arguments, cwd=folder):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True)

    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for name in set(listed.split("\0")) - {""}:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "The working tree")
    return folder


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """A fresh environment with Colab's stub and all we depend on, but no companion; its kernel is "colab"."""
    tmp_path = tmp_path_factory.mktemp("colab")
    site = sysconfig.get_path("purelib")
    # The packages of this environment, less ours; dill takes modules for installed ones only in a folder of this name.
    installed = tmp_path / "installed" / "site-packages"
    installed.mkdir(parents=True)
    for path in Path(site).iterdir():
        if not re.match(r"__pycache__|__editable__|bert_cnn_companion|companion|.*\.pth$", path.name):
            (installed / path.name).symlink_to(path, target_is_directory=path.is_dir())
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)  # pip, too, is one of those packages
    scheme = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    stub = (
        "import importlib.util as util, importlib.machinery as machinery, sys; "
        "sys.modules['google.colab'] = util.module_from_spec(machinery.ModuleSpec('google.colab', None))"
    )
    (packages / "colab.pth").write_text(f"{installed}\n{stub}\n")
    python = Path(sysconfig.get_path("scripts", "venv", vars=scheme)) / Path(sys.executable).name
    kernel = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Colab",
        "language": "python",
    }
    (tmp_path / "kernels" / "colab").mkdir(parents=True)
    (tmp_path / "kernels" / "colab" / "kernel.json").write_text(json.dumps(kernel))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests run beside
        monkeypatch.delenv("PYTHONPATH", raising=False)
        monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # which pip reads as "none": setuptools is there already
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        yield installed, packages


def as_on_colab(path, repository):
    """A notebook whose Colab cell installs from the repository at hand."""
    notebook = nbformat.read(path, as_version=4)
    address = f"git+https://github.com/{publish.repository() or publish.PLACEHOLDER}"
    cell = next(cell for cell in notebook.cells if "colab" in cell.metadata.get("tags", []))
    assert address in cell.source
    cell.source = cell.source.replace(address, f"git+{repository.as_uri()}")
    return notebook


def assert_only_the_companion_was_installed(installed, packages, before):
    assert files(installed) == before
    added = {name.split("-")[0] for name in files(packages)} - {"colab.pth"}
    assert added == {"companion", "bert_cnn_companion"}


def test_notebook_00_runs_alone_on_colab(tmp_path, repository, colab):
    installed, packages = colab
    before = files(installed)
    notebook = as_on_colab(series.notebooks(["00"])[0], repository)
    question = "import companion, sys; print(companion.__file__, sys.modules['google.colab'])"
    notebook.cells.append(nbformat.v4.new_code_cell(question))
    alone = tmp_path / "alone"
    alone.mkdir()

    failure = series.execute(notebook, alone, kernel="colab", timeout=PATIENCE)

    assert failure is None, failure
    answer = notebook.cells[-1].outputs[0].text
    assert answer.startswith(str(packages / "companion" / "__init__.py")), answer
    assert_only_the_companion_was_installed(installed, packages, before)


def test_every_notebook_begins_on_colab(tmp_path, repository, colab):
    """What each installs, which is the same, and imports anywhere; all in one kernel, so that libraries load once."""
    installed, packages = colab
    before = files(installed)
    begins = [
        [cell for cell in as_on_colab(path, repository).cells if cell.cell_type == "code"]
        for path in series.notebooks()
    ]
    assert len({install.source for install, *_ in begins}) == 1
    beginnings = nbformat.v4.new_notebook(cells=[begins[0][0]])
    for _, setup, *rest in begins:
        nodes = [node for cell in [setup, *rest] for node in ast.parse(cell.source).body]
        imports = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        beginnings.cells += [setup, nbformat.v4.new_code_cell("\n".join(imports))]
    alone = tmp_path / "alone"
    alone.mkdir()

    failure = series.execute(beginnings, alone, kernel="colab", timeout=PATIENCE)

    assert failure is None, failure
    assert_only_the_companion_was_installed(installed, packages, before)
