"""Datasets by name, token ids, and batches of about equal length."""

import datasets
import numpy as np
import pytest
from conftest import DATA

from companion.data import batch_indices, batches, encode, keras_batches, load_dataset
from companion.encoders import load_tokenizer

SIZES = {
    "cornell-movie-review-data/rotten_tomatoes": ({"train": 8530, "validation": 1066, "test": 1066}, 2),
    "SetFit/sst2": ({"train": 6920, "validation": 872, "test": 1821}, 2),
    "SetFit/sst5": ({"train": 8544, "validation": 1101, "test": 2210}, 5),
    "CogComp/trec": ({"train": 5452, "test": 500}, 6),
    "stanfordnlp/imdb": ({"train": 25000, "test": 25000}, 2),  # its unlabelled split is left out
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("embedded")


@pytest.fixture(scope="module")
def encoded(tokenizer):
    return encode(load_dataset("matinee")["validation"], tokenizer)


def same(one, other):
    pairs = list(zip(one, other, strict=True))
    return all(np.array_equal(a[name], b[name]) for (a, _), (b, _) in pairs for name in a) and all(
        np.array_equal(a, b) for (_, a), (_, b) in pairs
    )


def test_matinee_is_the_default():
    splits = load_dataset()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3818, "validation": 408, "test": 420}
    for rows in splits.values():
        assert rows.features["label"].names == ["negative", "positive"]
        assert np.mean(rows["label"]) == 0.5
        assert rows.features["text"].dtype == "string"


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_a_local_folder(tmp_path, suffix):
    for split, texts in {"train": ["good , very", "bad"], "test": ["dull"]}.items():
        rows = datasets.Dataset.from_dict({"text": texts, "label": [1, 0][: len(texts)]})
        getattr(rows, {"jsonl": "to_json"}.get(suffix, f"to_{suffix}"))(tmp_path / f"{split}-00000-of-00001.{suffix}")
    splits = load_dataset(str(tmp_path))
    assert splits["train"]["text"][:] == ["good , very", "bad"]
    assert (splits["train"]["label"][:], splits["test"]["label"][:]) == ([1, 0], [1])
    assert all(isinstance(rows.features["label"], datasets.ClassLabel) for rows in splits.values())


