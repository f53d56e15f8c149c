"""The variants are ordinary models of their frameworks: saved, loaded, trained, compiled, differentiated as usual."""

import contextlib
import os
import shutil
import subprocess
import sys
from functools import partial
from operator import itemgetter

import datasets
import keras
import numpy as np
import pytest
import torch
import transformers
from conftest import TEXTS, VARIANTS
from safetensors.torch import load_file, save_file
from torch.func import grad, vmap
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from companion import keras_class, keras_functional, pytorch_functional, weights
from companion.attribution import explain
from companion.config import BertCNNConfig
from companion.data import encode, keras_batches
from companion.encoders import load_tokenizer
from companion.export.saved import from_keras
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


@pytest.mark.parametrize("part", ["classifier", "convs.1", "encoder"])
def test_a_folder_without_some_of_its_weights_is_refused(part, saved, tmp_path):
    """Otherwise transformers would draw them at random, and any text would get some class."""
    shutil.copytree(saved, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith(part)}
    save_file(kept, weights, metadata={"format": "pt"})
    for load in (BertCNN.from_pretrained, transformers.AutoModelForSequenceClassification.from_pretrained):
        with pytest.raises(ValueError, match=f"are missing or have another shape, such as {part}"):
            load(tmp_path / "model")


def test_weights_of_another_shape_are_refused_unless_wanted(saved):
    with pytest.raises(ValueError, match=r"2 are missing or have another shape, such as classifier\.bias"):
        BertCNN.from_pretrained(saved, num_labels=7)
    model, found = BertCNN.from_pretrained(saved, num_labels=7, ignore_mismatched_sizes=True, output_loading_info=True)
    assert model.classifier.out_features == 7 and len(found["mismatched_keys"]) == 2


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


# --- one class, several classes, a number ---------------------------------------------------------

PROBLEMS = {  # problem type, num_labels -> labels
    ("single_label_classification", 2): [1, 0, 0, 1],
    ("multi_label_classification", 3): [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]],
    ("regression", 1): [0.5, -1.0, 2.5, 0.0],
}


def loss_by_hand(problem, logits, labels):
    if problem == "single_label_classification":
        return -np.mean([row[label] - np.log(np.exp(row).sum()) for row, label in zip(logits, labels, strict=True)])
    if problem == "regression":
        return np.mean((logits[:, 0] - labels) ** 2)
    chances = 1 / (1 + np.exp(-logits))
    return -np.mean(np.where(np.array(labels) == 1, np.log(chances), np.log(1 - chances)))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("problem, num_labels", PROBLEMS)
def test_each_problem_type_has_its_loss(build_four, random_encoder, inputs, tensors, problem, num_labels, variant):
    four = build_four(random_encoder, num_labels=num_labels, num_filters=5)
    labels = PROBLEMS[problem, num_labels]
    logits = four.steps(variant, inputs)["logits"]
    expected = loss_by_hand(problem, logits.astype(np.float64), labels)
    if variant.startswith("keras"):
        found = keras_class.loss_for(problem)(np.array(labels, np.float32), logits)
    else:
        model = BertCNN(
            BertCNNConfig(
                **four.model.config.head, problem_type=problem, encoder_config=four.model.config.encoder_config
            )
        )
        found = model.loss(torch.from_numpy(logits), torch.tensor(labels))
        if variant == "pytorch_class":
            four.model.config.problem_type = problem
            for given in (torch.tensor(labels), torch.tensor(labels).to(torch.float64 if num_labels > 2 else None)):
                torch.testing.assert_close(four.model(**tensors, labels=given).loss, found)
            four.model.config.problem_type = None
            torch.testing.assert_close(four.model(**tensors, labels=torch.tensor(labels)).loss, found)
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_labels_that_do_not_fit_are_never_broadcast(random_encoder, tensors):
    model = BertCNN.from_encoder(random_encoder, num_labels=3, problem_type="multi_label_classification")
    with pytest.raises(RuntimeError):
        model(**tensors, labels=torch.ones(4, 1))
    with pytest.raises((ValueError, RuntimeError)):
        BertCNN.from_encoder(random_encoder, problem_type="single_label_classification")(
            **tensors, labels=torch.ones(4, 2)
        )


