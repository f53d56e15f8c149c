"""Train a task's heads and those they are compared with: FOLDER/TASK.csv, a row for each head, seed and fold.

python -m tools.tasks TASK DATA [--encoder NAME] [--seeds N] [--frozen] [--texts N] [--folds K] [--results FOLDER]

Started again, the command goes on with the rows that are missing. The column `examples` has what each test example
contributes: a document's (label, predicted label, tokens), a text's (right, predicted, gold) spans, a summary's
precision, ROUGE-1, -2 and -L.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from itertools import chain, compress, product
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import torch
import transformers
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch.nn import functional as F

from companion.data import load_dataset
from companion.encoders import DEFAULT_ENCODER, load_tokenizer
from companion.files import ORDER
from companion.study.experiment import encoder_identity
from companion.study.recipes import GRID
from companion.study.splits import LIMITS, stratified_sample
from companion.study.store import check_unchanged
from companion.tasks import data, documents, summaries, tagging
from companion.tasks.pytorch_class import DocumentCNN, SummaryCNN, TaggingCNN

SETTINGS: dict[str, dict[str, Any]] = {  # epochs, texts in a batch, learning rates of head and encoder, dropout
    "frozen": {"epochs": 20, "batch": 16, "head_rate": 1e-3, "encoder_rate": 0.0, "dropout": 0.1},
    "fine-tuned": {"epochs": 6, "batch": 16, "head_rate": 1e-3, "encoder_rate": 1e-4, "dropout": 0.1},
}
LINEAR = 10  # times the head's rate, for a linear layer on frozen vectors: otherwise it would not converge in time
OVERLAP = 16  # tokens that a document's neighbouring pieces share; more changes its features no less (notebook 11)
CELL = ["task", "dataset", "head", "regime", "seed", "fold", "encoder", "settings"]


class Reader(DocumentCNN):
    """A `DocumentCNN` that trains in half the time on given vectors: no gradient is computed where it is 0."""

    def read_pieces(self, tokens, attention_mask, window_mask):
        """The package's result; the windows that pooling does not keep are only compared, without a gradient."""
        if not self.training or not tokens.is_floating_point():
            return super().read_pieces(tokens, attention_mask, window_mask)
        with torch.no_grad():
            maps = [m * window_mask[..., None] for m in self.convolve(tokens, attention_mask)]  # K x (N, T, F)
        text, found = tokens * attention_mask[..., None], []
        for conv, (value, place) in zip(self.convs, [m.max(dim=1) for m in maps], strict=True):  # (N, F) each
            size = conv.kernel_size[0]
            places = place[..., None] + torch.arange(size, device=place.device)  # (N, F, k)
            windows = F.pad(text, (0, 0, 0, size - 1))[torch.arange(len(text))[:, None, None], places]  # (N, F, k, D)
            kept = torch.einsum("nfkd,fdk->nf", windows, conv.weight) + conv.bias
            found.append(F.relu(kept) * (value > 0))
        return torch.cat(found, dim=1)


class MeanLogits(Reader):
    """Each piece classified by itself, and the mean of the pieces' logits."""

    def forward(self, input_ids=None, attention_mask=None, window_mask=None, labels=None, hidden=None):
        pieces = self.read(input_ids if hidden is None else hidden, attention_mask, attention_mask)  # (B, P, K*F)
        alive = attention_mask.any(dim=2)[..., None]  # (B, P, 1)
        logits = (self.classify(pieces) * alive).sum(dim=1) / alive.sum(dim=1)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class MeanLinear(DocumentCNN):
    """A linear layer on the mean of a document's token vectors."""

    def __init__(self, config):
        super().__init__(config)
        self.set_width(config.encoder_config.hidden_size)

    def read_pieces(self, tokens, attention_mask, window_mask):
        hidden = tokens if tokens.is_floating_point() else self.embed(tokens, attention_mask)
        counts = window_mask[..., None].to(hidden.dtype)
        return torch.cat([(hidden * counts).sum(dim=1), counts.sum(dim=1)], dim=1)  # (N, D + 1)

    def forward(self, input_ids=None, attention_mask=None, window_mask=None, labels=None, hidden=None):
        total = self.read(input_ids if hidden is None else hidden, attention_mask, window_mask).sum(dim=1)
        logits = self.classify(total[:, :-1] / total[:, -1:])
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


