"""`examples/train.py`: both frameworks learn from a folder, say how well, and leave a model that loads again."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN
from companion.quiet import keras

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("framework, saved", [("pytorch", "model"), ("keras", "model.keras")])
def test_training_by_the_documented_command(framework, saved, random_encoder, tmp_path):
    rows = [{"text": f"{word} film , not dull", "label": word} for word in ("good", "bad")]
    for split, times in (("train", 200), ("test", 20)):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * times))
    command = [sys.executable, "examples/train.py", framework, str(tmp_path), "--encoder", random_encoder]
    command += ["--epochs", "4", "--out", str(tmp_path / saved)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].endswith("test accuracy 100.0%; always the most frequent class: 50.0%")
    inputs = load_tokenizer(random_encoder)(["good film , not dull"], return_tensors="np")
    if framework == "keras":
        logits = keras.saving.load_model(tmp_path / saved)(dict(inputs))
    else:
        logits = BertCNN.from_pretrained(tmp_path / saved)(**inputs.convert_to_tensors("pt")).logits
    assert logits[0, 1] > logits[0, 0]  # "bad" is 0, "good" 1: names in alphabetical order


def write(folder, **splits):
    folder.mkdir(exist_ok=True)
    for split, labels in splits.items():
        rows = [{"text": f"a film , {label}", "label": label} for label in labels]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def train(monkeypatch, *arguments, untrained=False):
    """Run the script in this process; untrained: `fit` and `Trainer.train` must not be reached."""
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    if untrained:
        monkeypatch.setattr("transformers.Trainer.train", lambda *_: pytest.fail("training has begun"))
        monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("training has begun"))
    runpy.run_path(str(ROOT / "examples" / "train.py"), run_name="__main__")


REFUSED = {
    "a name that Keras cannot save": (
        ["keras", "DATA", "--out", "FOLDER/model"],
        "ends in .keras, as in .*model.keras",
    ),
    "a folder in the model's place": (
        ["keras", "DATA", "--out", "FOLDER/taken.keras"],
        "There is a folder of the name",
    ),
    "a file in the folder's place": (["pytorch", "DATA", "--out", "FOLDER/file"], "There is a file of the name"),
    "a file above the folder": (
        ["pytorch", "DATA", "--out", "FOLDER/file/model"],
        "Nothing can be written to the folder",
    ),
    "no test split": (["pytorch", "NO_TEST"], "has no split test; it has train"),
    "no train split": (["keras", "NO_TRAIN"], "has no split train; it has test"),
    "one class": (["pytorch", "ONE_CLASS"], "shows one class only in training"),
    "other labels": (["pytorch", "OTHER_LABELS"], "the label 'Positive', which is not among training's"),
    "no such column": (["pytorch", "DATA", "--text", "review"], "has no column review; it has text, label"),
    "no epoch": (["pytorch", "DATA", "--epochs", "0"], "--epochs must be at least 1"),
    "no such encoder": (["keras", "DATA", "--encoder", "FOLDER"], "has no config.json"),
}


@pytest.mark.parametrize("arguments, message", REFUSED.values(), ids=REFUSED)
def test_what_can_be_known_before_training_is_said_before_training(tmp_path, monkeypatch, arguments, message):
    (tmp_path / "taken.keras").mkdir()
    (tmp_path / "file").write_text("")
    places = {
        "DATA": write(tmp_path / "data", train=["neg", "pos"], test=["pos"]),
        "NO_TEST": write(tmp_path / "no_test", train=["neg", "pos"]),
        "NO_TRAIN": write(tmp_path / "no_train", test=["neg", "pos"]),
        "ONE_CLASS": write(tmp_path / "one_class", train=["neg", "neg"], test=["neg"]),
        "OTHER_LABELS": write(tmp_path / "other_labels", train=["neg", "pos"], test=["Positive"]),
        "FOLDER": str(tmp_path),
    }
    for name, place in places.items():
        arguments = [argument.replace(name, place) if argument.startswith(name) else argument for argument in arguments]
    with pytest.raises(SystemExit, match=message):
        train(monkeypatch, *arguments, untrained=True)


@pytest.mark.parametrize("framework, saved", [("pytorch", "new/folders/model"), ("keras", "new/folders/model.keras")])
@pytest.mark.parametrize("kind", ["several", "number"])
def test_other_kinds_of_labels(framework, saved, kind, random_encoder, tmp_path, monkeypatch, capsys):
    """The texts hold their labels, so a model that trains with the right loss learns them."""
    labels = [["good"], ["good", "bad"], []] if kind == "several" else [1.5, -1.5, 0.5]
    texts = ["a good film", "a good bad film", "film"] if kind == "several" else ["good", "bad", "film"]
    for split, times in (("train", 100), ("test", 4)):
        rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)] * times
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [framework, tmp_path, "--encoder", random_encoder, "--epochs", "6", "--learning-rate", "1e-3"]
    train(monkeypatch, *command, "--out", tmp_path / saved)
    last = capsys.readouterr().out.splitlines()[-1]
    name, rest = ("micro F1 ", "0.667") if kind == "several" else ("R2 ", "-0.000")
    assert float(last.split(name)[1].split(";")[0]) > 0.9, last
    assert last.endswith(rest) or kind == "number", last
    inputs = load_tokenizer(random_encoder)(texts, return_tensors="np", padding=True)
    if framework == "keras":
        logits = np.array(keras.saving.load_model(tmp_path / saved)(dict(inputs)))
    else:
        model = BertCNN.from_pretrained(tmp_path / saved)
        logits = model(**inputs.convert_to_tensors("pt")).logits.detach().numpy()
        assert list(model.config.id2label.values()) == (["bad", "good"] if kind == "several" else ["score"])
    expected = [[0, 1], [1, 1], [0, 0]] if kind == "several" else [[1.5], [-1.5], [0.5]]
    np.testing.assert_allclose(logits > 0 if kind == "several" else logits, expected, atol=0.8)


def test_a_trained_model_is_not_lost_where_it_cannot_be_saved(tmp_path, capsys):
    script = runpy.run_path(str(ROOT / "examples" / "train.py"))
    kept = []

    def save(path):
        if tmp_path in path.parents:
            raise OSError("the disk is full")
        kept.append(path)

    script["save"](save, tmp_path / "model.keras")
    assert len(kept) == 1 and f"it is {kept[0]}" in capsys.readouterr().err
