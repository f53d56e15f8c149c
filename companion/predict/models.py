"""A saved model of any kind -> what gives texts their classes: the PyTorch class or an export, with one interface."""

import hashlib
from pathlib import Path

from companion.attribution import explain
from companion.encoders import find_encoder, find_weights
from companion.export.reader import Exported
from companion.export.saved import load_saved


class Loaded:
    """The PyTorch class with the interface of `Exported`: `logits`, `explain`, `labels`."""

    def __init__(self, name: str, tokenizer: str | None = None, labels: list[str] | None = None):
        import torch

        self.model, self.tokenizer, self.labels = load_saved(name, tokenizer, labels)
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")

    def logits(self, texts: list[str]):
        """Logits (N, C) of texts, read as one batch."""
        import torch

        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            return self.model(**inputs).logits.float().cpu().numpy()

    def explain(self, texts: list[str]):
        return explain(self.model, texts, tokenizer=self.tokenizer)


def load(name: str, int8: bool = False, tokenizer: str | None = None, labels: list[str] | None = None):
    """An exported folder, or any model that `load_saved` knows. int8: the smaller graph of an export."""
    if (Path(name) / "model.onnx").is_file():
        if tokenizer or labels:
            raise ValueError(f"'{name}' is an export: it has its own tokenizer and class names, so give none.")
        return Exported(name, int8)
    if int8:
        raise ValueError(f"--int8 needs an export, and '{name}' is none: python -m companion.export '{name}' OUT.")
    return Loaded(name, tokenizer, labels)


def identify(name: str) -> str:
    """A checksum of a model's files: part of what makes a run another run."""
    path, checksum = Path(name), hashlib.sha256()
    if path.is_file():
        files = [path]
    elif (path / "model.onnx").is_file():
        files = [file for file in path.iterdir() if file.suffix in (".onnx", ".json", ".safetensors")]
    else:
        folder = find_encoder(name)
        files = [*find_weights(folder), *folder.glob("*.json"), *folder.glob("vocab.*"), *folder.glob("*.model")]
    for file in sorted(files):
        with open(file, "rb") as stream:
            checksum.update(hashlib.file_digest(stream, "sha256").digest())
    return checksum.hexdigest()[:16]