HEADS: dict[str, dict[str, Any]] = {  # a model and its settings; None for what is not trained by gradients
    "documents": {
        "first": (Reader, {}),
        "mean_logits": (MeanLogits, {}),
        "max": (Reader, {}),
        "mean": (MeanLinear, {}),
        "tfidf": None,
    },
    "tagging": {
        "linear": (TaggingCNN, {"kernel_sizes": ()}),
        "cnn_1": (TaggingCNN, {"kernel_sizes": (1,), "num_filters": 300}),  # as many filters as the CNN below
        "token_mlp": (TaggingCNN, {"kernel_sizes": (1,), "num_filters": 900}),  # as many weights in its windows
        "cnn": (TaggingCNN, {"kernel_sizes": (1, 3, 5)}),
    },
    "summaries": {
        "one_convolution": (SummaryCNN, {"sentence_kernel_sizes": ()}),
        "sentence_mlp": (SummaryCNN, {"sentence_kernel_sizes": (1,)}),  # a layer more, without the neighbours
        "cnn": (SummaryCNN, {"sentence_kernel_sizes": (3,)}),
        "lead": None,
        "centrality": None,
        "oracle": None,
    },
}


def load(task: str, name: str) -> dict[str, list[dict]]:
    """Return rows by split: `text`, `label`, or `tokens`, `tags`, or `sentences`, `key`, `references`, by the task.

    name: "listings", "articles", "matinee", a folder or a Hub id. A document of GUM has its genre as label, and its
    sentences of prominence 1 as key. Where a dataset has no summaries, a document's key sentences are its reference.
    Raises ValueError, with one sentence, for a dataset that lacks a column or a split, and for unseen labels.
    """
    packaged = task == "documents" and name in ("matinee", "matinee-hard")
    splits = load_dataset(name) if packaged else data.load(name)
    if task == "documents" and "text" in next(iter(splits.values())).column_names:
        splits = load_dataset(name)
    if missing := {"train", "test"} - set(splits):
        raise ValueError(f"'{name}' has no split {' and '.join(sorted(missing))}; it has {list(splits)}.")
    if empty := [split for split in ("train", "test") if not len(splits[split])]:
        raise ValueError(f"The split '{empty[0]}' of '{name}' is empty.")
    try:
        read = {s: [read_row(task, row, splits[s].features) for row in splits[s]] for s in ORDER if s in splits}
    except KeyError as error:
        raise ValueError(f"For {task} the dataset '{name}' needs the column {error}.") from None
    for i, row in enumerate(chain(*read.values())):
        if task == "documents" and not isinstance(row["label"], (int, str)):
            raise ValueError(f"A document has one class; the labels of '{name}' are numbers or lists.")
        if task == "documents" and row["label"] == -1:
            raise ValueError(f"'{name}' has documents without a label (-1). If -1 is a class, write classes as words.")
        if task == "summaries" and not any(text.strip() for text in row["references"]):
            raise ValueError(f"Document {i} of '{name}' has neither a key sentence nor a summary.")
    if task == "documents":
        seen = {row["label"] for row in read["train"]}
        if len(seen) < 2:
            raise ValueError(f"'{name}' shows one class only in training; a classifier needs two.")
        if unseen := {row["label"] for row in read["test"]} - seen:
            raise ValueError(f"'{name}' tests for labels that training never shows: {sorted(unseen)}.")
    return read


