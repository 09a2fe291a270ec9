"""sequence/mamba's solution against transformers (slow path), mambapy (parallel scan), scipy and explicit formulas."""

import pytest
import torch
from mambapy.mamba import MambaBlock as MambapyBlock
from mambapy.mamba import MambaConfig as MambapyConfig
from mambapy.pscan import pscan
from scipy.signal import lfilter
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

B, L, DIM, E, N, K, R = 2, 11, 6, 12, 4, 3, 5
F64 = torch.float64


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=F64)


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def loop(a, b, h):
    states = []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 16, 33])
def test_scan_is_a_loop(mine, draw, length):
    a, b, h = draw(B, length, E), draw(B, length, E), draw(B, E)
    close(mine.parallel_scan(a, b, h), loop(a, b, h))
    close(mine.parallel_scan(a, b), loop(a, b, torch.zeros_like(h)))
    leaves = [x.clone().requires_grad_() for x in (a, b, h)]
    got = torch.autograd.grad(mine.parallel_scan(*leaves).sin().sum(), leaves)
    close(got, torch.autograd.grad(loop(*leaves).sin().sum(), leaves), 1e-11)


@pytest.mark.parametrize("length", [8, 13])
def test_mambapy_scan(mine, draw, length):
    a, b = draw(B, length, E, N), draw(B, length, E, N)
    leaves = [x.clone().requires_grad_() for x in (a, b)]
    theirs, ours = pscan(*leaves), mine.parallel_scan(*leaves)
    close(ours, theirs)
    gradients = [torch.autograd.grad(y.sin().sum(), leaves) for y in (ours, theirs)]
    close(*gradients, tolerance=1e-11)


def test_scipy_filter(mine, draw):
    """With constant steps the recurrence is a filter of first order."""
    b = draw(1, L)
    expected = lfilter([1.0], [1.0, -0.7], b.numpy())
    close(mine.parallel_scan(torch.full_like(b, 0.7), b), torch.from_numpy(expected))


def test_convolution(mine, draw):
    x, weight, bias = draw(B, L, E), draw(E, K), draw(E)
    padded = torch.nn.functional.pad(x.mT, (K - 1, 0))
    expected = torch.nn.functional.conv1d(padded, weight[:, None], bias, groups=E).mT
    close(mine.causal_conv(x, weight, bias)[0], expected)


@pytest.fixture
def block(mine, draw):
    made = mine.MambaBlock(DIM, E, N, K, R).double()
    made.load_state_dict({name: 0.5 * draw(*p.shape) for name, p in made.state_dict().items()})
    return made.requires_grad_(False)


def renamed(block):
    """The names and shapes of the official checkpoints, which transformers and mambapy share."""
    weights = block.state_dict()
    weights["conv1d.weight"] = weights.pop("conv_weight")[:, None]
    weights["conv1d.bias"] = weights.pop("conv_bias")
    return weights


def test_mambapy_block(block, draw):
    config = MambapyConfig(d_model=DIM, n_layers=1, dt_rank=R, d_state=N, expand_factor=E // DIM, d_conv=K, pscan=True)
    other = MambapyBlock(config).double()
    other.load_state_dict(renamed(block))
    x = draw(B, L, DIM)
    close(block(x)[0], other(x).detach(), 1e-5)  # they compute A and D in float32


def transformers_mixer(block):
    config = MambaConfig(
        hidden_size=DIM, state_size=N, expand=E // DIM, conv_kernel=K, time_step_rank=R, num_hidden_layers=1
    )
    mixer = MambaMixer(config, layer_idx=0).double().eval().requires_grad_(False)
    mixer.load_state_dict(renamed(block))
    return mixer


def test_transformers_block(block, draw):
    mixer, x = transformers_mixer(block), draw(B, L, DIM)
    close(block(x)[0], mixer(x), 1e-5)  # they compute A and D in float32


def test_transformers_padding(block, draw):
    mixer, x = transformers_mixer(block), draw(B, L, DIM)
    mask = torch.arange(L) >= torch.tensor([[0], [4]])
    close(block(x, None, mask)[0][mask], mixer(x, attention_mask=mask.long())[mask], 1e-5)


def test_decoding(block, draw):
    x = draw(B, L, DIM)
    expected, last = block(x)
    y, state = block(x[:, :4])
    close(y, expected[:, :4])
    for t in range(4, L):
        y, state = block.step(x[:, t], state)
        close(y, expected[:, t])
    close(state, last)


@pytest.mark.parametrize("chunk_size", [1, 3, 11, 64])
def test_chunks(mine, draw, chunk_size):
    arguments = [
        draw(B, L, E),
        draw(B, L, E).abs(),
        -draw(E, N).abs(),
        draw(B, L, N),
        draw(B, L, N),
        draw(E),
        draw(B, E, N),
    ]
    close(mine.chunked_scan(*arguments, chunk_size=chunk_size), mine.selective_scan(*arguments))


def test_retention(mine, draw):
    q, k, v, gamma = draw(B, L, 3, 4), draw(B, L, 3, 4), draw(B, L, 3, 5), torch.tensor([0.5, 0.9, 1.0], dtype=F64)
    lag = torch.arange(L)[:, None] - torch.arange(L)
    decay = (gamma[:, None, None] ** lag.clamp(min=0)).tril()
    scores = torch.einsum("bthk,bshk->bhts", q, k) * decay
    close(mine.retention(q, k, v, gamma)[0], torch.einsum("bhts,bshm->bthm", scores, v))


def test_lru(mine, draw):
    """The complex diagonal system as a real one of twice the size, by a dense matrix."""
    H = 3
    u, nu, theta, D = draw(B, L, H), draw(N) - 1, draw(N), draw(H)
    B_, C = torch.complex(draw(N, H), draw(N, H)), torch.complex(draw(H, N), draw(H, N))
    lam = torch.exp(-torch.exp(nu) + 1j * torch.exp(theta))
    inputs = (1 - lam.abs() ** 2).sqrt()[:, None] * B_
    rotation = torch.cat(
        [torch.cat([lam.real.diag(), -lam.imag.diag()], 1), torch.cat([lam.imag.diag(), lam.real.diag()], 1)]
    )
    state, y = torch.zeros(B, 2 * N, dtype=F64), []
    for t in range(L):
        state = state @ rotation.T + u[:, t] @ torch.cat([inputs.real, inputs.imag]).T
        y.append(state @ torch.cat([C.real, -C.imag], dim=1).T + D * u[:, t])
    got, last = mine.lru(u, nu, theta, B_, C, D)
    close(got, torch.stack(y, dim=1), 1e-11)
    close(last, torch.complex(state[:, :N], state[:, N:]), 1e-11)