@pytest.mark.parametrize("build", [BertCNN.from_encoder, *KERAS.values(), keras_class.loss_for])
def test_an_unknown_problem_type_is_refused(random_encoder, build):
    with pytest.raises(ValueError, match="problem_type"):
        build(*([random_encoder] if build is not keras_class.loss_for else []), problem_type="ranking")


def test_pipeline_gives_each_label_a_chance_of_its_own(random_encoder, four):
    model = BertCNN.from_encoder(random_encoder, num_labels=3, problem_type="multi_label_classification")
    classify = transformers.pipeline("text-classification", model=model, tokenizer=four.tokenizer, device="cpu")
    found = {answer["label"]: answer["score"] for answer in classify(TEXTS[0], top_k=None)}
    logits = model(**four.tokenizer(TEXTS[:1], return_tensors="pt")).logits[0]
    np.testing.assert_allclose([found[f"LABEL_{i}"] for i in range(3)], logits.sigmoid().detach(), atol=1e-5)


# --- what transformers' own classifiers take ------------------------------------------------------


@torch.no_grad()
def test_forward_takes_what_transformers_classifiers_take(four, tensors, random_encoder):
    plain, ids = four.model(**tensors).logits, tensors["input_ids"]
    types, positions = torch.zeros_like(ids), torch.arange(ids.shape[1]).expand_as(ids)
    vectors = four.model.get_input_embeddings()(ids)
    torch.testing.assert_close(four.model(**tensors, token_type_ids=types, position_ids=positions).logits, plain)
    embedded = four.model(inputs_embeds=vectors, attention_mask=tensors["attention_mask"])
    torch.testing.assert_close(embedded.logits, plain, rtol=0, atol=1e-5)
    assert not torch.allclose(four.model(**tensors, token_type_ids=types + 1).logits, plain, atol=1e-3)
    assert not torch.allclose(four.model(**tensors, position_ids=positions + 9).logits, plain, atol=1e-3)
    loss, logits = four.model(**tensors, labels=LABELS, return_dict=False)
    assert torch.equal(logits, plain) and loss.ndim == 0
    output = four.model(**tensors, output_hidden_states=True)
    assert len(output.hidden_states) == 3
    torch.testing.assert_close(output.hidden_states[-1], four.model.embed(**tensors))
    eager = BertCNN.from_encoder(random_encoder)
    eager.set_attn_implementation("eager")
    assert [a.shape for a in eager(**tensors, output_attentions=True).attentions] == [(4, 2, *[ids.shape[1]] * 2)] * 2


def test_pipeline_takes_the_tokenizer_as_it_is(four, random_encoder):
    """Its own BERT tokenizer also returns token_type_ids."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(random_encoder)
    assert "token_type_ids" in tokenizer(TEXTS[0])
    answers = transformers.pipeline("text-classification", model=four.model, tokenizer=tokenizer, device="cpu")(TEXTS)
    expected = four.model(**four.tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.softmax(-1).amax(-1)
    np.testing.assert_allclose([answer["score"] for answer in answers], expected.detach(), atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(random_encoder, tensors):
    torch.manual_seed(0)
    model = BertCNN.from_encoder(random_encoder, dropout=0.0)
    model.train().encoder.apply(lambda module: setattr(module, "p", 0.0) if hasattr(module, "p") else None)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.zero_grad()
        model(**tensors, labels=LABELS).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert model.is_gradient_checkpointing
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-5)


def leave_as_it_is(_, bucket):
    """The sum of gradients over one process, where a process group would sum them."""
    future = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


@pytest.mark.parametrize("how", ["from_encoder", "from_pretrained", "from_config"])
def test_plain_distributed_training_takes_steps(random_encoder, tensors, tmp_path, how):
    """It stops at the second step where a parameter gets no gradient, as BERT's pooler."""
    model = BertCNN.from_encoder(random_encoder)
    if how == "from_pretrained":
        model.save_pretrained(tmp_path / "saved")
        model = BertCNN.from_pretrained(tmp_path / "saved")
    elif how == "from_config":
        model = BertCNN(model.config)
    torch.distributed.init_process_group("fake", rank=0, world_size=1)  # neither threads nor sockets
    try:
        spread = torch.nn.parallel.DistributedDataParallel(model.train())
        spread.register_comm_hook(None, leave_as_it_is)
        for _ in range(3):
            spread(**tensors, labels=LABELS).loss.backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


