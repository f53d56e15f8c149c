"""`python -m companion.study`: every cell once, kept whatever happens, the same numbers each time."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from datasets import DatasetDict
from safetensors.numpy import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score

from companion.encoders import load_pytorch_encoder, load_tokenizer
from companion.study import __main__ as command
from companion.study import experiment, recipes, store
from companion.study import results as results_file
from companion.study.experiment import Experiment
from companion.study.specs import HEADS
from companion.study.splits import cut, prepare, short_name
from companion.study.vectors import CachedVectors

FACTS = ["seconds", "hardware"]  # all else is the same when run again


def write(folder, **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> str:
    """Texts whose first word decides, so that there is something to learn; no validation split."""
    rows = [
        (f"{word} film , not one minute of it {other}", word) for word in ("good", "bad") for other in ("dull", "slow")
    ]
    return write(tmp_path_factory.mktemp("data") / "tests" / "films", train=rows * 15, test=rows * 5)


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        for regime, recipe in recipes.DEFAULTS.items():
            patch.setitem(recipes.DEFAULTS, regime, replace(recipe, epochs=2, min_updates=0))
        patch.setattr(recipes, "SHORTER", {"fine-tuned": {"examples": 20, "min_updates": 0}})
        yield


@pytest.fixture(scope="module")
def arguments(films, random_encoder):
    return [films, "--encoder", random_encoder, "--seeds", "2", "--heads", "mean", "cnn", "static_cnn", "tfidf"]


@pytest.fixture(scope="module")
def results(arguments, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    command.main([*arguments, "--results", str(folder)])
    return folder


def table(folder):
    rows = pd.read_csv(folder / "heads.csv")
    return rows.sort_values(results_file.CELL).drop(columns=FACTS).reset_index(drop=True)


def test_every_cell_is_there_once(results):
    rows = pd.read_csv(results / "heads.csv")
    assert list(rows.columns) == results_file.COLUMNS
    cells = rows.groupby(["head", "regime"]).size().to_dict()
    assert cells == {
        ("mean", "frozen"): 1,  # a logistic regression has no seed
        ("mean", "fine-tuned"): 2,
        ("cnn", "frozen"): 2,
        ("cnn", "fine-tuned"): 2,
        ("static_cnn", "trained"): 2,
        ("tfidf", "trained"): 1,
    }
    assert set(rows["dataset"]) == {"tests/films"} and set(rows["split"]) == {"test"}
    assert rows.set_index("head")["accuracy"]["tfidf"] == 1.0


def test_the_table_follows_from_the_predictions(results):
    rows, examples = table(results), pd.read_parquet(results / "predictions.parquet")
    assert len(examples) == len(rows) * 20
    assert examples["length"].between(4, 40).all()  # tokens, [CLS] and [SEP] among them
    for cell, group in examples.groupby(results_file.CELL):
        row = rows[(rows[results_file.CELL] == list(cell)).all(axis=1)].iloc[0]
        assert row["accuracy"] == accuracy_score(group["label"], group["prediction"])
        assert row["macro_f1"] == pytest.approx(f1_score(group["label"], group["prediction"], average="macro"))


def test_a_frozen_encoder_is_not_trained_and_a_fine_tuned_one_is(results):
    parameters = pd.read_csv(results / "heads.csv").groupby(["head", "regime"])["parameters"].first()
    assert parameters["mean", "frozen"] == 32 + 1
    linear = 2 * 32 + 2
    assert (
        parameters["mean", "fine-tuned"] - linear == parameters["cnn", "fine-tuned"] - parameters["cnn", "frozen"] > 0
    )


def test_a_finished_cell_is_not_run_again(arguments, results, monkeypatch):
    monkeypatch.setattr(Experiment, "scores", lambda *_, **__: pytest.fail("a cell was run again"))
    before = (results / "heads.csv").read_bytes()
    command.main([*arguments, "--results", str(results)])
    assert (results / "heads.csv").read_bytes() == before


@pytest.mark.parametrize("moment", [6, 7])
def test_killed_in_the_middle_it_goes_on_to_the_same_numbers(arguments, results, tmp_path, monkeypatch, moment):
    replace, calls = os.replace, []

    def die(source, target):  # before the third cell's predictions, or its row, take their place
        calls.append(target)
        if len(calls) == moment:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as killed:
        killed.setattr(store.os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            command.main([*arguments, "--results", str(tmp_path)])
    assert len(pd.read_csv(tmp_path / "heads.csv")) == 2
    assert len(pd.read_parquet(tmp_path / "predictions.parquet")) == 20 * (moment - 4)
    command.main([*arguments, "--results", str(tmp_path)])
    pd.testing.assert_frame_equal(table(tmp_path), table(results))
    one, other = (
        pd.read_parquet(folder / "predictions.parquet").sort_values([*results_file.CELL, "example"], ignore_index=True)
        for folder in (tmp_path, results)
    )
    pd.testing.assert_frame_equal(one, other)


def test_two_at_once_share_the_work(films, random_encoder, tmp_path):
    line = [sys.executable, "-m", "companion.study", films, "--encoder", random_encoder, "--seeds", "6"]
    line += ["--heads", "tfidf", "mlp", "--regimes", "frozen", "--results", str(tmp_path)]
    run = {"cwd": Path(experiment.__file__).parents[2], "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(line, **run) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    trained = [line.split("tests/films ")[1] for text in said for line in text.splitlines() if "minutes left" in line]
    assert len(trained) == 7, trained  # no cell by both
    assert len(pd.read_csv(tmp_path / "heads.csv")) == 7
    assert not table(tmp_path).duplicated(results_file.CELL).any()
    assert len(pd.read_parquet(tmp_path / "predictions.parquet")) == 7 * 20


def test_nobody_writes_while_another_does(films, random_encoder, tmp_path):
    on_films, found, recipe = (
        Experiment(films, random_encoder),
        store.Store(tmp_path),
        recipes.default("tfidf", "trained"),
    )
    cell = dict(zip(results_file.CELL, ("tests/films", "tfidf", "trained", 0, "one"), strict=True))
    logits = {"test": on_films.logits("tfidf", "trained", 0)[0]}
    with filelock.FileLock(tmp_path / ".lock"):
        writer = threading.Thread(
            target=found.add, args=(cell, recipe, logits, on_films.splits), kwargs={"seconds": 1.0, "parameters": 1}
        )
        writer.start()
        writer.join(0.5)
        assert writer.is_alive() and not (tmp_path / "predictions.parquet").exists()
    writer.join()
    assert found.has(cell, recipe)


@pytest.mark.parametrize("name", ["2024", "NA", "."])
def test_a_dataset_of_any_name_is_run_once(films, random_encoder, tmp_path, monkeypatch, name):
    for folder in ("2024", "NA"):
        shutil.copytree(films, tmp_path / folder)
    monkeypatch.chdir(tmp_path / "NA" if name == "." else tmp_path)
    line = [name, "--encoder", random_encoder, "--heads", "tfidf", "--results", str(tmp_path / "results")]
    command.main(line)
    monkeypatch.setattr(Experiment, "scores", lambda *_, **__: pytest.fail("a cell was run again"))
    command.main(line)
    cells, examples = results_file.read_results(tmp_path / "results")
    assert set(cells["dataset"]) == set(examples["dataset"])


def test_one_number_of_seeds_for_each_regime(films, random_encoder, tmp_path):
    line = [films, "--encoder", random_encoder, "--heads", "mlp", "--seeds", "3", "1", "--results", str(tmp_path)]
    command.main(line)
    assert table(tmp_path).groupby("regime").size().to_dict() == {"frozen": 3, "fine-tuned": 1}


@pytest.mark.parametrize("option", ["--seeds", "--sizes"])
def test_less_than_one_is_no_number(films, tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        command.main([films, option, "0", "--results", str(tmp_path / "results")])
    assert "0 is too few" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_two_datasets_of_one_name(films, random_encoder, tmp_path):
    other = shutil.copytree(films, tmp_path / "tests" / "films")
    line = [films, str(other), "--heads", "tfidf", "--encoder", random_encoder]
    with pytest.raises(ValueError, match=r"Two of the datasets would both be .*tests/films"):
        command.main([*line, "--results", str(tmp_path)])
    assert not (tmp_path / "heads.csv").exists()


@pytest.mark.parametrize("part", ["torch", "transformers"])
def test_results_of_other_versions_are_left_alone(arguments, results, tmp_path, part):
    text = (results / "heads.csv").read_text().replace(f"{part} ", f"{part} 4.")
    (tmp_path / "heads.csv").write_text(text)
    with pytest.raises(ValueError, match=r"was made by other versions than .*; give another folder"):
        command.main([*arguments, "--results", str(tmp_path)])
    assert (tmp_path / "heads.csv").read_text() == text


@pytest.mark.parametrize("content", [None, b"PAR1"])
def test_damaged_predictions_are_noticed_before_anything_is_trained(arguments, results, tmp_path, monkeypatch, content):
    shutil.copy(results / "heads.csv", tmp_path)
    if content:
        (tmp_path / "predictions.parquet").write_bytes(content)
    monkeypatch.setattr(Experiment, "scores", lambda *_, **__: pytest.fail("a cell was run"))
    with pytest.raises(ValueError, match=r"predictions.parquet is missing or damaged; restore it"):
        command.main([*arguments, "--seeds", "9", "--results", str(tmp_path)])


def other(value):
    """A value of the same type that differs."""
    return "bf16" if value == "fp32" else value + 1


@pytest.mark.parametrize("field", [field.name for field in fields(recipes.Recipe)])
def test_every_setting_counts_in_the_checksum(field):
    recipe = recipes.default("cnn", "frozen")
    changed = replace(recipe, **{field: other(getattr(recipe, field))})
    assert changed.checksum != recipe.checksum
    assert recipes.identity("cnn", changed) != recipes.identity("cnn", recipe) != recipes.identity("cnn_1", recipe)


def test_every_head_has_the_same_number_of_settings():
    for head, spec in HEADS.items():
        for regime in spec.regimes:
            tried = recipes.settings(head, regime)
            assert len({recipe.checksum for recipe in tried}) == 4, head
            assert recipes.default(head, regime) == tried[0]


def test_cells_of_another_recipe_are_replaced_only_on_request(arguments, results, tmp_path, monkeypatch):
    for file in ("heads.csv", "predictions.parquet"):
        shutil.copy(results / file, tmp_path)
    monkeypatch.setitem(recipes.DEFAULTS, "trained", replace(recipes.DEFAULTS["trained"], weight_decay=0.5))
    line, before = [*arguments, "--results", str(tmp_path)], (tmp_path / "heads.csv").read_bytes()
    with pytest.raises(ValueError, match="has 10 of these by other recipes: give another folder, or --repl"):
        command.main(line)
    assert (tmp_path / "heads.csv").read_bytes() == before
    command.main([*line, "--replace", "--heads", "tfidf"])
    _, examples = results_file.read_results(tmp_path)
    with pytest.raises(ValueError, match="tfidf, trained, on tests/films was trained by another recipe"):
        results_file.paired(examples, "tests/films", ("cnn", "frozen"), ("tfidf", "trained"))


def test_seeds_of_two_recipes_are_not_one_classifier(results):
    examples = results_file.read_predictions(results / "predictions.parquet").astype({"recipe": str})
    examples.loc[examples["seed"].eq(1), "recipe"] += "0"
    with pytest.raises(ValueError, match="cnn, frozen, on tests/films was trained by another recipe"):
        results_file.paired(examples, "tests/films", ("cnn", "frozen"))


def test_tuning_is_kept_and_its_best_setting_is_trained(films, random_encoder, tmp_path, monkeypatch):
    line = [films, "--encoder", random_encoder, "--heads", "mean", "tfidf", "--regimes", "frozen", "--seeds", "1"]
    line += ["--results", str(tmp_path)]
    command.main([*line, "--tune"])
    rows = recipes.read_tuning(tmp_path / "tuning.csv")
    assert rows.groupby(["head", "regime"]).size().to_dict() == {("mean", "frozen"): 4, ("tfidf", "trained"): 4}
    assert not (tmp_path / "heads.csv").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "scores", lambda *_, **__: pytest.fail("a setting was tried again"))
        command.main([*line, "--tune"])
    third = rows["head"].eq("tfidf") & rows["ngrams"].eq(2) & rows["regression_c"].eq(1)
    rows["accuracy"] = np.where(third, 1.0, 0.5)
    rows.to_csv(tmp_path / "tuning.csv", index=False)
    command.main([*line, "--sizes", "20"])
    cells = results_file.read_table(tmp_path / "heads.csv").query("head == 'tfidf'")
    chosen = replace(recipes.default("tfidf", "trained"), regression_c=1.0)
    assert set(cells["recipe"]) == {recipes.identity("tfidf", chosen)} and len(cells) == 2
    rows.drop(rows.index[third]).to_csv(tmp_path / "tuning.csv", index=False)
    with pytest.raises(ValueError, match="1 of 4 settings of tfidf, trained, on tests/films are untried; finish --tu"):
        command.main([*line, "--replace"])


def test_tuning_looks_at_validation_alone(films, random_encoder, tmp_path, monkeypatch):
    seen, scores = [], Experiment.scores

    def watch(self, *rest):
        seen.append(rest)
        return scores(self, *rest)

    monkeypatch.setattr(Experiment, "scores", watch)
    line = [films, "--encoder", random_encoder, "--heads", "mean", "--regimes", "fine-tuned"]
    command.main([*line, "--tune", "--results", str(tmp_path)])
    assert len(seen) == 4
    for _, _, seed, _, recipe, splits in seen:
        assert seed >= 100 and recipe.examples == 20 and splits == ("validation",)


def test_tfidf_reads_what_the_encoder_reads(films, random_encoder, tmp_path):
    """Only a classifier that reads beyond the limit can see the words that decide."""
    tokenizer = load_tokenizer(random_encoder)
    texts = ["a  warm, funny film" + " and slow" * 200, "", "dull"]
    kept = cut(texts, tokenizer, 7)
    assert kept == ["a  warm, funny film", "", "dull"]
    rows = [(" a film" * 200 + word, word) for word in (" good", " bad")]
    on_films = Experiment(write(tmp_path / "late", train=rows * 20, test=rows * 10), random_encoder)
    assert on_films.logits("tfidf", "trained", 0)[0].argmax(axis=1).std() == 0


def test_the_encoder_is_loaded_once(films, random_encoder, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        experiment, "pretrained", lru_cache(lambda name: loaded.append(name) or load_pytorch_encoder(name))
    )
    on_films = Experiment(films, random_encoder)
    before = {name: value.clone() for name, value in experiment.pretrained(random_encoder).state_dict().items()}
    for head, regime in (("mlp", "frozen"), ("mean", "fine-tuned"), ("static_cnn", "trained"), ("cnn", "frozen")):
        on_films.logits(head, regime, 0)
    assert loaded == [random_encoder]
    after = experiment.pretrained(random_encoder).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_vectors_are_those_of_real_tokens(films, random_encoder, side):
    on_films = Experiment(films, random_encoder)
    on_films.tokenizer.padding_side = side
    encoder = load_pytorch_encoder(random_encoder).eval()
    rows = on_films.splits["test"].select([0, 1])
    cached = CachedVectors(encoder, on_films.tokenizer, DatasetDict({"test": on_films.splits["test"]}), 1)
    batch = cached([rows[0], rows[1]])
    assert batch["attention_mask"].sum(dim=1).tolist() == rows["length"][:]
    if side == "right":  # where absolute positions are the same
        alone = encoder(torch.tensor([rows[0]["input_ids"]])).last_hidden_state[0]
        torch.testing.assert_close(batch["vectors"][0, : len(alone)], alone, rtol=0, atol=0.01)


def test_old_results_are_replaced_one_by_one(arguments, results, tmp_path):
    """Rows of another protocol stay, marked as such, until their cell is trained again."""
    rows = pd.read_csv(results / "heads.csv").assign(recipe="12345678-90")
    rows.to_csv(tmp_path / "heads.csv", index=False)
    examples = pd.read_parquet(results / "predictions.parquet")
    examples.assign(recipe="12345678-90").to_parquet(tmp_path / "predictions.parquet")
    line = [*arguments, "--results", str(tmp_path)]
    with pytest.raises(ValueError, match="of these by other recipes"):
        command.main(line)
    command.main([*line, "--heads", "tfidf", "--replace"])
    cells, examples = results_file.read_results(tmp_path)
    for found in (cells, examples):
        old = found["recipe"].eq("12345678-90")
        assert (old == found["head"].ne("tfidf")).all() and len(found) % len(rows) == 0


def test_results_of_one_encoder(results, random_encoder):
    cells, examples = results_file.read_results(results, Path(random_encoder).name)
    assert len(cells) and results_file.encoders(examples) == [Path(random_encoder).name]
    with pytest.raises(ValueError, match="hold nothing of the encoder 'another'"):
        results_file.read_results(results, "another")


@pytest.mark.parametrize(
    "splits, message",
    [
        ({"train": [("good", 0)] * 20, "test": [("good", 0)]}, "shows one class only in training"),
        ({"train": [("good", 0), ("bad", 1)] * 20, "test": [("odd", 2)]}, "label '2', which is not among"),
        ({"train": [("good", 0), ("bad", 1)] * 20}, "needs the splits train and test"),
    ],
)
def test_data_that_make_no_experiment(tmp_path, splits, message):
    with pytest.raises(ValueError, match=message):
        prepare(write(tmp_path / "data", **splits))


def test_a_smaller_training_set_keeps_the_classes_shares(tmp_path):
    rows = [(f"film {i}", int(i % 4 == 0)) for i in range(400)]
    data = write(tmp_path / "data", train=rows, test=rows[:40])
    small = prepare(f"{data}@40")
    assert len(small["train"]) == 40 and sum(small["train"]["label"]) == 10
    assert (len(small["validation"]), len(small["test"])) == (40, 40)
    assert not set(small["train"]["text"]) & set(small["validation"]["text"])
    assert small["train"]["text"] == prepare(f"{data}@40")["train"]["text"]


def test_heads_share_the_order_of_the_batches(films, random_encoder, monkeypatch):
    on_films, seen = Experiment(films, random_encoder), []
    step = experiment.SameOrder.training_step

    def watch(self, model, inputs, *rest, **kwargs):
        seen[-1].append(inputs["labels"].tolist())
        return step(self, model, inputs, *rest, **kwargs)

    monkeypatch.setattr(experiment.SameOrder, "training_step", watch)
    for head, seed in (("mlp", 0), ("cnn", 0), ("cnn", 1)):
        seen.append([])
        on_films.logits(head, "frozen", seed)
    assert seen[0] == seen[1] and seen[1] != seen[2]


def test_a_size_draws_its_examples_by_the_seed(films, random_encoder, tmp_path, monkeypatch):
    line = [films, "--encoder", random_encoder, "--seeds", "2", "--heads", "tfidf", "--sizes", "8"]
    drawn = []

    def watch(rows, size, seed=0):
        drawn.append((size, seed, tuple(sample(rows, size, seed)[0])))
        return sample(rows, size, seed)

    sample = experiment.stratified_sample
    monkeypatch.setattr(experiment, "stratified_sample", watch)
    command.main([*line, "--results", str(tmp_path)])
    assert table(tmp_path).groupby("dataset").size().to_dict() == {"tests/films": 1, "tests/films~8": 2}
    of_eight = {seed: rows for size, seed, rows in drawn if size == 8}
    assert of_eight[0] != of_eight[1] and len(of_eight[0]) == 8


def test_a_network_learns_from_the_examples_drawn(films, random_encoder, monkeypatch):
    on_films, seen, train = Experiment(films, random_encoder), [], experiment.train

    def watch(model, splits, *rest):
        seen.append(splits["train"]["key"][:])
        return train(model, splits, *rest)

    monkeypatch.setattr(experiment, "train", watch)
    for seed in (0, 1):
        on_films.logits("mlp", "frozen", seed, 8)
        drawn = experiment.stratified_sample(on_films.texts["train"], 8, seed)[0]
        assert seen[-1] == [f"train {i}" for i in drawn]
    assert seen[0] != seen[1]


def test_a_size_that_is_not_smaller(films, random_encoder, tmp_path):
    common = ["--heads", "mean", "--encoder", random_encoder]
    with pytest.raises(ValueError, match=r"has 54 training examples, not more than 60"):
        prepare(f"{films}@60")
    with pytest.raises(ValueError, match=r"has 54 training examples; sizes have to be smaller, not \[60\]"):
        command.main([films, *common, "--sizes", "60", "--results", str(tmp_path)])
    assert not (tmp_path / "heads.csv").exists()


@pytest.mark.parametrize(
    "size, rows, message",
    [
        (1, [("good", 0), ("bad", 1)] * 20, "1 of 40 examples cannot have every class with its share"),
        (9, [("good", 0)] * 39 + [("bad", 1)], "9 of 40 examples cannot have every class with its share"),
        (4, [("good", 0)] * 38 + [("bad", 1)] * 2, "4 examples of .* can be of one class only"),
    ],
)
def test_a_size_too_small_for_the_classes(tmp_path, random_encoder, size, rows, message):
    data = write(tmp_path / "data", train=rows, validation=rows, test=rows)
    line = [data, "--heads", "mean", "--encoder", random_encoder, "--sizes", str(size)]
    with pytest.raises(ValueError, match=message):
        command.main([*line, "--results", str(tmp_path / "found")])
    assert not (tmp_path / "found" / "heads.csv").exists()


def test_a_row_above_the_limit_is_no_obstacle(tmp_path):
    rows = [("good", 0), ("bad", 1)]
    data = prepare(write(tmp_path / "data", train=rows, validation=rows * 500 + rows[:1], test=rows))
    assert len(data["validation"]) == 999


def test_an_encoder_of_few_layers_has_no_last_four(films, random_encoder, tmp_path):
    with pytest.raises(ValueError, match=r"cnn_last4 reads four layers, and .* has 2"):
        command.main([films, "--encoder", random_encoder, "--results", str(tmp_path)])
    assert not (tmp_path / "heads.csv").exists()


def test_a_folder_keeps_its_name_with_a_size(films, monkeypatch):
    whole = short_name(films)
    monkeypatch.chdir(films)
    assert short_name(".") == whole == "tests/films"
    assert short_name(".@8") == short_name(f"{films}@8") == "tests/films@8"
    assert short_name("stanfordnlp/imdb@5000") == "stanfordnlp/imdb@5000"


def test_seeds_for_regimes_that_are_not_asked_for(films, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main([films, "--regimes", "frozen", "--seeds", "3", "1", "--results", str(tmp_path / "found")])
    assert "--seeds takes one number, or one for each of the 1 regimes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [lambda lines: lines[::-1], lambda lines: [line.replace(" ,", "") for line in lines]]
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_other_texts_under_the_old_name(arguments, films, results, tmp_path, split, change):
    """Other labels, or the same labels on other texts."""
    other = shutil.copytree(films, tmp_path / "tests" / "films")
    lines = (other / f"{split}.jsonl").read_text().splitlines()
    (other / f"{split}.jsonl").write_text("\n".join(change(lines)) + "\n")
    before = (results / "heads.csv").read_bytes()
    with pytest.raises(ValueError, match=r"has results of tests/films on other texts or labels; give another"):
        command.main([str(other), *arguments[1:], "--seeds", "3", "--results", str(results)])
    assert (results / "heads.csv").read_bytes() == before


def test_predictions_older_than_the_table(arguments, results, tmp_path):
    shutil.copy(results / "heads.csv", tmp_path)
    kept = pd.read_parquet(results / "predictions.parquet").query("seed == 0")
    kept.to_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(ValueError, match=r"predictions.parquet lacks cells of .*heads.csv; restore it"):
        command.main([*arguments, "--results", str(tmp_path)])


def test_a_file_where_the_results_should_go(arguments, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ValueError, match=r"Results need a folder, and .*taken cannot be one"):
        command.main([*arguments, "--results", str(tmp_path / "taken")])
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_encoder_in_several_files_has_one_identity(random_encoder, tmp_path):
    folder = Path(shutil.copytree(random_encoder, tmp_path / "several"))
    whole = experiment.encoder_identity(str(folder))
    assert whole == f"several {hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()[:8]}"
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for number, names in enumerate(np.array_split(sorted(tensors), 2), 1):
        save_file({name: tensors[name] for name in names}, folder / f"model-{number:05}-of-00002.safetensors")
    sharded = experiment.encoder_identity(str(folder))
    save_file({name: 2 * tensors[name] for name in names}, folder / "model-00002-of-00002.safetensors")
    assert experiment.encoder_identity(str(folder)) != sharded


def test_paired_predictions(results):
    examples = pd.read_parquet(results / "predictions.parquet")
    labels, cnn, tfidf = results_file.paired(examples, "tests/films", ("cnn", "frozen"), ("tfidf", "trained"))
    assert labels.shape == (20,) and cnn.shape == tfidf.shape == (2, 20)
    rows = pd.read_csv(results / "heads.csv").query("head == 'cnn' and regime == 'frozen'").sort_values("seed")
    assert (cnn == labels).mean(axis=1).tolist() == rows["accuracy"].tolist()
    assert (tfidf[0] == tfidf[1]).all()  # it has one seed, which stands for each


def test_more_seeds_than_results(results):
    examples = pd.read_parquet(results / "predictions.parquet")
    with pytest.raises(ValueError, match="hold 2 seeds on tests/films, not 5"):
        results_file.paired(examples, "tests/films", ("cnn", "frozen"), seeds=5)
    with pytest.raises(ValueError, match="hold nothing of max, frozen, on tests/films"):
        results_file.paired(examples, "tests/films", ("max", "frozen"))
    twice = pd.concat([examples, examples.assign(encoder="another")])
    with pytest.raises(ValueError, match="of 2 encoders"):
        results_file.paired(twice, "tests/films", ("cnn", "frozen"))


def test_rates_of_head_and_encoder(films, random_encoder, monkeypatch):
    """A fine-tuned encoder learns at a rate of its own."""
    on_films, rates = Experiment(films, random_encoder), []

    def watch(self):
        rates.append([group["initial_lr"] for group in self.optimizer.param_groups if group["params"]])

    monkeypatch.setattr(experiment.SameOrder, "train", watch)
    for head, regime in (("mlp", "frozen"), ("cnn", "frozen"), ("mean", "fine-tuned")):
        on_films.logits(head, regime, 0)
    assert rates == [[1e-3], [1e-3], [1e-3, 2e-4]]


def test_the_evaluation_with_the_best_accuracy_is_kept(films, random_encoder, monkeypatch):
    """Accuracies that only fall: what is kept is the first evaluation's model, and the later ones moved on."""
    on_films, fall, seen = Experiment(films, random_encoder), iter(np.linspace(1, 0, 99)), []
    monkeypatch.setattr(experiment, "accuracy_score", lambda *_: next(fall))
    recipe = replace(recipes.default("mlp", "frozen"), epochs=3, head_rate=1e-2)
    evaluate = experiment.SameOrder.evaluate

    def watch(self, *rest, **kwargs):
        seen.append(self.model.head.classifier.weight.detach().clone())
        return evaluate(self, *rest, **kwargs)

    kept = experiment.SameOrder.predict
    monkeypatch.setattr(experiment.SameOrder, "evaluate", watch)
    monkeypatch.setattr(
        experiment.SameOrder,
        "predict",
        lambda self, rows: seen.append(self.model.head.classifier.weight) or kept(self, rows),
    )
    on_films.scores("mlp", "frozen", 0, recipe=recipe)
    *evaluated, last = seen
    assert len(evaluated) >= 3 and (last == evaluated[0]).all() and (last != evaluated[-1]).any()


