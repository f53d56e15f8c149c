"""Is everything there that the series needs? In plain words."""

import importlib.util
import sys

NEEDS = {
    "torch": "the PyTorch variants",
    "transformers": "BERT and its tokenizer",
    "datasets": "the reviews",
    "tensorflow": "the Keras variants' default backend",
    "keras": "the Keras variants",
    "keras_hub": "BERT for the Keras variants",
    "sklearn": "the simple models to compare with",
    "matplotlib": "the pictures",
}


def check() -> bool:
    """Print what is missing and what to do about it; True if nothing is."""
    missing = [f"{name}: {use}" for name, use in NEEDS.items() if importlib.util.find_spec(name) is None]
    if sys.version_info < (3, 11):
        missing.insert(0, f"Python 3.11 or newer (this is {sys.version_info.major}.{sys.version_info.minor})")
    if missing:
        print("Missing:\n  " + "\n  ".join(missing) + "\nRun `make lab` in the project's folder, or this on Colab's menu:")
        print("Runtime > Disconnect and delete runtime, then start again from the first cell.")
    else:
        print("Everything the series needs is here.")
    return not missing


def device() -> str:
    """Where PyTorch computes here, as words."""
    import torch

    return f"GPU ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "CPU"
