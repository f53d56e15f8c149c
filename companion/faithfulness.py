"""Do the words that an explanation names matter to the model? Scores for words, and the deletion test.

A word is what stands between two spaces, with its punctuation: W words in a text. "The difference" is the logit of the
class predicted for the whole text minus the runner-up's. `model` is the PyTorch class; `tokenizer` is the series'
default if none is given. Bad input raises ValueError with one sentence before any work.
"""

import numpy as np
import torch
from captum.attr import InputXGradient, IntegratedGradients
from scipy.special import softmax

from companion.attribution import explain
from companion.data import check_texts
from companion.encoders import check_tokenizer, load_tokenizer

METHODS = ("filters", "integrated gradients", "occlusion", "gradient x input", "attention", "random")
STEPS = 20  # of integrated gradients


def word_scores(model, texts, method: str, tokenizer=None, seed: int = 0) -> list[np.ndarray]:
    """How much each word speaks for the predicted class, by one of `METHODS`: N arrays (W,).

    filters: what each window adds (see `explain`), divided equally among its tokens; adds up to the difference less
    the bias, if each window holds a word. integrated gradients: Sundararajan et al. 2017, from [MASK] in place of each
    token to the text; adds up to the difference less that of the masked text, as closely as `STEPS` allow. occlusion:
    the fall of the difference when the word alone is deleted. gradient x input: at the word embeddings. attention:
    what the word gets in the last layer, over heads and queries. random: uniform, with `seed`.
    """
    tokenizer, words = _check(model, texts, tokenizer)
    if method not in METHODS:
        raise ValueError(f"There is no method '{method}': choose one of {', '.join(METHODS)}.")
    if method == "random":
        return [np.random.default_rng([seed, place]).random(len(row)) for place, row in enumerate(words)]
    if method == "occlusion":
        return window_falls(model, texts, [1] * len(texts), tokenizer)
    pairs, found = _pairs(read_logits(model, words, tokenizer)), [np.empty(0)] * len(texts)
    for places, inputs in _batches(words, tokenizer):
        inside = np.array([[-1 if word is None else word for word in row.word_ids] for row in inputs.encodings])
        if method == "filters":
            explanations = explain(model, [texts[place] for place in places], tokenizer=tokenizer)
            scores = [_share(e, pairs[place], inside.shape[1]) for e, place in zip(explanations, places, strict=True)]
        else:
            scores = _look_inside(model, inputs, inside >= 0, torch.from_numpy(pairs[places]), method, tokenizer)
        for place, row, word in zip(places, scores, inside, strict=True):
            found[place] = np.bincount(word[word >= 0], row[word >= 0], minlength=len(words[place]))
    return found


def deletion_curves(model, texts, scores, counts, tokenizer=None) -> tuple[np.ndarray, np.ndarray]:
    """(comprehensiveness, sufficiency), each (N, len(counts)), of scores as `word_scores` returns them.

    How far the probability of the predicted class falls when the `counts` highest-scored words are deleted
    (comprehensiveness, high is good), and when all others are (sufficiency, low is good): DeYoung et al. 2020.
    """
    tokenizer, words = _check(model, texts, tokenizer)
    fit = [np.shape(row) for row in scores] == [(len(row),) for row in words]
    if not fit or not all(np.isfinite(row).all() for row in scores):
        raise ValueError("The scores do not fit the texts: each word of each text needs one finite score.")
    if len(counts) == 0 or any(count != int(count) or count < 1 for count in counts):
        raise ValueError(f"Counts are numbers of words, 1 or more, not {list(counts)}.")
    ranks = [np.argsort(np.argsort(-np.asarray(row), kind="stable")) for row in scores]  # 0: the highest score
    label = read_logits(model, words, tokenizer).argmax(axis=1)[:, None]

    def probability(first, last):  # with the words of these ranks only
        kept = [
            [word for word, r in zip(*row, strict=True) if first <= r < last] for row in zip(words, ranks, strict=True)
        ]
        return np.take_along_axis(softmax(read_logits(model, kept, tokenizer), axis=1), label, axis=1)

    whole = probability(0, np.inf)
    without, alone = [probability(n, np.inf) for n in counts], [probability(0, n) for n in counts]
    return whole - np.hstack(without), whole - np.hstack(alone)


