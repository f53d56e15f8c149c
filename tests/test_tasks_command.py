"""`python -m tools.tasks` trains every head of a task, keeps a row for each, and resumes where it was stopped."""

import json
import os
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import WORDS

from companion.tasks.pytorch_class import DocumentCNN
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
    first = pd.read_csv(tmp_path / "r" / f"{task}.csv")
    tasks.main([*call, "--seeds", "2"])
    rows = pd.read_csv(tmp_path / "r" / f"{task}.csv")
    trained = [head for head, made in tasks.HEADS[task].items() if made]
    others = [head for head, made in tasks.HEADS[task].items() if not made]
    assert sorted(rows["head"]) == sorted(trained * 2 + others)
    pd.testing.assert_frame_equal(rows.iloc[:1], first)
    assert not rows.duplicated(tasks.CELL).any()
    assert rows["examples"].map(lambda text: len(json.loads(text))).eq(12).all()
    files = {path.name for path in (tmp_path / "r").iterdir()}
    assert files == {f".{task}.lock", f"{task}.csv", ".texts.lock", "texts.json"}
    monkeypatch.setattr(tasks, "train", None)  # nothing is left to do
    tasks.main([*call, "--seeds", "2"])


@torch.no_grad()
def test_predictions_keep_the_order_of_the_texts(random_encoder):
    """Training puts texts of about the same length together; prediction must not."""
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.arange(3, 43))
    rows = [{"input_ids": rng.integers(5, 25, n), "attention_mask": np.ones(n, int)} for n in lengths]
    rows = [row | {"labels": rng.integers(0, 2, len(row["input_ids"]))} for row in rows]
    model = tasks.TaggingCNN.from_encoder(random_encoder)
    settings = tasks.SETTINGS["frozen"] | {"epochs": 1, "head_rate": 0.0}  # the weights stay as they are
    with torch.enable_grad():
        logits = tasks.train(model, {"train": rows, "test": rows}, settings, seed=0)
    model.eval()
    for found, row in zip(logits, rows, strict=True):
        expected = model(torch.from_numpy(row["input_ids"])[None]).logits[0]
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=1e-5)


def test_the_encoder_is_trained_unless_it_is_frozen(quick, write, random_encoder, tmp_path):
    call = ["documents", write(rows_of("documents")), "--encoder", random_encoder, "--results", str(tmp_path / "r")]
    tasks.main([*call, "--seeds", "1", "--heads", "max", "mean"])
    rows = pd.read_csv(tmp_path / "r" / "documents.csv")
    assert rows["regime"].tolist() == ["fine-tuned"] * 2 and rows["accuracy"].between(0, 1).all()


@pytest.mark.parametrize(
    "task, rows, message",
    [
        ("tagging", [{"tokens": ["a"], "tags": ["O"]}], "needs the column 'ner_tags'"),
        ("summaries", [{"sentences": ["a"]}], "needs the column 'key'"),
        ("summaries", [{"sentences": ["a"], "key": [1]}], "A summary of 2 sentences cannot be picked"),
        ("documents", [{"words": "a"}], "needs the column 'sentences'"),
        ("documents", [{"text": "a", "label": 1.5}, {"text": "b", "label": 2}], "A document has one class; the labels"),
        (
            "documents",
            [{"text": "a", "label": [0, 1]}, {"text": "b", "label": [1, 1]}],
            "A document has one class; the",
        ),
        ("documents", [{"text": "a", "label": 1}], "shows one class only in training"),
        ("summaries", [{"sentences": ["a", "b"], "key": [0, 0]}], "Document 0 .* neither a key sentence nor a summary"),
        ("tagging", [{"tokens": "a b", "ner_tags": "O O"}], "Tokens and tags must be lists, which CSV cannot store"),
        ("tagging", [{"tokens": None, "ner_tags": ["O"]}], "must be lists"),
        ("documents", [{"sentences": ["a"], "label": -1}, {"sentences": ["b"], "label": 1}], "without a label"),
        ("documents", [{"sentences": "['a', 'film']", "genre": "x"}, {"sentences": "['b']", "genre": "y"}], "be lists"),
        ("summaries", [{"sentences": "a film", "key": "100000"}], "Sentences and their marks must be lists"),
        ("summaries", [{"sentences": ["a", None], "key": [1, 0]}], "must be lists"),
    ],
)
def test_other_data_is_refused_before_training(write, random_encoder, tmp_path, task, rows, message):
    with pytest.raises(ValueError, match=message):
        tasks.main([task, write(rows), "--encoder", random_encoder, "--k", "2", "--results", str(tmp_path / "r")])


