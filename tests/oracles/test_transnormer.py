"""attention/transnormer's solution against torch: Jacobians by autograd, `rms_norm`, and SDPA block by block."""

import pytest
import torch
from torch.nn import functional as F

B, H, T, D, M = 2, 3, 11, 4, 6


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, H, T, size, generator=generator, dtype=torch.float64) for size in (D, D, M)]


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def joined(y):
    return y.permute(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def norm(q, k, v, causal=False, eps=1e-6):
    """Every score written out, and torch's own RMSNorm."""
    scores = (F.elu(q) + 1) @ (F.elu(k) + 1).transpose(2, 3)
    scores = torch.tril(scores) if causal else scores
    y = joined(scores @ v)
    return F.rms_norm(y, y.shape[-1:], eps=eps)


def diag(q, k, v, size, causal=False):
    """One call of torch's attention for each block."""
    blocks = [
        F.scaled_dot_product_attention(*(x[:, :, i : i + size] for x in (q, k, v)), is_causal=causal)
        for i in range(0, q.shape[2], size)
    ]
    return joined(torch.cat(blocks, dim=2))


def network(stack, x, sizes, causal):
    for layer, size in zip(stack.layers, sizes, strict=True):
        y = F.rms_norm(x, x.shape[-1:], eps=1e-6)
        q, k, v = (
            F.linear(y, f.weight).view(B, T, H, D).transpose(1, 2) for f in (layer.query, layer.key, layer.value)
        )
        y = norm(q, k, v, causal) if size is None else diag(q, k, v, size, causal)
        x = x + F.linear(y, layer.output.weight)
        y = F.rms_norm(x, x.shape[-1:], eps=1e-6)
        x = x + F.linear(F.silu(F.linear(y, layer.gate.weight)) * F.linear(y, layer.up.weight), layer.down.weight)
    return x


@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_steepest_slope(mine, exponential, length):
    rows = torch.rand(5, length, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3

    def weights(s):
        return s.softmax(dim=-1) if exponential else s / s.sum()

    steepest = torch.stack([torch.autograd.functional.jacobian(weights, row).abs().max() for row in rows])
    close(mine.steepest_slope(rows, exponential), steepest)
    if exponential:
        assert steepest.max() <= 0.25
    else:
        assert bool((steepest <= 1 / rows.amin(dim=-1)).all())


def test_score_gradient(mine):
    generator = torch.Generator().manual_seed(2)
    scores = torch.rand(2, 5, 7, dtype=torch.float64, generator=generator).requires_grad_()
    upstream = torch.randn(2, 5, 7, dtype=torch.float64, generator=generator)
    weights = scores / scores.sum(dim=-1, keepdim=True)
    (expected,) = torch.autograd.grad(weights, scores, upstream)
    close(mine.score_gradient(scores.detach(), upstream), expected)


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_rms_norm(mine, tokens, eps):
    close(mine.rms_norm(tokens[0], eps), F.rms_norm(tokens[0], (D,), eps=eps))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_norm_attention(mine, tokens, causal, chunk_size):
    close(mine.norm_attention(*tokens, causal=causal, chunk_size=chunk_size, eps=0.1), norm(*tokens, causal, 0.1))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1, 4, 11, 30])
def test_diag_attention(mine, tokens, causal, size):
    close(mine.diag_attention(*tokens, size, causal), diag(*tokens, size, causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["norm", "diag"])
def test_gradients(mine, tokens, causal, kind):
    def gradients(form):
        leaves = [x.clone().requires_grad_() for x in tokens]
        return torch.autograd.grad(form(*leaves).sin().sum(), leaves)

    if kind == "norm":
        got = gradients(lambda q, k, v: mine.norm_attention(q, k, v, causal, chunk_size=4))
        expected = gradients(lambda q, k, v: norm(q, k, v, causal))
    else:
        got = gradients(lambda q, k, v: mine.diag_attention(q, k, v, 4, causal))
        expected = gradients(lambda q, k, v: diag(q, k, v, 4, causal))
    close(got, expected, 1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_stack(mine, causal):
    torch.manual_seed(3)
    stack = mine.TransNormer(H * D, H, 10, diag=2, norm=1, size=4).double()
    x = torch.randn(B, T, H * D, dtype=torch.float64)
    close(stack(x, causal), network(stack, x, [4, 4, None], causal))


def test_bound(mine):
    """Equation 15, where normalised linear attention has slopes of a million: scores near 1e-7."""
    generator = torch.Generator().manual_seed(4)
    scores = (1e-7 * torch.rand(5, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    values = torch.randn(7, M, dtype=torch.float64, generator=generator)
    upstream = torch.randn(5, M, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad(mine.rms_norm(scores @ values, 1e-6), scores, upstream)
    sizes = upstream.norm(dim=-1).max() * values.norm(dim=-1).max()
    assert gradient.abs().max() <= 1.5 * M * sizes / 1e-3
    assert mine.steepest_slope(scores.detach()).min() > 1e6