def test_what_is_said_of_the_challenge_set_is_kept(films, random_encoder, tmp_path, monkeypatch):
    line = [films, "--encoder", random_encoder, "--seeds", "1", "--heads", "mean", "tfidf", "--regimes", "frozen"]
    line += ["--results", str(tmp_path)]
    command.main(line)
    few = experiment.load_challenge().head(40)
    monkeypatch.setattr(experiment, "load_challenge", lambda: few)
    before = table(tmp_path)
    command.main([*line, "--challenge"])  # the same cells, which lack it, again
    pd.testing.assert_frame_equal(table(tmp_path), before)
    odds = pd.read_parquet(tmp_path / "log_odds.parquet").set_index("head")
    assert set(odds.index) == {"mean", "tfidf"}
    labels = pd.read_parquet(tmp_path / "predictions.parquet").query("head == 'mean'")["label"].to_numpy()
    for head, row in odds.iterrows():
        assert (len(row["challenge"]), len(row["validation"]), len(row["validation_labels"])) == (40, 6, 6)
        accuracy = np.mean((row["test"] > 0) == labels)
        assert accuracy == before.set_index("head")["accuracy"][head]
    monkeypatch.setattr(Experiment, "scores", lambda *_, **__: pytest.fail("a cell was run again"))
    command.main([*line, "--challenge"])


