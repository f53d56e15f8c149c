"""One dataset's splits, ready for any classifier, and how one is trained: `Experiment`, `train`."""

import copy
import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, DatasetDict
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from companion.data import encode
from companion.encoders import find_encoder, find_weights, load_pytorch_encoder, load_tokenizer
from companion.pytorch_class import BertCNN
from companion.study import recipes
from companion.study.challenge import load_challenge
from companion.study.heads import Classifier, StaticEncoder, make
from companion.study.recipes import Recipe
from companion.study.specs import HEADS
from companion.study.splits import cut, prepare, stratified_sample
from companion.study.vectors import CachedVectors, padded

SCORED = ("validation", "test", "challenge")
pretrained = lru_cache(maxsize=1)(load_pytorch_encoder)  # loaded once; training works on a copy


class Experiment:
    """One dataset's splits, ready for any head: token ids, and a frozen encoder's vectors once they are needed."""

    def __init__(self, dataset: str, encoder: str, bf16: bool = False, challenge: bool = False):
        self.texts, self.encoder, self.precision = prepare(dataset), encoder, "bf16" if bf16 else "fp32"
        self.tokenizer, self.cache = load_tokenizer(encoder), {}
        self.scored: tuple[str, ...] = ("test",)
        self.classes = self.texts["train"].features["label"].num_classes
        if challenge:
            if self.classes != 2:
                raise ValueError(
                    f"The challenge set has the labels negative (0) and positive (1); '{dataset}' has {self.classes}."
                )
            cases = load_challenge()["text"].tolist()
            self.texts["challenge"] = Dataset.from_dict({"text": cases, "label": [0] * len(cases)})
            self.scored = SCORED
        self.max_length = recipes.DEFAULTS["frozen"].max_length
        splits = {split: encode(rows, self.tokenizer, self.max_length) for split, rows in self.texts.items()}
        self.splits = DatasetDict(
            {s: rows.add_column("key", [f"{s} {i}" for i in range(len(rows))]) for s, rows in splits.items()}
        )

    def logits(self, head: str, regime: str, seed: int, size: int | None = None) -> tuple[np.ndarray, int]:
        """(log-probabilities or logits of test (N, C), trained parameters) of one cell; see `scores`."""
        found, parameters = self.scores(head, regime, seed, size)
        return found["test"], parameters

    def scores(self, head, regime, seed: int, size: int | None = None, recipe: Recipe | None = None, splits=None):
        """({split: log-probabilities or logits (N, C)}, trained parameters) of one cell.

        size: train on so many examples; which ones depends on the seed. recipe: the default one if none is given.
        splits: what is scored, by default `scored`.
        """
        if regime not in HEADS[head].regimes:
            raise ValueError(f"{head} can be trained {' or '.join(HEADS[head].regimes)}, not '{regime}'.")
        recipe, splits = recipe or recipes.default(head, regime, self.precision), splits or self.scored
        most = min(size or len(self.texts["train"]), recipe.examples or len(self.texts["train"]))
        drawn = stratified_sample(self.texts["train"], most, seed)[0]
        if head == "tfidf":
            read = {s: cut(self.texts[s]["text"][:], self.tokenizer, recipe.max_length) for s in {"train", *splits}}
            read["train"] = [read["train"][i] for i in drawn]
            regression = LogisticRegression(C=recipe.regression_c, max_iter=5000)
            model = make_pipeline(TfidfVectorizer(ngram_range=(1, recipe.ngrams)), regression)
            return self._regression(model, read, drawn)
        transformers.set_seed(seed)
        encoder = pretrained(self.encoder)
        long = np.mean(self.splits["train"]["length"]) > 100
        encoder.set_attn_implementation("sdpa" if long else "eager")  # on short texts eager is the faster one
        module: Any = make(head, encoder.config.hidden_size, self.classes, recipe.dropout, recipe.output_scale)
        collate = padded(self.tokenizer)
        if regime == "frozen":
            if module.layers not in self.cache:
                dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
                self.cache[module.layers] = CachedVectors(encoder, self.tokenizer, self.splits, module.layers, dtype)
            encoder, collate = None, self.cache[module.layers]
            if HEADS[head].linear:
                vectors = {s: collate.pooled(self.splits[s], module.pool) for s in {"train", *splits}}
                vectors["train"] = vectors["train"][drawn]
                return self._regression(LogisticRegression(C=recipe.regression_c, max_iter=5000), vectors, drawn)
        elif HEADS[head].bert:
            encoder = copy.deepcopy(encoder)
        else:
            encoder = StaticEncoder(copy.deepcopy(encoder))
        model = Classifier(module, encoder)
        predict = train(model, {**self.splits, "train": self.splits["train"].select(drawn)}, collate, recipe, seed)
        return {split: predict(split) for split in splits}, sum(p.numel() for p in model.parameters())

    def _regression(self, model, inputs: dict, drawn):
        """`scores` of a scikit-learn model, trained on the inputs of train."""
        model.fit(inputs.pop("train"), self.texts["train"].select(drawn)["label"][:])
        found = {split: np.full((len(rows), self.classes), -np.inf) for split, rows in inputs.items()}
        for split, rows in inputs.items():
            found[split][:, model.classes_] = model.predict_log_proba(rows)
        regression = model[-1] if hasattr(model, "steps") else model
        return found, regression.coef_.size + regression.intercept_.size


