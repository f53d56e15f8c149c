"""Does the CNN help? Datasets x heads x {frozen, fine-tuned} x seeds, each cell trained once and kept.

RESULTS becomes two files: heads.csv, a row for each cell, and predictions.parquet, a row for each example;
with --challenge a third, log_odds.parquet: what two-class models say of validation, test and the challenge set.
Started again, the command goes on with the cells that are missing; started twice, the two share the work.
"""

import argparse
import hashlib
import time
from pathlib import Path

import filelock
import numpy as np
import torch
import transformers
from datasets import Dataset, DatasetDict
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from companion.answer import NO_BERT, REGIMES
from companion.challenge import load_challenge
from companion.data import encode
from companion.encoders import DEFAULT_ENCODER, find_encoder, load_pytorch_encoder, load_tokenizer
from companion.heads import ABLATIONS, CNN, HEADS, Classifier, StaticEncoder
from companion.pytorch_class import BertCNN
from companion.results import CELL, Results
from companion.splits import draw, prepare, short_name
from companion.training import train
from companion.vectors import CachedVectors, padded

SCORED = ("validation", "test", "challenge")


class Bench:
    """One dataset's splits, ready for any head: token ids, and a frozen encoder's vectors once they are needed."""

    def __init__(self, dataset: str, encoder: str, bf16: bool = False, challenge: bool = False):
        self.texts, self.encoder, self.bf16, self.cache = prepare(dataset), encoder, bf16, {}
        self.tokenizer, self.scored = load_tokenizer(encoder), ("test",)
        if challenge:
            if (classes := self.texts["test"].features["label"].num_classes) != 2:
                raise ValueError(f"The challenge set knows negative (0) and positive (1); '{dataset}' has {classes}.")
            cases = load_challenge()["text"].tolist()
            self.texts["challenge"] = Dataset.from_dict({"text": cases, "label": [0] * len(cases)})
            self.scored = SCORED
        splits = {split: encode(rows, self.tokenizer) for split, rows in self.texts.items()}
        self.splits = DatasetDict(
            {s: rows.add_column("key", [f"{s} {i}" for i in range(len(rows))]) for s, rows in splits.items()}
        )

    def logits(self, head: str, regime: str, seed: int, size: int | None = None) -> tuple[np.ndarray, int]:
        """(log-probabilities or logits of test (N, C), trained parameters) of one cell; see `scores`."""
        found, parameters = self.scores(head, regime, seed, size)
        return found["test"], parameters

    def scores(self, head: str, regime: str, seed: int, size: int | None = None) -> tuple[dict, int]:
        """({split: log-probabilities or logits (N, C)}, trained parameters) of one cell, for the splits `scored`.

        With a size: trained on so many examples, which ones depends on the seed.
        """
        texts, labels = self.texts["train"], self.texts["train"].features["label"].num_classes
        drawn = draw(texts, len(texts) if size is None else size, seed)[0]
        if head == "tfidf":
            model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000))
            model.fit(texts.select(drawn)["text"][:], texts.select(drawn)["label"][:])
            found = {}
            for split in self.scored:
                found[split] = np.full((len(self.texts[split]), labels), -np.inf)
                found[split][:, model.classes_] = model.predict_log_proba(list(self.texts[split]["text"]))
            return found, model[-1].coef_.size + model[-1].intercept_.size
        transformers.set_seed(seed)
        encoder = load_pytorch_encoder(self.encoder)
        long = np.mean(self.splits["train"]["length"]) > 100
        encoder.set_attn_implementation("sdpa" if long else "eager")  # on short texts eager is the faster one
        if head == "static_cnn":
            encoder, make = StaticEncoder(encoder), CNN
        else:
            make = (HEADS | ABLATIONS)[head]
        module = make(encoder.config.hidden_size, labels)
        collate = padded(self.tokenizer)
        if regime == "frozen":
            if module.layers not in self.cache:
                dtype = torch.bfloat16 if self.bf16 else torch.float32
                self.cache[module.layers] = CachedVectors(encoder, self.tokenizer, self.splits, module.layers, dtype)
            encoder, collate = None, self.cache[module.layers]
        model = Classifier(module, encoder)
        splits = {**self.splits, "train": self.splits["train"].select(drawn)}
        scores = train(model, splits, collate, regime, seed, self.bf16)
        return {split: scores(split) for split in self.scored}, sum(p.numel() for p in model.parameters())


def train_cnn(bench: Bench, seed: int = 0) -> tuple[BertCNN, np.ndarray]:
    """(a BERT-CNN, its logits for test): the encoder as it was, the head trained on its cached vectors."""
    transformers.set_seed(seed)
    labels = bench.texts["train"].features["label"]
    model = BertCNN.from_encoder(bench.encoder, num_labels=labels.num_classes)
    head = CNN(model.config.encoder_config.hidden_size, labels.num_classes)
    cached = CachedVectors(model.encoder, bench.tokenizer, bench.splits, layers=1)
    scores = train(Classifier(head), bench.splits, cached, "frozen", seed)
    model.load_state_dict(head.state_dict(), strict=False)  # the encoder's weights are not among them
    return model.cpu().eval(), scores("test")


