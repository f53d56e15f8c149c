"""What the filters read: every logit of a BERT-CNN as a sum over windows of the text, to the last digit.

Max over time takes each filter's value from one window, and what follows is linear (with `hidden_units`, linear piece
by piece). So a logit is a bias and, for each filter, its weight times its value, which came from these tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from companion.data import check_texts
from companion.encoders import check_tokenizer, load_tokenizer

FIELDS = ["label", "filter", "kernel_size", "value", "token", "start", "end", "words"]


@dataclass
class Explanation:
    """Why a text got its logits.

    logits, bias: (C,); bias + the contributions' values of a label, added up, are its logit.
    features: (K*F,) the strongest value of each filter. windows: (K*F,) the first token of the window it came from.
    dead: filters whose value is 0: nothing in the text woke them, they contribute nothing and read nowhere.
    cut: what the encoder's limit left unread of the text, "" if nothing.
    """

    text: str
    logits: np.ndarray
    bias: np.ndarray
    values: np.ndarray  # (C, K*F)
    features: np.ndarray
    windows: np.ndarray
    kernel_sizes: np.ndarray  # (K*F,)
    offsets: np.ndarray  # (T, 2) where each token stands in the text
    labels: tuple[int, ...]
    cut: str

    @property
    def dead(self) -> np.ndarray:
        return np.flatnonzero(self.features <= 0)

    @property
    def read(self) -> list[tuple[int, int]]:
        """(first token, kernel size) of each filter's window."""
        return list(zip(self.windows.tolist(), self.kernel_sizes.tolist(), strict=True))

    @cached_property
    def spans(self) -> dict[tuple[int, int], tuple[int, int, str]]:
        """(first token, kernel size) -> (start, end) in characters and the whole words that the window touches."""
        found = {}
        for token, size in set(self.read):
            inside = [(start, end) for start, end in self.offsets[token : token + size].tolist() if end > start]
            start, end = (inside[0][0], inside[-1][1]) if inside else (0, 0)  # [CLS] and [SEP] stand nowhere
            found[token, size] = (start, end, whole_words(self.text, start, end))
        return found

    @cached_property
    def contributions(self) -> np.recarray:
        """A record for each label and living filter: label, filter, kernel_size, value, token, start, end, words.

        `value` is what the filter adds to the label's logit; token is the window's first, start and end are characters.
        """
        living = np.flatnonzero(self.features > 0)
        windows = self.read
        where = [self.spans[windows[filter]] for filter in living]
        starts, ends, words = zip(*where, strict=True) if where else ((), (), ())
        times = len(self.labels)
        columns = [
            np.repeat(self.labels, len(living)),
            np.tile(living, times),
            np.tile(self.kernel_sizes[living], times),
            self.values[list(self.labels)][:, living].ravel(),
            np.tile(self.windows[living], times),
            *(np.tile(np.array(places, int), times) for places in (starts, ends)),
            np.tile(np.array(words, object), times),
        ]
        return np.rec.fromarrays(columns, names=FIELDS)  # type: ignore[call-overload]

    def ngrams(self, label: int, against: int | None = None) -> list[tuple[int, int, float]]:
        """(start, end, value) of each piece of text that filters read, in whole words, strongest first.

        value: what it adds to the label's logit; with `against`, to the label's logit minus that one's.
        """
        values = self.values[label] - (self.values[against] if against is not None else 0)
        total = {}
        for window, value in zip(self.read, values.tolist(), strict=True):
            start, end, _ = self.spans[window]
            if value and end > start:
                place = word_ends(self.text, start, end)
                total[place] = total.get(place, 0.0) + value
        return sorted(((*place, value) for place, value in total.items()), key=lambda ngram: -abs(ngram[2]))


def word_ends(text: str, start: int, end: int) -> tuple[int, int]:
    """Start and end, moved outwards to where words start and end: a window may hold a piece of one."""
    while 0 < start < end and text[start - 1 : start + 1].isalnum():
        start -= 1
    while start < end < len(text) and text[end - 1 : end + 1].isalnum():
        end += 1
    return start, end


