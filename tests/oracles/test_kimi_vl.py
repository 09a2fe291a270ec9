"""transformers/kimi_vl's solution against kornia's Kimi-VL, image by image, and its parts against torch's own."""

from types import SimpleNamespace

import pytest
import torch
from kornia.models import kimi_vl as kimi
from kornia.models.kimi_vl.moonvit import MoonViTRotaryEmbedding
from torch import nn

GRIDS = [(4, 6), (2, 2), (6, 2), (8, 10)]
PATCH, WIDTH, HEADS, DEPTH, HIDDEN, TABLE = 5, 16, 2, 3, 20, (6, 7)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def normal(generator):
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def random_parameters(module, normal):
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.5 * normal(*p.shape))
    return module


def copied(pairs):
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.weight.copy_(ours.weight.view_as(theirs.weight))
            theirs.bias.copy_(ours.bias)


@pytest.fixture
def encoders(mine, normal):
    """Ours, and kornia's with the same parameters."""
    ours = random_parameters(mine.MoonViT(PATCH, WIDTH, HEADS, DEPTH, HIDDEN, TABLE).double(), normal)
    config = kimi.MoonViTConfig(
        patch_size=PATCH, init_pos_emb_height=TABLE[0], init_pos_emb_width=TABLE[1], hidden_size=WIDTH,
        num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=HIDDEN,
    )  # fmt: skip
    theirs = kimi.MoonViT(config).double()
    copied([(theirs.patch_embed, ours.embedding), (theirs.norm, ours.norm)])
    with torch.no_grad():
        theirs.pos_embed.copy_(ours.positions.reshape(1, -1, WIDTH))
    for layer, block in zip(theirs.encoder.layers, ours.blocks, strict=True):
        for name, weight, bias in zip("qkv", block.qkv.weight.chunk(3), block.qkv.bias.chunk(3), strict=True):
            copied([(layer.attn.get_submodule(f"{name}_proj"), SimpleNamespace(weight=weight, bias=bias))])
        copied(
            [
                (layer.norm1, block.norm_1),
                (layer.attn.out_proj, block.output),
                (layer.norm2, block.norm_2),
                (layer.mlp.fc1, block.up),
                (layer.mlp.fc2, block.down),
            ]
        )
    return ours, theirs


def test_encoder(encoders, normal):
    ours, theirs = encoders
    images = [normal(3, PATCH * h, PATCH * w) for h, w in GRIDS]
    got, grids = ours(images)
    expected = torch.cat([theirs(image[None])[0] for image in images])
    close(got, expected, 1e-5)  # their angles are float32
    assert grids == GRIDS


def test_encoder_gradients(encoders, normal):
    ours, theirs = encoders
    images = [normal(3, PATCH * h, PATCH * w).requires_grad_() for h, w in GRIDS]
    got = torch.autograd.grad(ours(images)[0].sin().sum(), [*images, ours.positions])
    expected = torch.autograd.grad(
        torch.cat([theirs(image[None])[0] for image in images]).sin().sum(), [*images, theirs.pos_embed]
    )
    for a, b in zip(got, expected, strict=True):
        close(a, b.view_as(a), 1e-4)


def test_projector(mine, normal):
    ours = random_parameters(mine.Projector(WIDTH, HIDDEN, 10).double(), normal)
    theirs = kimi.KimiVLProjector(
        kimi.KimiVLProjectorConfig(input_dim=WIDTH, hidden_dim=HIDDEN, output_dim=10)
    ).double()
    copied([(theirs.pre_norm, ours.norm), (theirs.mlp[0], ours.linear_1), (theirs.mlp[2], ours.linear_2)])
    x = normal(sum(h * w for h, w in GRIDS), WIDTH)
    parts = x.split([h * w for h, w in GRIDS])
    expected = [theirs(part[None], h, w)[0] for part, (h, w) in zip(parts, GRIDS, strict=True)]
    close(ours(x, GRIDS), torch.cat(expected))


@pytest.mark.parametrize("grid", GRIDS)
def test_tables(mine, grid):
    expected = MoonViTRotaryEmbedding(12)(*grid, torch.device("cpu"))
    close(mine.rope_tables([grid], 12), expected, 1e-6)


def test_cut_is_a_convolution(mine, normal):
    image, weight = normal(3, 20, 30), normal(WIDTH, 3, PATCH, PATCH)
    patches, (grid,) = mine.pack([image], PATCH)
    expected = nn.functional.conv2d(image[None], weight, stride=PATCH)[0]
    assert grid == tuple(expected.shape[1:])
    close(patches @ weight.flatten(1).T, expected.flatten(1).T)


def test_attention(mine, normal):
    lengths = [5, 1, 9]
    q, k, v = normal(15, HEADS, 8), normal(15, HEADS, 8), normal(15, HEADS, 6)
    image = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    expected = nn.functional.scaled_dot_product_attention(
        q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), attn_mask=image[:, None] == image
    )
    close(mine.packed_attention(q, k, v, lengths), expected.transpose(0, 1))


def test_scores_depend_on_offsets(mine, normal):
    """q.k is the same for patches that are as many rows and columns apart."""
    h, w = 5, 7
    q, k = (y.expand(h * w, 1, 12) for y in normal(2, 1, 1, 12))
    cos, sin = mine.rope_tables([(h, w)], 12, dtype=torch.float64)
    scores = mine.rotate(q, cos, sin)[:, 0] @ mine.rotate(k, cos, sin)[:, 0].T
    scores = scores.view(h, w, h, w)
    close(scores[0, 0, 1, 2], scores[3, 4, 4, 6])
    close(scores[2, 5, 0, 1], scores[4, 6, 2, 2])


def test_splice(mine, normal):
    embeddings, features = normal(2, 9, 5), normal(7, 5)
    ids = torch.tensor([[4, 4, 1, 2, 4, 4, 3, 0, 4], [1, 4, 2, 2, 2, 2, 2, 2, 4]])
    expected = embeddings.masked_scatter((ids == 4)[..., None], features)
    close(mine.splice(embeddings, ids, features, 4), expected)
