"""attention/sparse_attention's solution against masked scaled_dot_product_attention, autograd, and local-attention."""

import pytest
import torch
from local_attention import LocalAttention
from torch.nn.functional import scaled_dot_product_attention

B, H, D, M = 2, 3, 5, 7
LENGTHS = [1, 5, 12, 17, 40]


def tokens(length, dtype=torch.float64):
    generator = torch.Generator().manual_seed(length)
    drawn = [torch.randn(B, H, length, size, generator=generator, dtype=torch.float64) for size in (D, D, M)]
    return [x.to(dtype) for x in drawn]


def padding(length):
    mask = torch.rand(B, length, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[0, 3:15] = False
    return mask


def layout_of(length, size):
    blocks = -(-length // size)
    return torch.rand(blocks, blocks, generator=torch.Generator().manual_seed(2)) < 0.4


def cases(mine, length):
    """(attention, token-level mask) for every pattern."""
    for before, after in ((3, 2), (4, 0), (0, 3), (0, 0), (60, 1), (50, 70)):
        rule = mine.window_mask(length, before, after)
        yield lambda *qkv, b=before, a=after, **how: mine.window_attention(*qkv, b, a, **how), rule
    for stride in (1, 3, 4, 17, 50):
        for causal in (False, True):
            rule = mine.strided_mask(length, stride, causal)
            yield lambda *qkv, s=stride, c=causal, **how: mine.strided_attention(*qkv, s, c, **how), rule
    for size in (1, 4, 6, 50):
        layout = layout_of(length, size)
        rule = mine.block_mask(layout, size, length)
        yield lambda *qkv, x=layout, s=size, **how: mine.block_attention(*qkv, x, s, **how), rule


def close(got, expected, tolerance=1e-11):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("length", LENGTHS)
def test_masks(mine, length):
    ones = torch.ones(length, length, dtype=torch.bool)
    assert torch.equal(mine.window_mask(length, 3, 2), ones.triu(-3).tril(2))
    assert torch.equal(mine.strided_mask(length, 1, causal=True), ones.tril())
    for stride in (2, 3, 5):
        rows = torch.eye(stride, dtype=torch.bool).repeat(length, length)[:length, :length]
        assert torch.equal(mine.strided_mask(length, stride), rows)
    layout = layout_of(length, 4)
    assert torch.equal(
        mine.block_mask(layout, 4, length), torch.kron(layout, torch.ones(4, 4).bool())[:length, :length]
    )


def test_bigbird_layout(mine):
    layout = mine.bigbird_layout(9, 1, 2)
    expected = torch.ones(9, 9, dtype=torch.bool).triu(-1).tril(1)
    expected[:2] = expected[:, :2] = True
    assert torch.equal(layout, expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_attention(mine, length):
    qkv, mask = tokens(length), padding(length)
    for attention, rule in cases(mine, length):
        close(attention(*qkv), scaled_dot_product_attention(*qkv, attn_mask=rule))
        close(attention(*qkv, mask=mask), scaled_dot_product_attention(*qkv, attn_mask=rule & mask[:, None, None, :]))


@pytest.mark.parametrize("length", [5, 17])
def test_gradients(mine, length):
    mask = padding(length)

    def gradients(attention):
        leaves = [x.requires_grad_() for x in tokens(length)]
        return torch.autograd.grad(attention(*leaves).sin().sum(), leaves)

    for attention, rule in cases(mine, length):
        visible = rule & mask[:, None, None, :]
        got = gradients(lambda *qkv, attention=attention: attention(*qkv, mask=mask))
        close(got, gradients(lambda *qkv, visible=visible: scaled_dot_product_attention(*qkv, attn_mask=visible)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half(mine, dtype):
    half = tokens(17, dtype)
    for attention, rule in cases(mine, 17):
        expected = scaled_dot_product_attention(*(x.double() for x in half), attn_mask=rule).to(dtype)
        torch.testing.assert_close(attention(*half), expected, rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("window", [3, 4, 8])
def test_local_attention(mine, window):
    """The package sees `window` tokens back beside the query's own, in chunks of `window`; values have D features."""
    query, key, _ = tokens(17, torch.float32)
    value = key.flip(-1) + query
    theirs = LocalAttention(window, causal=True, look_backward=1, exact_windowsize=True, autopad=True)
    mask = padding(17)
    mask[:, 0] = True  # the package averages what is hidden where a query sees nothing
    mask[:, ::3] = True
    got = mine.window_attention(query, key, value, window, 0, mask=mask)
    close(got, theirs(query, key, value, mask=mask), 1e-5)
