"""Train the ready-made classifier: the embedded encoder, fine-tuned with the CNN head on film reviews of four corpora.

OUT becomes a folder as `save_pretrained` writes it, tokenizer included, with weights in half precision, training.json
(the settings and the validation accuracy) and accuracy.json (the test accuracy, measured last). Texts that stand in a
validation or test split of any of the corpora are left out of training. The command must run where the datasets' names
lead somewhere: beside their folders, or with a network.
"""

import argparse
import json
import os
import re
import shutil
import time
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from companion.data import batches, encode, load_dataset
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN

ROTTEN_TOMATOES, SST2, IMDB = "cornell-movie-review-data/rotten_tomatoes", "SetFit/sst2", "stanfordnlp/imdb"
CORPORA = (ROTTEN_TOMATOES, SST2, IMDB, "matinee")
HELD_OUT = 1000  # of IMDb's training reviews, as it has no validation split
LABELS = ["negative", "positive"]


def normalised(text: str) -> str:
    """Letters and digits only: the corpora differ in case, spaces and quotation marks."""
    return "".join(re.findall(r"[a-z0-9]+", text.replace("<br />", " ").lower()))


def sentences(review: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+(?=[\"'A-Z])", review.replace("<br />", " ").strip())


def passages(review: str, rng) -> list[str]:
    """The beginning and the ending of a review, one to three sentences each: what carries its verdict most often."""
    parts, (first, last) = sentences(review), rng.integers(1, 4, 2)
    return [" ".join(parts[:first]), " ".join(parts[-last:])]


def prepare(repeat: dict[str, int], passage_reviews: int, seed: int = 0):
    """(training examples, {corpus: validation examples}): columns text and label.

    repeat: how often each corpus is seen in an epoch. Of IMDb, `passage_reviews` reviews are also seen as passages.
    """
    rng = np.random.default_rng(seed)
    corpora = {name: load_dataset(name) for name in CORPORA}
    imdb = corpora[IMDB]["train"].shuffle(seed=seed)
    corpora[IMDB]["validation"] = imdb.select(range(HELD_OUT))
    corpora[IMDB]["train"] = imdb.select(range(HELD_OUT, len(imdb)))
    held_out = {
        normalised(text)
        for splits in corpora.values()
        for split in ("validation", "test")
        for text in splits[split]["text"]
    }
    train, seen = [], set()
    for name, splits in corpora.items():
        for row in splits["train"]:
            texts = [row["text"]]
            if name == IMDB:
                passage_reviews -= 1
                texts += passages(row["text"], rng) if passage_reviews >= 0 else []
            for text in texts:
                key = normalised(text)
                if key and key not in held_out and key not in seen:
                    seen.add(key)
                    train += [{"text": text.replace("<br />", " "), "label": row["label"]}] * repeat[name]
    validation = {name.split("/")[-1]: splits["validation"] for name, splits in corpora.items()}
    return datasets.Dataset.from_list(train), validation


class Accuracies(Trainer):
    """Evaluates on each corpus's validation split; `accuracy` is the mean over the corpora."""

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        found = {}
        for name, rows in (eval_dataset or self.eval_dataset).items():
            output = super().evaluate(rows, ignore_keys, f"eval_{name}")
            found[name] = output[f"eval_{name}_accuracy"]
        found = {f"eval_{name}": value for name, value in found.items()} | {
            "eval_accuracy": float(np.mean(list(found.values())))
        }
        print(" ".join(f"{k.removeprefix('eval_')} {v:.3f}" for k, v in found.items()), flush=True)
        return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.classifier", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the classifier to")
    parser.add_argument("--encoder", default="embedded")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--repeat", type=int, nargs=4, default=[3, 3, 1, 4], help=f"times an epoch: {CORPORA}")
    parser.add_argument("--passage-reviews", type=int, default=15_000, help="IMDb reviews also seen as passages")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    work = args.out.with_name(args.out.name + ".unfinished")

    transformers.set_seed(args.seed)
    tokenizer = load_tokenizer(args.encoder)
    train, validation = prepare(dict(zip(CORPORA, args.repeat, strict=True)), args.passage_reviews, args.seed)
    model = BertCNN.from_encoder(
        args.encoder,
        dropout=args.dropout,
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
    )
    started = time.time()
    trainer = Accuracies(
        model,
        TrainingArguments(
            work / "checkpoints",
            num_train_epochs=1,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=128,
            learning_rate=args.learning_rate,
            warmup_steps=200,
            weight_decay=0.01,
            train_sampling_strategy="group_by_length",
            length_column_name="length",
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
            disable_tqdm=True,
            eval_strategy="steps",
            save_strategy="steps",
            eval_steps=500,
            save_steps=500,
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            logging_steps=100,
            seed=args.seed,
            report_to="none",
        ),
        train_dataset=encode(train, tokenizer),
        eval_dataset={name: encode(rows, tokenizer) for name, rows in validation.items()},
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
    )
    checkpoint = transformers.trainer_utils.get_last_checkpoint(work / "checkpoints") if work.is_dir() else None
    trainer.train(resume_from_checkpoint=checkpoint)
    scores = trainer.evaluate()
    save(model, tokenizer, work / "saved")
    facts = {name: value for name, value in vars(args).items() if name not in ("out",)}
    facts |= {"examples": len(train), "seconds": round(time.time() - started)}
    facts |= {"validation": {name.removeprefix("eval_"): round(value, 4) for name, value in scores.items()}}
    (work / "saved" / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    measure(work / "saved")
    shutil.rmtree(args.out, ignore_errors=True)
    os.replace(work / "saved", args.out)
    shutil.rmtree(work)
    print(f"{args.out}: {facts['examples']:,} examples in {facts['seconds'] / 60:.0f} minutes.")


def measure(folder: Path) -> dict[str, float]:
    """Accuracy of a saved classifier on the corpora's test splits, and on each phenomenon of matinee: accuracy.json."""
    model, tokenizer = BertCNN.from_pretrained(folder), load_tokenizer(str(folder))
    found = {}
    for name in CORPORA:
        rows = load_dataset(name)["test"]
        encoded = encode(rows, tokenizer).add_column(
            "kind", rows["phenomenon"] if "matinee" in name else [""] * len(rows)
        )
        encoded = encoded.sort("length")  # batches of texts of about equal length
        correct = np.concatenate(
            [predict(model, inputs) == labels for inputs, labels in batches(encoded, tokenizer, 64)]
        )
        found[name] = round(float(correct.mean()), 4)
        if "matinee" in name:
            kinds = np.array(encoded["kind"])
            found |= {f"{name}, {kind}": round(float(correct[kinds == kind].mean()), 4) for kind in sorted(set(kinds))}
    (folder / "accuracy.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


@torch.no_grad()
def predict(model, inputs) -> np.ndarray:
    return model(**{name: torch.from_numpy(array).long() for name, array in inputs.items()}).logits.argmax(-1).numpy()


def save(model: BertCNN, tokenizer, folder: Path) -> None:
    """As `save_pretrained` writes it, with weights in half precision that are read back in single."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = config["encoder_config"]["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