CHANGES = {
    "more tokens": lambda model: model.resize_token_embeddings(90),
    "rows for a GPU": lambda model: model.resize_token_embeddings(pad_to_multiple_of=64),
    "other embeddings": lambda model: model.set_input_embeddings(torch.nn.Embedding(70, 32)),
    "other classes": lambda model: setattr(model, "classifier", torch.nn.Linear(300, 7)),
    "dropout": lambda model: setattr(model.dropout, "p", 0.125),
    "the encoder's dropout": lambda model: setattr(model.encoder.config, "hidden_dropout_prob", 0.25),
    "fewer layers": lambda model: cut(model, 1),
    "half": lambda model: model.half(),
    "bfloat16": lambda model: model.to(torch.bfloat16),
    "double": lambda model: model.double(),
}


def cut(model, layers):
    model.encoder.encoder.layer = model.encoder.encoder.layer[:layers]
    model.encoder.config.num_hidden_layers = layers


@pytest.mark.parametrize("auto", [BertCNN, transformers.AutoModelForSequenceClassification])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_a_changed_model_still_loads(random_encoder, tensors, tmp_path, change, auto):
    model = BertCNN.from_encoder(random_encoder)
    change(model)
    model.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path)
    assert again.dtype == model.dtype and again.dropout.p == model.dropout.p
    assert again.config.num_labels == model.classifier.out_features == len(again.config.id2label)
    assert again.encoder.config.hidden_dropout_prob == model.encoder.config.hidden_dropout_prob
    assert again.encoder.config.vocab_size == model.get_input_embeddings().num_embeddings
    assert torch.equal(again(**tensors).logits, model(**tensors).logits)


# --- what a Keras file keeps ----------------------------------------------------------------------


def freeze_some(model):
    encoder = next(layer for layer in model.layers if hasattr(layer, "transformer_layers"))
    encoder.token_embedding.trainable = False
    encoder.transformer_layers[0].trainable = False
    encoder.transformer_layers[1]._self_attention_layer.trainable = False


FREEZES = {
    "nothing": lambda model: None,
    "some of the encoder": freeze_some,
    "the encoder": lambda model: setattr(
        model.layers[[hasattr(x, "hidden_dim") for x in model.layers].index(True)], "trainable", False
    ),
    "a convolution": lambda model: setattr(model.get_layer("conv_3"), "trainable", False),
}


@pytest.mark.parametrize("build", KERAS.values(), ids=KERAS)
@pytest.mark.parametrize("freeze", FREEZES.values(), ids=FREEZES)
def test_a_keras_file_keeps_the_optimizer_and_what_is_frozen(random_encoder, inputs, tmp_path, build, freeze):
    model = build(random_encoder, num_filters=4, dropout=0.0)
    freeze(model)
    model.compile(**LOSS)
    for _ in range(2):
        model.train_on_batch(inputs, LABELS.numpy())
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == 2
    for name in ("weights", "trainable_weights"):
        assert [w.shape for w in getattr(again, name)] == [w.shape for w in getattr(model, name)], name
    for one, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    frozen = [w.numpy() for w in again.non_trainable_weights]
    again.train_on_batch(inputs, LABELS.numpy())
    assert all(np.array_equal(w, old) for w, old in zip(again.non_trainable_weights, frozen, strict=True))


