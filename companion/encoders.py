"""An encoder's name -> its tokenizer, its PyTorch model, its Keras model.

A name is "embedded" (the small BERT in this package), a folder in Hugging Face layout, or a Hub id such as
"google-bert/bert-base-uncased". A saved BERT-CNN is an encoder, too: the one inside it. So is "classifier", the
ready-made BERT-CNN in this package. The environment variable COMPANION_ENCODER changes the default.
"""

import hashlib
import json
import os
import re
from functools import partial
from pathlib import Path

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

DEFAULT_ENCODER = os.environ.get("COMPANION_ENCODER", "embedded")
ASSETS = Path(__file__).parent / "assets"
PACKAGED = {"embedded": ASSETS / "encoder", "classifier": ASSETS / "classifier"}
FILES = ["config.json", "model*.safetensors*", "tokenizer*.json", "vocab.*", "merges.txt", "*.model"]
FILES += ["special_tokens_map.json", "added_tokens.json"]
OLD_FILES = ["pytorch_model*.bin*"]
# Position numbers start after the padding token's number in these, so that there are fewer than the config says.
OFFSET_POSITIONS = set("camembert data2vec-text esm ibert layoutlmv3 lilt longformer luke markuplm mpnet".split())
OFFSET_POSITIONS |= {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}


def find_encoder(name: str = DEFAULT_ENCODER) -> Path:
    """The folder that holds an encoder; a Hub id is downloaded to the Hub's own cache first.

    Raises ValueError, with one sentence, for a name that is none of the three, and for missing or damaged weights.
    """
    folder = PACKAGED.get(name) or Path(name)
    if name in PACKAGED and not (folder / "config.json").is_file():
        raise ValueError(f"The package's own '{name}' is missing or incomplete; install the companion again.")
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(name, allow_patterns=FILES))
            if not any(folder.glob("*.safetensors")):
                folder = Path(snapshot_download(name, allow_patterns=FILES + OLD_FILES))
        except (ValueError, OSError) as error:  # a malformed id; everything else the Hub's client raises
            raise ValueError(
                f"There is no encoder '{name}': it is not 'embedded', no folder of that name is here, "
                f"and the Hugging Face Hub did not give it ({type(error).__name__})."
            ) from None
    if not (folder / "config.json").is_file():
        raise ValueError(f"The folder '{name}' has no config.json: it holds no encoder in Hugging Face layout.")
    weights = find_weights(folder)
    if not weights:
        raise ValueError(f"The folder '{name}' has no model.safetensors or pytorch_model.bin: its weights are missing.")
    if (total := re.search(r"-of-(\d+)", weights[0].name)) and len(weights) != int(total[1]):
        raise ValueError(f"The folder '{name}' has {len(weights)} of {int(total[1])} files of weights; fetch it again.")
    for path in weights:
        if not (is_safetensors(path) if path.suffix == ".safetensors" else is_bin(path)):
            raise ValueError(f"The file {path.name} of '{name}' is damaged or cut short; fetch it again.")
    return folder


def find_weights(folder: Path) -> list[Path]:
    """The files that hold an encoder's weights, in order; large encoders have several."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def is_safetensors(path: Path) -> bool:
    """Whether the header can be read and tells of as many bytes as there are."""
    try:
        safe_open(path, "numpy").__enter__()
    except (SafetensorError, OSError):
        return False
    return True


def is_bin(path: Path) -> bool:
    """Whether PyTorch's old format can be read, and holds tensors alone: anything else in it might be a program."""
    import torch

    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # torch and pickle raise a dozen different errors
        return False
    return True


def load_tokenizer(name: str = DEFAULT_ENCODER):
    """The encoder's tokenizer. It returns the two inputs of every variant: `input_ids`, `attention_mask` (B, T).

    Its `model_max_length` is the number of tokens that the encoder has positions for.
    """
    from transformers import AutoTokenizer

    folder = find_encoder(name)
    settings = _settings(folder)
    settings = settings.get("encoder_config", settings)  # a saved BERT-CNN has its encoder's inside
    longest = settings.get("max_position_embeddings", settings.get("n_positions", 512))  # GPT-2's name for it
    if settings.get("model_type") in OFFSET_POSITIONS:
        longest -= settings.get("pad_token_id", 1) + 1
    tokenizer = AutoTokenizer.from_pretrained(folder, model_input_names=["input_ids", "attention_mask"])
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 has no other; any will do, since padding is masked
    return tokenizer


