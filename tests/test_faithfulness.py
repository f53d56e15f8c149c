"""Scores for words and the deletion test, on a model of which we know what matters to it."""

import copy

import numpy as np
import pytest
import torch

from companion.attribution import explain
from companion.encoders import load_tokenizer
from companion.faithfulness import METHODS, deletion_curves, read_logits, window_falls, word_scores
from companion.pytorch_class import BertCNN

TEXTS = ["a warm and funny film .", "good", "slow , dull and not one minute of noise .", "moving film"]
ORACLE = ["the film and a good moving minute of noise .", "good film , not one slow minute", "a film of noise is good"]


@pytest.fixture(scope="module")
def model(random_encoder):
    torch.manual_seed(0)
    return BertCNN.from_encoder(random_encoder, dropout=0.0).eval()


@pytest.fixture(scope="module")
def tokenizer(random_encoder):
    return load_tokenizer(random_encoder)


@pytest.fixture(scope="module")
def oracle(random_encoder, tokenizer):
    """A model whose class 1 depends on the word "good" alone: nothing is mixed, and one filter reads that word."""
    model = BertCNN.from_encoder(random_encoder, kernel_sizes=[1], num_filters=2, dropout=0.0).eval()
    for layer in model.encoder.encoder.layer:  # each layer adds nothing to what it is given, but normalises it
        for part in (layer.attention.output.dense, layer.output.dense):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
    embeddings = model.encoder.embeddings
    for table in (embeddings.position_embeddings, embeddings.token_type_embeddings):
        torch.nn.init.zeros_(table.weight)
    with torch.no_grad():
        words = embeddings.word_embeddings.weight
        words[:, 0], words[tokenizer.convert_tokens_to_ids("good"), 0] = 0.0, 3.0
        for parameter in (*model.convs.parameters(), *model.classifier.parameters()):
            parameter.zero_()
        model.convs[0].weight[0, 0, 0] = 1.0
        model.convs[0].bias[:] = -1.0
        model.classifier.weight[1, 0], model.classifier.bias[0] = 4.0, 1.0
    return model


def differences(model, texts, tokenizer):
    """The predicted class's logit minus the other's, and the two classes."""
    logits = read_logits(model, [text.split() for text in texts], tokenizer)
    return np.ptp(logits, axis=1), logits.argmax(axis=1)


def test_integrated_gradients_are_complete(model, tokenizer):
    """Sundararajan et al. 2017, Proposition 1: they add up to what separates the text from its baseline."""
    scores = word_scores(model, TEXTS, "integrated gradients", tokenizer)
    whole, labels = differences(model, TEXTS, tokenizer)
    masked = read_logits(model, [["[MASK]"] * len(tokenizer.tokenize(text)) for text in TEXTS], tokenizer)
    rows = np.arange(len(TEXTS))
    expected = whole - (masked[rows, labels] - masked[rows, 1 - labels])
    np.testing.assert_allclose([row.sum() for row in scores], expected, atol=0.1 * np.abs(expected).max())


def test_what_windows_add_is_shared_out_completely(model, tokenizer):
    scores = word_scores(model, TEXTS, "filters", tokenizer)
    whole, labels = differences(model, TEXTS, tokenizer)
    bias = model.classifier.bias.detach().numpy()
    np.testing.assert_allclose([row.sum() for row in scores], whole - bias[labels] + bias[1 - labels], atol=1e-5)


def test_an_ngram_is_shared_among_its_own_words(model, tokenizer):
    """Nothing goes to a word that no window touches."""
    text = TEXTS[2]
    (scores,) = word_scores(model, [text], "filters", tokenizer)
    (explanation,) = explain(model, text, tokenizer=tokenizer)
    read = {token - 1 for start, size in explanation.read for token in range(start, start + size)}
    assert set(np.flatnonzero(scores)) <= read


# Not gradient x input: layer normalization ignores the length of its input, so the gradient has no part along it.
@pytest.mark.parametrize("method", ["filters", "integrated gradients", "occlusion"])
def test_the_word_that_decides_is_found(oracle, tokenizer, method):
    for text, scores in zip(ORACLE, word_scores(oracle, ORACLE, method, tokenizer), strict=True):
        assert text.split()[scores.argmax()] == "good"


def test_deleting_the_word_that_decides_turns_the_verdict_and_keeping_it_does_not(oracle, tokenizer):
    scores = word_scores(oracle, ORACLE, "occlusion", tokenizer)
    comprehensiveness, sufficiency = deletion_curves(oracle, ORACLE, scores, [1, 3], tokenizer)
    assert comprehensiveness.shape == sufficiency.shape == (3, 2)
    assert (comprehensiveness > 0.5).all() and (np.abs(sufficiency) < 1e-6).all()


def test_a_random_order_finds_it_as_often_as_chance_does(oracle, tokenizer):
    text = ORACLE[0]
    texts = [text] * 400
    first = [row.argmax() for row in word_scores(oracle, texts, "random", tokenizer)]
    words = len(text.split())
    hits = np.mean([text.split()[place] == "good" for place in first])
    assert abs(hits - 1 / words) < 4 * np.sqrt(1 / words / 400)


def test_occlusion_is_the_best_single_word_for_any_model(model, tokenizer):
    curves = {
        m: deletion_curves(model, TEXTS, word_scores(model, TEXTS, m, tokenizer), [1], tokenizer) for m in METHODS
    }
    for comprehensiveness, _ in curves.values():
        assert (comprehensiveness <= curves["occlusion"][0] + 1e-6).all()


