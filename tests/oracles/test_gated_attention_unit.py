"""attention/gated_attention_unit's solution against the paper's equations, written out chunk by chunk and token by token.

The published packages divide by other numbers (by n^2, by the padded length, by the chunk size) and add a position bias.
"""

import pytest
import torch

B, T, S, E, C, D = 2, 11, 5, 7, 4, 6


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tokens(generator):
    """Four heads and the values."""
    return [torch.randn(B, T, size, generator=generator, dtype=torch.float64) for size in (S, S, S, S, E)]


@pytest.fixture
def mask():
    return torch.tensor([[1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0], [0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 1]], dtype=torch.bool)


def quadratic(q, k, v, real, causal):
    """One row of a batch, token by token."""
    outputs = []
    for i in range(len(v)):
        seen = [j for j in range(len(v)) if real[j] and (j <= i or not causal)]
        terms = [torch.relu(q[i] @ k[j]) ** 2 * v[j] for j in seen]
        outputs.append(sum(terms) / len(terms) if terms else torch.zeros_like(v[i]))
    return torch.stack(outputs)


def across(q, k, v, real, causal, size):
    """One row of a batch, chunk by chunk: V_g = Q_g sum_h K_h^T V_h over its number of keys."""
    cut = [(a, b[r], c[r]) for a, b, c, r in zip(*(x.split(size) for x in (q, k, v, real)), strict=True)]
    outputs = []
    for g, (Q, _, V) in enumerate(cut):
        pairs = [(K, W) for _, K, W in (cut[:g] if causal else cut)]
        number = sum(len(K) for K, _ in pairs)
        total = sum((K.T @ W for K, W in pairs), torch.zeros(Q.shape[1], V.shape[1], dtype=V.dtype))
        outputs.append(Q @ total / number if number else Q @ total)
    return torch.cat(outputs)


def mixed(a, b, c, d, v, real, causal, size):
    parts = zip(*(x.split(size) for x in (a, b, v, real)), strict=True)
    return torch.cat([quadratic(*part, causal) for part in parts]) + across(c, d, v, real, causal, size)


def rows(form, tensors, mask, *rest):
    """A form over the rows of a batch."""
    real = torch.ones(B, T, dtype=torch.bool) if mask is None else mask
    return torch.stack([form(*row, *rest) for row in zip(*tensors, real, strict=True)])


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_quadratic(mine, tokens, mask, masked, causal):
    mask = mask if masked else None
    q, k, _, _, v = tokens
    close(mine.quadratic_attention(q, k, v, mask, causal), rows(quadratic, (q, k, v), mask, causal))


@pytest.mark.parametrize("size", [1, 4, 11, 64])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_chunks(mine, tokens, mask, masked, causal, size):
    mask = mask if masked else None
    q, k, v = tokens[2:]
    close(mine.global_attention(q, k, v, size, mask, causal), rows(across, (q, k, v), mask, causal, size))
    close(mine.mixed_chunk_attention(*tokens, size, mask, causal), rows(mixed, tokens, mask, causal, size))


@pytest.mark.parametrize("causal", [False, True])
def test_gradients(mine, tokens, mask, causal):
    def gradients(form):
        leaves = [x.clone().requires_grad_() for x in tokens]
        return torch.autograd.grad(form(leaves).sin().sum(), leaves)

    got = gradients(lambda leaves: mine.mixed_chunk_attention(*leaves, C, mask, causal))
    close(got, gradients(lambda leaves: rows(mixed, leaves, mask, causal, C)), 1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half(mine, tokens, dtype):
    half = [x.to(dtype) for x in tokens]
    expected = rows(mixed, [x.double() for x in half], None, True, C).to(dtype)
    torch.testing.assert_close(
        mine.mixed_chunk_attention(*half, C, causal=True), expected, rtol=torch.finfo(dtype).eps, atol=1e-5
    )


@pytest.mark.parametrize("size", [None, C])
def test_unit(mine, mask, generator, size):
    unit = mine.GatedAttentionUnit(D, E, S, size).double()
    with torch.no_grad():
        for p in unit.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    x = torch.randn(B, T, D, generator=generator, dtype=torch.float64)
    u, v, z = (torch.nn.SiLU()(x @ y.weight.T + y.bias) for y in (unit.gate, unit.value, unit.base))
    heads = [z * unit.gamma[h] + unit.beta[h] for h in range(len(unit.gamma))]
    v = rows(quadratic, (*heads, v), mask, True) if size is None else rows(mixed, (*heads, v), mask, True, size)
    close(unit(x, mask, causal=True), (u * v) @ unit.output.weight.T + unit.output.bias)
