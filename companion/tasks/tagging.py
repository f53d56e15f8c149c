"""Names in a text: labels for first word pieces, BIO tags -> spans as conlleval reads them, precision, recall, F1."""

import re
import warnings

import numpy as np

from companion.files import is_text


def check_tags(tags) -> None:
    """Raises ValueError, with one sentence, for a tag that is not of the BIO scheme."""
    if wrong := [tag for tag in tags if not re.fullmatch("O|[BI]-.+", str(tag))]:
        raise ValueError(f"Tags are O, B-type and I-type; here is {wrong[0]!r}.")


def label_names(tags) -> list[str]:
    """Return a tagger's classes: "O", then B- and I- of each type in the tags of the training texts."""
    check_tags(tag for row in tags for tag in row)
    types = sorted({tag[2:] for row in tags for tag in row if tag != "O"})
    return ["O", *(f"{prefix}-{type}" for type in types for prefix in "BI")]


def spans(tags) -> list[tuple[str, int, int]]:
    """Return (type, start, end) of each name; as in conlleval, an I- without a B- of its type before it starts one."""
    check_tags(tags)
    found, type, start = [], "", 0
    for i, tag in enumerate([*tags, "O"]):
        if type and tag != f"I-{type}":
            found.append((type, start, i))
            type = ""
        if tag != "O" and not type:
            type, start = tag[2:], i
    return found


def encode(tokens, tags, tokenizer, names) -> list[dict]:
    """Return a row for each text: `input_ids`, `attention_mask`, `labels` and `words`, (T,) each.

    labels: -100 except on a word's first piece. words: the number of the word that starts here, or -1.
    Warns of an I- without a B-. Raises ValueError, with one sentence, for tokens and tags of different lengths, for a
    token that is not text, for tags that are not among the names, and for a tokenizer that needs spaces before words.
    """
    rows, repaired = [], 0
    if tokenizer(["a", "a"], is_split_into_words=True)["input_ids"] != tokenizer("a a")["input_ids"]:
        raise ValueError("The tokenizer splits words and running text differently: load it with add_prefix_space=True.")
    for i, (words, own) in enumerate(zip(tokens, tags, strict=True)):
        if isinstance(words, str) or len(words) != len(own) or not len(words):
            raise ValueError(f"Text {i} has {len(words)} tokens and {len(own)} tags; each token needs one tag.")
        if wrong := [word for word in words if not (isinstance(word, str) and is_text(word))]:
            raise ValueError(f"Text {i} has a token that is not text: {wrong[0]!r:.80}.")
        if unseen := sorted(set(own) - set(names), key=str):
            raise ValueError(f"Text {i} has tags that training never shows: {unseen}; it shows {list(names)}.")
        repaired += sum(own[start][0] == "I" for _, start, _ in spans(own))
        found = tokenizer(list(words), is_split_into_words=True, truncation=True)
        ids = [-1 if i is None else i for i in found.word_ids()]
        first = np.array([-1 if i == before else i for before, i in zip([-1, *ids], ids, strict=False)])
        row = {name: np.array(found[name]) for name in ("input_ids", "attention_mask")} | {"words": first}
        rows.append(row | {"labels": np.array([names.index(own[i]) if i >= 0 else -100 for i in first])})
    if repaired:
        warnings.warn(f"{repaired} names begin with I-, not B-; they are read as names, as in conlleval.", stacklevel=2)
    return rows


def word_tags(logits, words, count: int, names) -> list[str]:
    """Return a tag for each of a text's `count` words, from logits (T, C); "O" for words beyond the encoder's limit.

    A word that the tokenizer drops, for example a zero-width space, does not break the name that goes on behind it.
    """
    tags, best = ["O"] * count, np.argmax(logits, axis=-1)
    for place in np.flatnonzero(np.asarray(words) >= 0):
        tags[words[place]] = names[best[place]]
    for dropped in sorted(set(range(max(words, default=0))) - set(words), reverse=True):
        tags[dropped] = tags[dropped + 1] if tags[dropped + 1].startswith("I-") else "O"
    return tags


def text_spans(logits, offsets, names) -> list[tuple[str, int, int]]:
    """Return (type, start, end) in characters, from logits (T, C) and offsets (T, 2) of a text's word pieces.

    As `pipeline("token-classification", aggregation_strategy="simple")` does, it reads a tag from each piece.
    """
    pieces = [i for i, (start, end) in enumerate(offsets) if end > start]  # not [CLS] and [SEP]
    found = spans([names[i] for i in np.argmax(logits, axis=-1)[pieces]])
    return [(type, int(offsets[pieces[a]][0]), int(offsets[pieces[b - 1]][1])) for type, a, b in found]


def span_counts(gold, predicted, type: str | None = None) -> np.ndarray:
    """Return (right, predicted, gold) spans of each text, (N, 3), of all types or of one. Right: type and both ends."""
    if list(map(len, gold)) != list(map(len, predicted)):
        raise ValueError("Marked and predicted tags differ in number: they are not those of the same texts.")
    sets = [[{s for s in spans(tags) if type in (None, s[0])} for tags in rows] for rows in (gold, predicted)]
    return np.array([(len(one & other), len(other), len(one)) for one, other in zip(*sets, strict=True)])


def span_scores(counts) -> dict[str, float]:
    """Return precision, recall and F1 of all texts' spans together; 0 where there is nothing to divide by."""
    right, predicted, gold = np.reshape(counts, (-1, 3)).sum(axis=0).tolist()
    scores = {"precision": (right, predicted), "recall": (right, gold), "f1": (2 * right, predicted + gold)}
    return {name: a / b if b else 0.0 for name, (a, b) in scores.items()}
