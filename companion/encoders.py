"""An encoder's name -> its tokenizer, its PyTorch model, its Keras model.

A name is "embedded" (the small BERT in this package), a folder in Hugging Face layout, or a Hub id such as
"google-bert/bert-base-uncased". A saved BERT-CNN is an encoder, too: the one inside it. So is "classifier", the
ready-made BERT-CNN in this package. The environment variable COMPANION_ENCODER changes the default.
"""

import json
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

DEFAULT_ENCODER = os.environ.get("COMPANION_ENCODER", "embedded")
ASSETS = Path(__file__).parent / "assets"
PACKAGED = {"embedded": ASSETS / "encoder", "classifier": ASSETS / "classifier"}
FILES = ["config.json", "model*.safetensors*", "tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json"]


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
        except (ValueError, OSError) as error:  # a malformed id; everything else the Hub's client raises
            raise ValueError(
                f"There is no encoder '{name}': it is not 'embedded', no folder of that name is here, "
                f"and the Hugging Face Hub did not give it ({type(error).__name__})."
            ) from None
    if not (folder / "config.json").is_file():
        raise ValueError(f"The folder '{name}' has no config.json: it holds no encoder in Hugging Face layout.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ValueError(f"The folder '{name}' has no model.safetensors: its weights are missing.")
    for path in weights:
        try:
            safe_open(path, "numpy").__enter__()  # reads the header, and compares it with the file's size
        except (SafetensorError, OSError):
            raise ValueError(f"The file {path.name} of '{name}' is damaged or cut short; fetch it again.") from None
    return folder


def load_tokenizer(name: str = DEFAULT_ENCODER):
    """The encoder's tokenizer. It returns the two inputs of every variant: `input_ids`, `attention_mask` (B, T)."""
    from transformers import AutoTokenizer

    folder = find_encoder(name)
    settings = _settings(folder)
    longest = settings.get("encoder_config", settings).get("max_position_embeddings", 512)
    tokenizer = AutoTokenizer.from_pretrained(folder, model_input_names=["input_ids", "attention_mask"])
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return tokenizer


def load_pytorch_encoder(name: str = DEFAULT_ENCODER):
    """The encoder as a `transformers` model in single precision: any `AutoModel` with `last_hidden_state`."""
    import torch
    from transformers import AutoModel

    folder = find_encoder(name)
    if _settings(folder)["model_type"] == "bert_cnn":
        from companion.pytorch_class import BertCNN

        return BertCNN.from_pretrained(folder, dtype=torch.float32).encoder
    return AutoModel.from_pretrained(folder, dtype=torch.float32)


def load_keras_encoder(name: str = DEFAULT_ENCODER):
    """The encoder as a `keras_hub.models.BertBackbone` in single precision.

    KerasHub's BERT knows one activation, the tanh form of GELU; an encoder trained with the exact form
    (bert-base) differs from its PyTorch twin by about 1e-3 for that reason.
    Raises ValueError, with one sentence, for an encoder that is not a BERT.
    """
    import keras_hub

    import companion.quiet  # noqa: F401, before the first import of TensorFlow

    folder = find_encoder(name)
    settings = _settings(folder)
    settings = settings.get("encoder_config", settings)  # a saved BERT-CNN has its encoder's inside
    if settings.get("model_type") != "bert":
        raise ValueError(
            f"The Keras variants need a BERT encoder, and '{name}' is of type '{settings.get('model_type')}'; "
            "the PyTorch variants take it."
        )
    sizes = {"max_sequence_length": settings.get("max_position_embeddings", 512)}
    dropout = settings.get("hidden_dropout_prob", 0.1)
    with TemporaryDirectory() as preset:
        _copy_in_names_of_bert_base(folder, settings, Path(preset))
        backbone = keras_hub.models.BertBackbone.from_preset(preset, dropout=dropout, dtype="float32", **sizes)
    backbone.get_layer("pooled_dense").trainable = False  # BERT's [CLS] output is not used: no gradient reaches it
    return backbone


def _copy_in_names_of_bert_base(folder: Path, settings: dict, preset: Path) -> None:
    """Weights and settings under the only names that KerasHub 0.26 can read: bert., gamma, beta."""
    from safetensors.numpy import load_file, save_file

    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for path in folder.glob("*.safetensors"):
        for name, tensor in load_file(path).items():
            name = re.sub(r"LayerNorm\.(weight|bias)$", lambda found: old[found[0]], name)
            name = re.sub(r"^(bert|encoder(?=\.(embeddings|encoder|pooler)\.))\.", "", name)
            tensors["bert." + name] = tensor
    save_file(tensors, preset / "model.safetensors")
    (preset / "config.json").write_text(json.dumps(settings))


def _settings(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())