def window_falls(model, texts, sizes, tokenizer=None) -> list[np.ndarray]:
    """How far the difference falls without each run of `sizes` words, one size per text: N arrays (W - size + 1,)."""
    tokenizer, words = _check(model, texts, tokenizer)
    if len(sizes) != len(words) or not all(1 <= size <= len(row) for size, row in zip(sizes, words, strict=True)):
        raise ValueError("Each text needs a size, from one word to all of its words.")
    runs = [(place, start) for place, row in enumerate(words) for start in range(len(row) - sizes[place] + 1)]
    shortened = [words[place][:start] + words[place][start + sizes[place] :] for place, start in runs]
    whole, owner = read_logits(model, words, tokenizer), np.array([place for place, _ in runs])
    change = whole[owner] - read_logits(model, shortened, tokenizer)
    one, other = np.take_along_axis(change, _pairs(whole)[owner], axis=1).T
    return [(one - other)[owner == place] for place in range(len(words))]


@torch.no_grad()
def read_logits(model, words, tokenizer) -> np.ndarray:
    """Logits (N, C) of texts given as lists of words, which may be empty. Equal texts are read once."""
    distinct = {key: place for place, key in enumerate(dict.fromkeys(map(tuple, words)))}
    found = torch.empty(len(distinct), model.config.num_labels)
    for places, inputs in _batches(list(map(list, distinct)), tokenizer, 128):
        found[places] = model(**inputs).logits.float()
    return found[[distinct[tuple(row)] for row in words]].numpy()


def _check(model, texts, tokenizer):
    if not (isinstance(model, torch.nn.Module) and hasattr(model, "convolve")) or model.training:
        raise ValueError("The deletion test needs the PyTorch class, in evaluation mode (model.eval()).")
    if model.config.num_labels < 2 or model.config.problem_type not in (None, "single_label_classification"):
        raise ValueError("The deletion test needs a model that chooses one of several classes.")
    check_texts(texts)
    given, tokenizer, words = tokenizer is not None, tokenizer or load_tokenizer(), [text.split() for text in texts]
    encoder = model.encoder
    vocabulary, rows = getattr(encoder.config, "vocabulary", None), encoder.get_input_embeddings().num_embeddings
    check_tokenizer(tokenizer, vocabulary, rows, given)
    for place, ids in enumerate(tokenizer(words, is_split_into_words=True, verbose=False)["input_ids"]):
        if not words[place] or len(ids) > tokenizer.model_max_length:
            raise ValueError(f"Text {place} is empty, or longer than the model's {tokenizer.model_max_length} tokens.")
    return tokenizer, words


def _pairs(logits) -> np.ndarray:  # the predicted class and the runner-up: (N, C) -> (N, 2)
    return np.argsort(-logits, axis=1, kind="stable")[:, :2]


def _batches(words, tokenizer, size: int = 32):  # (places, inputs) of texts of about equal length
    order = np.argsort([len(" ".join(row)) for row in words], kind="stable")
    for places in np.array_split(order, -(-len(order) // size)):
        rows = [words[place] for place in places]
        options = {"padding": True, "padding_side": "right", "return_tensors": "pt"}  # the encoder is called directly
        yield places, tokenizer(rows, is_split_into_words=True, **options)


def _share(explanation, pair: tuple[int, int], length: int) -> np.ndarray:
    """What each window adds, divided equally among its tokens of the text: (T,)."""
    label, against = pair
    values, scores = explanation.values[label] - explanation.values[against], np.zeros(length)
    for (start, size), value in zip(explanation.read, values, strict=True):
        inside = start + np.flatnonzero(explanation.offsets[start : start + size].any(axis=1))  # not [CLS], not [SEP]
        scores[inside] += value / max(len(inside), 1)
    return scores


def _look_inside(model, inputs, is_word, pairs, method, tokenizer):  # scores (B, T)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if method == "attention":
        used = model.encoder.config._attn_implementation
        model.encoder.set_attn_implementation("eager")  # the only one that returns what it attends to
        attended = model.encoder(ids, mask, output_attentions=True).attentions[-1].detach()  # (B, heads, from, to)
        model.encoder.set_attn_implementation(used)
        return (attended * mask[:, None, :, None]).sum((1, 2)).float().numpy()

    def difference(embedded, mask, pairs):
        hidden = model.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        one, other = model.classify(model.pool(model.convolve(hidden, mask))).gather(1, pairs).T
        return one - other

    embed = model.encoder.get_input_embeddings()
    embedded = embed(ids).detach().requires_grad_()
    if method == "gradient x input":
        return InputXGradient(difference).attribute(embedded, None, (mask, pairs)).sum(-1).detach().float().numpy()
    masked = embed(torch.where(torch.from_numpy(is_word), tokenizer.mask_token_id, ids)).detach()
    ig = IntegratedGradients(difference)
    found = ig.attribute(embedded, masked, None, (mask, pairs), STEPS, internal_batch_size=256)
    return found.sum(-1).detach().float().numpy()
