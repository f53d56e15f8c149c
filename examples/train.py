"""Fine-tune a BERT-CNN and report test accuracy, with `transformers.Trainer` or with Keras's `fit`.

    python examples/train.py pytorch ../shared/data/cornell-movie-review-data/rotten_tomatoes
    python examples/train.py keras matinee --epochs 5

Any dataset with the splits train and test will do: "matinee", a folder, a Hub id. `--frozen` trains the head alone.
"""

import argparse
import tempfile

import numpy as np

from companion.data import DEFAULT_DATASET, encode, keras_batches, load_dataset
from companion.encoders import DEFAULT_ENCODER, load_tokenizer


def train_pytorch(args, encoded, labels, tokenizer) -> float:
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from companion.pytorch_class import BertCNN

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
    if args.out:
        trainer.save_model()
        tokenizer.save_pretrained(args.out)
    return trainer.evaluate(encoded["test"])["eval_accuracy"]


def train_keras(args, encoded, labels, tokenizer) -> float:
    from companion.keras_class import BertCNN
    from companion.quiet import keras

    keras.utils.set_random_seed(0)
    model = BertCNN.from_encoder(args.encoder, num_labels=len(labels))
    model.encoder.trainable = not args.frozen
    batches = keras_batches(encoded["train"], tokenizer, seed=0)
    steps = len(batches) * args.epochs
    rate = keras.optimizers.schedules.PolynomialDecay(args.learning_rate, steps, 0.0)
    model.compile(
        keras.optimizers.AdamW(rate, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(batches, epochs=args.epochs, verbose=2)
    if args.out:
        model.save(args.out)
    return model.evaluate(keras_batches(encoded["test"], tokenizer, batch_size=128), verbose=0)[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", choices=["pytorch", "keras"])
    parser.add_argument("dataset", nargs="?", default=DEFAULT_DATASET)
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--frozen", action="store_true", help="leave the encoder as it is")
    parser.add_argument("--out", help="where to save the model: a folder, or for Keras a file ending in .keras")
    args = parser.parse_args()

    splits, tokenizer = load_dataset(args.dataset), load_tokenizer(args.encoder)
    encoded = {name: encode(rows, tokenizer) for name, rows in splits.items()}
    labels = splits["train"].features["label"].names
    accuracy = {"pytorch": train_pytorch, "keras": train_keras}[args.framework](args, encoded, labels, tokenizer)
    majority = np.bincount(splits["test"]["label"]).max() / len(splits["test"])
    print(f"{args.dataset}: test accuracy {accuracy:.1%}; always the most frequent class: {majority:.1%}")
