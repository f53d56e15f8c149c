"""The comparison's heads: each reads the text and only the text, and the fair ones are as large as the CNN."""

import pytest
import torch

from companion.encoders import load_pytorch_encoder
from companion.heads import ABLATIONS, CNN, HEADS, Classifier, StaticEncoder, glorot, token_vectors
from companion.pytorch_class import BertCNN

WIDTH = 32


def vectors_and_mask(length=7, batch=3):
    torch.manual_seed(0)
    return torch.randn(batch, length, WIDTH), torch.ones(batch, length)


def make(name):
    torch.manual_seed(1)
    return (HEADS | ABLATIONS)[name](WIDTH, 4).apply(glorot).eval()


def padded_and_not(head):
    """The head's logits for the same texts in a batch without padding, and in one with as much again."""
    vectors, mask = vectors_and_mask()
    vectors = torch.cat([vectors] * head.layers, dim=-1)
    padded = torch.cat([vectors, 100 + torch.zeros_like(vectors)], dim=1)
    longer = torch.cat([mask, torch.zeros_like(mask)], dim=1)
    return head(vectors, mask), head(padded, longer)


@pytest.mark.parametrize("name", [name for name in HEADS | ABLATIONS if name != "cnn_unmasked"])
def test_padding_changes_no_logit(name):
    logits, others = padded_and_not(make(name))
    assert logits.shape == (3, 4)
    torch.testing.assert_close(others, logits, rtol=0, atol=1e-5)


def test_without_the_mask_it_does():
    logits, others = padded_and_not(make("cnn_unmasked"))
    assert (logits - others).abs().max() > 1


@pytest.mark.parametrize("name", HEADS | ABLATIONS)
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


@pytest.mark.parametrize("width", [32, 256, 768])
def test_the_mlp_is_as_large_as_the_cnn(width):
    sizes = [sum(p.numel() for p in HEADS[name](width, 2).parameters()) for name in ("mlp", "cnn")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.005)


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
