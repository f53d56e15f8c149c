"""The Keras variants on each backend that is installed: the PyTorch class's numbers, trained, saved and loaded.

Keras chooses its backend once in a process, so each backend gets a process of its own (backend_child.py).
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import STEPS, assert_same

from companion.attribution import explain
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN
from companion.quiet import keras

HERE = Path(__file__).parent
TEXTS = ["a warm and funny film .", "dull", "not one minute of it is dull or wasted on noise ."]
LABELS = [1, 0, 1]


@pytest.fixture(scope="module")
def reference(random_encoder, tmp_path_factory):
    """A folder with a saved model, a batch and its labels; and what the PyTorch class computes from them."""
    folder = tmp_path_factory.mktemp("backends")
    torch.manual_seed(0)
    model = BertCNN.from_encoder(random_encoder, dropout=0.0, hidden_units=8)
    model.classifier.weight.data *= 100  # a new output layer is small; a difference should show in the logits
    settings = model.config.encoder_config
    settings.hidden_dropout_prob = settings.attention_probs_dropout_prob = 0.0  # `fit` would switch it on
    tokenizer = load_tokenizer(random_encoder)
    for part in (model, tokenizer):
        part.save_pretrained(folder / "model")
    settings.hidden_dropout_prob = 0.3
    transformers.BertModel(settings).save_pretrained(folder / "drops")
    settings.hidden_dropout_prob = 0.0
    tokenizer.save_pretrained(folder / "drops")
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    arrays = {name: tensor.numpy().astype("int32") for name, tensor in inputs.items()}
    np.savez(folder / "inputs.npz", labels=np.array(LABELS), **arrays)
    (folder / "texts.json").write_text(json.dumps(TEXTS))

    model = BertCNN.from_pretrained(folder / "model")
    with torch.no_grad():
        hidden = model.embed(**inputs)
        maps = model.convolve(hidden, inputs["attention_mask"])
        features = model.pool(maps)
        found = {"hidden": hidden, "maps": maps, "features": features, "logits": model.classify(features)}
    found = {name: [m.numpy() for m in x] if name == "maps" else x.numpy() for name, x in found.items()}
    found["values"] = np.stack([e.values for e in explain(model, TEXTS, tokenizer=tokenizer)])
    optimizer, losses = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), []
    for _ in range(4):
        loss = model(**inputs, labels=torch.tensor(LABELS)).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return folder, {**found, "losses": losses}


@pytest.fixture(scope="module", params=["tensorflow", "jax", "torch"])
def backend(request, reference, tmp_path_factory):
    """(folder, {variant: what it computed}) for one backend."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f'{request.param} is not installed; for JAX: pip install "bert-cnn-companion[jax]"')
    out = tmp_path_factory.mktemp(request.param)
    environment = {**os.environ, "KERAS_BACKEND": request.param, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "backend_child.py"), str(reference[0]), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == request.param  # the environment variable was obeyed
    return out, {name: dict(np.load(out / f"{name}.npz")) for name in ("class", "graph", "tasks", "dropout")}


@pytest.mark.parametrize("variant", ["class", "graph"])
def test_every_step_is_the_pytorch_class_s(reference, backend, variant):
    found = dict(backend[1][variant])
    found["maps"] = [found[f"maps_{i}"] for i in range(3)]
    assert set(STEPS) <= set(found)
    assert_same(reference[1], found, 1e-4, variant)
    for name in ("call", "predict", "explained"):
        np.testing.assert_allclose(found[name], reference[1]["logits"], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("variant", ["class", "graph"])
def test_each_filter_adds_what_it_adds_in_pytorch(reference, backend, variant):
    np.testing.assert_allclose(backend[1][variant]["values"], reference[1]["values"], atol=1e-4)
    assert np.abs(reference[1]["values"]).max() > 0.01


@pytest.mark.parametrize("variant", ["class", "graph"])
def test_fit_takes_the_steps_that_pytorch_takes(reference, backend, variant):
    """Two steps, saved, loaded, two more: the optimizer resumes with its momentum."""
    losses = reference[1]["losses"]
    np.testing.assert_allclose(backend[1][variant]["losses"], losses, atol=1e-3)
    assert losses[0] - losses[-1] > 0.1


@pytest.mark.parametrize("name", ["DocumentCNN", "TaggingCNN", "SummaryCNN"])
def test_a_new_model_of_a_task_trains_is_saved_and_is_the_pytorch_class_s(backend, name):
    found = backend[1]["tasks"]
    assert np.isfinite(found[f"{name} losses"]).all() and found[name].std() > 0
    np.testing.assert_allclose(found[f"{name} loaded"], found[name], atol=1e-6)
    np.testing.assert_allclose(found[f"{name} in_pytorch"], found[name], atol=1e-4)


@pytest.mark.parametrize("variant", ["class", "graph"])
def test_fit_has_the_encoder_s_dropout_and_evaluate_has_not(backend, variant):
    found = backend[1]["dropout"]
    assert np.ptp(found[f"{variant} fit"]) > 1e-3
    assert np.ptp(found[f"{variant} evaluate"]) == 0


@pytest.mark.parametrize("variant", ["class", "graph"])
def test_a_saved_model_loads_on_every_backend(reference, backend, variant):
    """On the backend that saved it, in this process on TensorFlow, and its weights in the PyTorch class."""
    out, found = backend[0], backend[1][variant]
    np.testing.assert_allclose(found["loaded"], found["trained"], atol=1e-6)
    np.testing.assert_allclose(found["in_pytorch"], found["at_the_end"], atol=1e-4)
    assert keras.backend.backend() == "tensorflow"
    inputs = {name: array for name, array in np.load(reference[0] / "inputs.npz").items() if name != "labels"}
    logits = np.array(keras.saving.load_model(out / f"{variant}.keras")(inputs))
    np.testing.assert_allclose(logits, found["trained"], atol=1e-4)
