"""Fine-tune a BERT-CNN and report how well it does on test data, with `transformers.Trainer` or with Keras's `fit`.

    python examples/train.py pytorch cornell-movie-review-data/rotten_tomatoes
    python examples/train.py keras matinee --epochs 5
    python examples/train.py pytorch my_folder --text review --label sentiment --out model
    accelerate launch --num_processes 2 examples/train.py pytorch matinee    # on two GPUs
    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 examples/train.py pytorch matinee

Any dataset with the splits train and test will do: "matinee", a folder, a Hub id. `--frozen` trains the head alone.
The labels decide what is learned: one class per text (accuracy), lists of classes (micro F1), or numbers (R2).
Several processes share each batch of `--batch-size` texts and take the steps that one process would take with it; only
their dropout differs, since each draws its own random numbers. (The last command runs on CPUs: without `--multi_gpu`
accelerate starts one process there.)
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, r2_score

from companion.data import DEFAULT_DATASET, encode, keras_batches, load_dataset
from companion.encoders import DEFAULT_ENCODER, load_tokenizer
from companion.labels import label_names, problem_type

METRICS = {  # problem type -> the metric's name, and what to compute from labels and logits
    "single_label_classification": ("accuracy", lambda labels, logits: accuracy_score(labels, logits.argmax(1))),
    "multi_label_classification": (
        "micro F1",
        lambda labels, z: f1_score(labels, z > 0, average="micro", zero_division=0),
    ),
    "regression": ("R2", lambda labels, logits: r2_score(labels, logits[:, 0])),
}


def build(args, config):
    """The model, whose new head is the same in every run; with `--frozen` its encoder stays as it is."""
    if args.framework == "pytorch":
        from transformers import set_seed

        from companion.pytorch_class import BertCNN

        set_seed(0)
    else:
        from companion.keras_class import BertCNN
        from companion.quiet import keras

        keras.utils.set_random_seed(0)
    model = BertCNN.from_encoder(args.encoder, **config)
    if args.frozen and args.framework == "pytorch":
        model.encoder.requires_grad_(False)
    elif args.frozen:
        model.encoder.trainable = False
    return model


def train_pytorch(model, args, encoded, tokenizer):
    """(a function that saves the trained model, one that returns the test split's logits (N, C))."""
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class SeededOrder(Trainer):
        """Batches of about equal length, in an order that every process draws alike."""

        def _get_train_sampler(self, train_dataset=None):
            order = torch.Generator().manual_seed(self.args.seed)
            return LengthGroupedSampler(args.batch_size, lengths=encoded["train"]["length"], generator=order)

    trainer = SeededOrder(
        model,
        TrainingArguments(
            tempfile.mkdtemp(),
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=4 * args.batch_size,
            accelerator_config={"split_batches": True},  # a batch is shared by the processes
            learning_rate=args.learning_rate,
            warmup_steps=50,
            dataloader_pin_memory=False,
            logging_steps=args.log_steps,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=encoded["train"],
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.train()

    def save(path):
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)

    return save, lambda: trainer.predict(encoded["test"]).predictions


def train_keras(model, args, encoded, tokenizer):
    """(a function that saves the trained model, one that returns the test split's logits (N, C))."""
    from companion.keras_class import loss_for
    from companion.quiet import keras

    batches = keras_batches(encoded["train"], tokenizer, args.batch_size, seed=0)
    rate = keras.optimizers.schedules.PolynomialDecay(args.learning_rate, len(batches) * args.epochs, 0.0)
    model.compile(keras.optimizers.AdamW(rate, clipnorm=1.0), loss_for(args.problem_type))
    model.fit(batches, epochs=args.epochs, verbose=2)
    return model.save, lambda: model.predict(keras_batches(encoded["test"], tokenizer, batch_size=128), verbose=0)


def check_processes(args) -> None:
    """Raises ValueError, before any work, for a batch that the processes cannot share."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if args.batch_size < 1 or args.batch_size % processes or args.log_steps < 1:
        raise ValueError(
            f"--batch-size must be a multiple of the number of processes ({processes}), and --log-steps at least 1."
        )
    if processes > 1 and args.framework == "keras":
        raise ValueError("Several processes train the PyTorch model only; start Keras without accelerate.")


def check_out(path: Path, framework: str) -> None:
    """Raises ValueError, before any work, where a model cannot be saved; makes the folders above it."""
    if framework == "keras" and path.suffix != ".keras":
        raise ValueError(f"Keras saves a model in one file whose name ends in .keras, as in {path}.keras.")
    if framework == "keras" and path.is_dir():
        raise ValueError(f"There is a folder of the name {path}; give the model another name.")
    if framework == "pytorch" and path.exists() and not path.is_dir():
        raise ValueError(f"There is a file of the name {path}; the PyTorch model is saved as a folder.")
    folder = path if framework == "pytorch" else path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"Nothing can be written to the folder {folder} ({error.strerror}).") from None


def save(save_model, path: Path) -> None:
    """Save under a temporary name, then rename; if that fails, the trained model is kept in a temporary folder."""
    try:
        if path.suffix == ".keras":
            half = path.with_name(f".half-{os.getpid()}-{path.name}")
            save_model(half)
            half.replace(path)
        else:
            save_model(path)
    except Exception as error:
        spare = Path(tempfile.mkdtemp(prefix="bert-cnn-")) / path.name
        save_model(spare)
        print(f"The model could not be saved as {path} ({error}); it is {spare}.", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", choices=["pytorch", "keras"])
    parser.add_argument("dataset", nargs="?", default=DEFAULT_DATASET)
    parser.add_argument("--text", default="text", help="the column of the texts")
    parser.add_argument("--label", default="label", help="the column of the labels")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--batch-size", type=int, default=32, help="texts per step, of all processes together")
    parser.add_argument("--dropout", type=float, default=0.5, help="the head's dropout")
    parser.add_argument("--log-steps", type=int, default=500, help="PyTorch: print the mean loss of so many steps")
    parser.add_argument("--frozen", action="store_true", help="leave the encoder as it is")
    parser.add_argument("--out", type=Path, help="where to save the model: a folder, or for Keras a file NAME.keras")
    args = parser.parse_args()

    try:  # all that can be known before training is checked before it
        if args.epochs < 1 or not args.learning_rate > 0:
            raise ValueError("--epochs must be at least 1, and --learning-rate more than 0.")
        check_processes(args)
        splits = load_dataset(args.dataset, args.text, args.label)
        if missing := [split for split in ("train", "test") if split not in splits]:
            listed = ", ".join(splits)
            raise ValueError(f"'{args.dataset}' has no split {' and no split '.join(missing)}; it has {listed}.")
        feature = splits["train"].features["label"]
        names, args.problem_type = label_names(feature), problem_type(feature)
        if args.problem_type == "single_label_classification" and len(splits["train"].unique("label")) < 2:
            raise ValueError(f"'{args.dataset}' shows one class only in training; a classifier needs two.")
        if args.out:
            check_out(args.out, args.framework)
        tokenizer = load_tokenizer(args.encoder)
        config = {"id2label": dict(enumerate(names)), "problem_type": args.problem_type, "dropout": args.dropout}
        model = build(args, config)
    except ValueError as error:
        sys.exit(f"train.py: {error}")
    encoded = {name: encode(splits[name], tokenizer) for name in ("train", "test")}
    train = {"pytorch": train_pytorch, "keras": train_keras}[args.framework]
    save_model, predict = train(model, args, encoded, tokenizer)
    first = os.environ.get("RANK", "0") == "0"  # of several processes, the first saves and reports
    if args.out and first:
        save(save_model, args.out)
    logits = np.asarray(predict())
    if first:
        report(args, encoded, logits)


def report(args, encoded, logits) -> None:
    """Print the metric on the test split beside that of a constant answer."""
    name, metric = METRICS[args.problem_type]
    learned, labels = (np.array(encoded[split]["label"]) for split in ("train", "test"))
    value = metric(labels, logits)
    if args.problem_type == "single_label_classification":
        majority = np.bincount(labels).max() / len(labels)
        print(f"{args.dataset}: test {name} {value:.1%}; always the most frequent class: {majority:.1%}")
    else:
        constant = np.tile(learned.reshape(len(learned), -1).mean(0), (len(labels), 1))  # the same for every text
        constant = constant if args.problem_type == "regression" else constant - 0.5
        print(
            f"{args.dataset}: test {name} {value:.3f}; the same answer for every text: {metric(labels, constant):.3f}"
        )


if __name__ == "__main__":
    main()
