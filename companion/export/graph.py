"""A BERT-CNN of the PyTorch class -> a folder that onnxruntime can run.

model.onnx takes `input_ids` and `attention_mask`, (B, T) of any size, and gives

    logits (B, C)    as the PyTorch class
    values (B, K*F)  the value of each filter's strongest window
    starts (B, K*F)  that window's first token, counted from the first token of the text

model.int8.onnx is the same with the encoder's weights in 8 bits. head.safetensors holds the layers that turn `values`
into logits, labels.json the names of the classes, tokenizer.json the tokenizer.
"""

import contextlib
import io
import json
import logging
import os
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

NEEDS = ("onnx", "onnxruntime", "onnxscript")


class Graph(nn.Module):
    """What is exported: the model's own steps, except that each maximum also tells where it was found."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        # Text first, padding last, as in `embed`; no two places are equal, as ONNX has no stable sort.
        length = input_ids.shape[1]
        place = (1 - attention_mask) * length + torch.arange(length, device=input_ids.device)  # (B, T)
        order = place.argsort(dim=1)
        input_ids, mask = input_ids.gather(1, order), attention_mask.gather(1, order)
        hidden = self.model.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state  # (B, T, D)
        strongest = [windows.max(dim=1) for windows in self.model.convolve(hidden, mask)]  # K x (B, F)
        values = torch.cat([found.values for found in strongest], dim=1)  # (B, K*F)
        starts = torch.cat([found.indices for found in strongest], dim=1)
        return self.model.classify(values), values, starts


def check_extra() -> None:
    """Raises ValueError, with one sentence, if a library of the extra `export` is missing."""
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise ValueError(f"Export needs {', '.join(missing)}: pip install 'bert-cnn-companion[export]'.")


def write(model, tokenizer, labels: list[str], folder: Path) -> None:
    """Write the export. The folder appears only once it is complete, and replaces none that is there."""
    check_extra()
    if folder.exists():
        raise ValueError(f"'{folder}' exists already; give a new folder, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        made = Path(beside) / folder.name
        made.mkdir()
        write_graph(model, made / "model.onnx", tokenizer.model_max_length)
        write_int8(made / "model.onnx", made / "model.int8.onnx")
        layers = {"classifier": model.classifier, "hidden_layer": model.hidden_layer}
        tensors = {f"{name}.{part}": t for name, m in layers.items() if m for part, t in m.named_parameters()}
        save_file({name: tensor.detach().clone() for name, tensor in tensors.items()}, made / "head.safetensors")
        settings = {"labels": labels, "kernel_sizes": list(model.config.kernel_sizes)}
        settings |= {"max_length": tokenizer.model_max_length, "padding": tokenizer.pad_token}
        (made / "labels.json").write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        tokenizer.backend_tokenizer.save(str(made / "tokenizer.json"))
        os.rename(made, folder)


def write_graph(model, path: Path, longest: int) -> None:
    """model.onnx of the model, for any number of texts of at most `longest` tokens."""
    training, device = model.training, model.device
    ids, mask = torch.ones(2, 2, min(8, longest), dtype=torch.long)  # an example; a size of 1 would stay fixed
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=longest)}
    names: dict[str, Any] = {"input_names": ["input_ids", "attention_mask"]}
    names["output_names"] = ["logits", "values", "starts"]
    with quiet():
        graph = Graph(model.cpu().eval()).eval()
        torch.onnx.export(graph, (ids, mask), path, **names, dynamic_shapes=(sizes, sizes), external_data=False)
    model.to(device).train(training)


def write_int8(path: Path, into: Path) -> None:
    """The same graph with the encoder's weights in 8 bits; inputs of a product are quantized as they come.

    The head keeps its precision: it is small, and its values are what explanations are made of.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(path, load_external_data=False).graph.node
    head = [node.name for node in nodes if node.op_type in ("Gemm", "Conv")]
    with quiet():
        quantize_dynamic(path, into, weight_type=QuantType.QInt8, per_channel=True, nodes_to_exclude=head)


@contextlib.contextmanager
def quiet():
    """Keep the exporters' progress and their advice to themselves; errors are raised as ever."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