def encoder_identity(name: str) -> str:
    """A name and the start of the weights' checksum: an encoder trained anew under the old name is another one."""
    checksum = hashlib.sha256()
    for part in sorted(find_encoder(name).glob("*.safetensors")):  # large encoders have several
        checksum.update(part.read_bytes())
    return f"{Path(name).name} {checksum.hexdigest()[:8]}"


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few; it takes 1 or more")
    return number


def make_benches(args) -> dict[str, tuple[Bench, int | None]]:
    """{name in the results: (bench, training examples or None for all)}. Raises ValueError for sizes that cannot be."""
    benches = {}
    for name in args.datasets:
        bench, short = Bench(name, args.encoder, args.bf16, args.challenge), short_name(name)
        if not max(args.sizes, default=0) < (most := len(bench.texts["train"])):
            raise ValueError(f"'{name}' has {most} training examples; sizes have to be smaller, not {args.sizes}.")
        added = {short: (bench, None)}
        for size in args.sizes:
            for seed in range(max(args.seeds)):  # if it cannot be done, then now
                drawn = draw(bench.texts["train"], size, seed)[0]
                if len(set(bench.texts["train"].select(drawn)["label"])) < 2:
                    raise ValueError(f"{size} examples of '{name}' can be of one class only; give a larger size.")
            added[f"{short}~{size}"] = (bench, size)  # not "@": that draws the same examples for every seed
        if twice := sorted(set(benches) & set(added)):
            raise ValueError(f"Two of the datasets would both be {twice} in the results; give them one at a time.")
        benches |= added
    return benches


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m companion.experiment", description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", help="matinee, folders or Hub ids; NAME@500 trains on 500 examples")
    parser.add_argument("--heads", nargs="+", choices=[*HEADS, *NO_BERT, *ABLATIONS], default=[*HEADS, *NO_BERT])
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=REGIMES)
    parser.add_argument("--sizes", type=positive, nargs="*", default=[], help="train on NAME~50, too: drawn by seed")
    parser.add_argument("--seeds", type=positive, nargs="+", default=[3], help="how many, for each of the regimes")
    parser.add_argument("--challenge", action="store_true", help="score the challenge set, too (two classes only)")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument("--bf16", action="store_true", help="half precision: on some hardware twice as fast, or more")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder to write to (default: results)")
    args = parser.parse_args(argv)
    if len(args.seeds) not in (1, len(args.regimes)):
        parser.error(f"--seeds takes one number, or one for each of the {len(args.regimes)} regimes")

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    encoder = encoder_identity(args.encoder)
    layers = transformers.AutoConfig.from_pretrained(find_encoder(args.encoder)).num_hidden_layers
    if "cnn_last4" in args.heads and layers < 4:
        raise ValueError(f"cnn_last4 reads four layers, and '{args.encoder}' has {layers}: name other --heads.")
    results = Results(args.results, args.bf16)
    benches = make_benches(args)
    for dataset, (bench, _) in benches.items():
        results.check_test(dataset, encoder, bench.splits["test"])
    seeds = dict(zip(args.regimes, args.seeds * len(args.regimes), strict=False))
    todo = []
    for dataset, (_, size) in benches.items():
        for head in args.heads:
            for regime in ["trained"] if head in NO_BERT else args.regimes:  # what has no BERT starts from scratch
                count = 1 if head == "tfidf" and not size else seeds.get(regime, max(args.seeds))
                todo += [dict(zip(CELL, (dataset, head, regime, seed, encoder), strict=True)) for seed in range(count)]
    todo.sort(key=lambda cell: cell["seed"])  # so that a run cut short has every head, with fewer seeds
    todo = [cell for cell in todo if not results.has(cell, args.challenge)]
    started, elsewhere = time.time(), 0
    for done, cell in enumerate(todo):
        name = " ".join(str(cell[part]) for part in CELL[:4])
        claim = filelock.FileLock(args.results / f".{name} {encoder}.lock".replace("/", "-"), timeout=0)
        try:
            with claim:
                if results.has(cell, args.challenge):
                    continue
                began, (bench, size) = time.time(), benches[cell["dataset"]]
                logits, parameters = bench.scores(cell["head"], cell["regime"], cell["seed"], size)
                facts = {"seconds": round(time.time() - began, 1), "parameters": parameters}
                row = results.add(cell, logits, bench.splits, **facts)
        except filelock.Timeout:
            elsewhere += 1
            continue
        left = (time.time() - started) / (done + 1) * (len(todo) - done - 1)
        print(f"{done + 1:4d}/{len(todo)}  {name:50s} {row['accuracy']:.1%}   {left / 60:.0f} minutes left", flush=True)
    if elsewhere:
        print(f"{elsewhere} of them were with another process; should that one be stopped, start this one again.")
    rows = results.read()
    rows = rows[rows["encoder"] == encoder]
    print(rows.pivot_table("accuracy", ["head", "regime"], "dataset").mul(100).round(1).to_string())


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