def read_row(task: str, row: dict, features) -> dict:
    lists = {"tagging": ["tokens", "ner_tags"], "summaries": ["sentences", "key"], "documents": ["sentences"]}[task]
    lists = ["source", "source_labels", "target"] if "source_labels" in row else lists  # SciTLDR
    for name in [] if task == "documents" and "text" in row else lists:
        if name in row and (not isinstance(row[name], list) or None in row[name]):
            what = "Tokens and tags" if task == "tagging" else "Sentences and their marks"
            raise ValueError(f"{what} must be lists, which CSV cannot store: use JSON or Parquet (column '{name}').")
    if task == "documents":
        text = row["text"] if "text" in row else " ".join(row["sentences"])
        return {"text": text, "label": row["label"] if "label" in row else row["genre"]}
    if task == "tagging":
        names = getattr(features["ner_tags"].feature, "names", None)  # the Hub has some datasets' tags as numbers
        if names and not all(0 <= i < len(names) for i in row["ner_tags"]):
            raise ValueError(f"A text has a tag without a name; the names are {names}, and the tags {row['ner_tags']}.")
        return {"tokens": row["tokens"], "tags": [names[i] for i in row["ner_tags"]] if names else row["ner_tags"]}
    if "source_labels" in row:
        return {"sentences": row["source"], "key": row["source_labels"], "references": row["target"]}
    key = [int(rank == 1) for rank in row["prominence"]] if "prominence" in row else row["key"]
    references = row.get("summaries") or [" ".join(compress(row["sentences"], key))]
    return {"sentences": row["sentences"], "key": key, "references": references}


def take(rows: dict, texts: int | None, folds: int) -> dict[str, list[dict]]:
    """Return N training rows, and of the test split at most 5,000; with folds, N of all rows, under "all"."""
    if folds:
        return {"all": sample(list(chain(*rows.values())), texts)}
    return {"train": sample(rows["train"], texts), "test": sample(rows["test"], LIMITS["test"])}


def sample(rows: list[dict], size: int | None) -> list[dict]:
    """Return so many rows: each class with its share, as files often have one class after the other; else the first."""
    if size is None or "label" not in rows[0]:
        return rows[:size]
    return [rows[i] for i in stratified_sample(pd.DataFrame(rows), size)[0]]


