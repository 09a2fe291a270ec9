"""attention/performer's solution against performer_pytorch (whose epsilons are 0 here) and exact softmax attention."""

import math

import pytest
import torch

# what performer_pytorch imports still asks distutils for versions
pytestmark = pytest.mark.filterwarnings("ignore:distutils Version classes")

B, H, T, D, M, F = 2, 3, 11, 5, 7, 13


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tokens(generator):
    return [torch.randn(B, H, T, size, generator=generator, dtype=torch.float64) for size in (D, D, M)]


@pytest.fixture
def directions(generator):
    return torch.randn(F, D, generator=generator, dtype=torch.float64)


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def theirs():
    from performer_pytorch import performer_pytorch

    return performer_pytorch


def features(theirs, q, k, directions):
    """Their positive features, whose stabilisers differ by factors that cancel."""
    phi_q = theirs.softmax_kernel(q, projection_matrix=directions, is_query=True, eps=0)
    return phi_q, theirs.softmax_kernel(k, projection_matrix=directions, is_query=False, eps=0)


def test_features(mine, theirs, tokens, directions):
    q, k, _ = tokens
    scale = D**-0.25
    for x, phi in zip((q, k), features(theirs, q, k, directions), strict=True):
        ratio = mine.log_features(scale * x, directions).exp() / phi
        close(ratio, ratio[..., :1].expand_as(ratio))


def test_attention(mine, theirs, tokens, directions):
    q, k, v = tokens
    close(mine.favor_attention(q, k, v, directions), theirs.linear_attention(*features(theirs, q, k, directions), v))


@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_causal(mine, theirs, tokens, directions, chunk_size):
    q, k, v = tokens
    expected = theirs.causal_linear_attention_noncuda(*features(theirs, q, k, directions), v, chunk_size=T, eps=0.0)
    close(mine.causal_favor_attention(q, k, v, directions, chunk_size), expected)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients(mine, theirs, tokens, directions, causal):
    def gradients(form):
        leaves = [x.clone().requires_grad_() for x in tokens]
        return torch.autograd.grad(form(*leaves).sin().sum(), leaves)

    def reference(q, k, v):
        weights = torch.einsum("bhif,bhjf->bhij", *features(theirs, q, k, directions))
        weights = weights.tril() if causal else weights
        return weights @ v / weights.sum(dim=-1, keepdim=True)

    def own(q, k, v):
        return (
            mine.causal_favor_attention(q, k, v, directions, 4) if causal else mine.favor_attention(q, k, v, directions)
        )

    close(gradients(own), gradients(reference), 1e-11)


def test_directions(mine, generator):
    """Up to the signs, which theirs leaves as QR gives them, and the lengths, which theirs draws anew."""
    gaussian = torch.randn(2 * D, D, generator=generator, dtype=torch.float64)
    got = mine.orthogonal_directions(gaussian)
    close(got.norm(dim=1), gaussian.norm(dim=1))
    assert ((got * gaussian).sum(dim=1) > 0).all()
    for block, given in zip(got.split(D), gaussian.split(D), strict=True):
        expected = torch.linalg.qr(given.T)[0].T
        close((block / block.norm(dim=1, keepdim=True)).abs(), expected.abs())


@pytest.mark.parametrize("causal", [False, True])
def test_exact_softmax(mine, tokens, generator, causal):
    """Softmax attention by 40,000 orthogonal directions: within 0.05, and nearer than by 400."""
    q, k, v = tokens
    q, k = q / 2, k / 2
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    attention = mine.causal_favor_attention if causal else mine.favor_attention
    errors = []
    for m in (400, 40_000):
        directions = mine.orthogonal_directions(torch.randn(m, D, generator=generator, dtype=torch.float64))
        errors.append((attention(q, k, v, directions) - expected).abs().max().item())
    assert errors[1] < 0.05
    assert errors[1] < errors[0]


def test_variances(mine, generator):
    """Lemma 2 against the sample variance of 400,000 directions, 2 % off at most, and the mean within 4 standard errors."""
    n = 400_000
    directions = torch.randn(n, D, generator=generator, dtype=torch.float64)
    x, y = torch.randn(2, D, generator=generator, dtype=torch.float64) / 4
    trigonometric, positive = mine.kernel_variances(x, y, 1)
    waves = n * mine.trigonometric_features(x, directions) * mine.trigonometric_features(y, directions)
    estimates = {
        trigonometric: waves[:n] + waves[n:],
        positive: n * (mine.log_features(x, directions) + mine.log_features(y, directions)).exp(),
    }
    for variance, estimate in estimates.items():
        assert estimate.var().item() == pytest.approx(variance.item(), rel=0.02)
        assert estimate.mean().item() == pytest.approx((x @ y).exp().item(), abs=4 * math.sqrt(variance / n))
