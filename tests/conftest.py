"""What the tests share: a tiny random BERT, texts, and one set of weights in all four variants."""

# ruff: noqa: E402 (the environment comes before the libraries that read it)

import os
import shutil
import tempfile
from pathlib import Path

CACHE = tempfile.mkdtemp(prefix="companion-tests-")
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "false"}
if os.environ.get("COMPANION_GPU") != "1":  # test_gpu.py alone wants to see one
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ |= {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": CACHE}  # no test needs the network, or leaves traces
os.environ.pop("COMPANION_ENCODER", None)
os.environ.pop("COMPANION_DATASET", None)

import datasets
import hypothesis
import keras
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from companion import keras_class, keras_functional, pytorch_functional, weights
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")
torch.set_num_threads(1)  # tests run side by side, one process per core
datasets.disable_progress_bars()
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

DATA = Path(os.environ.get("COMPANION_DATA", Path(__file__).parents[2] / "shared" / "data"))  # real datasets
VARIANTS = ("pytorch_class", "pytorch_functional", "keras_class", "keras_functional")
STEPS = ("hidden", "maps", "features", "logits")
LONG = "a warm , funny and quietly moving film , and not one minute of it is dull or wasted on noise . " * 3
TEXTS = ["a warm and funny film .", "", "dull", LONG]  # a few words, no word, one word, many
WORDS = sorted({word for text in TEXTS for word in text.split()} | {"bad", "good", "slow"})


@pytest.fixture
def in_data_folder(monkeypatch):
    """The working folder is the one that holds the real datasets, whose names are those of the Hub."""
    if not (DATA / "SetFit").is_dir():
        pytest.skip(f"no {DATA / 'SetFit'}: set COMPANION_DATA to the folder that holds the real datasets")
    monkeypatch.chdir(DATA)


def pytest_sessionfinish():
    shutil.rmtree(CACHE, ignore_errors=True)


def save_tokenizer(folder):
    """A WordPiece tokenizer of a few words, in Hugging Face layout, with the vocab.txt that KerasHub reads."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    transformers.BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=128).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")


@pytest.fixture(scope="session")
def random_encoder(tmp_path_factory) -> str:
    """A folder with a random BERT, 2 layers of 32; weights large enough that every token matters."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.2,
        hidden_act="gelu_pytorch_tanh",
    )
    transformers.BertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="session", params=["random", "embedded"])
def encoder(request, random_encoder) -> str:
    return random_encoder if request.param == "random" else "embedded"


class Four:
    """One set of weights in all four variants; NumPy in, NumPy out, every step by its name."""

    def __init__(self, encoder, **config):
        torch.manual_seed(1)
        self.encoder, self.tokenizer = encoder, load_tokenizer(encoder)
        self.model = BertCNN.from_encoder(encoder, **config)
        self.model.classifier.weight.data *= 100  # a new output layer is small; a difference should show in the logits
        self.params, self.bert = pytorch_functional.from_model(self.model)
        self.keras_class = weights.to_keras(self.model, keras_class.BertCNN.from_encoder(encoder, **config))
        self.keras_functional = weights.to_keras(self.model, keras_functional.build_bert_cnn(encoder, **config))
        self.keras_steps = keras_functional.steps(self.keras_functional)
        graph, names = self.keras_steps, ("maps", "features", "logits")
        start = [graph.get_layer("hidden").output, graph.input["attention_mask"]]
        self.keras_head = keras.Model(start, {name: graph.output[name] for name in names})

    def inputs(self, texts, padding=True, **kwargs):
        encoded = self.tokenizer(list(texts), padding=padding, return_tensors="np", **kwargs)
        return {name: array.astype(np.int32) for name, array in encoded.items()}

    @torch.no_grad()
    def steps(self, variant, inputs):
        """hidden, maps, features, logits from token ids; the logits by the call that a user makes."""
        tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
        if variant == "pytorch_class":
            hidden = self.model.embed(**tensors).numpy()
            logits = self.model(**tensors).logits
        elif variant == "pytorch_functional":
            hidden = pytorch_functional.embed(self.params, self.bert, **tensors).numpy()
            logits = pytorch_functional.bert_cnn(self.params, self.bert, **tensors)
        elif variant == "keras_class":
            hidden = np.array(self.keras_class.embed(**inputs))
            logits = self.keras_class(inputs)
        else:
            return to_numpy(self.keras_steps(inputs)) | {"logits": np.array(self.keras_functional(inputs))}
        return {"hidden": hidden} | self.head(variant, hidden, inputs["attention_mask"]) | {"logits": np.array(logits)}

    @torch.no_grad()
    def head(self, variant, hidden, attention_mask):
        """maps, features, logits from the encoder's output."""
        if variant == "keras_functional":
            return to_numpy(self.keras_head([hidden, attention_mask]))
        if variant == "keras_class":
            convolve, pool, classify = self.keras_class.convolve, self.keras_class.pool, self.keras_class.classify
        else:
            hidden, attention_mask = torch.tensor(hidden), torch.tensor(attention_mask)
            convolve, pool, classify = self.model.convolve, self.model.pool, self.model.classify
        if variant == "pytorch_functional":
            maps = pytorch_functional.convolve(self.params, hidden, attention_mask)
            features = pytorch_functional.pool(maps)
            logits = pytorch_functional.classify(self.params, features)
        else:
            maps = convolve(hidden, attention_mask)
            features = pool(maps)
            logits = classify(features)
        return to_numpy({"maps": maps, "features": features, "logits": logits})


def to_numpy(steps):
    return {name: [np.array(m) for m in s] if name == "maps" else np.array(s) for name, s in steps.items()}


def assert_same(steps, others, tolerance, label=""):
    """Every step the two have in common is equal within the tolerance; a failure names the first that is not."""
    for name in [name for name in STEPS if name in steps and name in others]:
        pairs = zip(steps[name], others[name], strict=True) if name == "maps" else [(steps[name], others[name])]
        for one, other in pairs:
            np.testing.assert_allclose(
                one, other, rtol=0, atol=tolerance, err_msg=f"{label}: the step '{name}' differs"
            )


@pytest.fixture(scope="session")
def build_four():
    """Four(encoder, **config), made once for each encoder and config. Tests leave its weights as they are."""
    made = {}

    def build(encoder, **config) -> Four:
        key = (encoder, *sorted(config.items()))
        if key not in made:
            made[key] = Four(encoder, **config)
        return made[key]

    return build


@pytest.fixture(scope="session")
def four(build_four, random_encoder) -> Four:
    """The default head on the random encoder."""
    return build_four(random_encoder)
