"""How many texts a core or a GPU reads in a second: what notebook 14 plans with.

    python -m tools.rates [FILE]        # default: notebooks/results/rates.json

On a CPU it counts the seconds that one thread computes, not those that pass, so that a busy machine measures the same;
on a GPU, the seconds that pass. Rows of other hardware stay in the file.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
import transformers
from transformers import BertConfig

from companion.config import BertCNNConfig
from companion.data import load_dataset
from companion.export import graph
from companion.export.reader import Exported, answers
from companion.export.saved import load_saved
from companion.predict.models import Loaded
from companion.pytorch_class import BertCNN

FILE = Path(__file__).parent.parent / "notebooks" / "results" / "rates.json"
CUDA = torch.cuda.is_available()
ENCODERS = {  # layers, width, heads
    "4 layers of 256": (4, 256, 4),
    "6 layers of 384": (6, 384, 12),
    "12 layers of 768": (12, 768, 12),
}
LENGTHS = (32, 128)  # tokens


def seconds(work, rounds: int = 3) -> float:
    """The median of some rounds, after one that does not count."""

    def once():
        if CUDA:
            torch.cuda.synchronize()
        clock = time.perf_counter if CUDA else time.process_time
        start = clock()
        work()
        if CUDA:
            torch.cuda.synchronize()
        return clock() - start

    once()
    return median(once() for _ in range(rounds))


def runtimes(texts: list[str]) -> list[dict]:
    """The ready-made classifier, from text to answer, in each way to run it."""
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer, labels = load_saved("classifier")
        graph.write(model, tokenizer, labels, Path(folder) / "export")
        loaded = Loaded("classifier")
        ways: dict = {"PyTorch": (loaded, False), "PyTorch, with n-grams": (loaded, True)}
        if not CUDA:
            for name, int8 in (("onnxruntime", False), ("onnxruntime, int8", True)):
                ways[name] = (Exported(Path(folder) / "export", int8, threads=1), False)
        took = {way: seconds(lambda way=way: answers(ways[way][0], texts, ways[way][1])) for way in ways}
    tokens = sum(map(len, loaded.tokenizer(texts)["input_ids"])) / len(texts)
    return [{"way": way, "tokens": round(tokens, 1), "texts_per_second": len(texts) / s} for way, s in took.items()]


@torch.inference_mode()
def encoders(tokens: int = 16384 if CUDA else 256) -> list[dict]:
    """BERT-CNNs of three sizes with random weights, which take as long as trained ones."""
    rows = []
    for name, (layers, width, heads) in ENCODERS.items():
        sizes: dict = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
        config = BertConfig(intermediate_size=4 * width, **sizes)
        model = BertCNN(BertCNNConfig(encoder_config=config)).eval().to("cuda" if CUDA else "cpu")
        for length in LENGTHS:
            ids = torch.randint(5, 1000, (max(tokens // length, 1), length), device=model.device)
            mask = torch.ones_like(ids)
            hidden = model.embed(ids, mask)
            whole = seconds(lambda: model(ids, mask))  # noqa: B023 (it is called at once)
            head = seconds(lambda: model.classify(model.pool(model.convolve(hidden, mask))))  # noqa: B023
            rows.append({"encoder": name, "tokens": length, "texts_per_second": len(ids) / whole})
            rows[-1] |= {"head_share": head / whole, "flops": flops(layers, width, length)}
    return rows


def flops(layers: int, width: int, length: int) -> int:
    """Floating-point operations of the encoder for one text: a multiplication and an addition are two."""
    return layers * (24 * length * width**2 + 4 * length**2 * width)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.rates", description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    args = parser.parse_args(argv)
    graph.check_extra()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    hardware = torch.cuda.get_device_name() if CUDA else f"one core, {platform.machine()}"
    rows = json.loads(args.file.read_text(encoding="utf-8")) if args.file.exists() else {}
    rows[hardware] = {
        "versions": {name: version(name) for name in ("torch", "onnxruntime")},
        "runtimes": runtimes(list(load_dataset("matinee")["test"]["text"])[::3]),
        "encoders": encoders(),
    }
    text = json.dumps(rows, indent=1, default=float) + "\n"
    made = args.file.with_suffix(".tmp")
    made.write_text(text, encoding="utf-8")
    os.replace(made, args.file)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
