"""Summaries by picking sentences: baselines, oracle, scores of known cases, and both frameworks learn the same loss."""

import keras
import numpy as np
import pytest
import torch
from conftest import WORDS

from companion.encoders import load_tokenizer
from companion.tasks import keras_class
from companion.tasks.data import collate
from companion.tasks.pytorch_class import SummaryCNN
from companion.tasks.summaries import centrality, encode, lead, oracle, pick, precision, rouge

SENTENCES = [
    "The hall was cold.",
    "A film about a lighthouse won the prize.",
    "The prize was a film reel.",
    "Tea came.",
]


def test_a_single_reference_is_a_list_of_one():
    assert rouge("the cat sat", "the cat sat") == rouge("the cat sat", ["the cat sat"])


def test_pick_takes_the_highest_in_the_documents_order():
    assert pick([0.1, 3, 2, 5], 2) == [1, 3]
    assert pick([1, 1, 1], 2) == [0, 1]  # of equal ones the earlier
    assert pick(lead(SENTENCES), 3) == [0, 1, 2]


@pytest.mark.parametrize("k", [0, 3, -1])
def test_a_summary_longer_than_its_document_is_refused(k):
    with pytest.raises(ValueError, match=f"A summary of {k} sentences cannot be picked from a document of 2"):
        pick([1, 2], k)


@pytest.mark.parametrize("scores", [[np.nan, 1.0], [[0.1, 0.9]], 1.0], ids=str)
def test_scores_that_are_none_pick_nothing(scores):
    with pytest.raises(ValueError, match="A summary needs one score for each sentence, and no NaN"):
        pick(scores, 1)


def test_references_that_rouge_cannot_read_are_refused():
    with pytest.raises(ValueError, match="ROUGE reads the letters a to z and digits; the references have none"):
        rouge("Привет мир", ["Привет мир"])
    with pytest.raises(ValueError, match="the references have none"):
        rouge("a film", [])


def test_a_padded_sentence_is_no_key_sentence():
    assert precision([0, 2], [1, 0, -100]) == 0.5


def test_the_most_central_sentence_shares_words_with_the_others():
    assert pick(centrality(SENTENCES), 1) == [2]
    assert centrality(["...", "!", "?"]).shape == (3,)  # no word in it


def test_rouge_of_known_cases():
    # "the cat sat" : 3 of 4 words of the reference, 2 of 3 bigrams
    scores = rouge("the cat sat", ["the cat sat down"])
    assert scores == pytest.approx({"rouge1": 6 / 7, "rouge2": 4 / 5, "rougeL": 6 / 7})
    assert rouge("sat cat the", ["the cat sat"]) == pytest.approx({"rouge1": 1, "rouge2": 0, "rougeL": 1 / 3})
    assert rouge("running films", ["run film"])["rouge2"] == 1  # Porter's stems
    assert rouge("a b", ["x y", "a b"])["rouge1"] == 1  # the best reference
    assert rouge("", ["a b"]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}


def test_the_oracle_is_the_best_pick():
    references = ["A film about a lighthouse won the prize. Tea came."]
    assert pick(oracle(SENTENCES, references, 1), 1) == [1]
    assert pick(oracle(SENTENCES, references, 2), 2) == [1, 3]
    assert sorted(oracle(SENTENCES, references, 2).tolist()) == [0, 0, 1, 2]
    assert np.count_nonzero(oracle(SENTENCES, references, 9)) == 4


def test_precision_at_k():
    assert precision([0, 2], [1, 0, 0, 1]) == 0.5
    assert precision([3], [1, 0, 0, 1]) == 1.0


