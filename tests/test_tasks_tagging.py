"""Names in a text: labels stand on first pieces, spans are conlleval's, and pipeline() finds the same ones."""

import numpy as np
import pytest
import torch
import transformers
from conftest import WORDS

from companion.encoders import load_tokenizer
from companion.tasks.data import collate
from companion.tasks.pytorch_class import TaggingCNN
from companion.tasks.tagging import encode, label_names, span_counts, span_scores, spans, text_spans, word_tags

NAMES = ["O", "B-person", "I-person", "B-creative-work", "I-creative-work"]


@pytest.mark.parametrize(
    "tags, expected",
    [
        ("", []),
        ("O O", []),
        ("B-a", [("a", 0, 1)]),
        ("B-a I-a O", [("a", 0, 2)]),
        ("B-a B-a", [("a", 0, 1), ("a", 1, 2)]),
        ("O I-a I-a", [("a", 1, 3)]),  # no B-: a name starts
        ("B-a I-b I-b", [("a", 0, 1), ("b", 1, 3)]),  # another type: a name starts
        ("B-a O I-a", [("a", 0, 1), ("a", 2, 3)]),
        ("I-a B-a I-a", [("a", 0, 1), ("a", 1, 3)]),
        ("O B-creative-work I-creative-work", [("creative-work", 1, 3)]),
    ],
)
def test_spans_are_read_as_conlleval_reads_them(tags, expected):
    assert spans(tags.split()) == expected


def test_scores_of_known_cases():
    gold = ["B-a I-a O B-b".split(), "O O".split(), "B-a".split()]
    found = ["B-a I-a O B-a".split(), "O B-b".split(), "O".split()]
    counts = span_counts(gold, found)
    assert counts.tolist() == [[1, 2, 2], [0, 1, 0], [0, 0, 1]]
    assert span_scores(counts) == pytest.approx({"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3})
    assert span_scores(span_counts(gold, found, "a")) == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5})
    assert span_scores(span_counts(gold, gold)) == {"precision": 1, "recall": 1, "f1": 1}
    assert span_scores(span_counts([["O"]], [["O"]])) == {"precision": 0, "recall": 0, "f1": 0}
    # half of a name is no name: both ends must be right
    assert span_counts([["B-a", "I-a"]], [["B-a", "O"]]).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    "gold, found, message",
    [
        (["B-a", "O"], ["B-a", "O"], "Tags are O, B-type and I-type; here is 'B'"),  # one text, not in a list
        ([["B", "O"]], [["B", "O"]], "here is 'B'"),
        ([["S-a"]], [["S-a"]], "here is 'S-a'"),
        ([[1]], [[1]], "here is 1"),
        ([["O", "O"]], [["O"]], "differ in number"),
    ],
)
def test_other_tags_are_refused_before_they_count_as_no_names(gold, found, message):
    with pytest.raises(ValueError, match=message):
        span_counts(gold, found)


def test_no_text_has_no_score():
    assert span_scores(span_counts([], [])) == {"precision": 0, "recall": 0, "f1": 0}


@pytest.mark.parametrize("dropped", ["\u200b", "\ufe0f", "\x07"])
def test_a_word_without_pieces_does_not_break_a_name(dropped):
    words, gold = ["Odile", dropped, dropped, "Farrant", "and", dropped, "Ada"], "B-a I-a I-a I-a O O B-a".split()
    (row,) = encode([words], [gold], load_tokenizer("embedded"), ["O", "B-a", "I-a"])
    certain = np.eye(3)[np.maximum(row["labels"], 0)]
    assert word_tags(certain, row["words"], len(words), ["O", "B-a", "I-a"]) == gold


def test_a_tokenizer_that_splits_words_differently_is_refused():
    vocabulary = {
        token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "\u0120", "\u0120a"])
    }
    tokenizer = transformers.RobertaTokenizer(vocab=vocabulary, merges=[("\u0120", "a")])
    with pytest.raises(ValueError, match="load it with add_prefix_space=True"):
        encode([["a", "a"]], [["O", "O"]], tokenizer, NAMES)


def test_label_names_are_complete_for_each_type():
    assert label_names([["O", "B-b"], ["I-a"]]) == ["O", "B-a", "I-a", "B-b", "I-b"]


