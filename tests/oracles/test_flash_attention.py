"""attention/flash_attention's solution against torch's scaled_dot_product_attention, autograd and torch.logsumexp."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

B, H, TQ, TK, D, M = 2, 3, 11, 14, 5, 7
TILES = {"tile_q": 4, "tile_k": 6}
LENGTHS = [(11, 14), (14, 9), (12, 12)]


def tokens(queries=TQ, keys=TK, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    sizes = (queries, D), (keys, D), (keys, M)
    return [torch.randn(B, H, *size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def masks(queries, keys):
    """The (B, Tk) mask, and all that is visible, (B, 1, Tq, Tk), without and with causal."""
    mask = torch.rand(B, keys, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[0, :7] = False
    padded = mask[:, None, None, :].expand(B, 1, queries, keys)
    lower_right = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    return mask, padded, padded & lower_right


def close(got, expected, tolerance=1e-11):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("scale", [None, 0.7])
def test_forward(mine, lengths, causal, scale):
    query, key, value = tokens(*lengths)
    mask, *visible = masks(*lengths)
    output, lse = mine.flash_forward(query, key, value, mask, causal, scale, **TILES)
    close(output, scaled_dot_product_attention(query, key, value, attn_mask=visible[causal], scale=scale))
    logits = query @ key.mT * (D**-0.5 if scale is None else scale)
    close(lse, torch.logsumexp(logits.masked_fill(~visible[causal], -torch.inf), dim=-1))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_gradients(mine, lengths, causal):
    mask, *visible = masks(*lengths)

    def gradients(attention):
        leaves = [x.requires_grad_() for x in tokens(*lengths)]
        return torch.autograd.grad(attention(*leaves).sin().sum(), leaves)

    got = gradients(lambda *qkv: mine.flash_attention(*qkv, mask, causal, **TILES))
    close(got, gradients(lambda *qkv: scaled_dot_product_attention(*qkv, attn_mask=visible[causal])))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half(mine, dtype):
    half = tokens(dtype=dtype)
    expected = scaled_dot_product_attention(*(x.double() for x in half)).to(dtype)
    output, lse = mine.flash_forward(*half, **TILES)
    torch.testing.assert_close(output, expected, rtol=torch.finfo(dtype).eps, atol=1e-5)
    assert lse.dtype == torch.float32


@pytest.mark.parametrize("tile", [1, 3, 64])
def test_online_softmax(mine, tile):
    logits = tokens()[0]
    m, l = mine.online_softmax(logits, tile)
    ends = [min(start + tile, D) - 1 for start in range(0, D, tile)]
    close(m, logits.cummax(dim=-1).values[..., ends])
    close(m + l.log(), logits.logcumsumexp(dim=-1)[..., ends])


def test_combine_is_associative(mine):
    parts = [
        (x.amax(dim=-1), (x - x.amax(dim=-1, keepdim=True)).exp().sum(dim=-1)) for x in tokens()[2].split(3, dim=-1)
    ]
    left = mine.combine(mine.combine(*parts[:2]), parts[2])
    close(left, mine.combine(parts[0], mine.combine(*parts[1:])))
    close(left[0] + left[1].log(), tokens()[2].logsumexp(dim=-1))