class TaskExperiment:
    """A task's rows, encoded once for all heads and folds; `score` has what its results are called."""

    def __init__(self, task: str, rows: dict, encoder: str, k: int, folds: int = 0):
        self.task, self.encoder, self.k, self.folds = task, encoder, k, folds
        self.tokenizer = load_tokenizer(encoder)
        column = "label" if task == "documents" else "tags"
        if task == "documents":
            self.names = sorted({row[column] for row in rows.get("train") or rows["all"]})
        elif task == "tagging":
            self.names = tagging.label_names([row[column] for row in rows.get("train") or rows["all"]])
        else:
            for row in rows.get("test") or rows["all"]:
                summaries.pick(np.zeros(len(row["sentences"])), k)  # refused, if at all, before training
        self.every = {s: [o | e for o, e in zip(some, self.encode(some), strict=True)] for s, some in rows.items()}
        self.use(0)

    def use(self, fold: int) -> None:
        """Choose what `logits` and `score` test: one of equal parts of all rows; the others train.

        Each part is a stretch of the rows of each class, so that classes are as frequent in it as in the whole.
        """
        self.fold, self.rows = fold, self.every
        if self.folds:
            rows = self.every["all"]
            parts = list(StratifiedKFold(self.folds).split(rows, [row.get("label", 0) for row in rows]))[fold]
            self.rows = {name: [rows[i] for i in part] for name, part in zip(("train", "test"), parts, strict=True)}

    def encode(self, rows) -> list[dict]:
        if self.task == "tagging":
            tokens, tags = ([row[name] for row in rows] for name in ("tokens", "tags"))
            return tagging.encode(tokens, tags, self.tokenizer, self.names)
        if self.task == "summaries":
            sentences, key = ([row[name] for row in rows] for name in ("sentences", "key"))
            return summaries.encode(sentences, key, self.tokenizer)
        length = min(256, self.tokenizer.model_max_length)
        pieces = documents.cut([row["text"] for row in rows], self.tokenizer, length=length, overlap=OVERLAP)
        return [p | {"labels": np.array(self.names.index(row["label"]))} for p, row in zip(pieces, rows, strict=True)]

    def logits(self, head: str, regime: str, seed: int, settings: dict) -> list[np.ndarray]:
        """Return the test rows' logits, or scores, by a head."""
        if HEADS[self.task][head] is None:
            return self.untrained(head)
        make, config = HEADS[self.task][head]
        labels = {} if self.task == "summaries" else {"num_labels": len(self.names)}
        transformers.set_seed(seed)
        model = make.from_encoder(self.encoder, **config, **labels, dropout=settings["dropout"])
        if regime == "frozen":
            model.encoder.requires_grad_(False)
            if "hidden" not in self.rows["test"][0]:
                self.every = {split: add_hidden(model, some, settings) for split, some in self.every.items()}
                self.use(self.fold)
        rows = self.rows
        if head == "first":
            rows = {split: [first_piece(row) for row in some] for split, some in rows.items()}
        if regime == "frozen" and head == "mean":  # in so few gradient steps it would not converge
            return self.regression(FunctionTransformer(mean_vectors), "linear")
        linear = regime == "frozen" and head == "linear"
        return train(model, rows, settings | {"head_rate": settings["head_rate"] * (LINEAR if linear else 1)}, seed)

    def untrained(self, head: str) -> list[np.ndarray]:
        test = self.rows["test"]
        if head == "tfidf":
            words = TfidfVectorizer(ngram_range=(1, 2), preprocessor=lambda row: row["text"].lower())
            return self.regression(words, "tfidf")
        if head == "oracle":
            return [summaries.oracle(row["sentences"], row["references"], self.k) for row in test]
        return [getattr(summaries, head)(row["sentences"]) for row in test]

    def regression(self, features, tuned: str) -> list[np.ndarray]:
        """Return the test rows' log-probabilities by a logistic regression on features of the rows.

        Its regularization is chosen from notebook 08's values by cross-validation on the training rows.
        """
        model = make_pipeline(features, LogisticRegression(max_iter=5000))
        grid = {"logisticregression__C": GRID[tuned]["regression_c"]}
        labels = [int(row["labels"]) for row in self.rows["train"]]
        search = GridSearchCV(model, grid, cv=3).fit(self.rows["train"], labels)
        found = np.full((len(self.rows["test"]), len(self.names)), -np.inf)  # for a class that training lacks
        found[:, search.classes_] = search.predict_log_proba(self.rows["test"])
        return list(found)

    def score(self, logits) -> tuple[dict[str, float], list]:
        """Return a head's scores on test, and what each example contributes."""
        test = list(zip(logits, self.rows["test"], strict=True))
        if self.task == "documents":
            predicted, labels = [int(z.argmax()) for z in logits], [int(row["labels"]) for _, row in test]
            tokens = [int(row["window_mask"].sum()) for _, row in test]
            right = np.mean(np.equal(predicted, labels))
            macro = f1_score(labels, predicted, labels=np.unique(labels), average="macro")
            return {"accuracy": float(right), "macro_f1": float(macro)}, list(
                zip(labels, predicted, tokens, strict=True)
            )
        if self.task == "tagging":
            tags = [tagging.word_tags(z, row["words"], len(row["tokens"]), self.names) for z, row in test]
            counts = tagging.span_counts([row["tags"] for _, row in test], tags)
            return tagging.span_scores(counts), counts.tolist()
        scores = []
        for z, row in test:
            picked = summaries.pick(z[: len(row["sentences"])], self.k)
            found = summaries.rouge(" ".join(row["sentences"][i] for i in picked), row["references"])
            scores.append({"precision_at_k": summaries.precision(picked, row["key"]), **found})
        means = pd.DataFrame(scores).mean().to_dict()
        return means, [[round(value, 4) for value in score.values()] for score in scores]


def mean_vectors(rows) -> np.ndarray:
    """Return the mean of each document's token vectors, (N, D); a token that two pieces share counts once."""
    totals = [(row["hidden"] * row["window_mask"][..., None]).sum(axis=(0, 1), dtype=np.float32) for row in rows]
    return np.stack([total / row["window_mask"].sum() for total, row in zip(totals, rows, strict=True)])


