"""What `test_backends.py` runs in a process of its own: the Keras variants on the backend that KERAS_BACKEND names.

    python backend_child.py FOLDER OUT

FOLDER/model is a BERT-CNN that the PyTorch class has saved; FOLDER/inputs.npz holds a batch and its labels,
FOLDER/texts.json the texts. FOLDER/drops is an encoder with dropout. What is computed is written to OUT: class.npz,
graph.npz, tasks.npz and dropout.npz, and the trained models.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from companion import keras_class, keras_functional, weights
from companion.attribution import explain
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN
from companion.quiet import keras
from companion.tasks import keras_class as task_classes
from companion.tasks import pytorch_class as pytorch_tasks

VARIANTS = {"class": keras_class.BertCNN.from_pretrained, "graph": keras_functional.from_pretrained}
to_numpy = keras.ops.convert_to_numpy


def steps(model, inputs) -> dict:
    """Every step by its name, as NumPy arrays."""
    if hasattr(model, "convolve"):
        hidden = model.embed(**inputs)
        maps = model.convolve(hidden, inputs["attention_mask"])
        features = model.pool(maps)
        found = {"hidden": hidden, "features": features, "logits": model.classify(features)}
    else:
        found = keras_functional.steps(model)(inputs)
        maps = found.pop("maps")
    found |= {f"maps_{i}": windows for i, windows in enumerate(maps)}
    return {name: to_numpy(value) for name, value in found.items()}


def fit(model, inputs, labels, times: int) -> list[float]:
    """The loss of each step: one batch an epoch, in the order that it has."""
    history = model.fit(inputs, labels, batch_size=len(labels), epochs=times, shuffle=False, verbose=0)
    return history.history["loss"]


def main(folder: Path, out: Path) -> None:
    arrays = dict(np.load(folder / "inputs.npz"))
    labels = arrays.pop("labels")
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(folder / "model")
    source = BertCNN.from_pretrained(folder / "model")
    for name, load in VARIANTS.items():
        model = load(folder / "model")
        found = steps(model, arrays) | {"call": to_numpy(model(arrays)), "predict": model.predict(arrays, verbose=0)}
        explained = list(explain(model, texts, tokenizer=tokenizer))
        found["explained"] = np.stack([explanation.logits for explanation in explained])
        found["values"] = np.stack([explanation.values for explanation in explained])

        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), keras_class.loss_for())
        losses = fit(model, arrays, labels, times=2)
        model.save(out / f"{name}.keras")
        again = keras.saving.load_model(out / f"{name}.keras")
        found["trained"], found["loaded"] = to_numpy(model(arrays)), to_numpy(again(arrays))
        found["losses"] = np.array(losses + fit(again, arrays, labels, times=2))  # the momentum was saved, too
        back = weights.to_pytorch(again, source)
        found["in_pytorch"] = back(**tokenizer(texts, padding=True, return_tensors="pt")).logits.detach().numpy()
        found["at_the_end"] = to_numpy(again(arrays))
        np.savez(out / f"{name}.npz", **found)
    np.savez(out / "tasks.npz", **tasks(folder, arrays))
    np.savez(out / "dropout.npz", **dropout(folder, arrays, labels))
    print(keras.backend.backend())


def tasks(folder: Path, arrays) -> dict:
    """New models of the three tasks: called, trained, saved and loaded; and the same weights in PyTorch."""
    found = {}
    for name in ("DocumentCNN", "TaggingCNN", "SummaryCNN"):
        inputs = arrays if name == "TaggingCNN" else {key: array[None] for key, array in arrays.items()}
        if name == "DocumentCNN":
            inputs = {**inputs, "window_mask": inputs["attention_mask"]}
        labels = {"DocumentCNN": np.array([1]), "SummaryCNN": np.array([[1, 0, 1]])}
        labels = labels.get(name, np.arange(arrays["input_ids"].size).reshape(arrays["input_ids"].shape) % 2)
        model = getattr(task_classes, name).from_encoder(str(folder / "drops"))
        loss = task_classes.marked_cross_entropy if name == "SummaryCNN" else keras_class.loss_for()
        model.compile(keras.optimizers.SGD(0.05), loss)
        found[f"{name} losses"] = fit(model, inputs, labels, times=2)
        model.save(folder / f"{name}.keras")
        found[f"{name} loaded"] = to_numpy(keras.saving.load_model(folder / f"{name}.keras")(inputs))
        found[name] = to_numpy(model(inputs))
        twin = weights.to_pytorch(model, getattr(pytorch_tasks, name).from_encoder(str(folder / "drops")))
        tensors = {key: torch.from_numpy(array).long() for key, array in inputs.items()}
        found[f"{name} in_pytorch"] = twin(**tensors).logits.detach().numpy()
    return found


def dropout(folder: Path, arrays, labels) -> dict:
    """The losses of `fit` with a learning rate of 0: they vary if the encoder's dropout is on. `evaluate` has none."""
    found = {}
    for name in VARIANTS:
        make = {"class": keras_class.BertCNN.from_encoder, "graph": keras_functional.build_bert_cnn}[name]
        model = make(str(folder / "drops"), dropout=0.0)
        head = next(layer for layer in model.layers if layer.name == "classifier")
        head.kernel.assign(head.kernel * 100)
        model.compile(keras.optimizers.SGD(0.0), keras_class.loss_for())
        found[f"{name} fit"] = fit(model, arrays, labels, times=3)
        found[f"{name} evaluate"] = [model.evaluate(arrays, labels, verbose=0) for _ in range(2)]
    return found


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