def test_a_file_where_the_results_should_go(write, tmp_path):
    (tmp_path / "r").write_text("mine")
    with pytest.raises(ValueError, match=r"Results need a folder, and .*r is a file"):
        tasks.main(["summaries", write(rows_of("summaries")), "--heads", "lead", "--results", str(tmp_path / "r")])


def test_results_on_other_data_are_not_taken_for_those_on_these(write, random_encoder, tmp_path):
    call = ["summaries", write(rows_of("summaries")), "--heads", "lead", "--results", str(tmp_path / "r")]
    tasks.main(call)
    before = (tmp_path / "r" / "summaries.csv").read_text()
    write(rows_of("summaries", seed=1), splits=["train"])
    with pytest.raises(ValueError, match=r"has results of summaries .*data on other texts or labels; give"):
        tasks.main(call)
    assert (tmp_path / "r" / "summaries.csv").read_text() == before


def test_a_dataset_whose_name_is_a_number_is_resumed(write, tmp_path, monkeypatch):
    Path(write(rows_of("summaries"))).rename(tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        tasks.main(["summaries", "2024", "--heads", "lead", "--results", "r"])
    assert len(pd.read_csv("r/summaries.csv")) == 1


def test_labels_unseen_in_training_are_refused(write, random_encoder, tmp_path):
    write([{"text": "a", "label": 0}, {"text": "film", "label": 1}], splits=["train"])
    folder = write([{"text": "a", "label": 2}], splits=["test"])
    with pytest.raises(ValueError, match="training"):
        tasks.load("documents", folder)


def test_a_tag_without_a_name_is_refused(tmp_path):
    tag = datasets.ClassLabel(names=["O", "B-a", "I-a"])
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(tag)})
    rows = datasets.Dataset.from_list([{"tokens": ["a", "film"], "ner_tags": [0, -1]}], features=features)
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "d")
    with pytest.raises(ValueError, match=r"a tag without a name; the names are .*, and the tags \[0, -1\]"):
        tasks.load("tagging", str(tmp_path / "d"))


def test_an_empty_split_is_refused(write):
    folder = write(rows_of("tagging"))
    rows = pd.read_json(Path(folder) / "test.jsonl", lines=True)
    (Path(folder) / "test.jsonl").unlink()
    rows.iloc[:0].to_parquet(Path(folder) / "test.parquet")
    with pytest.raises(ValueError, match=r"The split 'test' of .* is empty"):
        tasks.load("tagging", folder)


def test_a_column_source_may_say_where_a_text_is_from(write):
    rows = [row | {"source": "a newspaper"} for row in rows_of("summaries")]
    assert tasks.load("summaries", write(rows))["train"][0]["key"] == rows[0]["key"]


def test_an_unknown_head_is_refused(write, tmp_path):
    with pytest.raises(ValueError, match="tagging has no head lstm; it has linear, cnn_1, token_mlp, cnn"):
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


def test_folds_test_every_text_once_and_train_on_the_others(quick, write, random_encoder, tmp_path):
    call = ["documents", write(rows_of("documents")), "--encoder", random_encoder, "--results", str(tmp_path / "r")]
    tasks.main([*call, "--seeds", "1", "--heads", "max", "tfidf", "--frozen", "--folds", "3", "--texts", "18"])
    rows = pd.read_csv(tmp_path / "r" / "documents.csv")
    assert rows["fold"].tolist() == [0, 0, 1, 1, 2, 2]
    for _, own in rows.groupby("head"):
        examples = [row for text in own["examples"] for row in json.loads(text)]
        assert sorted(label for label, *_ in examples) == [0] * 9 + [1] * 9
        assert {tokens for *_, tokens in examples} == {182}  # 180 words, [CLS] and [SEP]
    for _, row in rows.iterrows():
        examples = np.array(json.loads(row["examples"]))
        assert len(examples) == 6 and row["accuracy"] == pytest.approx(np.mean(examples[:, 0] == examples[:, 1]))
    experiment = tasks.TaskExperiment(
        "documents", tasks.take(tasks.load("documents", call[1]), 18, 3), random_encoder, 1, 3
    )
    experiment.use(1)
    assert len(experiment.rows["train"]) == 12 and not {id(r) for r in experiment.rows["train"]} & {
        id(r) for r in experiment.rows["test"]
    }


@pytest.mark.parametrize("task", ["tagging", "summaries"])
def test_every_task_has_folds(task, quick, write, random_encoder, tmp_path):
    head, results = next(iter(tasks.HEADS[task])), tmp_path / "r"
    call = [task, write(rows_of(task)), "--encoder", random_encoder, "--results", str(results), "--folds", "2"]
    tasks.main([*call, "--seeds", "1", "--heads", head, "--frozen"])
    assert pd.read_csv(results / f"{task}.csv")["fold"].tolist() == [0, 1]


