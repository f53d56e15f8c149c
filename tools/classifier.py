"""Train the ready-made classifier: an encoder, fine-tuned with the CNN head on film reviews of four corpora.

OUT becomes a folder as `save_pretrained` writes it, tokenizer included: weights in half precision, and training.json
(the settings and the validation accuracy). With --teacher, a classifier that this command trained before, the model
also learns from that one's probabilities (Hinton et al. 2015). With --average, weights are only averaged: those of
classifiers that started from the same one (Wortsman et al. 2022); the result, and nothing else, is scored on the test
splits (accuracy.json). Texts that stand in a validation or test split of any of the corpora are left out of training.
The command must run where the datasets' names lead somewhere: beside their folders, or with a network.
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

from companion.data import batches, encode, load_dataset, read_splits
from companion.encoders import identify, load_tokenizer
from companion.pytorch_class import BertCNN

ROTTEN_TOMATOES, SST2, IMDB = "cornell-movie-review-data/rotten_tomatoes", "SetFit/sst2", "stanfordnlp/imdb"
CORPORA = (ROTTEN_TOMATOES, SST2, IMDB, "matinee")
HELD_OUT = 1000  # of IMDb's training reviews, as it has no validation split
LABELS = ["negative", "positive"]
SETTINGS = {  # what training texts there are: how often each corpus's sentences are seen, and how many reviews of IMDb
    "sentences": 1,
    "matinee": 5,  # matinee-more's, too
    "more": 8522,  # reviews of matinee-more
    "reviews": 0,  # as they are, up to the encoder's limit
    "passages": 15_000,  # reviews whose first and last sentences are seen
    "unlabelled": 0,  # reviews without a label whose passages the teacher labels
    "seed": 0,
}


def normalised(text: str) -> str:
    """Letters and digits only: the corpora differ in case, spaces and quotation marks."""
    return "".join(re.findall(r"[a-z0-9]+", text.replace("<br />", " ").lower()))


def passages(review: str, rng) -> list[str]:
    """The beginning and the ending of a review, one to three sentences each: they carry its verdict most often."""
    sentences = re.split(r"(?<=[.!?])\s+(?=[\"'A-Z])", review.replace("<br />", " ").strip())
    first, last = rng.integers(1, 4, 2)
    return [" ".join(sentences[:first]), " ".join(sentences[-last:])]


def prepare(settings: dict):
    """(training examples, {corpus: validation examples}): columns text, label (-1 if unknown) and sure.

    `sure`: is the label that of this very text? A passage has its review's.
    """
    rng = np.random.default_rng(settings["seed"])
    corpora = {name: load_dataset(name) for name in CORPORA}
    more = load_dataset("matinee-more")["train"].select(range(settings["more"]))
    corpora["matinee"]["train"] = datasets.concatenate_datasets([corpora["matinee"]["train"], more])
    imdb = corpora[IMDB]["train"].shuffle(seed=settings["seed"])
    corpora[IMDB]["validation"] = imdb.select(range(HELD_OUT))
    imdb = imdb.select(range(HELD_OUT, len(imdb)))
    candidates = [
        (row["text"], row["label"], True, settings["matinee" if name == "matinee" else "sentences"])
        for name in (ROTTEN_TOMATOES, SST2, "matinee")
        for row in corpora[name]["train"]
    ]
    candidates += [(row["text"], row["label"], True, 1) for row in imdb.select(range(settings["reviews"]))]
    unlabelled = read_splits(IMDB)["unsupervised"].select(range(settings["unlabelled"]))
    for row in (*imdb.select(range(len(imdb) - settings["passages"], len(imdb))), *unlabelled):
        candidates += [(text, row["label"], False, 1) for text in passages(row["text"], rng)]

    held_out = [splits[split]["text"] for splits in corpora.values() for split in ("validation", "test")]
    seen = {normalised(text) for texts in held_out for text in texts}
    train = []
    for text, label, sure, times in candidates:
        if (key := normalised(text)) and key not in seen:
            seen.add(key)
            train += [{"text": text.replace("<br />", " "), "label": label, "sure": sure}] * times
    validation = {name.split("/")[-1]: splits["validation"] for name, splits in corpora.items()}
    return datasets.Dataset.from_list(train), validation


def targets(train: datasets.Dataset, teacher: str | None) -> np.ndarray:
    """What to learn, (N, C): the teacher's probabilities where a label is not sure, else their mean with the label."""
    labels, sure = np.array(train["label"]), np.array(train["sure"])
    hard = np.eye(len(LABELS))[labels]
    if teacher is None:
        return hard
    model, tokenizer = BertCNN.from_pretrained(teacher), load_tokenizer(teacher)
    texts = {text: None for text in train["text"]}
    order = sorted(texts, key=len)  # batches of texts of about equal length
    for start in range(0, len(order), 128):
        some = order[start : start + 128]
        inputs = tokenizer(some, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            texts |= zip(some, model(**inputs).logits.float().softmax(-1).numpy(), strict=True)
    soft = np.array([texts[text] for text in train["text"]])
    return np.where(sure[:, None], (hard + soft) / 2, soft)


class Classifying(Trainer):
    """Learns probabilities; evaluates on each corpus's validation split. `accuracy` is the mean over the corpora."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        target = inputs.pop("target", None)
        outputs = model(**{name: inputs[name] for name in ("input_ids", "attention_mask")})
        if target is None:
            target = inputs["labels"]
        loss = torch.nn.functional.cross_entropy(outputs.logits.float(), target)
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        found = {}
        for name, rows in (eval_dataset or self.eval_dataset).items():
            found[f"eval_{name}"] = super().evaluate(rows, ignore_keys, f"eval_{name}")[f"eval_{name}_accuracy"]
        found["eval_accuracy"] = float(np.mean(list(found.values())))
        print(" ".join(f"{name.removeprefix('eval_')} {value:.3f}" for name, value in found.items()), flush=True)
        return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.classifier", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the classifier to")
    parser.add_argument(
        "--encoder", default="embedded", help="what to start from; a saved classifier gives its encoder"
    )
    parser.add_argument("--teacher", help="the folder of a classifier to learn from")
    parser.add_argument("--average", nargs="+", metavar="FOLDER", help="average these classifiers, and train nothing")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    for name, value in SETTINGS.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"(default: {value})")
    args = parser.parse_args(argv)
    if args.out.exists() and not (args.out / "training.json").is_file():
        raise ValueError(f"'{args.out}' exists, and this command did not write it; give another folder.")
    settings, work = {name: getattr(args, name) for name in SETTINGS}, args.out.with_name(args.out.name + ".unfinished")
    if args.average:
        return average(args.average, args.out)
    if args.unlabelled and not args.teacher:
        raise ValueError("Reviews without a label can only be used with a --teacher.")

    transformers.set_seed(args.seed)
    tokenizer = load_tokenizer(args.encoder)
    train, validation = prepare(settings)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    model = BertCNN.from_encoder(args.encoder, dropout=0.1, **labels)
    learned = encode(train, tokenizer).remove_columns("label").add_column("target", list(targets(train, args.teacher)))
    started = time.time()
    trainer = Classifying(
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
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            label_names=["labels"],
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
        train_dataset=learned,
        eval_dataset={name: encode(rows, tokenizer) for name, rows in validation.items()},
        data_collator=Collator(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, axis=1) == p.label_ids).mean())},
    )
    checkpoint = transformers.trainer_utils.get_last_checkpoint(work / "checkpoints") if work.is_dir() else None
    trainer.train(resume_from_checkpoint=checkpoint)
    scores = trainer.evaluate()
    save(model, tokenizer, work / "saved")
    facts = {"encoder": Path(args.encoder).name, "teacher": args.teacher and Path(args.teacher).name}
    facts |= settings | {"examples": len(train), "learning_rate": args.learning_rate}
    facts |= {"seconds": round(time.time() - started)}
    facts |= {"validation": {name.removeprefix("eval_"): round(value, 4) for name, value in scores.items()}}
    (work / "saved" / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    finish(work, args.out)


def average(folders: list[str], out: Path) -> None:
    """Write a classifier whose weights are the means of several classifiers' weights."""
    models = [BertCNN.from_pretrained(folder, dtype=torch.float32) for folder in folders]
    weights = [model.state_dict() for model in models]
    models[0].load_state_dict({name: torch.stack([w[name] for w in weights]).mean(0) for name in weights[0]})
    work = out.with_name(out.name + ".unfinished")
    save(models[0], load_tokenizer(folders[0]), work / "saved")
    parts = [json.loads((Path(folder) / "training.json").read_text()) for folder in folders]
    facts = {"average": parts, "validation": validate(work / "saved")}
    (work / "saved" / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    measure(work / "saved")
    finish(work, out)


def runs(facts: dict) -> list[dict]:
    """The trainings behind a training.json, those of averages that were averaged included."""
    return [run for part in facts["average"] for run in runs(part)] if "average" in facts else [facts]


def finish(work: Path, out: Path) -> None:
    """Put a classifier that was saved whole in its place."""
    shutil.rmtree(out, ignore_errors=True)
    os.replace(work / "saved", out)
    shutil.rmtree(work)


class Collator(DataCollatorWithPadding):
    """A padded batch, without the column `length`, which is there for the sampler."""

    def __call__(self, rows):
        return super().__call__([{name: value for name, value in row.items() if name != "length"} for row in rows])


def measure(folder: Path) -> None:
    """Accuracy of a saved classifier on the corpora's test splits, and on each phenomenon of matinee: accuracy.json."""
    model, tokenizer, found = BertCNN.from_pretrained(folder), load_tokenizer(str(folder)), {}
    for name in CORPORA:
        rows = load_dataset(name)["test"]
        right = correct(model, tokenizer, rows)
        found[name] = round(float(right.mean()), 4)
        kinds = np.array(rows["phenomenon"] if name == "matinee" else [])
        found |= {f"{name}, {kind}": round(float(right[kinds == kind].mean()), 4) for kind in sorted(set(kinds))}
    (folder / "accuracy.json").write_text(json.dumps(found, indent=2) + "\n")


def validate(folder: Path) -> dict[str, float]:
    """Accuracy of a saved classifier on the validation splits; `accuracy` is the mean over the corpora."""
    model, tokenizer = BertCNN.from_pretrained(folder), load_tokenizer(str(folder))
    found = {name: float(correct(model, tokenizer, rows).mean()) for name, rows in prepare(SETTINGS)[1].items()}
    found["accuracy"] = float(np.mean(list(found.values())))
    return {name: round(value, 4) for name, value in found.items()}


def correct(model, tokenizer, rows) -> np.ndarray:
    """Whether each text is classified correctly, in the dataset's order: (N,)."""
    encoded, found = encode(rows, tokenizer), np.zeros(len(rows), bool)
    order = np.argsort(encoded["length"], kind="stable")
    parts = batches(encoded.select(order), tokenizer, 64)
    found[order] = np.concatenate([predict(model, inputs) == labels for inputs, labels in parts])
    return found


@torch.no_grad()
def predict(model, inputs) -> np.ndarray:
    return model(**{name: torch.from_numpy(array).long() for name, array in inputs.items()}).logits.argmax(-1).numpy()


def save(model: BertCNN, tokenizer, folder: Path) -> None:
    """As `save_pretrained` writes it, with weights in half precision that are read back in single."""
    model.encoder.config.vocabulary = identify(tokenizer)  # so that another encoder's tokenizer is refused
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = config["encoder_config"]["dtype"] = "float32"
    config["encoder_config"].pop("_name_or_path", None)  # no path of this machine
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        raise SystemExit(str(error)) from None