def test_the_shards_of_a_split_come_together(tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(2):
        rows = datasets.Dataset.from_dict({"text": [f"text {i}"], "label": [i]})
        rows.to_parquet(tmp_path / "data" / f"train-0000{i}-of-00002.parquet")
    assert load_dataset(str(tmp_path))["train"]["text"][:] == ["text 0", "text 1"]


@pytest.mark.parametrize("labels", [["b", "a", "c"], [1, 2, 5], [0, 1, 2]], ids=["words", "stars", "numbers"])
def test_labels_become_classes_the_same_in_all_splits(tmp_path, labels):
    """The second split lacks the first class: its own numbering would differ."""
    for split, chosen in {"train": labels, "test": sorted(labels)[1:]}.items():
        rows = datasets.Dataset.from_dict({"text": ["words"] * len(chosen), "label": chosen})
        rows.to_parquet(tmp_path / f"{split}.parquet")
    splits = load_dataset(str(tmp_path))
    for split, chosen in {"train": labels, "test": sorted(labels)[1:]}.items():
        label = splits[split].features["label"]
        assert label.names == [str(value) for value in sorted(labels)]
        assert [label.int2str(i) for i in splits[split]["label"]] == [str(value) for value in chosen]


def test_an_unlabelled_split_is_left_out(tmp_path):
    for split, labels in {"train": [0, 1], "test": [1], "unsupervised": [-1]}.items():
        rows = datasets.Dataset.from_dict({"text": ["words"] * len(labels), "label": labels})
        rows.to_parquet(tmp_path / f"{split}.parquet")
    splits = load_dataset(str(tmp_path))
    assert set(splits) == {"train", "test"}
    assert splits["train"].features["label"].names == ["0", "1"]


def test_encode_cuts_long_texts_and_keeps_short_ones(tokenizer):
    rows = datasets.Dataset.from_dict({"text": ["word " * 900, "a word", ""], "label": [0, 1, 0]})
    for limit, expected in ((16, 16), (9999, tokenizer.model_max_length)):
        encoded = encode(rows, tokenizer, max_length=limit)
        assert [len(ids) for ids in encoded["input_ids"]] == encoded["length"][:]
        assert encoded["length"][0] == expected and encoded["length"][2] == 2  # [CLS] and [SEP] alone
        assert encoded["input_ids"][0][-1] == tokenizer.sep_token_id
        assert encoded["label"][:] == [0, 1, 0]


def test_the_embedded_tokenizer_knows_english(encoded, tokenizer):
    ids = np.concatenate([np.array(row) for row in encoded["input_ids"]])
    assert np.mean(ids == tokenizer.unk_token_id) < 0.001
    assert (ids < len(tokenizer)).all()


@pytest.mark.parametrize("seed", [None, 0])
def test_batches_hold_every_row_once_with_its_own_label(encoded, tokenizer, seed):
    rows = []
    for inputs, labels in batches(encoded, tokenizer, batch_size=32, seed=seed):
        lengths = inputs["attention_mask"].sum(axis=1)
        assert set(inputs) == {"input_ids", "attention_mask"} and all(a.dtype == np.int32 for a in inputs.values())
        assert len(labels) <= 32 and inputs["input_ids"].shape == (
            len(labels),
            lengths.max(),
        )  # no longer than its longest
        assert not inputs["input_ids"][inputs["attention_mask"] == 0].any()
        rows += [
            (*ids[:n].tolist(), int(label)) for ids, n, label in zip(inputs["input_ids"], lengths, labels, strict=True)
        ]
    expected = [(*ids, label) for ids, label in zip(encoded["input_ids"], encoded["label"], strict=True)]
    assert (rows == expected) if seed is None else (sorted(rows) == sorted(expected) and rows != expected)


def test_a_seed_decides_the_order(encoded, tokenizer):
    first, again, other = (list(batches(encoded, tokenizer, seed=seed)) for seed in (3, 3, 4))
    assert same(first, again)
    assert not np.array_equal(first[0][0]["input_ids"], other[0][0]["input_ids"])


def test_batches_of_about_equal_length_save_padding():
    lengths = np.random.default_rng(0).integers(5, 80, 1000)

    def padding(order):
        return sum(len(batch) * lengths[batch].max() for batch in order) - lengths.sum()

    assert padding(batch_indices(lengths, 32, seed=0)) < 0.2 * padding(batch_indices(lengths, 32, seed=None))


def test_batches_do_not_come_in_the_order_of_length():
    lengths = np.random.default_rng(0).integers(5, 80, 1000)
    longest = [lengths[batch].max() for batch in batch_indices(lengths, 32, seed=0)]
    assert longest != sorted(longest)


@pytest.mark.parametrize("seed", [None, 0])
def test_keras_gets_the_same_batches(encoded, tokenizer, seed):
    """What `fit` draws: the epochs' orders are those of the seeds `seed`, `seed + 1`, ..."""
    sequence = keras_batches(encoded, tokenizer, batch_size=32, seed=seed)
    for epoch in range(2):
        sequence.on_epoch_begin()  # as fit does before each epoch
        drawn = [sequence[i] for i in range(len(sequence))]
        assert same(drawn, batches(encoded, tokenizer, 32, None if seed is None else seed + epoch))
        sequence.on_epoch_end()


@pytest.mark.parametrize("name", SIZES)
def test_real_datasets(name, tokenizer):
    if not (DATA / name).is_dir():
        pytest.skip(f"no {DATA / name}: set COMPANION_DATA to the folder that holds the real datasets")
    splits = load_dataset(str(DATA / name))
    sizes, classes = SIZES[name]
    assert {split: len(rows) for split, rows in splits.items()} == sizes
    for rows in splits.values():
        assert set(rows.unique("label")) == set(range(classes))
        assert rows.features["label"].num_classes == classes
    inputs, labels = next(batches(encode(rows.select(range(40)), tokenizer), tokenizer))
    assert len(inputs["input_ids"]) == len(labels) == 32


@pytest.mark.parametrize("first", [3, 4])  # as long as the second, and one token longer
def test_keras_takes_batches_whatever_the_first_two_have_in_common(tokenizer, first):
    from companion.quiet import keras

    class First(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            first = keras.ops.reshape(inputs["input_ids"][:, 0], (-1, 1))
            return self.dense(keras.ops.cast(first, "float32"))

    ids = [[2] * first] * 8 + [[2] * 3] * 8 + [[2] * 9] * 8
    columns = {"input_ids": ids, "attention_mask": ids, "label": [0] * 24, "length": [len(row) for row in ids]}
    model = First()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(keras_batches(datasets.Dataset.from_dict(columns), tokenizer, 8), epochs=2, verbose=0).history
    assert len(history["loss"]) == 2
    assert np.isfinite(model.evaluate(keras_batches(datasets.Dataset.from_dict(columns), tokenizer, 8), verbose=0))