def test_every_class_is_in_every_fold_though_the_rows_are_sorted_by_class(write, random_encoder):
    texts = [{"text": f"a film {i}", "label": label} for label, size in ((0, 4), (1, 8), (2, 6)) for i in range(size)]
    rows = tasks.take(tasks.load("documents", write(texts)), None, 2)
    experiment = tasks.TaskExperiment("documents", rows, random_encoder, 1, 2)
    every = len(rows["all"]) // len(texts)  # the same texts in each split
    for fold in (0, 1):
        experiment.use(fold)
        counts = np.bincount([row["labels"] for row in experiment.rows["test"]])
        assert counts.tolist() == [2 * every, 4 * every, 3 * every]


def test_fewer_texts_have_every_class_though_the_rows_are_sorted_by_class(write):
    texts = [{"text": f"a film {i}", "label": label} for label, size in ((0, 4), (1, 8), (2, 4)) for i in range(size)]
    rows = tasks.load("documents", write(texts))
    assert np.bincount([row["label"] for row in tasks.take(rows, 8, 0)["train"]]).tolist() == [2, 4, 2]
    assert np.bincount([row["label"] for row in tasks.take(rows, 12, 2)["all"]]).tolist() == [3, 6, 3]
    assert tasks.take(rows, 99, 0)["train"] == tasks.take(rows, None, 0)["train"] == rows["train"]
    with pytest.raises(ValueError, match="2 of 16 examples cannot have every class"):
        tasks.take(rows, 2, 0)
    pairs = [{"sentences": [str(i)], "key": [1]} for i in range(9)]
    assert tasks.sample(pairs, 4) == pairs[:4]  # without a class


def test_a_regression_knows_classes_that_its_training_texts_lack(write, random_encoder):
    texts = [{"text": f"{word} film {i}", "label": n} for n, word in enumerate(("sad", "bad", "mad")) for i in range(6)]
    rows = tasks.take(tasks.load("documents", write(texts)), None, 0)
    experiment = tasks.TaskExperiment("documents", rows, random_encoder, 1)
    experiment.rows["train"] = [row for row in experiment.rows["train"] if row["label"] != 0]
    for head in ("tfidf", "mean"):
        logits = np.array(experiment.logits(head, "frozen", 0, tasks.SETTINGS["frozen"]))
        assert np.isneginf(logits[:, 0]).all() and np.exp(logits).sum(axis=1) == pytest.approx(np.ones(len(texts)))
    scores, examples = experiment.score(experiment.logits("tfidf", "frozen", 0, {}))
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert all(predicted == label for label, predicted, _ in examples if label)


def test_a_token_that_two_pieces_share_counts_once_in_the_mean():
    hidden, counts = np.arange(12.0).reshape(2, 3, 2), np.array([[1, 1, 0], [0, 1, 0]])
    (mean,) = tasks.mean_vectors([{"hidden": hidden.astype(np.float16), "window_mask": counts}])
    assert mean.tolist() == [(0 + 2 + 8) / 3, (1 + 3 + 9) / 3]


def test_cached_vectors_are_those_of_each_text_alone(random_encoder):
    rows = tasks.TaskExperiment(
        "documents", {"train": list(rows_of("documents")), "test": [{"text": "a film", "label": 0}]}, random_encoder, 1
    ).every["train"]
    model = DocumentCNN.from_encoder(random_encoder)
    for row in tasks.add_hidden(model, rows, {}):
        mask = torch.from_numpy(row["attention_mask"])
        with torch.no_grad():
            hidden = model.embed(torch.from_numpy(row["input_ids"]), mask) * mask[..., None]
        np.testing.assert_allclose(row["hidden"].astype("float32"), hidden, atol=2e-3)  # half precision


def test_gradients_are_those_of_the_package(random_encoder):
    rows = list(rows_of("documents", 4))
    experiment = tasks.TaskExperiment("documents", {"train": rows, "test": rows}, random_encoder, 1)
    gradients = []
    for make in (DocumentCNN, tasks.Reader):
        torch.manual_seed(0)
        model = make.from_encoder(random_encoder, dropout=0.0).train()
        batch = {name: torch.from_numpy(array) for name, array in tasks.data.collate(experiment.every["train"]).items()}
        torch.manual_seed(0)
        found = model(hidden=torch.randn(*batch.pop("input_ids").shape, 32), **batch)
        found.loss.backward()
        gradients.append([found.loss, *(p.grad for p in [*model.convs.parameters(), *model.classifier.parameters()])])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert all(gradient.abs().max() > 0 for gradient in gradients[0])
