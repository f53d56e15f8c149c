"""The three snippets the series started from: bert-base-uncased by its name, inputs (2, 512), logits (2, 2).

The real encoder needs the network. A random one of its size, in the Hub's cache under its name, goes the same way.
"""

import shutil

import numpy as np
import pytest
import torch
import transformers
from conftest import save_tokenizer
from safetensors.torch import save_file

from companion import keras_class, keras_functional, pytorch_functional, weights
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN

NAME = "google-bert/bert-base-uncased"


@pytest.fixture(scope="module")
def bert_base(tmp_path_factory):
    """A cache that holds the name, laid out as the Hub's client does; 440 MB, removed afterwards."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / "models--google-bert--bert-base-uncased"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    torch.manual_seed(0)
    config = transformers.BertConfig(architectures=["BertForMaskedLM"])  # its defaults are bert-base-uncased's
    assert (config.vocab_size, config.hidden_act) == (30522, "gelu")
    config.save_pretrained(snapshot)
    tensors = transformers.BertModel(config).state_dict()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}  # the names in the real file
    names = {
        name: "bert." + name.replace(*next((pair for pair in old.items() if pair[0] in name), ("", "")))
        for name in tensors
    }
    save_file(
        {names[name]: tensor for name, tensor in tensors.items()}, snapshot / "model.safetensors", {"format": "pt"}
    )
    save_tokenizer(snapshot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        yield tensors
    shutil.rmtree(cache)


def test_the_three_samples(bert_base):
    input_ids = torch.randint(5, 30000, (2, 512), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(input_ids)
    arrays = {"input_ids": input_ids.numpy(), "attention_mask": mask.numpy()}

    model = BertCNN.from_encoder(NAME)
    for name in ("embeddings.LayerNorm.weight", "encoder.layer.11.output.dense.weight"):
        assert torch.equal(model.encoder.get_parameter(name), bert_base[name])  # loaded, not initialized
    with torch.no_grad():
        expected = model(input_ids, mask).logits.numpy()
        params, encoder = pytorch_functional.from_model(model)
        functional = pytorch_functional.bert_cnn(params, encoder, input_ids, mask).numpy()
    assert expected.shape == functional.shape == (2, 2)
    np.testing.assert_allclose(functional, expected, atol=1e-5)
    del params, encoder

    for build in (keras_class.BertCNN.from_encoder, keras_functional.build_bert_cnn):
        twin = build(NAME)
        encoder = next(layer for layer in twin.layers if hasattr(layer, "hidden_dim"))
        loaded = [variable.numpy() for variable in encoder.weights]
        logits = np.array(weights.to_keras(model, twin)(arrays))
        assert logits.shape == (2, 2)
        assert np.abs(logits - expected).max() < 1e-2  # KerasHub's GELU is the tanh form, bert-base's the exact one
        for before, variable in zip(loaded, encoder.weights, strict=True):
            assert np.array_equal(before, variable.numpy()), variable.path  # KerasHub had read the very same weights


def test_its_tokenizer_loads_by_name(bert_base):
    tokenizer = load_tokenizer(NAME)
    encoded = tokenizer(["a warm film"] * 2, padding="max_length", max_length=512)
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert np.shape(encoded["input_ids"]) == (2, 512)
    assert tokenizer.unk_token_id not in encoded["input_ids"][0]