def test_labels_stand_on_first_pieces_alone():
    tokenizer = load_tokenizer("embedded")
    words, tags = ["The", "flibbertigibbet", "of", "Sonmarg", "."], ["O", "B-person", "O", "B-person", "O"]
    (row,) = encode([words], [tags], tokenizer, NAMES)
    ids, labels = row["input_ids"], row["labels"]
    assert len(ids) > len(words) + 2  # some words have several pieces
    assert [NAMES[label] for label in labels[labels >= 0]] == tags
    assert row["words"][labels >= 0].tolist() == list(range(5))
    for place in np.flatnonzero(labels >= 0):
        piece = tokenizer.convert_ids_to_tokens(int(ids[place]))
        assert words[row["words"][place]].lower().startswith(piece)
    assert labels[0] == labels[-1] == -100  # [CLS], [SEP]
    right = np.eye(len(NAMES))[np.maximum(labels, 0)]
    assert word_tags(right, row["words"], len(words), NAMES) == tags


def test_words_beyond_the_encoders_limit_count_as_missed(random_encoder):
    tokenizer, words = load_tokenizer(random_encoder), ["film"] * 200
    (row,) = encode([words], [["B-person"] * 200], tokenizer, NAMES)
    tags = word_tags(np.eye(len(NAMES))[np.maximum(row["labels"], 0)], row["words"], len(words), NAMES)
    assert tags == ["B-person"] * 126 + ["O"] * 74
    assert span_counts([["B-person"] * 200], [tags]).tolist() == [[126, 126, 200]]


def test_an_inner_tag_without_a_first_is_said_and_kept(random_encoder):
    tokenizer = load_tokenizer(random_encoder)
    with pytest.warns(UserWarning, match="^1 names begin with I-, not B-; they are read as names, as in conlleval.$"):
        (row,) = encode([["a", "film"]], [["O", "I-person"]], tokenizer, NAMES)
    assert row["labels"].tolist() == [-100, 0, 2, -100]