@pytest.mark.parametrize(
    "sentences, key, message",
    [
        ([["a"], []], [[1], []], "Document 1 has no sentence"),
        ([["", "  "]], [[1, 0]], "Document 0 has no sentence"),
        ([["a", "film"]], [[1]], "Document 0 has 2 sentences; `key` needs a 0 or 1 for each of them"),
        ([["a"]], [[2]], "Document 0 has 1 sentences; `key` needs a 0 or 1"),
        (["ab"], [[1, 0]], "Document 0 is not a list of sentences"),
        ([["a"], ["a", None]], [[1], [1, 0]], "Document 1 is not a list of sentences that are text"),
    ],
)
def test_bad_documents_are_refused_in_one_sentence(random_encoder, sentences, key, message):
    with pytest.raises(ValueError, match=message) as caught:
        encode(sentences, key, load_tokenizer(random_encoder))
    assert "\n" not in str(caught.value)


def test_sentences_are_padded_on_the_right_whatever_the_tokenizers_side(random_encoder):
    """What is computed from the encoder's vectors relies on it."""
    left = load_tokenizer(random_encoder)
    left.padding_side = "left"
    one, other = (encode([["a film", "good"]], [[1, 0]], t)[0] for t in (load_tokenizer(random_encoder), left))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def documents(count, seed=0):
    rng = np.random.default_rng(seed)
    sentences = [
        [" ".join(WORDS[i] for i in rng.integers(0, 12, 5)) for _ in range(rng.integers(3, 7))] for _ in range(count)
    ]
    key = []
    for document in sentences:
        marked = int(rng.integers(0, len(document)))
        document[marked] += " wasted"
        key.append([int(i == marked) for i in range(len(document))])
    return sentences, key


def test_the_loss_is_the_same_in_both_frameworks_and_ignores_padding(random_encoder):
    rows = encode(*documents(5), load_tokenizer(random_encoder))
    batch = collate(rows)
    assert (batch["labels"] == -100).any()
    model = SummaryCNN.from_encoder(random_encoder)
    with torch.no_grad():
        output = model(**{name: torch.from_numpy(array) for name, array in batch.items()})
    logits = output.logits.numpy().astype(float)
    real = batch["labels"] >= 0
    expected = np.mean(np.log1p(np.exp(logits[real])) - batch["labels"][real] * logits[real])
    assert output.loss.item() == pytest.approx(expected, abs=1e-5)
    theirs = keras_class.marked_cross_entropy(batch["labels"], keras.ops.convert_to_tensor(output.logits.numpy()))
    assert np.mean(theirs) == pytest.approx(expected, abs=1e-5)


def test_a_sample_weight_counts_a_documents_own_loss():
    """Weight 0 takes a document out; alone it counts as it does beside another of the same length."""
    labels = np.array([[1, 0, 0], [0, 1, -100]])
    logits = np.array([[3.0, -1.0, 2.0], [0.5, -4.0, 9.0]], "float32")
    losses = np.log1p(np.exp(logits)) - np.maximum(labels, 0) * logits
    own = np.array([losses[0].sum(), losses[1, :2].sum()])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile("sgd", keras_class.marked_cross_entropy)
    for weight in ([1, 1], [1, 0], [0, 1], [2, 0]):
        found = model.evaluate(logits, labels, sample_weight=np.array(weight, "float32"), batch_size=2, verbose=0)
        assert found == pytest.approx(np.dot(weight, own) / 5, rel=1e-5)


def test_keras_fit_learns_to_pick(random_encoder):
    keras.utils.set_random_seed(0)
    rows = encode(*documents(32), load_tokenizer(random_encoder))
    batch = {name: array.astype(np.int32) for name, array in collate(rows).items()}
    labels = batch.pop("labels")
    model = keras_class.SummaryCNN.from_encoder(random_encoder, num_filters=16, dropout=0.0)
    model.encoder.trainable = False
    model.compile(keras.optimizers.Adam(0.01), keras_class.marked_cross_entropy)
    losses = model.fit(batch, labels, batch_size=8, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 3
    logits = model.predict(batch, batch_size=8, verbose=0)
    assert np.mean([pick(z[y >= 0], 1) == [y.argmax()] for z, y in zip(logits, labels, strict=True)]) > 0.9