def first_piece(row: dict) -> dict:
    """Return a document cut off at the encoder's limit: all windows of its first piece count."""
    first = {name: row[name][:1] for name in data.PADDING.keys() & row.keys() - {"labels"}}
    return row | first | {"window_mask": first["attention_mask"]}


@torch.inference_mode()
def add_hidden(model, rows, settings: dict) -> list[dict]:
    """Add the encoder's vectors, in half precision; they are kept in a temporary file, not in memory.

    Pieces or sentences (padded on the right) of about one length are encoded together.
    """
    device, names = "cuda" if torch.cuda.is_available() else "cpu", ("input_ids", "attention_mask")
    model = model.to(device).eval()
    width = model.config.encoder_config.hidden_size
    pieces = [
        dict(zip(names, piece, strict=True))
        for row in rows
        for piece in zip(*(np.atleast_2d(row[n]) for n in names), strict=True)
    ]
    lengths = np.array([piece["attention_mask"].sum() for piece in pieces])
    ends = np.cumsum([piece["input_ids"].size for piece in pieces])
    with tempfile.TemporaryFile() as file:
        vectors = np.memmap(file, np.float16, "w+", shape=(ends[-1], width))
    by_length = np.argsort(lengths, kind="stable")
    for chosen in np.split(by_length, range(32, len(by_length), 32)):
        batch = data.collate([{n: pieces[i][n][: lengths[i]] for n in names} for i in chosen])
        with torch.autocast(device, torch.bfloat16, enabled=settings.get("bf16", False)):
            hidden = model.embed(*(torch.from_numpy(batch[n]).to(device) for n in names)).half().cpu().numpy()
        for i, vector in zip(chosen, hidden, strict=True):
            start = ends[i] - pieces[i]["input_ids"].size
            vectors[start : start + lengths[i]] = vector[: lengths[i]]
    parts = np.split(vectors, np.cumsum([row["input_ids"].size for row in rows])[:-1])
    return [
        row | {"hidden": part.reshape(*row["input_ids"].shape, width)} for row, part in zip(rows, parts, strict=True)
    ]


def pieces_per_word(rows) -> float:
    """Return how many pieces a word of tagged texts has on average, [CLS] and [SEP] left out."""
    words = sum((row["words"] >= 0).sum() for row in rows)
    return float(sum(len(row["words"]) - 2 for row in rows) / words)


def train(model, rows, settings: dict, seed: int) -> list[np.ndarray]:
    """Train on rows["train"] for all epochs; return the logits of rows["test"]."""

    def to_tensors(some):
        batch = {name: torch.from_numpy(array) for name, array in data.collate(some).items()}
        if "hidden" in batch:
            batch["hidden"] = batch["hidden"].float()
        return batch

    own = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    groups = [{"params": own, "lr": settings["head_rate"]}]
    if settings["encoder_rate"]:
        groups.append({"params": model.encoder.parameters(), "lr": settings["encoder_rate"]})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = settings["epochs"] * -(-len(rows["train"]) // settings["batch"])
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 20, steps)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=settings["batch"],
            per_device_eval_batch_size=settings["batch"],
            save_strategy="no",
            logging_strategy="no",
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
            report_to="none",
            bf16=settings.get("bf16", False),
            # texts of about the same length have little padding; a document's pieces are never padded
            train_sampling_strategy="group_by_length" if rows["train"][0]["input_ids"].ndim == 1 else "random",
        )
        options = {"train_dataset": rows["train"], "data_collator": to_tensors, "optimizers": (optimizer, schedule)}
        trainer = transformers.Trainer(model, arguments, **options)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        arguments.train_sampling_strategy = "random"  # by length, predictions would come out in another order
        return list(trainer.predict(rows["test"]).predictions)


def read_table(table: Path) -> pd.DataFrame:
    """Return a table of results; names stay names, for example a dataset "2024"."""
    return pd.read_csv(table, dtype={"dataset": str}, keep_default_na=False)