@pytest.mark.parametrize(
    "tokens, tags, message",
    [
        ([["a", "film"]], [["O"]], "Text 0 has 2 tokens and 1 tags; each token needs one tag"),
        ([["a"], []], [["O"], []], "Text 1 has 0 tokens and 0 tags"),
        ([["a"], ["b", None]], [["O"], ["O", "O"]], "Text 1 has a token that is not text: None"),
        ([["\ud83d"]], [["O"]], r"Text 0 has a token that is not text: '\\ud83d'"),
        ([["a"]], [["person"]], r"Text 0 has tags that training never shows: \['person'\]"),
        ([["a"]], [["E-person"]], r"Text 0 has tags that training never shows: \['E-person'\]"),
        ([["a"]], [[3]], r"Text 0 has tags that training never shows: \[3\]"),
        ([["a"]], [["B-time"]], r"Text 0 has tags that training never shows: \['B-time'\]"),
    ],
)
def test_bad_tags_are_refused_in_one_sentence(random_encoder, tokens, tags, message):
    with pytest.raises(ValueError, match=message) as caught:
        encode(tokens, tags, load_tokenizer(random_encoder), NAMES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tags", [["PER", "O"], ["E-person"], ["B-"], [3]], ids=str)
def test_training_tags_that_are_not_bio_are_refused(tags):
    with pytest.raises(ValueError, match="Tags are O, B-type and I-type; here is "):
        label_names([["O", "B-person"], tags])
    with pytest.raises(ValueError, match="Tags are O, B-type and I-type; here is "):
        label_names(["O", "B-person"])  # of one text, where those of several are asked for


@pytest.mark.parametrize("kernel_sizes", [(1, 3, 5), ()], ids=str)
@pytest.mark.parametrize("encoder_name", ["random", "embedded"])
def test_pipeline_finds_the_spans_that_the_package_decodes(random_encoder, tmp_path, encoder_name, kernel_sizes):
    encoder = random_encoder if encoder_name == "random" else "embedded"
    torch.manual_seed(3)
    model = TaggingCNN.from_encoder(encoder, kernel_sizes=kernel_sizes, id2label=dict(enumerate(NAMES)))
    model.classifier.weight.data *= 50  # all labels come up, I- without B- among them
    tokenizer = load_tokenizer(encoder)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    find = transformers.pipeline(
        "token-classification", model=str(tmp_path), aggregation_strategy="simple", device="cpu"
    )
    assert type(find.model) is TaggingCNN
    kinds = set()
    for text in [" ".join(WORDS), "A flibbertigibbet, and the projectionist's film.", "dull", "good bad " * 20]:
        found = [(group["entity_group"], group["start"], group["end"]) for group in find(text)]
        encoded = tokenizer(text, return_offsets_mapping=True)
        with torch.no_grad():
            logits = model(torch.tensor([encoded["input_ids"]])).logits[0].numpy()
        assert text_spans(logits, encoded["offset_mapping"], NAMES) == found
        kinds |= {kind for kind, _, _ in found}
    assert kinds


def test_a_pipeline_may_give_token_types(random_encoder):
    model, tokenizer = (
        TaggingCNN.from_encoder(random_encoder),
        transformers.AutoTokenizer.from_pretrained(random_encoder),
    )
    assert "token_type_ids" in tokenizer("dull")
    found = transformers.pipeline("token-classification", model=model, tokenizer=tokenizer, device="cpu")("dull")
    with torch.no_grad():
        scores = model(torch.tensor([tokenizer("dull")["input_ids"]])).logits[0, 1].softmax(0)
    assert found[0]["score"] == pytest.approx(scores.max().item())


def test_even_kernels_have_no_centre():
    for sizes in [(2,), (1, 4)]:
        with pytest.raises(ValueError, match="Centred windows need odd kernel sizes"):
            TaggingCNN.config_class(kernel_sizes=sizes)
    for sizes in [(0,), (3, 3), "35", 3]:
        with pytest.raises(ValueError, match="kernel_sizes must"):
            TaggingCNN.config_class(kernel_sizes=sizes)


def test_a_window_is_centred_on_its_token(random_encoder):
    model = TaggingCNN.from_encoder(random_encoder, kernel_sizes=(1, 5), num_filters=3)
    hidden = torch.randn(1, 9, 32)
    with torch.no_grad():
        one, five = model.convolve(hidden, torch.ones(1, 9))
        changed = hidden.clone()
        changed[0, 4] += 1
        moved = [
            (m - n).abs().amax(dim=2)[0] > 1e-6
            for m, n in zip(model.convolve(changed, torch.ones(1, 9)), (one, five), strict=True)
        ]
    assert one.shape == five.shape == (1, 9, 3)
    assert set(moved[0].nonzero().flatten().tolist()) <= {4}
    assert set(moved[1].nonzero().flatten().tolist()) <= {2, 3, 4, 5, 6}
    assert {2, 6} & set(moved[1].nonzero().flatten().tolist())
    padded = torch.nn.functional.pad(hidden, (0, 0, 2, 2))  # at the ends a window reaches into zeros
    with torch.no_grad():
        expected = model.convs[1](padded.mT).relu().mT
    torch.testing.assert_close(five, expected, rtol=0, atol=1e-5)


def test_the_trainer_learns_to_tag(random_encoder, tmp_path):
    transformers.set_seed(0)
    tokenizer, rng = load_tokenizer(random_encoder), np.random.default_rng(0)
    tokens = [[WORDS[i] for i in rng.integers(0, len(WORDS), 8)] for _ in range(48)]
    tags = [["B-person" if word == "film" else "O" for word in words] for words in tokens]
    for words, own in zip(tokens, tags, strict=True):
        words[3], own[3] = "film", "B-person"
    names = label_names(tags)
    rows = encode(tokens, tags, tokenizer, names)
    model = TaggingCNN.from_encoder(random_encoder, num_filters=16, num_labels=3, dropout=0.0)
    model.encoder.requires_grad_(False)
    options = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "learning_rate": 1e-2}
    arguments = transformers.TrainingArguments(
        tmp_path, num_train_epochs=8, per_device_train_batch_size=16, remove_unused_columns=False, **options
    )
    tensors = lambda rows: {name: torch.from_numpy(array) for name, array in collate(rows).items()}  # noqa: E731
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, data_collator=tensors)
    trainer.train()
    logits = trainer.predict(rows).predictions
    found = [word_tags(z, row["words"], 8, names) for z, row in zip(logits, rows, strict=True)]
    assert span_scores(span_counts(tags, found))["f1"] > 0.8  # 0 before; measured: 0.87
