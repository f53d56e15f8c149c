"""Long documents: every window counts once, however the text is cut, and stands where the explanation says."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from conftest import WORDS
from tokenizers.processors import TemplateProcessing

from companion import attribution, keras_class, weights
from companion.data import load_dataset
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN
from companion.tasks import documents, pytorch_class
from companion.tasks import keras_class as keras_tasks
from companion.tasks.data import collate
from companion.tasks.documents import cut, explain
from companion.tasks.pytorch_class import DocumentCNN, SummaryCNN, TaggingCNN

CUTS = [(16, 4), (16, 9), (20, 5), (32, 4), (32, 17), (64, 61), (100, 30)]


def words(count, seed=0):
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(count))


@pytest.fixture(scope="module")
def tokenizer(random_encoder):
    return load_tokenizer(random_encoder)


@pytest.fixture(scope="module")
def model(random_encoder):
    torch.manual_seed(1)
    model = DocumentCNN.from_encoder(random_encoder)
    model.classifier.weight.data *= 10
    return model


@pytest.fixture(scope="module")
def plain(random_encoder):
    """A model whose encoder gives a word the same vector in every context: attention and positions add nothing."""
    torch.manual_seed(1)
    model = DocumentCNN.from_encoder(random_encoder)
    with torch.no_grad():
        model.encoder.embeddings.position_embeddings.weight.zero_()
        for layer in model.encoder.encoder.layer:
            for parameter in layer.attention.output.dense.parameters():
                parameter.zero_()
    return model


@torch.no_grad()
def logits(model, texts, tokenizer, **options):
    batch = collate(cut(texts, tokenizer, model.config.kernel_sizes, **options))
    return model(**{name: torch.from_numpy(array).long() for name, array in batch.items()}).logits.numpy()


@pytest.mark.parametrize("length, overlap", CUTS)
def test_each_window_counts_once_and_where_its_context_is(tokenizer, length, overlap):
    for count in (0, 1, 3, length - 2, length - 1, 100, 117):
        text = words(count)
        (row,) = cut([text], tokenizer, (3, 5), length=length, overlap=overlap)
        starts = []
        for mask, counts, offsets in zip(row["attention_mask"], row["window_mask"], row["offsets"], strict=True):
            assert not (counts > mask).any()
            inside = np.flatnonzero(counts)
            starts += [tuple(offsets[i]) for i in inside if offsets[i][1]]
            if mask is not row["attention_mask"][-1] and len(row["window_mask"]) > 1 and offsets[inside[-1]][1]:
                last = mask.sum() - 1  # [SEP]
                if offsets[last - 1][1] < len(text):  # a piece that others follow: its last windows lie within it
                    assert inside[-1] + 5 <= last
        assert starts == sorted(set(starts)) and len(starts) == count
        assert row["window_mask"].sum() == count + 2  # one [CLS], one [SEP]


@pytest.mark.parametrize("length, overlap", CUTS)
def test_without_context_every_cut_gives_the_features_of_one_long_text(plain, tokenizer, length, overlap):
    texts = [words(count, seed=count) for count in (0, 2, 40, 120)]
    sentence = BertCNN(plain.config).eval()
    sentence.load_state_dict(plain.state_dict())
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = sentence(**inputs).logits.numpy()
    found = logits(plain, texts, tokenizer, length=length, overlap=overlap)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.001  # a new output layer is small


def test_a_window_that_a_cut_goes_through_is_lost_without_overlap(plain, tokenizer):
    """The check above can fail: with neighbours that share nothing, some windows stand in no piece."""
    text = words(112, seed=120)
    whole = logits(plain, [text], tokenizer, length=128)
    pieces = [text.split()[i : i + 14] for i in range(0, 112, 14)]
    rows = [cut([" ".join(piece)], tokenizer, length=16, overlap=4)[0] for piece in pieces]
    joined = {name: np.concatenate([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
    joined["window_mask"] = joined["attention_mask"]
    with torch.no_grad():
        batch = {name: torch.from_numpy(array)[None].long() for name, array in joined.items()}
        found = plain(**batch).logits.numpy()
    assert np.abs(found - whole).max() > 1e-3


@pytest.mark.parametrize("overlap, whole", [(10, True), (17, True), (4, False), (7, False)])
def test_where_a_windows_context_is_whole_the_cut_does_not_matter(plain, tokenizer, monkeypatch, overlap, whole):
    """With an encoder that reads three neighbours on either side, windows of 5 tokens need an overlap of 2 * 3 + 4."""
    embed = plain.embed

    def embed_neighbours(input_ids, attention_mask):
        hidden = embed(input_ids, attention_mask) * attention_mask[..., None]
        return hidden + torch.nn.functional.avg_pool1d(hidden.mT, 7, stride=1, padding=3).mT

    monkeypatch.setattr(plain, "embed", embed_neighbours)
    texts = [words(120, seed=seed) for seed in range(4)]
    expected = logits(plain, texts, tokenizer, length=128)
    found = logits(plain, texts, tokenizer, length=24, overlap=overlap)
    assert (np.abs(found - expected).max() < 1e-5) == whole


# How far a document's features move when the cut changes, relative to their length. Measured in pieces of 64 tokens: at
# most 0.10 with the embedded encoder, and 0.22 with a random one, whose attention is spread over the whole piece. The
# features of two documents are 0.2 apart. More overlap does not lower this: it keeps windows and near context whole.
TOLERANCE = {"embedded": 0.12, "random": 0.25}


@torch.no_grad()
@pytest.mark.parametrize("name", TOLERANCE)
def test_another_cut_moves_the_features_within_the_tolerance(random_encoder, name):
    encoder = random_encoder if name == "random" else "embedded"
    torch.manual_seed(1)
    model, tokenizer = DocumentCNN.from_encoder(encoder), load_tokenizer(encoder)
    if name == "random":
        texts = [words(120, seed=seed) for seed in range(6)]
    else:
        reviews = load_dataset("matinee")["test"]["text"][:]
        texts = [" ".join(reviews[i : i + 7])[:900] for i in range(0, 42, 7)]

    def features(**options):
        batch = collate(cut(texts, tokenizer, **options))
        inputs = [torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask", "window_mask")]
        return model.read(*inputs).amax(dim=1)

    whole = features(length=128 if name == "random" else 256)
    for overlap in (4, 16, 48):
        moved = (features(length=64, overlap=overlap) - whole).norm(dim=1) / whole.norm(dim=1)
        assert 0 < moved.max() < TOLERANCE[name], overlap


def test_memory_does_not_grow_with_the_length_of_a_document(model, tokenizer, monkeypatch):
    sizes, embed = [], model.embed
    monkeypatch.setattr(model, "embed", lambda ids, mask: sizes.append(len(ids)) or embed(ids, mask))
    logits(model, [words(2000)], tokenizer, length=32, overlap=8)
    assert max(sizes) <= pytorch_class.PIECES and sum(sizes) > 5 * pytorch_class.PIECES


def test_reading_in_batches_gives_the_same_gradients(random_encoder, tokenizer, monkeypatch):
    gradients = []
    for pieces in (1000, 3):
        monkeypatch.setattr(pytorch_class, "PIECES", pieces)
        torch.manual_seed(1)
        model = DocumentCNN.from_encoder(random_encoder, dropout=0.0).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        batch = collate(cut([words(200), words(50)], tokenizer, length=32, overlap=8))
        batch = {name: torch.from_numpy(array).long() for name, array in batch.items()}
        model(**batch, labels=torch.tensor([0, 1])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert len(gradients[0]) > 30 and gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=0, atol=1e-5)


def test_an_explanation_adds_up_and_says_where_each_window_stands(model, tokenizer):
    text = words(150)
    options = {"length": 32, "overlap": 9}
    explanation = explain(model, text, tokenizer, batch_size=3, **options)
    np.testing.assert_allclose(explanation.logits, logits(model, [text], tokenizer, **options)[0], atol=1e-4)
    parts = explanation.contributions
    for label in range(2):
        total = explanation.bias[label] + parts.value[parts.label == label].sum()
        assert total == pytest.approx(explanation.logits[label], abs=1e-4)
    assert parts.end.max() > len(text) * 0.8  # from all over the document
    for part in parts[::41]:
        assert text[part.start : part.end] in part.words and len(part.words.split()) <= part.kernel_size
    (row,) = cut([text], tokenizer, **options)
    part = max(parts, key=lambda part: part.value)
    piece, place = divmod(part.token, row["input_ids"].shape[1])
    hidden = model.embed(*(torch.from_numpy(row[name][[piece]]) for name in ("input_ids", "attention_mask")))[0]
    conv = model.convs[[3, 4, 5].index(part.kernel_size)]
    with torch.no_grad():
        value = conv(hidden[place : place + part.kernel_size].T[None]).relu()[0, part.filter % 100, 0]
        value = float(value * model.classifier.weight[part.label, part.filter])
    assert part.value == pytest.approx(value, abs=1e-4)


def test_a_keras_model_gets_the_same_explanation(model, tokenizer, random_encoder):
    twin = weights.to_keras(model, keras_class.BertCNN.from_encoder(random_encoder))
    text = words(60)
    one, other = (explain(m, text, tokenizer, length=32, overlap=8) for m in (model, twin))
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)
    assert (one.windows == other.windows).mean() > 0.99


@pytest.mark.parametrize(
    "options, message",
    [
        ({"length": 6}, "Pieces of 6 tokens hold 4 of the text; the largest kernel reads 5"),
        ({"length": 1}, "the largest kernel reads 5"),
        ({"length": 129}, "The encoder reads 128 tokens at once, not pieces of 129"),
        ({"length": 32, "overlap": 3}, "can overlap by 4 to 29 tokens, not by 3"),
        ({"length": 32, "overlap": 30}, "can overlap by 4 to 29 tokens, not by 30"),
    ],
)
def test_pieces_that_cannot_hold_every_window_are_refused(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        documents.cut(["dull"], tokenizer, **options)


@pytest.mark.parametrize("texts, message", [([], "no text"), (["good", None], "Text 1 is not a string")])
def test_what_is_no_text_is_refused(tokenizer, texts, message):
    with pytest.raises(ValueError, match=message):
        documents.cut(texts, tokenizer)


def test_a_document_is_not_cut_from_its_end(random_encoder):
    tokenizer = load_tokenizer(random_encoder)
    tokenizer.truncation_side = "left"
    with pytest.raises(ValueError, match="Documents need a tokenizer that cuts on the right"):
        cut([words(99)], tokenizer, length=20, overlap=8)


def test_a_tokenizer_without_cls_and_sep_is_refused(random_encoder):
    tokenizer = load_tokenizer(random_encoder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A", special_tokens=[])
    with pytest.raises(ValueError, match="adds a token at each end, as BERT's"):
        cut([words(99)], tokenizer, length=20, overlap=8)


@pytest.mark.parametrize("make", [TaggingCNN, SummaryCNN, keras_tasks.TaggingCNN, keras_tasks.SummaryCNN])
def test_only_what_classifies_a_text_is_explained(make, random_encoder, tokenizer):
    model = make.from_encoder(random_encoder)
    for explained in (partial(attribution.explain, tokenizer=tokenizer), partial(explain, tokenizer=tokenizer)):
        with pytest.raises(ValueError, match=f"Only a classifier of texts can be explained, not {make.__name__}"):
            explained(model, "good film")


def test_a_batch_keeps_what_its_rows_have():
    rows = [{"input_ids": np.array([1]), "labels": np.array(1)}, {"input_ids": np.array([2]), "labels": np.array(0.5)}]
    assert collate(rows)["labels"].tolist() == [1.0, 0.5]
    with pytest.raises(KeyError, match="labels"):
        collate([{"input_ids": np.array([1])}, rows[0]])


def test_another_encoders_tokenizer_is_refused(model):
    with pytest.raises(ValueError, match="is not that of the model's encoder"):
        explain(model, "good film", load_tokenizer())


def test_several_labels_have_the_loss_of_a_sentences_model(random_encoder, tokenizer):
    model = DocumentCNN.from_encoder(random_encoder, num_labels=3, problem_type="multi_label_classification")
    row = cut(["good film"], tokenizer, length=20, overlap=8)[0]
    inputs = {name: torch.from_numpy(row[name])[None] for name in ("input_ids", "attention_mask", "window_mask")}
    labels = torch.tensor([[1.0, 1.0, 0.0]])
    found = model(**inputs, labels=labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(found.logits, labels)
    assert found.loss.item() == pytest.approx(expected.item())
