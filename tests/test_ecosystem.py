"""The variants are ordinary models of their frameworks: saved, loaded, trained, compiled, differentiated as usual."""

from functools import partial
from operator import itemgetter

import datasets
import keras
import numpy as np
import pytest
import torch
import transformers
from conftest import TEXTS, VARIANTS
from torch.func import grad, vmap
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from companion import keras_class, keras_functional, pytorch_functional
from companion.data import encode, keras_batches
from companion.encoders import load_tokenizer
from companion.pytorch_class import BertCNN

LABELS = torch.tensor([1, 0, 0, 1])
KERAS = {"class": keras_class.BertCNN.from_encoder, "functional": keras_functional.build_bert_cnn}
LOSS = {"optimizer": "adam", "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}


@pytest.fixture(scope="module")
def inputs(four):
    return four.inputs(TEXTS)


@pytest.fixture(scope="module")
def tensors(inputs):
    return {name: torch.from_numpy(array).long() for name, array in inputs.items()}


@pytest.fixture(scope="module")
def saved(four, tmp_path_factory) -> str:
    """The PyTorch class and its tokenizer, as a user would save them."""
    folder = tmp_path_factory.mktemp("saved")
    four.model.save_pretrained(folder)
    four.tokenizer.save_pretrained(folder)
    return str(folder)


# --- PyTorch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto", [BertCNN, transformers.AutoModelForSequenceClassification])
@torch.no_grad()
def test_a_saved_model_comes_back_with_the_same_logits(four, tensors, saved, auto):
    model = auto.from_pretrained(saved)
    assert type(model) is BertCNN and not model.training
    assert model.config.head == four.model.config.head
    assert torch.equal(model(**tensors).logits, four.model(**tensors).logits)


def test_another_head_survives_saving(random_encoder, tmp_path):
    head = {"kernel_sizes": (1, 7), "num_filters": 3, "dropout": 0.25, "num_labels": 6, "hidden_units": 5}
    BertCNN.from_encoder(random_encoder, **head).save_pretrained(tmp_path)
    model = BertCNN.from_pretrained(tmp_path)
    assert model.config.head == head
    assert (model.hidden_layer.out_features, model.classifier.out_features, model.dropout.p) == (5, 6, 0.25)


def test_pipeline_classifies_text(four, tensors, saved):
    classify = transformers.pipeline("text-classification", model=saved, device="cpu")
    answers = classify(TEXTS, batch_size=2)
    with torch.no_grad():
        expected = four.model(**tensors).logits.softmax(-1).max(-1)
    assert [answer["label"] for answer in answers] == [four.model.config.id2label[i] for i in expected.indices.tolist()]
    np.testing.assert_allclose([answer["score"] for answer in answers], expected.values, atol=1e-5)


def test_label_names_are_kept(random_encoder, tmp_path):
    names = {0: "negative", 1: "positive"}
    BertCNN.from_encoder(random_encoder, id2label=names).save_pretrained(tmp_path)
    assert BertCNN.from_pretrained(tmp_path).config.id2label == names


def test_trainer_takes_a_step(random_encoder, tmp_path):
    tokenizer, model = load_tokenizer(random_encoder), BertCNN.from_encoder(random_encoder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = encode(datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS.tolist()}), tokenizer)
    options = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    arguments = transformers.TrainingArguments(tmp_path, max_steps=1, per_device_train_batch_size=4, **options)
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    assert np.isfinite(trainer.train().training_loss)
    assert all(
        not torch.equal(before[name], model.state_dict()[name]) for name in ("convs.0.weight", "classifier.weight")
    )
    assert trainer.predict(rows).predictions.shape == (4, 2)


def test_the_loss_is_the_cross_entropy_of_the_logits(four, tensors):
    output = four.model(**tensors, labels=LABELS)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits, LABELS))


@torch.no_grad()
def test_without_a_mask_every_token_counts(four, tensors):
    full = {"input_ids": tensors["input_ids"], "attention_mask": torch.ones_like(tensors["attention_mask"])}
    assert torch.equal(four.model(tensors["input_ids"]).logits, four.model(**full).logits)


@torch.no_grad()
def test_torch_compile_changes_nothing(four, tensors):
    torch._dynamo.reset()
    compiled = torch.compile(four.model, backend="aot_eager")
    torch.testing.assert_close(compiled(**tensors).logits, four.model(**tensors).logits, rtol=0, atol=1e-5)


# --- torch.func ----------------------------------------------------------------------------------


def test_grad_over_all_parameters_is_the_gradient_of_the_class(random_encoder, tensors):
    model = BertCNN.from_encoder(random_encoder, hidden_units=7)
    params, encoder = pytorch_functional.from_model(model)

    def loss(params):
        return F.cross_entropy(pytorch_functional.bert_cnn(params, encoder, **tensors), LABELS)

    gradients = grad(loss)(params)
    model(**tensors, labels=LABELS).loss.backward()
    pairs = [(gradients["encoder"][name], p) for name, p in model.encoder.named_parameters()]
    for key, module in [("hidden_layer", model.hidden_layer), ("classifier", model.classifier)]:
        pairs += [(gradients[key][name], p) for name, p in module.named_parameters()]
    for layer, conv in zip(gradients["convs"], model.convs, strict=True):
        pairs += [(layer[name], p) for name, p in conv.named_parameters()]
    assert len(pairs) == len(list(model.parameters()))
    for ours, parameter in pairs:  # the encoder's pooler is not used: no gradient there, zero here
        torch.testing.assert_close(
            ours, torch.zeros_like(ours) if parameter.grad is None else parameter.grad, rtol=0, atol=1e-5
        )
    assert gradients["encoder"]["embeddings.word_embeddings.weight"].abs().max() > 1e-4


