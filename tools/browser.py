"""Writes a classifier as a script that a web page can load: settings, tokenizer, weights in half precision.

python -m tools.browser CLASSIFIER SCRIPT

CLASSIFIER is a folder that `save_pretrained` of `companion.pytorch_class.BertCNN` and of its tokenizer wrote.
`make book` calls this for the classifier in the package; notebooks/book/bert_cnn.js reads the script.
"""

import base64
import json
import sys
from itertools import groupby
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from companion.config import BertCNNConfig

PLAIN, DROPPED, SPACE, ALONE = range(4)  # what the tokenizer does with a character, as in bert_cnn.js
SETTINGS = "hidden_size num_hidden_layers num_attention_heads layer_norm_eps".split()
FILES = ["config.json", "model.safetensors", "tokenizer.json"]


def write(folder: Path, path: Path) -> None:
    """Write the classifier in `folder` to the script `path`; it is complete as soon as it is there.

    Raises ValueError, with one sentence, for a folder that lacks a file, a damaged file, and a model or tokenizer that
    bert_cnn.js does not implement.
    """
    folder, path = Path(folder), Path(path)
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ValueError(f"The folder '{folder}' holds no classifier: it has no {missing[0]}.")
    config = BertCNNConfig.from_pretrained(folder)
    check(config)
    shapes, halves = read_weights(folder / "model.safetensors")
    content = {
        "config": settings(config),
        "tokenizer": read_tokenizer(folder, config),
        "shapes": shapes,
        "halves": base64.b64encode(halves).decode(),
    }
    part = path.with_name(path.name + ".part")
    part.write_text(f"bertCNN.file = {json.dumps(content, separators=(',', ':'))};\n", encoding="utf-8")
    part.replace(path)


def check(config: BertCNNConfig) -> None:
    """Raises ValueError for a model that bert_cnn.js would compute wrongly."""
    encoder = config.encoder_config
    if getattr(encoder, "model_type", None) != "bert" or encoder.is_decoder:
        raise ValueError("The browser computes a BERT encoder only; this classifier has another one.")
    if encoder.hidden_act not in ("gelu_pytorch_tanh", "gelu_new"):
        raise ValueError(f"The browser computes the tanh form of GELU only, not the activation '{encoder.hidden_act}'.")
    if config.num_labels < 2 or config.problem_type not in (None, "single_label_classification"):
        raise ValueError("The browser shows one class out of two or more; this classifier predicts something else.")


def settings(config: BertCNNConfig) -> dict:
    """What bert_cnn.js needs to know of the model; every other size it reads off the weights."""
    names: dict = config.id2label
    return {
        **{name: getattr(config.encoder_config, name) for name in SETTINGS},
        "kernel_sizes": list(config.kernel_sizes),
        "num_filters": config.num_filters,
        "hidden_units": config.hidden_units,
        "labels": [names[label] for label in range(config.num_labels)],
    }


def read_weights(path: Path) -> tuple[list, bytes]:
    """[(name, shape)] and all numbers in this order, in half precision, little-endian."""
    try:
        weights = load_file(path)
    except (SafetensorError, OSError):
        raise ValueError(f"The file {path.name} of '{path.parent}' is damaged or cut short.") from None
    shapes, halves = [], []
    for name, weight in sorted(weights.items()):
        if "pooler" in name:  # BERT's [CLS] output is not used
            continue
        if name.startswith("convs.") and weight.dim() == 3:
            weight = weight.transpose(1, 2)  # (F, D, k) -> (F, k, D), in the order of a window's numbers
        half = weight.half()
        if not half.isfinite().all():
            raise ValueError(f"The weights '{name}' do not fit into half precision, or are no finite numbers.")
        shapes.append((name, list(half.shape)))
        halves.append(half.contiguous().numpy().astype("<f2").tobytes())
    return shapes, b"".join(halves)


def read_tokenizer(folder: Path, config: BertCNNConfig) -> dict:
    """The tables of the classifier's WordPiece tokenizer, and the longest text it takes, in tokens.

    Raises ValueError for any tokenizer that is not BERT's uncased one.
    """
    wrapped = AutoTokenizer.from_pretrained(folder, config=config)
    tokenizer = wrapped.backend_tokenizer
    stored = json.loads(tokenizer.to_str())
    model, added = stored["model"], stored["added_tokens"]
    first, last = wrapped.cls_token_id, wrapped.sep_token_id
    parts = [(stored[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer")]
    if (
        (model["type"], model.get("continuing_subword_prefix")) != ("WordPiece", "##")
        or parts != ["BertNormalizer", "BertPreTokenizer"]
        or tokenizer.normalizer.normalize_str("É") != "e"
        or tokenizer.encode("").ids != [first, last]
        or wrapped.truncation_side != "right"
        or any(token[name] for token in added for name in ("single_word", "lstrip", "rstrip", "normalized"))
    ):
        raise ValueError("The browser reads text with BERT's uncased WordPiece tokenizer only, not with this one.")
    pieces = {id: piece for piece, id in tokenizer.get_vocab(with_added_tokens=True).items()}
    return {
        "vocabulary": [pieces.get(id) for id in range(max(pieces) + 1)],
        "special": sorted(((token["content"], token["id"]) for token in added), key=lambda one: -len(one[0])),
        "first": first,
        "last": last,
        "unknown": model["vocab"][model["unk_token"]],
        "max_characters": model["max_input_chars_per_word"],
        "max_length": min(wrapped.model_max_length, config.encoder_config.max_position_embeddings),
        "kinds": kinds(tokenizer),
    }


def kinds(tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """(first character, kind) of each run of characters of one kind, asked of the tokenizer itself.

    Browsers follow newer versions of Unicode than the tokenizer, which would drop or split other characters.
    """
    normalize, split = tokenizer.normalizer.normalize_str, tokenizer.pre_tokenizer.pre_tokenize_str

    def kind(code: int) -> int:
        if 0xD800 <= code < 0xE000:  # half of a character
            return DROPPED
        normal = normalize(chr(code))
        if not normal.strip():
            return SPACE if normal else DROPPED
        return ALONE if len(split(normalize(f"x{chr(code)}x"))) == 3 else PLAIN

    return [(next(run), kind) for kind, run in groupby(range(0x110000), kind)]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tools.browser CLASSIFIER SCRIPT")
    try:
        write(Path(sys.argv[1]), Path(sys.argv[2]))
    except ValueError as error:
        sys.exit(str(error))
