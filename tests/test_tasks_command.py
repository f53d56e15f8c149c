"""`python -m tools.tasks` trains every head of a task, keeps a row for each, and goes on where it was stopped."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import WORDS

from tools import tasks

DATA = Path(os.environ.get("COMPANION_DATA", Path(__file__).parents[2] / "shared" / "data"))


def rows_of(task, count=12, seed=0):
    rng = np.random.default_rng(seed)
    words = [[WORDS[i] for i in rng.integers(0, 12, 30)] for _ in range(count)]
    for i, some in enumerate(words):
        if task == "documents":
            yield {"text": " ".join(some * 6), "label": i % 2}
        elif task == "tagging":
            yield {"tokens": some, "ner_tags": ["B-x" if word == some[0] else "O" for word in some]}
        else:
            yield {"sentences": [" ".join(some[j : j + 6]) for j in range(0, 30, 6)], "key": [0, 1, 0, 0, 0]}


@pytest.fixture
def write(tmp_path):
    def write(rows, splits=("train", "test")):
        folder, rows = tmp_path / "data", list(rows)
        folder.mkdir(exist_ok=True)
        for split in splits:
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(folder)

    return write


@pytest.fixture
def quick(monkeypatch):
    short = {regime: settings | {"epochs": 1} for regime, settings in tasks.SETTINGS.items()}
    monkeypatch.setattr(tasks, "SETTINGS", short)


@pytest.mark.parametrize("task", tasks.HEADS)
def test_every_head_gets_a_row_and_none_is_trained_twice(quick, write, random_encoder, tmp_path, task, monkeypatch):
    call = [task, write(rows_of(task)), "--encoder", random_encoder, "--results", str(tmp_path / "r"), "--frozen"]
    tasks.main([*call, "--seeds", "1", "--heads", next(iter(tasks.HEADS[task]))])
    first = pd.read_csv(tmp_path / "r" / "tasks.csv")
    tasks.main([*call, "--seeds", "2"])
    rows = pd.read_csv(tmp_path / "r" / "tasks.csv")
    trained = [head for head, made in tasks.HEADS[task].items() if made]
    others = [head for head, made in tasks.HEADS[task].items() if not made]
    assert sorted(rows["head"]) == sorted(trained * 2 + others)
    pd.testing.assert_frame_equal(rows.iloc[:1], first)
    assert not rows.duplicated(tasks.CELL).any()
    assert rows["examples"].map(lambda text: len(json.loads(text))).eq(12).all()
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["tasks.csv"]
    monkeypatch.setattr(tasks, "train", None)  # nothing is left to do
    tasks.main([*call, "--seeds", "2"])


def test_the_encoder_is_trained_unless_it_is_frozen(quick, write, random_encoder, tmp_path):
    call = ["documents", write(rows_of("documents")), "--encoder", random_encoder, "--results", str(tmp_path / "r")]
    tasks.main([*call, "--seeds", "1", "--heads", "max", "mean"])
    rows = pd.read_csv(tmp_path / "r" / "tasks.csv")
    assert rows["regime"].tolist() == ["fine-tuned"] * 2 and rows["accuracy"].between(0, 1).all()


@pytest.mark.parametrize(
    "task, rows, message",
    [
        ("tagging", [{"tokens": ["a"], "tags": ["O"]}], "needs the column 'ner_tags'"),
        ("summaries", [{"sentences": ["a"]}], "needs the column 'key'"),
        ("summaries", [{"sentences": ["a"], "key": [1]}], "A summary of 2 sentences cannot be picked"),
        ("documents", [{"words": "a"}], "needs the column 'sentences'"),
    ],
)
def test_other_data_is_refused_before_training(write, random_encoder, tmp_path, task, rows, message):
    with pytest.raises(ValueError, match=message):
        tasks.main([task, write(rows), "--encoder", random_encoder, "--k", "2", "--results", str(tmp_path / "r")])


def test_labels_unseen_in_training_are_refused(write, random_encoder, tmp_path):
    write([{"text": "a", "label": 0}, {"text": "film", "label": 1}], splits=["train"])
    folder = write([{"text": "a", "label": 2}], splits=["test"])
    with pytest.raises(ValueError, match="training"):
        tasks.load("documents", folder)


def test_an_unknown_head_is_refused(write, tmp_path):
    with pytest.raises(ValueError, match="tagging has no head lstm; it has linear, token_mlp, cnn"):
        tasks.main(["tagging", write(rows_of("tagging")), "--heads", "lstm", "--results", str(tmp_path / "r")])


REAL = {
    ("tagging", "wikigold"): (1356, 170, {"tokens", "tags"}),
    ("tagging", "leondz/wnut_17"): (3394, 1287, {"tokens", "tags"}),
    ("documents", "nltk/movie_reviews"): (1600, 200, {"text", "label"}),
    ("documents", "gum"): (115, 35, {"text", "label"}),
    ("summaries", "gum"): (115, 35, {"sentences", "key", "references"}),
    ("summaries", "allenai/scitldr"): (1992, 618, {"sentences", "key", "references"}),
}


@pytest.mark.data
@pytest.mark.parametrize("task, name", REAL, ids=str)
def test_real_datasets_are_read(task, name):
    if not (DATA / name).is_dir():
        pytest.skip(f"There is no folder {name} with real data; COMPANION_DATA says where to look.")
    train, test, columns = REAL[task, name]
    rows = tasks.load(task, str(DATA / name))
    assert (len(rows["train"]), len(rows["test"])) == (train, test)
    assert all(set(row) == columns for row in rows["test"])
    if task == "summaries":
        assert all(len(row["sentences"]) == len(row["key"]) and row["references"] for row in rows["test"])
