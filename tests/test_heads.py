"""The comparison's heads: each reads the text and only the text, and the fair ones are as large as the CNN."""

from math import log

import pytest
import torch

from companion.encoders import load_pytorch_encoder
from companion.pytorch_class import BertCNN
from companion.study import heads
from companion.study.heads import CNN, Classifier, StaticEncoder, token_vectors
from companion.study.specs import HEADS

WIDTH = 32
NETWORKS = [name for name, spec in HEADS.items() if spec.module]
FAIR = [name for name in NETWORKS if name != "cnn_old_start"]  # it shows what an unfair start costs


def vectors_and_mask(length=7, batch=3):
    torch.manual_seed(0)
    return torch.randn(batch, length, WIDTH), torch.ones(batch, length)


def make(name, scale=1.0):
    """A head in use; with scale 1, its output layer starts as large as any."""
    torch.manual_seed(1)
    return heads.make(name, WIDTH, 4, output_scale=scale).eval()


def padded_and_not(head):
    """The head's logits for the same texts in a batch without padding, and in one with as much again."""
    vectors, mask = vectors_and_mask()
    vectors = torch.cat([vectors] * head.layers, dim=-1)
    padded = torch.cat([vectors, 100 + torch.zeros_like(vectors)], dim=1)
    longer = torch.cat([mask, torch.zeros_like(mask)], dim=1)
    return head(vectors, mask), head(padded, longer)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "cnn_unmasked"])
def test_padding_changes_no_logit(name):
    logits, others = padded_and_not(make(name))
    assert logits.shape == (3, 4)
    torch.testing.assert_close(others, logits, rtol=0, atol=1e-5)


def test_without_the_mask_it_does():
    logits, others = padded_and_not(make("cnn_unmasked"))
    assert (logits - others).abs().max() > 1


@pytest.mark.parametrize("name", NETWORKS)
def test_training_moves_every_parameter(name):
    model = Classifier(make(name)).train()
    vectors, mask = vectors_and_mask(length=20, batch=16)
    vectors = torch.cat([vectors] * model.head.layers, dim=-1)
    model(mask, torch.arange(16) % 4, vectors=vectors)["loss"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("name, value", [("cls", 1.0), ("mean", 2.0), ("max", 4.0)])
def test_pools(name, value):
    """[1, 4, 1] and one of padding."""
    vectors = torch.tensor([1.0, 4.0, 1.0, 9.0])[None, :, None].expand(1, 4, WIDTH)
    pooled = make(name).pool(vectors, torch.tensor([[1, 1, 1, 0]]))
    torch.testing.assert_close(pooled, torch.full((1, WIDTH), value))


@pytest.mark.parametrize("width", [32, 256, 384, 768])
@pytest.mark.parametrize("name", ["mlp", "token_mlp"])
@pytest.mark.parametrize("classes", [2, 6])
def test_the_fair_rivals_are_as_large_as_the_cnn(name, width, classes):
    sizes = [sum(p.numel() for p in heads.make(head, width, classes).parameters()) for head in (name, "cnn")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.005)


@pytest.mark.parametrize("classes", [2, 5, 6])
@pytest.mark.parametrize("dropout", [0.1, 0.5])
@pytest.mark.parametrize("name", FAIR)
def test_every_head_starts_at_the_loss_of_a_uniform_guess(name, dropout, classes):
    torch.manual_seed(2)
    model = Classifier(heads.make(name, 256, classes, dropout)).train()
    vectors, mask = torch.randn(64, 20, 256 * model.head.layers), torch.ones(64, 20)
    loss = model(mask, torch.arange(64) % classes, vectors=vectors)["loss"].item()
    assert loss == pytest.approx(log(classes), abs=0.1)


def test_the_old_start_is_far_from_a_uniform_guess():
    torch.manual_seed(2)
    head = heads.make("cnn_old_start", 256, 2, dropout=0.1)
    assert head.dropout == 0.5
    logits = head(torch.randn(64, 20, 256), torch.ones(64, 20))
    assert torch.nn.functional.cross_entropy(logits, torch.arange(64) % 2) > 1


@pytest.mark.parametrize("name", FAIR)
def test_dropout_is_what_was_asked_for(name):
    """In training with dropout 0 a head repeats itself; with half of the features dropped it does not."""
    for dropout in (0.0, 0.5):
        head = heads.make(name, WIDTH, 4, dropout).train()
        vectors = torch.randn(3, 7, WIDTH * head.layers)
        one, other = head(vectors, torch.ones(3, 7)), head(vectors, torch.ones(3, 7))
        assert torch.equal(one, other) == (dropout == 0.0)


def test_token_mlp_is_a_dense_layer_on_each_token():
    head = make("token_mlp")
    vectors, mask = vectors_and_mask()
    mask[1, 4:] = 0
    weight, bias = head.convs[0].weight[..., 0], head.convs[0].bias
    tokens = torch.relu(vectors @ weight.T + bias) * mask[..., None]
    torch.testing.assert_close(head(vectors, mask), head.classifier(tokens.amax(dim=1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["cls", "mean", "max", "mlp"])
def test_padding_on_the_left_changes_no_logit(name):
    head, (vectors, mask) = make(name), vectors_and_mask()
    left = torch.cat([100 + torch.zeros_like(vectors), vectors], dim=1)
    shifted = torch.cat([torch.zeros_like(mask), mask], dim=1)
    torch.testing.assert_close(head(left, shifted), head(vectors, mask), rtol=0, atol=1e-5)


def test_the_cnn_is_the_series_own(random_encoder):
    model = BertCNN.from_encoder(random_encoder, num_labels=4)
    head = CNN(WIDTH, 4).eval()
    head.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("encoder")})
    ids = torch.randint(5, 10, (2, 9))
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5])
    labels = torch.tensor([0, 3])
    with torch.no_grad():
        ours = Classifier(head, model.encoder).eval()
        head.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("encoder")})
        logits = ours(mask, labels, input_ids=ids)["logits"]
        torch.testing.assert_close(logits, model(ids, mask).logits, rtol=0, atol=1e-6)


def test_static_vectors_know_no_context_and_the_encoders_own_do(random_encoder):
    encoder = load_pytorch_encoder(random_encoder).eval()
    ids, mask = torch.tensor([[2, 7, 8, 3], [2, 9, 7, 3]]), torch.ones(2, 4, dtype=torch.long)
    static, contextual = (token_vectors(e, ids, mask).detach() for e in (StaticEncoder(encoder), encoder))
    torch.testing.assert_close(static[0, 1], static[1, 2])
    assert (contextual[0, 1] - contextual[1, 2]).abs().max() > 0.1


def test_the_last_layers_side_by_side(random_encoder):
    encoder = load_pytorch_encoder(random_encoder).eval()
    ids, mask = torch.tensor([[2, 7, 8, 3]]), torch.ones(1, 4, dtype=torch.long)
    both = token_vectors(encoder, ids, mask, layers=2)
    assert both.shape == (1, 4, 2 * WIDTH)
    torch.testing.assert_close(both[..., WIDTH:], token_vectors(encoder, ids, mask))


@pytest.mark.parametrize("name, sizes", [("cnn_1", {1}), ("cnn_3_5", {3, 5}), ("cnn_unmasked", {3, 4, 5})])
def test_an_ablated_cnn_has_as_many_filters(name, sizes):
    head = make(name)
    assert {conv.kernel_size[0] for conv in head.convs} == sizes
    assert sum(conv.out_channels for conv in head.convs) == 300
