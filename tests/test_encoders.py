"""Encoders that people bring: nearly BERT, old files, other positions, other tokenizers."""

import json
import shutil

import keras
import numpy as np
import pytest
import torch
import transformers
from conftest import STEPS, TEXTS, VARIANTS, Four, assert_same, save_tokenizer

from companion import weights
from companion.attribution import explain
from companion.encoders import load_keras_encoder, load_pytorch_encoder, load_tokenizer
from companion.predict.models import identify
from companion.pytorch_class import BertCNN
from companion.study.experiment import encoder_identity
from tests.test_bad_input import BUILD, refusal

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY |= {"max_position_embeddings": 128, "initializer_range": 0.2}
SETTINGS = {
    "MiniLM's": {"hidden_act": "gelu", "layer_norm_eps": 1e-12},
    "epsilon": {"layer_norm_eps": 1e-2},
    "one token type": {"type_vocab_size": 1},
    "four token types": {"type_vocab_size": 4},
    "other heads": {"num_attention_heads": 8},
    "fewer positions": {"max_position_embeddings": 70},
    "other dropouts": {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.0},
} | {act: {"hidden_act": act} for act in ("gelu_new", "gelu_fast", "relu", "silu", "tanh", "mish", "gelu_python")}


def save_encoder(folder, **settings) -> str:
    """A random BERT with its tokenizer."""
    torch.manual_seed(0)
    save_tokenizer(folder)
    size = len((folder / "vocab.txt").read_text().splitlines())
    transformers.BertModel(transformers.BertConfig(**{"vocab_size": size, **TINY, **settings})).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_is_followed_in_all_variants(tmp_path, settings):
    four = Four(save_encoder(tmp_path, **settings), num_filters=6)
    inputs = four.inputs(TEXTS)
    reference = four.steps("pytorch_class", inputs)
    for variant in VARIANTS[1:]:
        steps = four.steps(variant, inputs)
        assert set(steps) == set(STEPS)
        assert_same(reference, steps, 1e-5, variant)
    for build in (BUILD["keras_class"], BUILD["keras_functional"]):
        weights.to_keras(four.model, build(four.encoder, num_filters=6)).save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(np.array(again(inputs)), reference["logits"], rtol=0, atol=1e-5)


def test_the_two_dropouts_are_followed(tmp_path):
    """With one of them at 0 and the other not, training still draws noise, and with both at 0 none."""
    for hidden, attention, noisy in ((0.0, 0.0, False), (0.5, 0.0, True), (0.0, 0.5, True)):
        settings = {"hidden_dropout_prob": hidden, "attention_probs_dropout_prob": attention}
        encoder = load_keras_encoder(save_encoder(tmp_path, **settings))
        encoder = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(encoder))
        ids = np.arange(8)[None]
        inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
        runs = [np.array(encoder(inputs, training=True)["sequence_output"]) for _ in range(2)]
        assert np.allclose(*runs, atol=1e-6) != noisy, settings


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"hidden_act": "quick_gelu"}, "do not know the activation 'quick_gelu'"),
        ({"is_decoder": True}, "need a BERT with is_decoder=False, and .* has True; the PyTorch variants take it"),
    ],
)
def test_settings_that_keras_cannot_follow_are_refused(tmp_path, settings, message):
    name = save_encoder(tmp_path, **settings)
    for variant in ("keras_class", "keras_functional"):
        refusal(message, BUILD[variant], name)
    BUILD["pytorch_class"](name)


def test_a_position_embedding_that_transformers_has_given_up_is_refused(tmp_path):
    name = save_encoder(tmp_path, position_embedding_type="relative_key")
    for build in BUILD.values():
        refusal("needs position_embedding_type='relative_key', which transformers no longer supports", build, name)


