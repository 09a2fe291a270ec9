"""attention/linear_attention's solution against performer_pytorch, which knows no masks, and the explicit formula."""

import pytest
import torch

# what performer_pytorch imports still asks distutils for versions
pytestmark = pytest.mark.filterwarnings("ignore:distutils Version classes")

B, H, T, D, M = 2, 3, 11, 5, 7


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, H, T, size, generator=generator, dtype=torch.float64) for size in (D, D, M)]


@pytest.fixture
def mask():
    return torch.arange(T) < torch.tensor([[9], [6]])


def explicit(q, k, v, mask=None, causal=False):
    phi_q, phi_k = (torch.nn.functional.elu(x) + 1 for x in (q, k))
    scores = phi_q @ phi_k.mT
    scores = scores.tril() if causal else scores
    scores = scores if mask is None else scores * mask[:, None, None, :]
    return scores @ v / scores.sum(dim=-1, keepdim=True)


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def theirs():
    from performer_pytorch import performer_pytorch

    return performer_pytorch


def test_performer(mine, theirs, tokens):
    q, k, v = tokens
    close(mine.linear_attention(q, k, v), theirs.linear_attention(mine.feature_map(q), mine.feature_map(k), v))


@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_causal_performer(mine, theirs, tokens, chunk_size):
    q, k, v = tokens
    phi_q, phi_k = mine.feature_map(q), mine.feature_map(k)
    expected = theirs.causal_linear_attention_noncuda(phi_q, phi_k, v, chunk_size=T, eps=0.0)
    close(mine.causal_linear_attention(q, k, v, chunk_size=chunk_size)[0], expected)


@pytest.mark.parametrize("masked", [False, True])
def test_explicit(mine, tokens, mask, masked):
    mask = mask if masked else None
    close(mine.linear_attention(*tokens, mask=mask), explicit(*tokens, mask))
    close(mine.causal_linear_attention(*tokens, mask=mask, chunk_size=4)[0], explicit(*tokens, mask, causal=True))


def test_steps(mine, tokens):
    outputs, state = [], None
    for q, k, v in zip(*(x.unbind(dim=2) for x in tokens), strict=True):
        output, state = mine.linear_attention_step(q, k, v, state)
        outputs.append(output)
    close(torch.stack(outputs, dim=2), explicit(*tokens, causal=True))
    close(state, mine.causal_linear_attention(*tokens)[1])


@pytest.mark.parametrize("causal", [False, True])
def test_gradients(mine, tokens, mask, causal):
    def gradients(form):
        leaves = [x.clone().requires_grad_() for x in tokens]
        return torch.autograd.grad(form(*leaves).sin().sum(), leaves)

    got = gradients(
        lambda q, k, v: (
            mine.causal_linear_attention(q, k, v, mask, chunk_size=4)[0]
            if causal
            else mine.linear_attention(q, k, v, mask)
        )
    )
    close(got, gradients(lambda q, k, v: explicit(q, k, v, mask, causal)), 1e-11)


def test_feature_map(mine):
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    close(mine.feature_map(x), torch.nn.functional.elu(x) + 1)
