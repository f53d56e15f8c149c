"""Every logit is the sum of what the filters read, in all four variants, and each window stands where it says."""

import copy
import itertools

import numpy as np
import pytest
import torch

from companion.attribution import explain
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN
from tests.conftest import LONG, VARIANTS

TEXTS = ["a warm and funny film .", "dull", "A  good , slow film .\n", LONG]


def model_of(four, variant):
    names = {"pytorch_class": "model", "keras_class": "keras_class", "keras_functional": "keras_functional"}
    return (four.params, four.bert) if variant == "pytorch_functional" else getattr(four, names[variant])


@pytest.mark.parametrize("units", [None, 7])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_parts_add_up_to_the_logits(build_four, random_encoder, variant, units):
    four = build_four(random_encoder, num_labels=3, hidden_units=units)
    found = list(explain(model_of(four, variant), TEXTS, tokenizer=four.tokenizer))
    logits = four.steps(variant, four.inputs(TEXTS))["logits"]
    for text, explanation, expected in zip(TEXTS, found, logits, strict=True):
        assert explanation.text == text
        np.testing.assert_allclose(explanation.logits, expected, atol=1e-5)
        parts = explanation.contributions
        for label in range(3):
            total = explanation.bias[label] + parts.value[parts.label == label].sum()
            assert total == pytest.approx(expected[label], abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_all_variants_read_the_same_windows(four, variant):
    reference = explain(four.model, TEXTS, tokenizer=four.tokenizer)
    others = explain(model_of(four, variant), TEXTS, tokenizer=four.tokenizer)
    for one, other in zip(reference, others, strict=True):
        for name in ("label", "filter", "kernel_size", "token", "start", "end", "words"):
            assert one.contributions[name].tolist() == other.contributions[name].tolist(), name
        np.testing.assert_allclose(one.contributions.value, other.contributions.value, atol=1e-5)


def test_each_value_comes_from_the_window_it_names(four):
    """Run the filter on that window alone: its value is the contribution, divided by the weight."""
    explanation = next(explain(four.model, TEXTS[0], tokenizer=four.tokenizer))
    inputs = {name: torch.from_numpy(array).long() for name, array in four.inputs(TEXTS[:1]).items()}
    with torch.no_grad():
        hidden = four.model.embed(**inputs)[0]
    for part in explanation.contributions[::17]:
        conv = four.model.convs[[3, 4, 5].index(part.kernel_size)]
        window = hidden[part.token : part.token + part.kernel_size].T[None]
        with torch.no_grad():
            value = conv(window).relu()[0, part.filter % 100, 0] * four.model.classifier.weight[part.label, part.filter]
        assert part.value == pytest.approx(value.item(), abs=1e-5)


def test_windows_stand_where_their_words_stand(four):
    for explanation in explain(four.model, TEXTS, tokenizer=four.tokenizer):
        for part in explanation.contributions:
            assert explanation.text[part.start : part.end] in part.words
            assert len(part.words.split()) <= part.kernel_size
            if part.kernel_size == 3 and part.token == 1:  # the first window that begins behind [CLS]
                assert part.start == 0


def test_words_are_whole_where_tokens_are_pieces():
    model, tokenizer = BertCNN.from_encoder("embedded"), load_tokenizer("embedded")
    text = "Unquestionably the projectionist's masterpiece."
    assert len(tokenizer.tokenize(text)) > 7  # pieces of words
    words = {part.words for part in next(explain(model, text)).contributions}
    for piece in words:
        before, after = text[: text.find(piece)], text[text.find(piece) + len(piece) :]
        assert not (before[-1:] + piece[:1]).isalnum() or not before
        assert not (piece[-1:] + after[:1]).isalnum() or not after


def test_dead_filters_read_nothing(random_encoder):
    model = BertCNN.from_encoder(random_encoder)
    with torch.no_grad():
        model.convs[0].bias[:10] = -1000  # these never fire
    explanation = next(explain(model, "a warm film .", tokenizer=load_tokenizer(random_encoder)))
    assert set(range(10)) <= set(explanation.dead.tolist())
    assert not set(explanation.dead.tolist()) & set(explanation.contributions["filter"].tolist())


def test_ngrams_are_the_contributions_put_together(four):
    explanation = next(explain(four.model, TEXTS[0], tokenizer=four.tokenizer))
    for_one, for_other = (explanation.ngrams(label) for label in (0, 1))
    between = explanation.ngrams(1, against=0)
    assert [abs(value) for *_, value in between] == sorted((abs(value) for *_, value in between), reverse=True)
    one, other = ({(start, end): value for start, end, value in ngrams} for ngrams in (for_one, for_other))
    for start, end, value in between:
        assert value == pytest.approx(other.get((start, end), 0) - one.get((start, end), 0), abs=1e-5)


def test_ngrams_hold_whole_words():
    """The tokens of a made-up word are pieces; a window that ends in one reaches to the end of the word."""
    text = "A flibbertigibbety film."
    model = BertCNN.from_encoder("embedded")
    for start, end, _ in next(explain(model, text)).ngrams(label=1):
        assert not (text[start - 1 : start + 1].isalnum() and start) and not text[end - 1 : end + 1].isalnum()


def test_the_order_of_the_texts_is_kept_and_neighbours_change_nothing(four):
    texts = ["dull", LONG, "a film", "a warm and funny film .", "good"] * 5
    together = [e.logits for e in explain(four.model, texts, tokenizer=four.tokenizer, batch_size=2)]
    alone = [next(explain(four.model, text, tokenizer=four.tokenizer)).logits for text in texts[:5]]
    np.testing.assert_allclose(together, alone * 5, atol=1e-5)


def test_texts_are_read_as_explanations_are_asked_for(four, monkeypatch):
    seen, tokenizer = [], four.tokenizer
    monkeypatch.setattr(
        type(tokenizer), "__call__", lambda self, texts, **kw: seen.extend(texts) or call(self, texts, **kw)
    )
    call = type(tokenizer).__mro__[1].__call__
    explanations = explain(four.model, ["dull"] * 5000, tokenizer=tokenizer)
    assert len(list(itertools.islice(explanations, 10))) == 10
    assert 0 < len(seen) <= 1024  # a pool of batches, not all


def test_what_the_limit_cuts_off_is_said(four):
    long = "a good film . " * 100  # more than 128 tokens
    whole, cut = explain(four.model, ["a good film .  ", long], tokenizer=four.tokenizer)
    assert whole.cut == ""
    assert cut.cut and long.strip().endswith(cut.cut)
    assert len(four.tokenizer(long[: -len(cut.cut) - 1])["input_ids"]) <= 128 < len(four.tokenizer(long)["input_ids"])
    left = copy.deepcopy(four.tokenizer)
    left.truncation_side = "left"
    assert next(explain(four.model, ["dull " * 3 + "good " * 126], tokenizer=left)).cut == "dull dull dull"


@pytest.mark.parametrize(
    "how, message",
    [
        ({"texts": ["good", " "]}, "Text 1 is empty"),
        ({"texts": []}, "no text: give at least one"),
        ({"texts": ["good", None]}, "Text 1 is not a string but NoneType"),
        ({"batch_size": -1}, "A batch has 1 text or more, not -1"),
        ({"labels": [0, 2]}, "There is no class 2: the model has the classes 0 to 1"),
        ({"model": torch.nn.Linear(2, 2)}, "Only a BERT-CNN can be explained: .*, not Linear"),
        ({"model": "bert-cnn"}, "Only a BERT-CNN can be explained: .*, not str"),
    ],
)
def test_bad_input_is_refused_before_any_work(four, how, message):
    with pytest.raises(ValueError, match=message):
        explain(**{"model": four.model, "texts": ["good"], "tokenizer": four.tokenizer, **how})


def test_a_model_in_training_is_read_as_in_use_and_left_in_training(random_encoder):
    model = BertCNN.from_encoder(random_encoder)
    for module in model.encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.train()
    one, other = (
        next(explain(model, TEXTS[0], tokenizer=load_tokenizer(random_encoder))).logits.tolist() for _ in range(2)
    )
    assert one == other and model.training and model.encoder.training
