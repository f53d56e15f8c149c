"""Fine-tune the Keras BERT-CNN with `fit` and report test accuracy.

    python examples/train_keras.py ../shared/data/cornell-movie-review-data/rotten_tomatoes

Any dataset with the splits train and test will do: "matinee", a folder, a Hub id. `--frozen` trains the head alone.
"""

import argparse

import numpy as np

from companion.data import DEFAULT_DATASET, encode, keras_batches, load_dataset
from companion.encoders import DEFAULT_ENCODER, load_tokenizer
from companion.keras_class import BertCNN
from companion.quiet import keras

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("dataset", nargs="?", default=DEFAULT_DATASET)
parser.add_argument("--encoder", default=DEFAULT_ENCODER)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--learning-rate", type=float, default=3e-4)
parser.add_argument("--frozen", action="store_true", help="leave the encoder as it is")
parser.add_argument("--out", help="file to save the model to, ending in .keras")
args = parser.parse_args()

keras.utils.set_random_seed(0)
splits = load_dataset(args.dataset)
tokenizer = load_tokenizer(args.encoder)
encoded = {name: encode(rows, tokenizer) for name, rows in splits.items()}
batches = keras_batches(encoded["train"], tokenizer, seed=0)
model = BertCNN.from_encoder(args.encoder, num_labels=splits["train"].features["label"].num_classes)
model.encoder.trainable = not args.frozen
steps = len(batches) * args.epochs
model.compile(
    keras.optimizers.AdamW(keras.optimizers.schedules.PolynomialDecay(args.learning_rate, steps, 0.0), clipnorm=1.0),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(batches, epochs=args.epochs, verbose=2)
_, accuracy = model.evaluate(keras_batches(encoded["test"], tokenizer, batch_size=128), verbose=0)
majority = np.bincount(splits["test"]["label"]).max() / len(splits["test"])
print(f"{args.dataset}: test accuracy {accuracy:.1%}; always the most frequent class: {majority:.1%}")
if args.out:
    model.save(args.out)
