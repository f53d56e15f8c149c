"""Fine-tune the PyTorch BERT-CNN with `transformers.Trainer` and report test accuracy.

    python examples/train_pytorch.py ../shared/data/cornell-movie-review-data/rotten_tomatoes

Any dataset with the splits train and test will do: "matinee", a folder, a Hub id. `--frozen` trains the head alone.
"""

import argparse
import tempfile

import numpy as np
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from companion.data import DEFAULT_DATASET, encode, load_dataset
from companion.encoders import DEFAULT_ENCODER, load_tokenizer
from companion.pytorch_class import BertCNN

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("dataset", nargs="?", default=DEFAULT_DATASET)
parser.add_argument("--encoder", default=DEFAULT_ENCODER)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--learning-rate", type=float, default=3e-4)
parser.add_argument("--frozen", action="store_true", help="leave the encoder as it is")
parser.add_argument("--out", help="folder to save the model to")
args = parser.parse_args()

splits = load_dataset(args.dataset)
tokenizer = load_tokenizer(args.encoder)
encoded = {name: encode(rows, tokenizer) for name, rows in splits.items()}
labels = splits["train"].features["label"].names
model = BertCNN.from_encoder(args.encoder, num_labels=len(labels), id2label=dict(enumerate(labels)))
model.encoder.requires_grad_(not args.frozen)
trainer = Trainer(
    model,
    TrainingArguments(
        args.out or tempfile.mkdtemp(),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=128,
        learning_rate=args.learning_rate,
        warmup_steps=50,
        train_sampling_strategy="group_by_length",
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=encoded["train"],
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"accuracy": (p.predictions.argmax(1) == p.label_ids).mean()},
)
trainer.train()
majority = np.bincount(splits["test"]["label"]).max() / len(splits["test"])
accuracy = trainer.evaluate(encoded["test"])["eval_accuracy"]
print(f"{args.dataset}: test accuracy {accuracy:.1%}; always the most frequent class: {majority:.1%}")
if args.out:
    trainer.save_model()
    tokenizer.save_pretrained(args.out)
