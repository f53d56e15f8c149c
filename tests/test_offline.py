"""The bundle for a room without a network: a small one is made, and installed from as INSTALL.md says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import offline

ROOT = Path(__file__).parent.parent
SMALL = ["--no-deps", ".", "tqdm", "packaging"]  # in place of ".[lab]", which is everything and takes minutes


def without_network() -> list[str]:
    """What goes before a command so that it finds no network, where the system allows that."""
    prefix = ["unshare", "--map-root-user", "--net"]
    if shutil.which(prefix[0]) and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
        return prefix
    return []


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "texts"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\nDull.,0\n")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("offline") / "bundle"
    try:
        offline.bundle(folder, SMALL, {"encoder": [], "dataset": [texts]})
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the wheels cannot be had: {error}")
    return folder


@pytest.mark.network
def test_everything_is_in_one_folder(made):
    assert not made.with_name("bundle.part").exists()
    assert {path.name for path in made.iterdir()} == {
        "INSTALL.md", "requirements.txt", "wheels", "notebooks", "encoders", "datasets",
    }  # fmt: skip
    assert (made / "datasets" / "texts" / "train.csv").is_file()
    assert len(list((made / "notebooks").glob("*.ipynb"))) == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert not [path for path in made.rglob("*") if path.suffix == ".part"]


@pytest.mark.network
def test_it_installs_with_the_two_commands_and_no_network(made, tmp_path):
    room = tmp_path / "room"
    shutil.copytree(made, room)
    [block] = re.findall(r"```\n(.*?)```", (room / "INSTALL.md").read_text("utf-8"), re.DOTALL)
    commands = [shlex.split(line, posix=os.name != "nt") for line in block.splitlines()]
    assert len(commands) == 2
    commands[0][0] = sys.executable
    question = "import companion, tqdm; print(companion.__file__)"
    commands.append([commands[1][0], "-c", question])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHONPATH"))}
    environment |= {"PIP_CONFIG_FILE": os.devnull}
    for command in commands:
        done = subprocess.run([*without_network(), *command], cwd=room, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    installed = Path(done.stdout.strip()).parent
    assert installed.is_relative_to(room)
    assert (installed / "assets" / "encoder").is_dir() and (installed / "assets" / "matinee").is_dir()


def test_what_was_finished_is_kept_and_what_was_not_is_made_again(tmp_path):
    made = []

    def make(part):
        part.mkdir()
        made.append(part.name)
        (part / "half").touch()
        if len(made) == 1:
            raise KeyboardInterrupt
        assert sorted(path.name for path in part.iterdir()) == ["half"]

    with pytest.raises(KeyboardInterrupt):
        offline.once(tmp_path / "wheels", make)
    assert not (tmp_path / "wheels").exists()
    offline.once(tmp_path / "wheels", make)
    offline.once(tmp_path / "wheels", make)
    assert len(made) == 2 and (tmp_path / "wheels" / "half").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [(["{there}"], "is there already"), (["{new}", "--encoder", "{new}/bert"], "encoder '.*bert' is not a folder")],
)
def test_bad_input_is_told_before_any_work(tmp_path, monkeypatch, arguments, words):
    places = {"there": tmp_path, "new": tmp_path / "new"}
    monkeypatch.setattr(sys, "argv", ["offline.py", *(argument.format(**places) for argument in arguments)])
    with pytest.raises(SystemExit, match=words):
        offline.main()
    assert list(tmp_path.iterdir()) == []