def test_all_words_are_the_whole_text_and_none_is_left_without_them(model, tokenizer):
    scores = word_scores(model, TEXTS, "random", tokenizer)
    comprehensiveness, sufficiency = deletion_curves(model, TEXTS, scores, [100], tokenizer)
    assert np.abs(sufficiency).max() < 1e-6
    empty = torch.tensor(read_logits(model, [[]], tokenizer)).softmax(-1)[0].numpy()
    whole = torch.tensor(read_logits(model, [text.split() for text in TEXTS], tokenizer)).softmax(-1).numpy()
    np.testing.assert_allclose(comprehensiveness[:, 0], whole.max(axis=1) - empty[whole.argmax(axis=1)], atol=1e-6)


def test_each_run_of_words_is_taken_out_once(oracle, tokenizer):
    text = ORACLE[0]  # "good" is the fifth of ten words
    (falls,) = window_falls(oracle, [text], [3], tokenizer)
    assert np.flatnonzero(falls > 1).tolist() == [2, 3, 4] and len(falls) == 8
    assert np.abs(np.delete(falls, [2, 3, 4])).max() < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_neighbours_and_order_change_nothing(model, tokenizer, method):
    if method == "random":
        assert (
            word_scores(model, TEXTS, method, tokenizer)[0].tolist()
            == word_scores(model, TEXTS[:1], method, tokenizer)[0].tolist()
        )
        return
    together = word_scores(model, TEXTS, method, tokenizer)
    for text, row in zip(TEXTS, together, strict=True):
        (alone,) = word_scores(model, [text], method, tokenizer)
        np.testing.assert_allclose(row, alone, atol=1e-4)
        assert len(row) == len(text.split())


def test_the_model_is_left_as_it_was(model, tokenizer):
    before = model.encoder.config._attn_implementation
    for method in METHODS:
        word_scores(model, TEXTS, method, tokenizer)
    assert model.encoder.config._attn_implementation == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_more_than_two_classes_are_compared_with_the_runner_up(random_encoder, tokenizer):
    model = BertCNN.from_encoder(random_encoder, num_labels=4).eval()
    scores = word_scores(model, TEXTS, "filters", tokenizer)
    logits = np.sort(read_logits(model, [text.split() for text in TEXTS], tokenizer), axis=1)
    np.testing.assert_allclose([row.sum() for row in scores], logits[:, -1] - logits[:, -2], atol=1e-5)  # biases are 0


def call(name, **how):
    functions = {"scores": word_scores, "curves": deletion_curves, "falls": window_falls}
    return functions[name](**how)


@pytest.mark.parametrize(
    "name, how, message",
    [
        ("scores", {"method": "lime"}, "There is no method 'lime': choose one of filters, "),
        (
            "scores",
            {"method": "filters", "texts": ["good", " "]},
            "Text 1 is empty, or longer than the model's 128 tokens",
        ),
        (
            "scores",
            {"method": "filters", "texts": ["good " * 127]},
            "Text 0 is empty, or longer than the model's 128 tokens",
        ),
        ("scores", {"method": "filters", "texts": [None]}, "Text 0 is not a string but NoneType"),
        ("scores", {"method": "filters", "texts": []}, "There is no text"),
        ("scores", {"method": "filters", "model": "bert"}, "The deletion test needs the PyTorch class"),
        ("curves", {"scores": [[1.0]], "counts": [1]}, "The scores do not fit the texts"),
        ("curves", {"scores": [[1.0, float("nan")]], "counts": [1]}, "each word of each text needs one finite score"),
        ("curves", {"scores": [[1.0, 2.0]], "counts": [0]}, r"Counts are numbers of words, 1 or more, not \[0\]"),
        ("curves", {"scores": [[1.0, 2.0]], "counts": []}, "Counts are numbers of words"),
        ("falls", {"sizes": [3]}, "Each text needs a size, from one word to all of its words"),
        ("falls", {"sizes": []}, "Each text needs a size"),
    ],
)
def test_bad_input_is_refused_with_one_sentence(model, tokenizer, name, how, message):
    with pytest.raises(ValueError, match=message):
        call(name, **{"model": model, "texts": ["good film"], "tokenizer": tokenizer, **how})


@pytest.mark.parametrize("method", METHODS)
def test_the_tokenizers_side_and_the_models_precision_change_nothing(model, random_encoder, method):
    left = load_tokenizer(random_encoder)
    left.padding_side = "left"
    right, found = (word_scores(model, TEXTS, method, t) for t in (load_tokenizer(random_encoder), left))
    for one, other in zip(right, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert np.isfinite(np.concatenate(word_scores(copy.deepcopy(model).bfloat16(), TEXTS, method, left))).all()


@pytest.mark.parametrize("function", [word_scores, deletion_curves, window_falls])
def test_what_belongs_to_another_model_is_refused(model, random_encoder, function):
    more = {word_scores: ("occlusion",), deletion_curves: ([[1.0]], [1]), window_falls: ([1],)}[function]
    with pytest.raises(ValueError, match="The tokenizer, of 8192 tokens, is not that of the model's encoder"):
        function(model, ["good"], *more)
    for settings in ({"num_labels": 1}, {"problem_type": "multi_label_classification"}):
        with pytest.raises(ValueError, match="needs a model that chooses one of several classes"):
            function(BertCNN.from_encoder(random_encoder, num_filters=2, **settings), ["good"], *more)


def test_a_model_in_training_is_refused(random_encoder, tokenizer):
    with pytest.raises(ValueError, match="in evaluation mode"):
        word_scores(BertCNN.from_encoder(random_encoder).train(), TEXTS, "filters", tokenizer)