def test_the_challenge_set_needs_two_classes(tmp_path, random_encoder):
    rows = [(word, label) for label, word in enumerate(("good", "bad", "slow"))]
    data = write(tmp_path / "data", train=rows * 20, test=rows)
    with pytest.raises(ValueError, match=r"has the labels negative \(0\) and positive \(1\); '.*' has 3"):
        Experiment(data, random_encoder, challenge=True)


def test_a_trained_cnn_says_what_its_head_said(films, random_encoder):
    on_films = Experiment(films, random_encoder)
    model, logits = experiment.train_cnn(on_films)
    inputs = on_films.tokenizer(on_films.texts["test"]["text"][:], padding=True, return_tensors="pt")
    np.testing.assert_allclose(model(**inputs).logits.detach(), logits, atol=0.01)  # cached in half precision


@pytest.mark.parametrize("head", ["cnn", "cnn_last4", "token_mlp", "mlp"])
def test_vectors_in_half_precision_train_the_same_head(films, head):
    """In half precision a head's products round what they are given; the cache may do so before them."""
    half, single = (Experiment(films, "embedded", bf16=True) for _ in range(2))
    layers = HEADS[head].layers
    single.cache[layers] = CachedVectors(load_pytorch_encoder("embedded"), single.tokenizer, single.splits, layers)
    logits, expected = (run.logits(head, "frozen", 0)[0] for run in (half, single))
    assert half.cache[layers].dtype == torch.bfloat16
    np.testing.assert_allclose(logits, expected, rtol=0, atol=0.05)