WRONG = {
    "names with a prefix": lambda tensors: {f"model.{name}": tensor for name, tensor in tensors.items()},
    "tensors in a dict": lambda tensors: {"state_dict": tensors},
    "a layer too few": lambda tensors: {name: t for name, t in tensors.items() if "layer.1" not in name},
    "another vocabulary": lambda tensors: tensors | {"embeddings.word_embeddings.weight": torch.zeros(7, 32)},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_no_weight_stays_random(random_encoder, tmp_path, change):
    shutil.copy(f"{random_encoder}/config.json", tmp_path)
    torch.save(change(load_pytorch_encoder(random_encoder).state_dict()), tmp_path / "pytorch_model.bin")
    for load in (load_pytorch_encoder, load_keras_encoder):
        refusal("weights of .* are not those of its config.json: .* such as ", load, str(tmp_path))


def test_a_missing_shard_is_noticed(random_encoder, tmp_path):
    load_pytorch_encoder(random_encoder).save_pretrained(tmp_path, max_shard_size="20KB")
    load_pytorch_encoder(str(tmp_path))
    sorted(tmp_path.glob("*.safetensors"))[0].unlink()
    refusal("has 5 of 6 files of weights; fetch it again", load_pytorch_encoder, str(tmp_path))


def test_old_weights_identify_an_encoder(random_encoder, tmp_path):
    shutil.copy(f"{random_encoder}/config.json", tmp_path)
    found = set()
    for value in (0.0, 1.0):
        torch.save({"weight": torch.tensor(value)}, tmp_path / "pytorch_model.bin")
        found |= {encoder_identity(str(tmp_path)), identify(str(tmp_path))}
    assert len(found) == 4


@pytest.mark.parametrize("settings", [{"hidden_act": "relu"}, {"layer_norm_eps": 1e-3}, {"num_attention_heads": 4}])
@pytest.mark.parametrize("build", ["keras_class", "keras_functional"])
def test_weights_do_not_go_where_they_would_mean_something_else(random_encoder, tmp_path, build, settings):
    """All shapes fit; only the settings differ."""
    source, target = BertCNN.from_encoder(save_encoder(tmp_path, **settings)), BUILD[build](random_encoder)
    for copy in (lambda: weights.to_keras(source, target), lambda: weights.to_pytorch(target, source)):
        with pytest.raises(ValueError, match="The models differ"):
            copy()


def test_an_encoder_in_half_precision_with_old_names(random_encoder, tmp_path):
    """BERT's first files: bfloat16 is newer, but "bert." and "gamma" were in them, and often are."""
    save_tokenizer(tmp_path)
    shutil.copy(f"{random_encoder}/config.json", tmp_path)
    bert = load_pytorch_encoder(random_encoder)
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, tensor in bert.state_dict().items():
        for ours, old in names.items():
            name = name.replace(ours, old)
        tensors[f"bert.{name}"] = tensor.bfloat16()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    expected = BertCNN.from_encoder(random_encoder, num_filters=2)
    expected.encoder.bfloat16().float()
    four = Four(str(tmp_path), num_filters=2)
    for (name, one), other in zip(expected.encoder.named_parameters(), four.model.encoder.parameters(), strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other), name
    inputs = four.inputs(TEXTS)
    reference = four.steps("pytorch_class", inputs)
    for variant in VARIANTS[1:]:
        assert_same(reference, four.steps(variant, inputs), 1e-5, variant)


class Harm:
    def __reduce__(self):
        return (pytest.fail, ("the file's program ran",))


@pytest.mark.parametrize("load", [load_pytorch_encoder, load_keras_encoder])
def test_old_weights_are_loaded_safely(random_encoder, tmp_path, load):
    shutil.copy(f"{random_encoder}/config.json", tmp_path)
    path = tmp_path / "pytorch_model.bin"
    torch.save(load_pytorch_encoder(random_encoder).state_dict(), path)
    load(str(tmp_path))
    path.write_bytes(path.read_bytes()[:-100])
    refusal("pytorch_model.bin of .* is damaged or cut short", load, str(tmp_path))
    torch.save({"weight": Harm()}, path)
    refusal("pytorch_model.bin of .* is damaged or cut short", load, str(tmp_path))


# --- positions that start after the padding's number ----------------------------------------------

ROBERTAS = "Camembert Data2VecText Esm IBert LayoutLMv3 Lilt Longformer Luke MPNet Roberta RobertaPreLayerNorm".split()
ROBERTAS += ["XLMRoberta", "Xmod"]


@pytest.mark.parametrize("kind", [*ROBERTAS, "Bert", "DistilBert", "Electra", "GPT2", "OpenAIGPT"])
def test_a_long_text_is_cut_to_the_positions_there_are(tmp_path, kind):
    settings = {**TINY, "vocab_size": 60, "max_position_embeddings": 34, "pad_token_id": 1 if kind in ROBERTAS else 0}
    if kind == "DistilBert":
        settings |= {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    if kind == "Esm":
        settings |= {"position_embedding_type": "absolute", "mask_token_id": 4}
    if "GPT" in kind:
        settings |= {"n_positions": settings.pop("max_position_embeddings"), "n_layer": 1}
    if kind == "LayoutLMv3":
        settings |= {"coordinate_size": 6, "shape_size": 4, "visual_embed": False}
    if kind == "Longformer":
        settings |= {"attention_window": 8}
    if kind == "Lilt":
        settings |= {"hidden_size": 48}  # six parts of a box's embedding
    if kind == "Luke":
        settings |= {"entity_vocab_size": 5, "entity_emb_size": 8}
    if kind == "Xmod":
        settings |= {"languages": ["en_XX"], "default_language": "en_XX"}
    config = getattr(transformers, f"{kind}Config")(**settings)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    tokenizer, model = load_tokenizer(str(tmp_path)), BertCNN.from_encoder(str(tmp_path))
    inputs = tokenizer(["dull " * 200], truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape[1] == (32 if kind in ROBERTAS else 34)
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


@pytest.mark.parametrize(
    "kind, settings, said",
    [
        ("ConvBert", {}, "reads padding"),
        ("FNet", {}, "reads padding"),
        ("Yoso", {}, "reads padding"),
        ("T5", {"d_model": 32, "num_layers": 1, "d_ff": 64}, r"does not give token vectors .* \(ValueError\)"),
    ],
)
def test_an_encoder_whose_vectors_depend_on_padding_is_refused(tmp_path, kind, settings, said):
    config = getattr(transformers, f"{kind}Config")(
        **{**TINY, "vocab_size": 60, "max_position_embeddings": 34}, **settings
    )
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=said):
        load_pytorch_encoder(str(tmp_path))


def test_a_tokenizer_without_padding_pads_with_its_last_token(random_encoder, tmp_path):
    shutil.copytree(random_encoder, tmp_path, dirs_exist_ok=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    tokenizer.save_pretrained(tmp_path)
    model, found = BertCNN.from_encoder(str(tmp_path), num_filters=2), load_tokenizer(str(tmp_path))
    assert found.pad_token == "[SEP]"
    with torch.no_grad():
        alone, padded = (
            model(**found(some, padding=True, return_tensors="pt")).logits[0] for some in (["dull"], TEXTS[2:])
        )
    torch.testing.assert_close(alone, padded, rtol=0, atol=1e-6)


# --- whose tokenizer ------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", BUILD)
def test_another_encoders_tokenizer_is_refused(tmp_path, variant, monkeypatch):
    """The vocabulary is as large as the default's, so that every number has a row."""
    default = load_tokenizer()
    name = save_encoder(tmp_path, vocab_size=len(default))
    model, own = BUILD[variant](name), load_tokenizer(name)
    refusal("is not that of the model's encoder", explain, model, "good film")
    refusal("is not that of the model's encoder", explain, model, "good film", tokenizer=default)
    assert next(explain(model, "good film", tokenizer=own)).text == "good film"


@pytest.mark.parametrize("variant", ["pytorch_class", "keras_class", "keras_functional"])
def test_a_saved_model_knows_its_vocabulary(tmp_path, variant):
    name = save_encoder(tmp_path, vocab_size=len(load_tokenizer()))
    model = BUILD[variant](name)
    if variant == "pytorch_class":
        model.save_pretrained(tmp_path / "saved")
        model = BertCNN.from_pretrained(tmp_path / "saved")
    else:
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    refusal("is not that of the model's encoder", explain, model, "good film")
    next(explain(model, "good film", tokenizer=load_tokenizer(name)))


@pytest.mark.parametrize("variant", BUILD)
def test_without_a_known_vocabulary_the_sizes_tell(tmp_path, variant):
    name = save_encoder(tmp_path)
    for path in (tmp_path / "vocab.txt", *tmp_path.glob("tokenizer*")):
        path.unlink()
    model = BUILD[variant](name)
    refusal("is not that of the model's encoder", explain, model, "good film")
    save_tokenizer(tmp_path)
    next(explain(model, "good film", tokenizer=load_tokenizer(name)))


def test_a_tokenizer_with_more_tokens_fits_the_model_that_was_given_rows_for_them(random_encoder):
    model, tokenizer = BertCNN.from_encoder(random_encoder), load_tokenizer(random_encoder)
    tokenizer.add_tokens(["splendid"])
    refusal("is not that of the model's encoder", explain, model, "splendid film", tokenizer=tokenizer)
    model.resize_token_embeddings(len(tokenizer))
    next(explain(model, "splendid film", tokenizer=tokenizer))


def test_the_default_fits_the_default():
    assert next(explain(BertCNN.from_encoder(), "good film")).text == "good film"
    config = json.loads(load_pytorch_encoder().config.to_json_string())
    assert config["vocabulary"].startswith(f"{config['vocab_size']}-")