class SameOrder(Trainer):
    """Draws its batches with a generator of its own, so that every head meets them in the same order."""

    def _get_train_sampler(self, train_dataset=None):
        lengths, generator = list(self.train_dataset["length"]), torch.Generator().manual_seed(self.args.seed)
        return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths, generator=generator)


def train(model: Classifier, splits: DatasetDict, collate, recipe: Recipe, seed: int):
    """Train; return a function, split -> logits (N, C), of the evaluation with the highest validation accuracy."""
    in_epoch = -(-len(splits["train"]) // recipe.batch_size)
    steps = max(recipe.epochs * in_epoch, recipe.min_updates)
    every = max(in_epoch, steps // recipe.evaluations)
    groups = [{"params": model.head.parameters(), "lr": recipe.head_rate}]
    if model.encoder is not None:
        groups.append({"params": model.encoder.parameters(), "lr": recipe.encoder_rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=True)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(steps * recipe.warmup_share), steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SameOrder(
            model,
            TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=recipe.batch_size,
                per_device_eval_batch_size=128,
                eval_strategy="steps",
                save_strategy="steps",
                eval_steps=every,
                save_steps=every,
                save_total_limit=1,
                save_only_model=True,
                load_best_model_at_end=True,
                metric_for_best_model="accuracy",
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                disable_tqdm=True,
                bf16=recipe.precision == "bf16",
                use_cpu=not torch.cuda.is_available(),
                seed=seed,
                report_to="none",
            ),
            train_dataset=splits["train"],
            eval_dataset=splits["validation"],
            data_collator=collate,
            compute_metrics=lambda p: {"accuracy": accuracy_score(p.label_ids, np.argmax(p.predictions, axis=1))},
            optimizers=(optimizer, schedule),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return lambda split: trainer.predict(splits[split]).predictions


def train_cnn(experiment: Experiment, seed: int = 0) -> tuple[BertCNN, np.ndarray]:
    """(a BERT-CNN, its logits for test): the encoder as it was, the head trained on its cached vectors."""
    transformers.set_seed(seed)
    model = BertCNN.from_encoder(experiment.encoder, num_labels=experiment.classes)
    recipe = recipes.default("cnn", "frozen")
    width = model.config.encoder_config.hidden_size
    head = make("cnn", width, experiment.classes, recipe.dropout, recipe.output_scale)
    cached = CachedVectors(model.encoder, experiment.tokenizer, experiment.splits, layers=1)
    predict = train(Classifier(head), experiment.splits, cached, recipe, seed)
    model.load_state_dict(head.state_dict(), strict=False)  # the encoder's weights are not among them
    return model.cpu().eval(), predict("test")


def encoder_identity(name: str) -> str:
    """A name and the start of the weights' checksum: a retrained encoder counts as another one."""
    checksum = hashlib.sha256()
    for part in find_weights(find_encoder(name)):  # large encoders have several
        checksum.update(part.read_bytes())
    return f"{Path(name).name} {checksum.hexdigest()[:8]}"
