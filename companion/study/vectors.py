"""Rows of a dataset -> a padded batch: of token ids, or of the vectors that a frozen encoder gave them."""

import tempfile
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from transformers import DataCollatorWithPadding

from companion.study.heads import token_vectors


def padded(tokenizer, **how):
    """A collator: rows -> a padded batch of their token ids and labels, whatever other columns they have."""
    names, pad = ("input_ids", "attention_mask", "label"), DataCollatorWithPadding(tokenizer, **how)
    return lambda rows: pad([{name: row[name] for name in names} for row in rows])


class CachedVectors:
    """Rows -> a padded batch of the token vectors that a frozen encoder gave them, computed once for all heads.

    They are kept in a temporary file, in half precision, so that memory does not limit how many there are. They are
    returned as `dtype`, the precision in which a head computes.
    """

    def __init__(self, encoder, tokenizer, splits: DatasetDict, layers: int, dtype=torch.float32):
        self.places, self.dtype, tokens = {}, dtype, sum(sum(rows["length"]) for rows in splits.values())
        with tempfile.TemporaryFile() as file:
            self.vectors = np.memmap(file, np.float16, "w+", shape=(tokens, layers * encoder.config.hidden_size))
        pad: Any = DataCollatorWithPadding(tokenizer)
        end = 0
        device = "cuda" if torch.cuda.is_available() else "cpu"
        encoder = encoder.to(device).eval()
        for rows in splits.values():
            by_length = np.argsort(rows["length"])
            for start in range(0, len(rows), 128):
                batch = rows[by_length[start : start + 128]]
                inputs = pad({name: batch[name] for name in ("input_ids", "attention_mask")}).to(device)
                with torch.inference_mode():
                    vectors = token_vectors(encoder, **inputs, layers=layers).half().cpu().numpy()
                real = inputs["attention_mask"].bool().cpu().numpy()  # on whichever side the tokenizer pads
                for key, vector, mask in zip(batch["key"], vectors, real, strict=True):
                    place = self.places[key] = slice(end, end + mask.sum())
                    self.vectors[place], end = vector[mask], end + mask.sum()

    def pooled(self, rows, pool) -> np.ndarray:
        """One vector per row, by a pool of `heads`: (N, layers*D), in single precision."""
        vectors = []
        for key in rows["key"]:
            own = torch.tensor(self.vectors[self.places[key]]).float()[None]
            vectors.append(pool(own, torch.ones(own.shape[:2]))[0])
        return torch.stack(vectors).numpy()

    def __call__(self, rows):
        vectors = [torch.tensor(self.vectors[self.places[row["key"]]]).to(self.dtype) for row in rows]
        masks = [torch.ones(len(vector)) for vector in vectors]
        return {
            "vectors": torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True),
            "attention_mask": torch.nn.utils.rnn.pad_sequence(masks, batch_first=True),
            "labels": torch.tensor([row["label"] for row in rows]),
        }