def load_pytorch_encoder(name: str = DEFAULT_ENCODER):
    """The encoder as a `transformers` model in single precision: any `AutoModel` with `last_hidden_state`.

    Its config also identifies its vocabulary, so that `check_tokenizer` can tell another encoder's tokenizer.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    folder = find_encoder(name)
    own = (settings := _settings(folder)).get("encoder_config", settings)
    if own.get("model_type") == "bert" and own.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"'{name}' needs position_embedding_type={own['position_embedding_type']!r}, which transformers "
            "no longer supports: its vectors would be wrong."
        )
    if own is not settings:  # a saved BERT-CNN: its encoder alone
        encoder = AutoModel.from_config(AutoConfig.for_model(**settings["encoder_config"]))
        tensors = {name: tensor.float() for name, tensor in _read_tensors(folder, "encoder.")}
        encoder.load_state_dict(tensors)
    else:
        options = {"output_loading_info": True, "ignore_mismatched_sizes": True}
        encoder, found = AutoModel.from_pretrained(folder, dtype=torch.float32, **options)
        check_found(name, found)
    encoder = freeze_pooler(encoder.eval())
    check_vectors(encoder, name)
    if any(folder.glob("tokenizer*.json")) or any(folder.glob("vocab.*")):
        encoder.config.vocabulary = identify(load_tokenizer(name))
    return encoder


def check_found(name, found: dict, mismatched: bool = False) -> None:
    """Raises ValueError for weights that a model's file lacks or, unless `mismatched` is true, has in another shape."""
    other = {key for key, *_ in found["mismatched_keys"]}
    keys = {*found["missing_keys"]} - other if mismatched else {*found["missing_keys"], *other}
    if lacking := sorted(key for key in keys if "pooler" not in key):  # whose output is not used
        what = f"{len(lacking)} are missing or have another shape, such as {lacking[0]}"
        raise ValueError(f"The weights of '{name}' are not those of its config.json: {what}.")


def check_vectors(encoder, name: str) -> None:
    """Raises ValueError unless an encoder gives each token a vector that is the same with padding behind the text.

    FNet, ConvBERT, YOSO and others mix tokens with what is around them, whatever the attention mask says.
    """
    import torch

    ids = torch.tensor([[1, 2] + [getattr(encoder.config, "pad_token_id", None) or 0] * 6])
    mask = torch.tensor([[1, 1] + [0] * 6])
    try:
        with torch.inference_mode():
            alone = encoder(input_ids=ids[:, :2], attention_mask=mask[:, :2])["last_hidden_state"]
            padded = encoder(input_ids=ids, attention_mask=mask)["last_hidden_state"][:, :2]
    except Exception as error:  # an encoder and decoder in one, a model of images: each has errors of its own
        raise ValueError(
            f"'{name}' does not give token vectors (last_hidden_state) for input_ids and attention_mask alone "
            f"({type(error).__name__})."
        ) from None
    if not torch.allclose(alone, padded, rtol=1e-3, atol=1e-3 * float(alone.abs().max())):
        raise ValueError(f"'{name}' reads padding: behind a text, it changes the text's vectors, in spite of the mask.")


def _read_tensors(folder: Path, prefix: str):
    """(name without the prefix, tensor) of every weight whose name starts with the prefix."""
    import torch
    from safetensors.torch import load_file

    for path in find_weights(folder):
        read = load_file if path.suffix == ".safetensors" else partial(torch.load, weights_only=True)
        yield from ((n.removeprefix(prefix), tensor) for n, tensor in read(path).items() if n.startswith(prefix))


def freeze_pooler(encoder):
    """Freeze a BERT's pooler. Its output is not used, and distributed training fails on a weight without gradient."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler.requires_grad_(False)
    return encoder


def load_keras_encoder(name: str = DEFAULT_ENCODER):
    """The encoder as a `keras_hub.models.BertBackbone`, in the precision that Keras is set to: single by default.

    Raises ValueError, with one sentence, for an encoder that is not a BERT, or has a setting that KerasHub lacks.
    """
    settings = _settings(find_encoder(name))
    kind = settings.get("encoder_config", settings).get("model_type")
    if kind != "bert":
        raise ValueError(
            f"The Keras variants need a BERT encoder, and '{name}' is of type '{kind}'; the PyTorch variants take it."
        )
    from companion.keras_encoder import from_pytorch

    return from_pytorch(load_pytorch_encoder(name), name)


def identify(tokenizer, size: int | None = None) -> str:
    """The number of a vocabulary's tokens and a checksum of them, in order; with `size`, of so many of them."""
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)[:size]
    return f"{len(tokens)}-{hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]}"


def check_tokenizer(tokenizer, vocabulary: str | None, rows: int, given: bool) -> None:
    """Raises ValueError if a tokenizer is not an encoder's own, or that with more tokens.

    vocabulary: what `identify` said when the encoder was loaded, None if nobody knows. rows: of its token embedding.
    given: whether the user has chosen the tokenizer. Where nobody knows better, that counts if its tokens fit.
    """
    same = len(tokenizer) <= rows if given else len(tokenizer) == rows
    if vocabulary is not None:
        same = len(tokenizer) <= rows and identify(tokenizer, int(vocabulary.split("-")[0])) == vocabulary
    if not same:
        raise ValueError(
            f"The tokenizer, of {len(tokenizer)} tokens, is not that of the model's encoder, of {rows}: "
            "give the right one, as in tokenizer=load_tokenizer(name)."
        )


def _settings(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))
