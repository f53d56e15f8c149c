"""Training for the comparison: every head on the same batches, by its regime's settings; the best epoch is kept."""

import hashlib
import tempfile

import torch
import transformers
from datasets import DatasetDict
from sklearn.metrics import accuracy_score
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from companion.heads import Classifier

SETTINGS = {  # epochs, but so many updates for small data; learning rates of head and encoder: the same for every head
    "frozen": (10, 400, 1e-3, 0.0),
    "fine-tuned": (2, 400, 1e-3, 2e-4),
    "trained": (8, 400, 1e-3, 1e-3),
}
LINEAR = 10  # but on frozen vectors a linear layer alone learns so many times as fast: at 1e-3 it would not arrive


def settings_identity() -> str:
    """The start of the settings' checksum: heads trained by other settings are not compared."""
    return hashlib.sha256(repr((SETTINGS, LINEAR)).encode()).hexdigest()[:8]


class SameOrder(Trainer):
    """Draws its batches with a generator of its own, so that every head meets them in the same order."""

    def _get_train_sampler(self, train_dataset=None):
        lengths, generator = list(self.train_dataset["length"]), torch.Generator().manual_seed(self.args.seed)
        return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths, generator=generator)


def train(model: Classifier, splits: DatasetDict, collate, regime: str, seed: int, bf16: bool = False):
    """Train; a function, split -> logits (N, C), of the epoch with the highest validation accuracy."""
    (epochs, updates, head_rate, encoder_rate), batch_size = SETTINGS[regime], 32
    in_epoch = -(-len(splits["train"]) // batch_size)
    steps = max(epochs * in_epoch, updates)
    if regime == "frozen" and model.head.linear:
        head_rate *= LINEAR
    groups = [{"params": model.head.parameters(), "lr": head_rate}]
    if model.encoder is not None:
        groups.append({"params": model.encoder.parameters(), "lr": encoder_rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 20, steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SameOrder(
            model,
            TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=batch_size,
                per_device_eval_batch_size=128,
                eval_strategy="steps",
                save_strategy="steps",
                eval_steps=max(in_epoch, steps // 10),
                save_steps=max(in_epoch, steps // 10),
                save_total_limit=1,
                save_only_model=True,
                load_best_model_at_end=True,
                metric_for_best_model="accuracy",
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                disable_tqdm=True,
                bf16=bf16,
                use_cpu=not torch.cuda.is_available(),
                seed=seed,
                report_to="none",
            ),
            train_dataset=splits["train"],
            eval_dataset=splits["validation"],
            data_collator=collate,
            compute_metrics=lambda p: {"accuracy": accuracy_score(p.label_ids, p.predictions.argmax(1))},
            optimizers=(optimizer, schedule),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return lambda split: trainer.predict(splits[split]).predictions
