"""Logits depend on the text alone: not on padding, not on the batch around it."""

import numpy as np
import pytest
import torch
from conftest import TEXTS, VARIANTS, assert_same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

SHAPES = {
    "batch": st.integers(1, 4),
    "length": st.integers(1, 10),
    "extra": st.integers(0, 7),
    "seed": st.integers(0, 9999),
}
QUICK = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def random_batch(batch, length, extra, seed):
    """hidden, mask and both with `extra` more positions of padding; every padding vector is noise."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(batch, length + extra, 32)).astype(np.float32) * 3
    mask = (np.arange(length + extra) < rng.integers(0, length + 1, (batch, 1))).astype(np.int32)
    return hidden[:, :length], mask[:, :length], hidden, mask


def moved_right(hidden, mask, places):
    """The same texts with padding on the left: every row is rolled by its number of places."""
    rows = np.arange(len(mask))[:, None]
    columns = (np.arange(mask.shape[1]) - np.asarray(places)[:, None]) % mask.shape[1]
    return hidden[rows, columns], mask[rows, columns]


@pytest.fixture(scope="module", params=[(3, 4, 5), (1, 2, 7)], ids=str)
def heads(request, build_four, random_encoder):
    return build_four(random_encoder, kernel_sizes=request.param, num_filters=6)


@pytest.mark.parametrize("variant", VARIANTS)
@QUICK
@given(**SHAPES)
def test_a_head_sees_no_padding(heads, variant, batch, length, extra, seed):
    hidden, mask, padded_hidden, padded_mask = random_batch(batch, length, extra, seed)
    short, padded = heads.head(variant, hidden, mask), heads.head(variant, padded_hidden, padded_mask)
    del short["maps"], padded["maps"]  # as wide as the padding: more windows, all of them 0
    assert_same(short, padded, 1e-5, variant)


@pytest.mark.parametrize("variant", VARIANTS)
@QUICK
@given(**SHAPES)
def test_a_head_reads_a_text_the_same_wherever_it_stands(heads, variant, batch, length, extra, seed):
    _, _, hidden, mask = random_batch(batch, length, extra, seed)
    left = mask.shape[1] - mask.sum(axis=1)  # all padding before the text
    some = np.random.default_rng(seed).integers(0, left + 1)  # padding on both sides
    right = heads.head(variant, hidden, mask)
    for places in (left, some):
        moved = heads.head(variant, *moved_right(hidden, mask, places))
        for name in ("features", "logits"):
            np.testing.assert_allclose(moved[name], right[name], atol=1e-5, err_msg=f"{name}, {variant}")


@pytest.mark.parametrize("variant", VARIANTS)
@QUICK
@given(**SHAPES)
def test_the_four_heads_agree_on_masks_with_holes(heads, variant, batch, length, extra, seed):
    _, _, hidden, mask = random_batch(batch, length, extra, seed)
    mask = np.random.default_rng(seed).integers(0, 2, mask.shape).astype(np.int32)
    assert_same(heads.head("pytorch_class", hidden, mask), heads.head(variant, hidden, mask), 1e-5, variant)


@QUICK
@given(**SHAPES)
def test_the_four_heads_agree_on_any_shape(heads, batch, length, extra, seed):
    _, _, hidden, mask = random_batch(batch, length, extra, seed)
    reference = heads.head("pytorch_class", hidden, mask)
    for variant in VARIANTS[1:]:
        assert_same(reference, heads.head(variant, hidden, mask), 1e-5, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_windows_over_padding_are_zero_and_windows_in_the_text_are_not_touched(heads, variant):
    hidden, _, _, _ = random_batch(1, 10, 0, 0)
    for length in (0, 1, 4, 10):
        mask = (np.arange(10) < length).astype(np.int32)[None]
        masked, unmasked = (heads.head(variant, hidden, m)["maps"] for m in (mask, np.ones_like(mask)))
        for k, windows, free in zip(heads.model.config.kernel_sizes, masked, unmasked, strict=True):
            assert windows.shape[1] == 10
            inside = max(0, length - k + 1)  # windows that lie within the text
            np.testing.assert_allclose(windows[:, :inside], free[:, :inside], atol=1e-5)
            assert not windows[:, max(inside, 1) :].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_text_gets_the_same_logits_alone_padded_and_in_any_batch(four, variant):
    together = four.steps(variant, four.inputs(TEXTS))["logits"]
    reverse = four.steps(variant, four.inputs(TEXTS[::-1]))["logits"]
    np.testing.assert_allclose(together, reverse[::-1], atol=1e-5)
    for text, logits in zip(TEXTS, together, strict=True):
        alone = four.inputs([text])
        wider = four.inputs([text], padding="max_length", max_length=alone["input_ids"].shape[1] + 7)
        assert wider["attention_mask"].sum() == alone["attention_mask"].sum()
        left = {name: np.roll(array, 7, axis=1) for name, array in wider.items()}
        middle = {name: np.roll(array, 3, axis=1) for name, array in wider.items()}
        for inputs in (alone, wider, left, middle):
            np.testing.assert_allclose(four.steps(variant, inputs)["logits"][0], logits, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 0.01  # four texts, different answers


def article(model, hidden):
    """The snippets' example: a picture of one channel under Conv2d, no mask anywhere."""
    x = hidden.unsqueeze(1)  # (B, 1, T, D)
    pooled = []
    for conv in model.convs:
        kernel = conv.weight.transpose(1, 2).unsqueeze(1)  # (F, 1, k, D), as nn.Conv2d(1, F, (k, D)) has it
        maps = F.relu(F.conv2d(x, kernel, conv.bias)).squeeze(3)  # (B, F, W_k)
        pooled.append(F.max_pool1d(maps, maps.size(2)).squeeze(2))  # (B, F)
    features = F.dropout(torch.cat(pooled, 1), 0.5, training=False)
    return F.linear(features, model.classifier.weight, model.classifier.bias)


@torch.no_grad()
def test_without_padding_the_class_equals_the_article(build_four, encoder):
    four = build_four(encoder)
    for text in TEXTS[::3]:
        inputs = {name: torch.from_numpy(array).long() for name, array in four.inputs([text, text]).items()}
        expected = article(four.model, four.model.encoder(**inputs).last_hidden_state)
        torch.testing.assert_close(four.model(**inputs).logits, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_articles_formula_changes_with_padding(four):
    answers = []
    for length in (8, 40):
        arrays = four.inputs(TEXTS[:1], padding="max_length", max_length=length)
        inputs = {name: torch.from_numpy(array).long() for name, array in arrays.items()}
        answers.append(article(four.model, four.model.encoder(**inputs).last_hidden_state))
    assert (answers[0] - answers[1]).abs().max() > 0.01
