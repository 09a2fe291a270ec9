"""attention/dot_product_attention's solution against torch's scaled_dot_product_attention and nn.MultiheadAttention."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

B, H, TQ, TK, D, M = 2, 3, 5, 7, 4, 6


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tokens(generator):
    sizes = (TQ, D), (TK, D), (TK, M)
    return [torch.randn(B, H, *size, generator=generator, dtype=torch.float64) for size in sizes]


def masks(generator):
    visible = torch.rand(B, 1, TQ, TK, generator=generator) < 0.6
    visible[1, :, 2] = False  # a query that sees nothing
    bias = torch.randn(H, TQ, TK, generator=generator, dtype=torch.float64)
    return {"none": None, "bool": visible, "bias": bias}


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("kind", ["none", "bool", "bias"])
def test_attention(mine, tokens, generator, kind, scale):
    mask = masks(generator)[kind]
    expected = scaled_dot_product_attention(*tokens, attn_mask=mask, scale=scale)
    close(mine.dot_product_attention(*tokens, mask, scale=scale), expected)


@pytest.mark.parametrize(("queries", "keys"), [(5, 7), (7, 5), (5, 5)])
def test_causal(mine, generator, queries, keys):
    query, key, value = (
        torch.randn(B, H, n, D, generator=generator, dtype=torch.float64) for n in (queries, keys, keys)
    )
    lower_right = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    got = mine.dot_product_attention(query, key, value, causal=True)
    close(got, scaled_dot_product_attention(query, key, value, attn_mask=lower_right))
    if queries == keys:
        close(got, scaled_dot_product_attention(query, key, value, is_causal=True))


@pytest.mark.parametrize("kind", ["none", "bool", "bias"])
def test_gradients(mine, tokens, generator, kind):
    mask = masks(generator)[kind]
    upstream = torch.randn(B, H, TQ, M, generator=generator, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in tokens]
    expected = torch.autograd.grad((scaled_dot_product_attention(*leaves, attn_mask=mask) * upstream).sum(), leaves)
    close(mine.attention_gradients(upstream, *tokens, mask), expected)
    got = torch.autograd.grad((mine.dot_product_attention(*leaves, mask) * upstream).sum(), leaves)
    close(got, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half(mine, tokens, dtype):
    half = [x.to(dtype) for x in tokens]
    expected = scaled_dot_product_attention(*(x.double() for x in half)).to(dtype)
    torch.testing.assert_close(mine.dot_product_attention(*half), expected, rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("context_width", [None, 10])
@pytest.mark.parametrize("padded", [False, True])
def test_multi_head(mine, generator, context_width, padded):
    width = H * D
    theirs = torch.nn.MultiheadAttention(
        width, H, kdim=context_width, vdim=context_width, batch_first=True, dtype=torch.float64
    )
    layer = mine.MultiHeadAttention(width, H, context_width).double()
    names = ("query", "key", "value")
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        weights = (
            theirs.in_proj_weight.chunk(3)
            if context_width is None
            else [theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight]
        )
        for name, weight, bias in zip(names, weights, theirs.in_proj_bias.chunk(3), strict=True):
            layer.get_submodule(name).weight.copy_(weight)
            layer.get_submodule(name).bias.copy_(bias)
        layer.output.load_state_dict(theirs.out_proj.state_dict())
    x = torch.randn(B, TQ, width, generator=generator, dtype=torch.float64)
    context = torch.randn(B, TK, context_width or width, generator=generator, dtype=torch.float64)
    real = torch.arange(TK) < torch.tensor([[TK], [4]])
    expected = theirs(x, context, context, key_padding_mask=~real if padded else None, need_weights=False)[0]
    close(layer(x, context, mask=real[:, None, None, :] if padded else None), expected)
    if context_width is None:
        close(layer(x), theirs(x, x, x, need_weights=False)[0])
