"""transformers/transformer's solution against torch: nn.LayerNorm, nn.Transformer's layers, and F.cross_entropy."""

import math

import pytest
import torch
from torch import nn

B, S, T, E, H, F, V, LAYERS = 3, 7, 5, 6, 2, 10, 13, 2
SOURCE = torch.tensor([[2, 5, 9, 1, 7, 4, 4], [3, 4, 8, 12, 4, 6, 4], [11, 10, 0, 6, 2, 9, 5]])
TARGET = torch.tensor([[1, 8, 6, 4, 4], [1, 4, 0, 7, 2], [1, 12, 3, 10, 9]])


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def close(got, expected, tolerance=1e-11):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def shuffled(module):
    """A module in float64 whose parameters are all random."""
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) / 2)
    return module


@torch.no_grad()
def copy_attention(mine, theirs):
    for part, weight, bias in zip(
        ("query", "key", "value"), theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True
    ):
        mine.get_submodule(part).weight.copy_(weight)
        mine.get_submodule(part).bias.copy_(bias)
    mine.output.load_state_dict(theirs.out_proj.state_dict())


@torch.no_grad()
def copy_layer(mine, theirs):
    """Parameters of a layer of torch into one of the solution."""
    copy_attention(mine.attention, theirs.self_attn)
    mine.feed_forward.up.load_state_dict(theirs.linear1.state_dict())
    mine.feed_forward.down.load_state_dict(theirs.linear2.state_dict())
    mine.norm_1.load_state_dict(theirs.norm1.state_dict())
    mine.norm_2.load_state_dict(theirs.norm2.state_dict())
    if hasattr(theirs, "multihead_attn"):
        copy_attention(mine.cross_attention, theirs.multihead_attn)
        mine.norm_3.load_state_dict(theirs.norm3.state_dict())


def torch_layer(kind, pre_norm):
    return kind(E, H, F, dropout=0.0, activation="relu", batch_first=True, norm_first=pre_norm)


@pytest.mark.parametrize("width", [6, 7])
def test_positions(mine, width):
    expected = [
        [(math.cos if j % 2 else math.sin)(t * 10000 ** (-(j - j % 2) / width)) for j in range(width)]
        for t in range(50)
    ]
    close(mine.sinusoidal_positions(50, width, torch.float64), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("eps", [1e-5, 0.7])
@pytest.mark.parametrize("shape", [(E,), (T, E), (2, 3, T, E)])
def test_layer_norm(mine, shape, eps):
    theirs, x, upstream = shuffled(nn.LayerNorm(E, eps)), normal(*shape).requires_grad_(), normal(*shape)
    y = theirs(x)
    close(mine.layer_norm(x, theirs.weight, theirs.bias, eps), y)
    expected = torch.autograd.grad(y, [x, theirs.weight, theirs.bias], upstream)
    close(mine.layer_norm_gradients(upstream, x.detach(), theirs.weight.detach(), eps), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_layer_norm(mine, dtype):
    x, weight, bias = normal(T, 40).to(dtype), normal(40).to(dtype), normal(40).to(dtype)
    expected = nn.functional.layer_norm(x.double(), (40,), weight.double(), bias.double()).to(dtype)
    torch.testing.assert_close(mine.layer_norm(x, weight, bias), expected, rtol=torch.finfo(dtype).eps, atol=1e-4)


def gradients(module, outputs, inputs):
    upstream = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).reshape(outputs.shape)
    return torch.autograd.grad((outputs * upstream).sum(), inputs)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_encoder_layer(mine, pre_norm, padded):
    theirs, layer = shuffled(torch_layer(nn.TransformerEncoderLayer, pre_norm)), mine.EncoderLayer(E, H, F, pre_norm)
    copy_layer(layer.double(), theirs)
    x, padding = normal(B, S, E).requires_grad_(), SOURCE == 4 if padded else None
    expected = theirs(x, src_key_padding_mask=padding)
    got = layer(x, ~padding[:, None, None] if padded else None)
    close(got, expected)
    close(gradients(layer, got, [x]), gradients(theirs, expected, [x]))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_decoder_layer(mine, pre_norm):
    theirs, layer = shuffled(torch_layer(nn.TransformerDecoderLayer, pre_norm)), mine.DecoderLayer(E, H, F, pre_norm)
    copy_layer(layer.double(), theirs)
    x, memory = normal(B, T, E).requires_grad_(), normal(B, S, E).requires_grad_()
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected = theirs(x, memory, tgt_mask=hidden, tgt_key_padding_mask=TARGET == 4, memory_key_padding_mask=SOURCE == 4)
    got = layer(x, memory, mine.target_mask(TARGET, 4), mine.source_mask(SOURCE, 4))
    close(got, expected)
    close(gradients(layer, got, [x, memory]), gradients(theirs, expected, [x, memory]))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_model(mine, pre_norm):
    """The whole against nn.Transformer between the same embeddings."""
    theirs = nn.Transformer(
        E, H, LAYERS, LAYERS, F, dropout=0.0, batch_first=True, norm_first=pre_norm,
        custom_encoder=nn.TransformerEncoder(
            torch_layer(nn.TransformerEncoderLayer, pre_norm), LAYERS, nn.LayerNorm(E) if pre_norm else None,
            enable_nested_tensor=False,
        ),
        custom_decoder=nn.TransformerDecoder(
            torch_layer(nn.TransformerDecoderLayer, pre_norm), LAYERS, nn.LayerNorm(E) if pre_norm else None
        ),
    )  # fmt: skip
    theirs, model = shuffled(theirs), shuffled(mine.Transformer(V, E, H, F, LAYERS, pre_norm, padding=4))
    for stack in ("encoder", "decoder"):
        for own, other in zip(getattr(model, stack), getattr(theirs, stack).layers, strict=True):
            copy_layer(own, other)
        if pre_norm:
            getattr(model, f"{stack}_norm").load_state_dict(getattr(theirs, stack).norm.state_dict())

    def embedded(tokens):
        return E**0.5 * model.embedding(tokens) + mine.sinusoidal_positions(tokens.shape[1], E, torch.float64)

    def logits(target):
        length = target.shape[1]
        y = theirs(
            embedded(SOURCE), embedded(target), tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
            src_key_padding_mask=SOURCE == 4, tgt_key_padding_mask=target == 4, memory_key_padding_mask=SOURCE == 4,
        )  # fmt: skip
        return y @ model.embedding.weight.T

    close(model(SOURCE, TARGET), logits(TARGET))
    tokens = torch.full((B, 1), 1)
    for _ in range(6):
        tokens = torch.cat([tokens, logits(tokens)[:, -1:].argmax(dim=-1)], dim=1)
    assert torch.equal(model.translate(SOURCE, 1, 6), tokens[:, 1:])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("padding", [4, -100])
def test_loss(mine, smoothing, padding):
    logits, targets = normal(B, T, V).requires_grad_(), TARGET.masked_fill(TARGET == 4, padding)
    expected = nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=padding, label_smoothing=smoothing
    )
    got = mine.label_smoothed_loss(logits, targets, smoothing, padding)
    close(got, expected)
    close(torch.autograd.grad(got, logits), torch.autograd.grad(expected, logits))
