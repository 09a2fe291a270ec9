"""attention/rope's solution against rotary_embedding_torch (interleaved) and complex multiplication."""

import pytest
import rotary_embedding_torch
import torch

# rotary_embedding_torch switches CUDA's autocast off, which warns where there is no CUDA
pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")

B, H, T, D = 2, 3, 7, 12


@pytest.fixture(scope="module")
def rope(mine):
    return mine


@pytest.fixture
def x():
    return torch.randn(B, H, T, D, generator=torch.Generator().manual_seed(0))


def package(dim, **settings):
    return rotary_embedding_torch.RotaryEmbedding(dim, cache_if_possible=False, **settings)


SCALINGS = [
    ({}, {}),
    ({"base": 500.0}, {"theta": 500.0}),
    ({"linear": 4.0}, {"interpolate_factor": 4.0}),
    ({"ntk": 3.0}, {"theta_rescale_factor": 3.0}),
]


@pytest.mark.parametrize(("settings", "theirs"), SCALINGS, ids=["plain", "base", "linear", "ntk"])
@pytest.mark.parametrize("rotary_dim", [D, 8])
@pytest.mark.parametrize("offset", [0, 5])
def test_interleaved_follows_the_package(rope, x, settings, theirs, rotary_dim, offset):
    mine = rope.RotaryEmbedding(D, 40, rotary_dim=rotary_dim, interleaved=True, **settings)
    expected = package(rotary_dim, **theirs).rotate_queries_or_keys(x, offset=offset)
    torch.testing.assert_close(mine(x, offset=offset), expected.detach(), rtol=1e-5, atol=1e-5)


def test_image_follows_the_package(rope):
    height, width = 3, 5
    image = torch.randn(B, height, width, D, generator=torch.Generator().manual_seed(1))
    angles = package(D // 2).get_axial_freqs(height, width).detach()
    expected = rotary_embedding_torch.apply_rotary_emb(angles, image)
    tables = rope.cos_sin_2d(height, width, rope.frequencies(D // 2))
    got = rope.rotate_interleaved(image.flatten(1, 2), *tables).unflatten(1, (height, width))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("interleaved", [False, True], ids=["half-split", "interleaved"])
@pytest.mark.parametrize("rotary_dim", [D, 8])
def test_complex_multiplication(rope, x, interleaved, rotary_dim):
    x = x.double()
    half = rotary_dim // 2
    theta = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    positions = torch.tensor([[0, 0, 0, 1, 2, 3, 4], [9, 10, 11, 12, 13, 14, 15]])
    phasor = torch.exp(1j * positions[:, None, :, None] * theta)
    rotated = x[..., :rotary_dim]
    if interleaved:
        z = torch.view_as_complex(rotated.unflatten(-1, (half, 2)).contiguous()) * phasor
        turned = torch.view_as_real(z).flatten(-2)
    else:
        z = torch.complex(*rotated.chunk(2, dim=-1)) * phasor
        turned = torch.cat((z.real, z.imag), dim=-1)
    expected = torch.cat((turned, x[..., rotary_dim:]), dim=-1)
    embed = rope.RotaryEmbedding(D, 16, rotary_dim=rotary_dim, interleaved=interleaved, dtype=torch.float64)
    torch.testing.assert_close(embed(x, positions=positions), expected, rtol=1e-12, atol=1e-12)


def test_layouts_are_a_permutation_apart(rope, x):
    p = rope.layout_permutation(D, 8)
    cos, sin = rope.cos_sin(torch.arange(T), rope.frequencies(8))
    torch.testing.assert_close(
        rope.rotate_half_split(x[..., p], cos, sin), rope.rotate_interleaved(x, cos, sin)[..., p]
    )


def test_converted_projection_keeps_the_scores(rope):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(B, T, 5, generator=generator, dtype=torch.float64)
    weights = [torch.randn(H * D, 5, generator=generator, dtype=torch.float64) for _ in range(2)]

    def scores(weights, interleaved):
        embed = rope.RotaryEmbedding(D, T, interleaved=interleaved, dtype=torch.float64)
        q, k = (embed((x @ w.T).unflatten(-1, (H, D)).transpose(1, 2)) for w in weights)
        return q @ k.mT

    converted = [rope.to_half_split(w, H) for w in weights]
    torch.testing.assert_close(scores(converted, False), scores(weights, True))
