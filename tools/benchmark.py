"""How fast it is, as ratios: rounds alternate between what is compared, and the median round counts
(padded to 512, one round has to do).

    python -m tools.benchmark [DATASET]        # a quarter of an hour or more on two CPU cores

What the CNN head costs beside a BERT of bert-base size; what batches of one length and cached vectors save in training;
what a training step costs in each variant, and on each of Keras's backends; what a forward pass costs, exported or not.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers
from transformers import BertConfig, BertModel, Trainer, TrainingArguments

from companion import keras_class, keras_functional, pytorch_functional
from companion.config import BertCNNConfig
from companion.data import DEFAULT_DATASET, encode, load_dataset
from companion.encoders import DEFAULT_ENCODER, find_encoder, load_pytorch_encoder, load_tokenizer
from companion.export import graph
from companion.export.reader import Exported
from companion.pytorch_class import BertCNN
from companion.quiet import keras
from companion.study.heads import CNN, Classifier, make
from companion.study.vectors import CachedVectors, padded
from tools import backends

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def seconds(work) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def side_by_side(work: dict, rounds: int, warm_up: bool = True) -> dict:
    """{name: median seconds} of pieces of work that take turns."""
    for run in work.values() if warm_up else ():
        run()
    times = [{name: seconds(run) for name, run in work.items()} for _ in range(rounds)]
    return {name: median(row[name] for row in times) for name in work}


@torch.inference_mode()
def head_cost(batch: int = 2, length: int = 512, rounds: int = 7) -> None:
    """The head beside the encoder, and the forward pass beside the machine's own rate of matrix products."""
    config = BertConfig(vocab_size=30522)
    model = BertCNN(BertCNNConfig(encoder_config=config)).eval().to(DEVICE)
    input_ids = torch.randint(5, config.vocab_size, (batch, length), device=DEVICE)
    mask = torch.ones_like(input_ids)
    hidden = model.embed(input_ids, mask)

    # The encoder's own shapes, as bare matrix products: four square ones and the two of the feed-forward part.
    d = config.hidden_size
    rows, wide_rows = (torch.randn(batch * length, n, device=DEVICE) for n in (d, 4 * d))
    square, wide = torch.randn(d, d, device=DEVICE), torch.randn(d, 4 * d, device=DEVICE)

    def products():
        for _ in range(config.num_hidden_layers):
            for _ in range(4):
                rows @ square
            rows @ wide
            wide_rows @ wide.T

    work = {
        "encoder": lambda: model.embed(input_ids, mask),
        "head": lambda: model.classify(model.pool(model.convolve(hidden, mask))),
        "whole": lambda: model(input_ids, mask),
        "products": products,
    }
    took = side_by_side(work, rounds)
    per_layer = 2 * batch * length * d * (4 * d + 8 * d)  # multiply-adds count twice
    attention = 2 * 2 * batch * length * length * d
    convolutions = sum(2 * batch * (length - k + 1) * k * d * 100 for k in (3, 4, 5))
    forward = config.num_hidden_layers * (per_layer + attention) + convolutions
    rate, machine = forward / took["whole"], config.num_hidden_layers * per_layer / took["products"]
    print(f"bert-base size, inputs ({batch}, {length}), forward pass")
    print(f"  CNN head / encoder              {took['head'] / took['encoder']:.2%}")
    print(f"  reached / matrix-multiply rate  {rate / machine:.0%}  ({rate / 1e9:.0f} of {machine / 1e9:.0f} GFLOP/s)")


def epoch(model, rows, collate, **settings):
    """One epoch of `Trainer`, 32 texts a batch, as a piece of work."""

    def run():
        with tempfile.TemporaryDirectory() as folder:
            defaults = {"num_train_epochs": 1, "per_device_train_batch_size": 32, "remove_unused_columns": False}
            defaults |= {"dataloader_pin_memory": False, "save_strategy": "no", "logging_strategy": "no"}
            args = TrainingArguments(folder, disable_tqdm=True, report_to="none", **defaults, **settings)
            trainer = Trainer(model, args, train_dataset=rows, data_collator=collate)
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()

    return run


def training(dataset: str, encoder_name: str, texts: int = 1024, rounds: int = 3) -> None:
    """An epoch: texts grouped by length, in any order, padded to 512."""
    tokenizer, encoder = load_tokenizer(encoder_name), load_pytorch_encoder(encoder_name)
    train = load_dataset(dataset)["train"].shuffle(seed=0)
    rows = encode(train.select(range(min(texts, len(train)))), tokenizer)
    width, classes = encoder.config.hidden_size, train.features["label"].num_classes
    grouped = {"train_sampling_strategy": "group_by_length"}
    wide = copy.deepcopy(encoder.config)
    wide.max_position_embeddings = max(512, wide.max_position_embeddings)
    model = Classifier(CNN(width, classes), BertModel(wide))  # its time does not depend on its weights
    work = {
        "grouped": epoch(model, rows, padded(tokenizer), **grouped),
        "any order": epoch(model, rows, padded(tokenizer)),
    }
    took = side_by_side(work, rounds)
    to_512 = padded(tokenizer, padding="max_length", max_length=512)
    took |= side_by_side({"512": epoch(model, rows, to_512)}, 1, warm_up=False)
    print(f"an epoch over {len(rows)} texts of {dataset}, mean length {np.mean(rows['length']):.0f} tokens, 32 a batch")
    print(f"  fine-tuning: any order / grouped by length  {took['any order'] / took['grouped']:.1f}")
    print(f"  fine-tuning: padded to 512 / grouped        {took['512'] / took['grouped']:.1f}")