def whole_words(text: str, start: int, end: int) -> str:
    """The characters from start to end, and what is missing of the words at either side."""
    return text[slice(*word_ends(text, start, end))]


def explain(model, texts, labels=None, tokenizer=None, batch_size: int = 64):
    """An `Explanation` for each text, in order, one after the other: memory does not grow with their number.

    model: any of the four variants: the PyTorch class, (params, encoder), the Keras class, the Keras graph. Or a Head.
    labels: the classes to explain, all by default. tokenizer: the encoder's own; the series' default if none is given.
    Jacovi et al. 2018, section 4. With `hidden_units` the split is gradient x input at the pooled features: the dense
    layer is linear where its units are on or off as they are for this text, so the parts still add up, and what the
    units' own biases add is in `bias`.

    Raises ValueError, with one sentence and before any work, for an empty text, something that is not a text, a class
    that does not exist, a tokenizer that is not the encoder's, and a model that is none of the four.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    check_texts(texts)
    if batch_size < 1:
        raise ValueError(f"A batch has 1 text or more, not {batch_size}.")
    for position, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"Text {position} is empty: there is nothing to read in it.")
    head = model if isinstance(model, Head) else _read_head(model)
    classes = len(head.bias)
    labels = tuple(range(classes) if labels is None else labels)
    if wrong := [label for label in labels if label not in range(classes)]:
        raise ValueError(f"There is no class {wrong[0]}: the model has the classes 0 to {classes - 1}.")
    given, tokenizer = tokenizer is not None, tokenizer or load_tokenizer()
    check_tokenizer(tokenizer, head.vocabulary, head.rows, given)
    return _explain(head, texts, labels, tokenizer, batch_size)


@dataclass
class Head:
    """What `explain` needs of a model, whichever of the four it is; arrays of NumPy, outputs first."""

    maps: Callable  # input_ids, attention_mask (B, T) -> K x (B, T, F)
    vocabulary: str | None  # what the encoder was loaded with, see encoders.identify
    rows: int  # of the encoder's token embedding
    kernel_sizes: list[int]
    weight: np.ndarray  # (C, K*F), or (C, H) behind a hidden layer
    bias: np.ndarray  # (C,)
    hidden_weight: np.ndarray | None = None  # (H, K*F)
    hidden_bias: np.ndarray | None = None  # (H,)

    def strongest(self, ids, mask):
        """The value of each filter's strongest window, and the window's first token within the text: both (B, K*F)."""
        maps = self.maps(ids, mask)
        values, places = (np.concatenate([found(m, axis=1) for m in maps], axis=1) for found in (np.max, np.argmax))
        return values, places - mask.argmax(axis=1)[:, None]  # texts begin after padding on the left

    def split(self, features):
        """Features (B, K*F) -> what each adds to each logit (B, C, K*F), and what is left, the bias (B, C)."""
        weight, bias = self.weight, self.bias + np.zeros((len(features), 1))
        if self.hidden_weight is not None:
            on = features @ self.hidden_weight.T + self.hidden_bias > 0  # (B, H)
            through = on[:, None, :] * self.weight  # (B, C, H)
            weight, bias = through @ self.hidden_weight, bias + through @ self.hidden_bias
        return weight * features[:, None, :], bias


def _read_head(model) -> Head:
    if isinstance(model, tuple) and len(model) == 2 and {"convs", "classifier"} <= set(model[0]):
        return _read_pytorch(*model)
    names = [layer.name for layer in getattr(model, "layers", ())]  # Keras first: its models may have parameters, too
    if getattr(getattr(model, "config_class", None), "model_type", "bert_cnn") != "bert_cnn":
        raise ValueError(f"Only a classifier of texts can be explained, not {type(model).__name__}.")
    if "classifier" in names and any(name.startswith("conv_") for name in names):
        return _read_keras(model)
    if hasattr(model, "convolve") and hasattr(model, "named_parameters"):
        from companion.pytorch_functional import from_model

        training = model.encoder.training
        params, encoder = from_model(model)
        encoder.train(training)  # as it was
        return _read_pytorch(params, encoder)
    raise ValueError(f"Only a BERT-CNN can be explained: one of its four variants, not {type(model).__name__}.")


def _read_pytorch(params, encoder) -> Head:
    import torch

    from companion.pytorch_functional import convolve, embed

    @torch.no_grad()
    def maps(*inputs):
        training = encoder.training
        ids, mask = (torch.from_numpy(array).to(encoder.device) for array in inputs)
        found = convolve(params, embed(params, encoder.eval(), ids, mask), mask)
        encoder.train(training)
        return [to_numpy(m) for m in found]

    def to_numpy(tensor):
        return tensor.detach().float().cpu().numpy()  # NumPy has no bfloat16

    layers = [params["classifier"], *([params["hidden_layer"]] if "hidden_layer" in params else [])]
    arrays = [to_numpy(layer[name]) for layer in layers for name in ("weight", "bias")]
    sizes = [conv["weight"].shape[-1] for conv in params["convs"]]
    rows = encoder.get_input_embeddings().num_embeddings
    return Head(maps, getattr(encoder.config, "vocabulary", None), rows, sizes, *arrays)


def _read_keras(model) -> Head:
    from companion.keras_functional import steps
    from companion.quiet import keras

    to_numpy = keras.ops.convert_to_numpy  # of any backend
    graph = None if hasattr(model, "convolve") else steps(model)

    def maps(ids, mask):
        found = graph({"input_ids": ids, "attention_mask": mask})["maps"] if graph else None
        found = found or model.convolve(model.embed(ids, mask), mask)
        return [to_numpy(keras.ops.cast(m, "float32")) for m in found]

    layers = {layer.name: layer for layer in model.layers}
    dense = [layers[name] for name in ("classifier", "hidden_layer") if name in layers]
    arrays = [to_numpy(w).astype(np.float32).T for layer in dense for w in (layer.kernel, layer.bias)]
    sizes = [layer.kernel_size[0] for name, layer in layers.items() if name.startswith("conv_")]
    encoder = next(layer for layer in layers.values() if hasattr(layer, "vocabulary_size"))
    return Head(maps, getattr(encoder, "vocabulary", None), encoder.vocabulary_size, sizes, *arrays)


def _explain(head, texts, labels, tokenizer, batch_size):
    for pool in range(0, len(texts), 16 * batch_size):  # sorted by length within a pool only, so that it is short
        some = texts[pool : pool + 16 * batch_size]
        order, found = np.argsort([len(text) for text in some], kind="stable"), {}
        for first in range(0, len(order), batch_size):
            places = order[first : first + batch_size].tolist()
            found |= dict(zip(places, _explain_batch(head, [some[p] for p in places], labels, tokenizer), strict=True))
        yield from (found.pop(place) for place in range(len(some)))


def _explain_batch(head, texts, labels, tokenizer):
    tokens = tokenizer(texts, padding=True, truncation=True, return_offsets_mapping=True, return_tensors="np")
    features, windows = head.strongest(tokens["input_ids"], tokens["attention_mask"])  # (B, K*F)
    sizes = np.repeat(head.kernel_sizes, features.shape[1] // len(head.kernel_sizes))  # (K*F,)
    values, bias = head.split(features)
    logits = bias + values.sum(axis=2)
    for row, text in enumerate(texts):
        offsets = tokens["offset_mapping"][row][tokens["attention_mask"][row] == 1]
        read = offsets[offsets[:, 1] > 0]  # special tokens have no place in the text
        cut = (text[: read[0, 0]] + text[read[-1, 1] :]).strip() if tokens[row].overflowing else ""
        found = (logits[row], bias[row], values[row], features[row], windows[row])
        yield Explanation(text, *found, sizes, offsets, labels, cut)