# --- precisions, backends, processes --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_any_precision_can_be_explained(random_encoder, four, dtype):
    model = BertCNN.from_encoder(random_encoder).to(dtype)
    with torch.no_grad():
        expected = model(**four.tokenizer(TEXTS[0], return_tensors="pt")).logits[0].float()
    for variant in (model, pytorch_functional.from_model(model)):
        explanation = next(explain(variant, TEXTS[0], tokenizer=four.tokenizer))
        np.testing.assert_allclose(explanation.logits, expected, rtol=0, atol=0.05)


def run(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr[-3000:]


@contextlib.contextmanager
def precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("build", KERAS.values(), ids=KERAS)
def test_keras_follows_the_precision_it_is_set_to(random_encoder, four, inputs, build, policy):
    """Computed in half precision, from weights in single precision, as `Trainer` does with `bf16=True`."""
    with precision(policy):
        model = weights.to_keras(four.model, build(random_encoder))
    logits = model(inputs)
    assert keras.backend.standardize_dtype(logits.dtype) == policy.removeprefix("mixed_")
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    logits = np.array(keras.ops.cast(logits, "float32"))
    np.testing.assert_allclose(logits, np.array(four.keras_class(inputs)), rtol=0, atol=0.3)
    model.compile(keras.optimizers.SGD(0.01), keras_class.loss_for(), run_eagerly=True)
    assert np.isfinite(model.train_on_batch(inputs, np.zeros(len(logits), int)))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize("build", KERAS.values(), ids=KERAS)
def test_a_keras_file_keeps_its_precision_and_its_dropout(random_encoder, inputs, tmp_path, build, policy):
    """Wherever it is loaded, also as a PyTorch model."""
    with precision(policy):
        model = build(random_encoder, hidden_units=5)
    next(layer for layer in model.layers if layer.name.startswith("dropout")).rate = 0.2
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert next(layer for layer in again.layers if layer.name.startswith("dropout")).rate == 0.2
    expected = np.array(keras.ops.cast(model(inputs), "float32"))
    assert np.array_equal(np.array(keras.ops.cast(again(inputs), "float32")), expected)
    found = from_keras(tmp_path / "model.keras")(**{name: torch.tensor(array) for name, array in inputs.items()})
    np.testing.assert_allclose(found.logits.detach().numpy(), expected, rtol=0, atol=0.01)


def test_one_exported_graph_serves_every_length_and_batch(four):
    exported = torch.export.export(
        four.model,
        (),
        dict(four.tokenizer(TEXTS[:2], padding=True, return_tensors="pt")),
        dynamic_shapes={name: dict.fromkeys((0, 1), torch.export.Dim.AUTO) for name in ("input_ids", "attention_mask")},
    ).module()
    for texts in ([""], ["dull"], TEXTS):  # from 2 tokens, less than the smallest kernel, to some 70
        batch = four.tokenizer(texts, padding=True, return_tensors="pt")
        torch.testing.assert_close(exported(**batch).logits, four.model(**batch).logits, atol=1e-4, rtol=0)


def test_a_new_process_loads_after_the_documented_import(random_encoder, tmp_path):
    BertCNN.from_encoder(random_encoder).save_pretrained(tmp_path / "pytorch")
    for name, build in KERAS.items():
        build(random_encoder).save(tmp_path / f"{name}.keras")
        module = f"companion.keras_{name}"
        assert f"`import {module}`" in (build.__doc__ + keras_class.BertCNN.__doc__)
        run(f"import {module}, keras; keras.saving.load_model({str(tmp_path / f'{name}.keras')!r})")
    assert "`import companion.pytorch_class`" in BertCNN.save_pretrained.__doc__
    load = f"AutoModelForSequenceClassification.from_pretrained({str(tmp_path / 'pytorch')!r})"
    run(f"import companion.pytorch_class, transformers; transformers.{load}")