def caching(dataset: str, encoder_name: str, texts: int = 2048, rounds: int = 3) -> None:
    """An epoch of a head's training, with the frozen encoder's vectors computed or cached."""
    tokenizer = load_tokenizer(encoder_name)
    train = load_dataset(dataset)["train"].shuffle(seed=0)
    rows = encode(train.select(range(min(texts, len(train)))), tokenizer)
    rows = rows.add_column("key", [str(i) for i in range(len(rows))])
    classes = train.features["label"].num_classes
    base = BertModel(BertConfig(vocab_size=len(tokenizer)))  # its time does not depend on its weights
    some = rows.select(range(min(256, len(rows))))  # which takes it long enough
    print("an epoch of training a head alone: vectors computed / cached")
    for name, encoder, part, heads in (
        (encoder_name, load_pytorch_encoder(encoder_name), rows, ("mean", "cnn")),
        ("bert-base size", base, some, ("cnn",)),
    ):
        width, encoder = encoder.config.hidden_size, encoder.requires_grad_(False)
        cached = CachedVectors(encoder, tokenizer, {"train": part}, layers=1)
        for head in heads:
            work = {
                "computed": epoch(Classifier(make(head, width, classes), encoder), part, padded(tokenizer)),
                "cached": epoch(Classifier(make(head, width, classes)), part, cached),
            }
            took = side_by_side(work, rounds)
            print(f"  {f'{Path(name).name}, {head}, {len(part)} texts':42}  {took['computed'] / took['cached']:.1f}")


def frameworks(encoder_name: str, batch: int = 32, length: int = 32, rounds: int = 7) -> None:
    """A step of fine-tuning in each variant: forward, backward, AdamW."""
    model = BertCNN.from_encoder(encoder_name).to(DEVICE).train()
    tokens = torch.randint(5, model.config.encoder_config.vocab_size, (batch, length), device=DEVICE)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    labels = torch.randint(0, 2, (batch,), device=DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)

    def pytorch_step():
        optimizer.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimizer.step()

    params, encoder = pytorch_functional.from_model(BertCNN.from_encoder(encoder_name).to(DEVICE))
    leaves = torch.utils._pytree.tree_leaves(params)
    for leaf in leaves:
        leaf.requires_grad_(True)
    functional_optimizer = torch.optim.AdamW(leaves, 1e-5)

    def functional_step():
        functional_optimizer.zero_grad()
        logits = pytorch_functional.bert_cnn(params, encoder, **inputs, dropout=0.5)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        functional_optimizer.step()

    arrays = {name: value.cpu().numpy().astype(np.int32) for name, value in inputs.items()}
    targets = labels.cpu().numpy()

    def keras_step(build):
        twin = build(encoder_name)
        twin.compile(keras.optimizers.AdamW(1e-5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return lambda: twin.train_on_batch(arrays, targets)

    work = {
        "PyTorch class": pytorch_step,
        "PyTorch functional": functional_step,
        "Keras class": keras_step(keras_class.BertCNN.from_encoder),
        "Keras functional": keras_step(keras_functional.build_bert_cnn),
    }
    took = side_by_side(work, rounds)
    print(f"a step of fine-tuning, inputs ({batch}, {length}), against the PyTorch class")
    for name in list(work)[1:]:
        print(f"  {name:30}  {took[name] / took['PyTorch class']:.2f}")
    # a process has one backend: these do not take turns with the others, but follow one after the other
    for name, took_there in backends.measure(encoder_name, batch, length, rounds).items():
        print(f"  {f'Keras class on {name}':30}  {took_there / took['PyTorch class']:.2f}")


@torch.inference_mode()
def forward(encoder_name: str, batch: int = 32, length: int = 32, rounds: int = 7) -> None:
    """A forward pass in both frameworks and as an export, on as many threads as PyTorch uses."""
    model = BertCNN.from_encoder(encoder_name).to(DEVICE)
    ids = torch.randint(5, model.config.encoder_config.vocab_size, (batch, length), device=DEVICE)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    arrays = {name: value.cpu().numpy() for name, value in inputs.items()}
    twin = keras_functional.build_bert_cnn(encoder_name)
    with tempfile.TemporaryDirectory() as folder:
        graph.write(model, load_tokenizer(encoder_name), ["0", "1"], Path(folder) / "export")
        exports = [Exported(Path(folder) / "export", int8, torch.get_num_threads()) for int8 in (False, True)]
    work = {
        "PyTorch class": lambda: model(**inputs),
        "Keras functional": lambda: twin.predict_on_batch(arrays),
        "onnxruntime": lambda: exports[0].run(**arrays),
        "onnxruntime, int8": lambda: exports[1].run(**arrays),
    }
    took = side_by_side(work, rounds)
    print(f"a forward pass, inputs ({batch}, {length}), against the PyTorch class")
    for name in list(work)[1:]:
        print(f"  {name:30}  {took[name] / took['PyTorch class']:.2g}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default=DEFAULT_DATASET)
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    args = parser.parse_args(argv)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    kind = transformers.AutoConfig.from_pretrained(find_encoder(args.encoder)).model_type
    if kind != "bert":
        raise ValueError(f"The four variants are timed with a BERT, and '{args.encoder}' is of type '{kind}'.")
    if "train" not in (splits := load_dataset(args.dataset)):
        raise ValueError(f"'{args.dataset}' has no split train; it has {list(splits)}.")
    print(f"{DEVICE}, {torch.get_num_threads()} threads")
    head_cost()
    training(args.dataset, args.encoder)
    caching(args.dataset, args.encoder)
    frameworks(args.encoder)
    forward(args.encoder)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
