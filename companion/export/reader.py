"""Reads an exported folder with onnxruntime, without PyTorch: text in, class, probability and n-grams out."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.special import softmax

from companion.attribution import Explanation, Head, explain
from companion.data import check_texts

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first one that the installed onnxruntime has


@dataclass
class Answer:
    """A text's class, its probability, and (start, end, weight) of the n-grams that decided, strongest first."""

    label: str
    probability: float
    ngrams: list[tuple[int, int, float]] | None = None


def answer(logits: np.ndarray, labels: list[str]) -> Answer:
    """The most probable class, from the logits (C,) of one text."""
    if not np.isfinite(logits).all():
        raise ValueError(f"The model returns {logits.tolist()} as logits: its weights are not all finite.")
    best = int(logits.argmax())
    return Answer(labels[best], float(softmax(logits.astype(float))[best]))


def answer_with_ngrams(explanation: Explanation, labels: list[str], top: int = 5) -> Answer:
    """The same from an explanation, with the n-grams that decided between the class and the runner-up."""
    best, second = np.argsort(-explanation.logits, kind="stable")[:2].tolist()
    found = answer(explanation.logits, labels)
    found.ngrams = explanation.ngrams(best, against=second)[:top]
    return found


def answers(model, texts: list[str], ngrams: bool, top: int = 5, batch_size: int = 64) -> list[Answer]:
    """An `Answer` for each text, in order, from a model with `logits`, `explain` and `labels`, as `Exported` has them.

    Texts of about equal length are read together, so that little is padded.
    """
    if ngrams:
        return [answer_with_ngrams(found, model.labels, top) for found in model.explain(texts)]
    order = np.argsort([len(text) for text in texts], kind="stable")
    found = {}
    for first in range(0, len(order), batch_size):
        places = order[first : first + batch_size].tolist()
        found |= dict(zip(places, model.logits([texts[place] for place in places]), strict=True))
    return [answer(found[place], model.labels) for place in range(len(texts))]


class ExportedHead(Head):
    """What `explain` needs: the graph itself says which window of each filter was the strongest."""

    session = None

    def strongest(self, ids, mask):
        _, values, starts = self.session.run(None, {"input_ids": ids, "attention_mask": mask})
        return values, starts


class Exported:
    """An exported BERT-CNN.

    folder: what `python -m companion.export` wrote. int8: run the smaller graph. threads: of onnxruntime; None for its
    own choice. Raises ValueError, with one sentence, for a folder that holds no export, and without onnxruntime.
    """

    def __init__(self, folder, int8: bool = False, threads: int | None = None):
        folder, file = Path(folder), "model.int8.onnx" if int8 else "model.onnx"
        parts = (file, "labels.json", "tokenizer.json", "head.safetensors")
        if missing := [name for name in parts if not (folder / name).is_file()]:
            raise ValueError(f"'{folder}' is no export: it has no {missing[0]}.")
        if find_spec("onnxruntime") is None:
            raise ValueError("Running an export needs onnxruntime: pip install 'bert-cnn-companion[export]'.")
        import onnxruntime
        from safetensors.numpy import load_file
        from transformers import PreTrainedTokenizerFast

        settings = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        if threads:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
        self.session = onnxruntime.InferenceSession(folder / file, options, providers)
        self.labels, self.max_length = settings["labels"], settings["max_length"]
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            pad_token=settings["padding"],
            model_max_length=self.max_length,
            model_input_names=["input_ids", "attention_mask"],
        )
        layers, order = load_file(folder / "head.safetensors"), ("classifier", "hidden_layer")
        arrays = [layers[f"{n}.{part}"] for n in order for part in ("weight", "bias") if f"{n}.{part}" in layers]
        if len(self.labels) != len(layers["classifier.bias"]):
            raise ValueError(f"'{folder}' has {len(layers['classifier.bias'])} classes, and {len(self.labels)} names.")
        self.head = ExportedHead(None, None, len(self.tokenizer), settings["kernel_sizes"], *arrays)
        self.head.session = self.session

    def run(self, input_ids, attention_mask) -> list[np.ndarray]:
        """[logits (B, C), values (B, K*F), starts (B, K*F)] from integer arrays (B, T)."""
        ids, mask = (np.asarray(array, np.int64) for array in (input_ids, attention_mask))
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask})

    def logits(self, texts: list[str]) -> np.ndarray:
        """Logits (N, C) of texts, read as one batch."""
        return self.run(**self.tokenizer(texts, padding=True, truncation=True, return_tensors="np"))[0]

    def explain(self, texts: list[str]):
        """An `Explanation` for each text, as from `attribution.explain`."""
        return explain(self.head, texts, tokenizer=self.tokenizer)

    def answers(self, texts: list[str], ngrams: bool = True, top: int = 5) -> list[Answer]:
        """An `Answer` for each text, in order; no text may be empty if n-grams are asked for."""
        check_texts(texts)
        return answers(self, texts, ngrams, top)
