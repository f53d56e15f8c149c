"""`examples/train.py`: both frameworks learn from a folder, say how well, and leave a model that loads again."""

import json
import os
import re
import runpy
import shutil
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
    "no batch": (["keras", "DATA", "--batch-size", "0"], "--batch-size must be a multiple"),
    "no dropout of that size": (["keras", "DATA", "--dropout", "1"], "dropout must be at least 0 and less than 1"),
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


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["pytorch", "--batch-size", "5"], r"a multiple of the number of processes \(2\)"),
        (["keras"], "Several processes train the PyTorch model only"),
    ],
)
def test_what_two_processes_cannot_share_is_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("WORLD_SIZE", "2")
    framework, *options = arguments
    with pytest.raises(SystemExit, match=message):
        train(monkeypatch, framework, write(tmp_path, train=["neg", "pos"], test=["pos"]), *options, untrained=True)


def test_two_processes_give_the_loss_curve_of_one(random_encoder, tmp_path):
    """With the same global batch and no dropout, of which each process draws its own; texts of many lengths."""
    encoder = tmp_path / "encoder"
    shutil.copytree(random_encoder, encoder)
    config = json.loads((encoder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps(config))
    data = tmp_path / "data"
    data.mkdir()
    for split, times in (("train", 6), ("test", 1)):
        words = [(["good", "bad"][i % 2], " dull" * (7 * i % 11)) for i in range(8)] * times
        rows = [{"text": f"a {word} film{more}", "label": word} for word, more in words]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [
        "examples/train.py",
        "pytorch",
        str(data),
        "--encoder",
        str(encoder),
        "--dropout",
        "0",
        "--epochs",
        "2",
    ]
    arguments += ["--batch-size", "8", "--log-steps", "1", "--learning-rate", "0.01"]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    curves, last = [], []
    for command in (
        [sys.executable, *arguments],
        [sys.executable, *launch, *arguments, "--out", str(tmp_path / "out")],
    ):
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        curves.append([float(loss) for loss in re.findall(r"'loss': '?([\d.e-]+)", done.stdout)])
        last.append([line for line in done.stdout.splitlines() if "test accuracy" in line])
    assert len(curves[0]) == len(curves[1]) == 12  # 48 texts, 8 a step, twice
    np.testing.assert_allclose(curves[1], curves[0], atol=2e-3)
    assert np.ptp(curves[0]) > 0.1  # something is learned, so the curve could differ
    assert last[0] == last[1] and len(last[0]) == 1  # one of the two processes reports
    assert BertCNN.from_pretrained(tmp_path / "out").config.num_labels == 2


def test_a_trained_model_is_not_lost_where_it_cannot_be_saved(tmp_path, capsys):
    script = runpy.run_path(str(ROOT / "examples" / "train.py"))
    kept = []

    def save(path):
        if tmp_path in path.parents:
            raise OSError("the disk is full")
        kept.append(path)

    script["save"](save, tmp_path / "model.keras")
    assert len(kept) == 1 and f"it is {kept[0]}" in capsys.readouterr().err