def test_per_example_gradients_of_the_head(four, tensors):
    head = {**four.params, "encoder": {}}
    hidden = four.model.embed(**tensors).detach()

    def loss(head, hidden, mask, label):
        return F.cross_entropy(pytorch_functional.head(head, hidden[None], mask[None]), label[None])

    together = vmap(grad(loss), in_dims=(None, 0, 0, 0))(head, hidden, tensors["attention_mask"], LABELS)
    for i in range(len(TEXTS)):
        alone = grad(loss)(head, hidden[i], tensors["attention_mask"][i], LABELS[i])
        one_of_them = tree_map(itemgetter(i), together)
        tree_map(partial(torch.testing.assert_close, rtol=0, atol=1e-5), alone, one_of_them)


@torch.no_grad()
def test_from_model_copies(random_encoder, tensors):
    model = BertCNN.from_encoder(random_encoder)
    params, encoder = pytorch_functional.from_model(model)
    before = pytorch_functional.bert_cnn(params, encoder, **tensors)
    for parameter in model.parameters():
        parameter.zero_()
    assert torch.equal(pytorch_functional.bert_cnn(params, encoder, **tensors), before)


# --- Keras ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", KERAS.values(), ids=KERAS)
@pytest.mark.parametrize(
    "head", [{}, {"kernel_sizes": (1, 7), "num_labels": 6, "hidden_units": 5}], ids=["article", "other"]
)
def test_a_keras_file_comes_back_with_the_same_logits(random_encoder, inputs, tmp_path, build, head):
    model = build(random_encoder, **head)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    assert np.array_equal(np.array(again(inputs)), np.array(model(inputs)))


@pytest.mark.parametrize("build", KERAS.values(), ids=KERAS)
def test_compile_with_xla_fit_and_predict(random_encoder, build):
    tokenizer, model = load_tokenizer(random_encoder), build(random_encoder, kernel_sizes=(3,), num_filters=4)
    rows = encode(datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS.tolist()}), tokenizer)
    before = model.get_layer("conv_3").kernel.numpy()
    model.compile(**LOSS, jit_compile=True)
    history = model.fit(keras_batches(rows, tokenizer, batch_size=4, seed=0), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert not np.array_equal(before, model.get_layer("conv_3").kernel.numpy())
    batch, _ = keras_batches(rows, tokenizer, batch_size=4)[0]
    np.testing.assert_allclose(model.predict(batch, verbose=0), np.array(model(batch)), atol=1e-4)


# --- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_is_off_in_use(four, inputs, variant):
    one, other = (four.steps(variant, inputs)["logits"] for _ in range(2))
    assert np.array_equal(one, other)


@torch.no_grad()
def test_dropout_is_on_in_training(four, random_encoder, inputs, tensors):
    model = BertCNN.from_encoder(random_encoder).train()
    runs = {
        "pytorch_class": lambda: model(**tensors).logits,
        "pytorch_functional": lambda: pytorch_functional.bert_cnn(four.params, four.bert, **tensors, dropout=0.5),
        "keras_class": lambda: four.keras_class(inputs, training=True),
        "keras_functional": lambda: four.keras_functional(inputs, training=True),
    }
    for variant, run in runs.items():
        assert not np.allclose(np.array(run()), np.array(run()), atol=1e-4), variant


# --- other encoders ------------------------------------------------------------------------------

SMALL = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SMALL |= {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
OTHERS = {
    "roberta": transformers.RobertaConfig(**SMALL, max_position_embeddings=66),
    "distilbert": transformers.DistilBertConfig(vocab_size=50, dim=32, n_layers=1, n_heads=2, hidden_dim=64),
    "modernbert": transformers.ModernBertConfig(**SMALL, cls_token_id=2, sep_token_id=3),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_encoders_serve_the_pytorch_variants(tmp_path, kind):
    transformers.AutoModel.from_config(OTHERS[kind]).save_pretrained(tmp_path)
    model = BertCNN.from_encoder(str(tmp_path))
    params, encoder = pytorch_functional.from_model(model)
    batch = {
        "input_ids": torch.tensor([[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]]),
        "attention_mask": torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]),
    }
    with torch.no_grad():
        logits = model(**batch).logits
        assert logits.shape == (2, 2) and logits.isfinite().all()
        torch.testing.assert_close(pytorch_functional.bert_cnn(params, encoder, **batch), logits, rtol=0, atol=1e-5)
        alone = {name: rows[1:, :3] for name, rows in batch.items()}
        torch.testing.assert_close(model(**alone).logits, logits[1:], rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    assert BertCNN.from_pretrained(tmp_path / "saved").config.encoder_config.model_type == kind
    for build in KERAS.values():
        with pytest.raises(
            ValueError, match=f"need a BERT encoder, .* is of type '{kind}'; the PyTorch variants take it"
        ):
            build(str(tmp_path))