def add(table: Path, row: dict) -> None:
    """Add a row to the table, which is written whole before it replaces the last."""
    with filelock.FileLock(table.with_name(f".{table.stem}.lock")):  # another process may add a row to the same table
        rows = pd.concat([*([read_table(table)] if table.exists() else []), pd.DataFrame([row])], ignore_index=True)
        temporary = table.with_suffix(".tmp")
        rows.to_csv(temporary, index=False)
        os.replace(temporary, table)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.tasks", description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(HEADS))
    parser.add_argument("data", help="listings, articles, matinee, a folder or a Hub id")
    parser.add_argument("--heads", nargs="+", help="some of the task's heads; all by default")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="embedded, a folder or a Hub id")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--frozen", action="store_true", help="train the head alone; without it, the encoder as well")
    parser.add_argument("--epochs", type=int, help="passes over the training texts (default: as in SETTINGS)")
    parser.add_argument("--bf16", action="store_true", help="half precision: on some hardware twice as fast")
    parser.add_argument("--texts", type=int, help="train on N texts; with --folds, use only these")
    parser.add_argument("--folds", type=int, default=0, help="cut all texts into K parts, each tested by the others")
    parser.add_argument("--k", type=int, default=1, help="sentences of a summary (default: 1)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder to write to (default: results)")
    args = parser.parse_args(argv)
    heads = args.heads or list(HEADS[args.task])
    if unknown := set(heads) - set(HEADS[args.task]):
        raise ValueError(f"{args.task} has no head {', '.join(sorted(unknown))}; it has {', '.join(HEADS[args.task])}.")
    if args.epochs is not None and args.epochs < 1:
        raise ValueError(f"--epochs takes 1 or more, not {args.epochs}.")
    if args.seeds < 1 or args.folds == 1 or args.folds < 0 or (args.texts is not None and args.texts < 2):
        raise ValueError("--seeds takes 1 or more, --texts 2 or more, --folds 2 or more, or 0 for the dataset's split.")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if args.results.exists() and not args.results.is_dir():
        raise ValueError(f"Results need a folder, and {args.results} is a file.")
    args.results.mkdir(parents=True, exist_ok=True)
    table, encoder = args.results / f"{args.task}.csv", encoder_identity(args.encoder)
    loaded, dataset = load(args.task, args.data), "/".join(Path(args.data).parts[-2:])
    stored = table.exists() and dataset in set(read_table(table)["dataset"])
    check_unchanged(args.results / "texts.json", f"{args.task} {dataset}", loaded, stored)
    experiment = TaskExperiment(args.task, take(loaded, args.texts, args.folds), args.encoder, args.k, args.folds)
    regime = "frozen" if args.frozen else "fine-tuned"
    training = SETTINGS[regime] | {name: getattr(args, name) for name in ("epochs", "bf16") if getattr(args, name)}
    shared = {name: getattr(args, name) for name in ("texts", "folds") if getattr(args, name)}
    shared |= {"k": args.k} if args.task == "summaries" else {}
    # a run that is cut short has every head, with fewer seeds
    for seed, fold, head in product(range(args.seeds), range(args.folds or 1), heads):
        trained = HEADS[args.task][head] is not None
        own = (regime, seed, fold, encoder) if trained else ("untrained", 0, fold, "none")
        settings = json.dumps((training if trained else {}) | shared)
        cell = dict(zip(CELL, (args.task, dataset, head, *own, settings), strict=True))
        if table.exists() and (read_table(table)[CELL] == list(cell.values())).all(axis=1).any():
            continue
        began = time.time()
        experiment.use(fold)
        scores, examples = experiment.score(experiment.logits(head, regime, seed, training))
        facts = {"seconds": round(time.time() - began, 1), "examples": json.dumps(examples)}
        if args.task == "tagging":  # how much of the texts' words the encoder's vocabulary has
            facts["pieces_per_word"] = round(pieces_per_word(experiment.rows["test"]), 3)
        add(table, cell | scores | facts)
        said = "  ".join(f"{name} {value:.1%}" for name, value in scores.items())
        print(f"{head:16s} seed {seed}  fold {fold}  {said}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
