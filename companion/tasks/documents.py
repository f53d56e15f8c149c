"""Long documents: a text -> overlapping pieces in which each window counts once; which of its n-grams decided."""

import numpy as np

from companion.attribution import Explanation, _read_head
from companion.data import check_texts
from companion.encoders import check_tokenizer


def cut(texts, tokenizer, kernel_sizes=(3, 4, 5), length: int = 256, overlap: int = 64) -> list[dict]:
    """Return a row for each text: `input_ids`, `attention_mask`, `window_mask` (P, T) and `offsets` (P, T, 2).

    kernel_sizes: the model's. length: tokens of a piece, with [CLS] and [SEP]. overlap: tokens that neighbours share.
    `window_mask` is 1 where a window starts that counts: each counts in one piece, and has there at least
    (overlap - largest kernel + 1) // 2 tokens of context on either side, or the text's own end.
    Raises ValueError, with one sentence, for pieces that cannot hold every window.
    """
    check_texts(texts)
    largest, held = max(kernel_sizes), length - tokenizer.num_special_tokens_to_add()
    if held < largest:
        raise ValueError(f"Pieces of {length} tokens hold {held} of the text; the largest kernel reads {largest}.")
    if length > tokenizer.model_max_length:
        raise ValueError(f"The encoder reads {tokenizer.model_max_length} tokens at once, not pieces of {length}.")
    if tokenizer.truncation_side != "right" or tokenizer.num_special_tokens_to_add() != 2:
        raise ValueError("Documents need a tokenizer that cuts on the right and adds a token at each end, as BERT's.")
    if not largest - 1 <= overlap < held:
        raise ValueError(f"Such pieces can overlap by {largest - 1} to {held - 1} tokens, not by {overlap}.")
    options = {"max_length": length, "stride": overlap, "truncation": True, "padding": True, "padding_side": "right"}
    options |= {"return_overflowing_tokens": True, "return_offsets_mapping": True, "return_tensors": "np"}
    margin, rows = (overlap - largest + 1) // 2, []
    for text in texts:
        row = {**tokenizer(text, **options)}
        counts = row["window_mask"] = np.zeros_like(row["attention_mask"])
        for i, tokens in enumerate(row["attention_mask"].sum(axis=1)):
            first, last = i == 0, i == len(counts) - 1  # the text's [CLS] and [SEP] count, those in between do not
            counts[i, 0 if first else 1 + margin : tokens if last else tokens - 1 - overlap + margin] = 1
        rows.append({**row, "offsets": row["offset_mapping"]})
    return rows


def explain(model, text: str, tokenizer, batch_size: int = 16, **pieces) -> Explanation:
    """Return what decided a document: n-grams, values and places in characters (`companion.attribution`).

    model: a `DocumentCNN` of either framework. pieces: arguments of `cut`. `token` numbers the tokens of all pieces.
    """
    if batch_size < 1:
        raise ValueError(f"A batch has 1 piece or more, not {batch_size}.")
    head, found, places = _read_head(model), [], []
    check_tokenizer(tokenizer, head.vocabulary, head.rows, given=True)
    row = cut([text], tokenizer, head.kernel_sizes, **pieces)[0]
    for start in range(0, len(row["input_ids"]), batch_size):
        ids, mask, counts = (row[n][start : start + batch_size] for n in ("input_ids", "attention_mask", "window_mask"))
        maps = [(m * counts[..., None]).reshape(-1, m.shape[2]) for m in head.maps(ids, mask)]  # K x (N*T, F)
        found.append(np.concatenate([m.max(axis=0) for m in maps]))  # (K*F,)
        places.append(np.concatenate([m.argmax(axis=0) for m in maps]) + start * ids.shape[1])
    features, best = np.max(found, axis=0), np.argmax(found, axis=0)
    windows = np.array(places)[best, np.arange(len(best))]
    values, bias = (parts[0] for parts in head.split(features[None]))
    logits, sizes = bias + values.sum(axis=1), np.repeat(head.kernel_sizes, [m.shape[1] for m in maps])
    offsets, labels = row["offsets"].reshape(-1, 2), tuple(range(len(bias)))
    return Explanation(text, logits, bias, values, features, windows, sizes, offsets, labels, cut="")
