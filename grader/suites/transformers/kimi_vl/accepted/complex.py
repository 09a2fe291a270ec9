"""Unfold for cutting, pixel-wise permutations written as einsum-like permutes, complex numbers for RoPE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def float_of(t):
    return t if t.dtype in (torch.float32, torch.float64) else t.float()


def pack(images, patch):
    rows, grids = [], []
    for image in images:
        c, H, W = image.shape
        if H % patch != 0 or W % patch != 0:
            raise ValueError("image size must be a multiple of the patch size")
        tiles = image.unfold(1, patch, patch).unfold(2, patch, patch)  # (C, h, w, p, p)
        tiles = tiles.permute(1, 2, 0, 3, 4)
        h, w = tiles.shape[0], tiles.shape[1]
        rows.append(tiles.reshape(h * w, c * patch * patch))
        grids.append((h, w))
    return torch.cat(rows, dim=0), grids


def interpolate_positions(table, rows, columns):
    if tuple(table.shape[:2]) == (rows, columns):
        return table.reshape(rows * columns, -1)
    x = float_of(table).permute(2, 0, 1).unsqueeze(0)
    x = F.interpolate(x, size=(rows, columns), mode="bicubic", align_corners=False)
    return x.squeeze(0).permute(1, 2, 0).reshape(rows * columns, -1).to(table.dtype)


def rope_tables(grids, dim, base=10000.0, dtype=torch.float32, device=None):
    if dim % 4 != 0:
        raise ValueError("dim % 4")
    i = torch.arange(dim // 4, dtype=dtype, device=device)
    theta = 1.0 / base ** (4 * i / dim)
    cos, sin = [], []
    for h, w in grids:
        n = torch.arange(h * w, device=device)
        x = torch.outer((n % w).to(dtype), theta)
        y = torch.outer(torch.div(n, w, rounding_mode="floor").to(dtype), theta)
        both = torch.stack((x, y), dim=2).reshape(h * w, dim // 2)
        cos.append(torch.cos(both))
        sin.append(torch.sin(both))
    return torch.cat(cos), torch.cat(sin)


def rotate(x, cos, sin):
    z = torch.view_as_complex(float_of(x).reshape(*x.shape[:-1], -1, 2).contiguous())
    turn = torch.complex(cos, sin).unsqueeze(1)
    return torch.view_as_real(z * turn).flatten(2).to(x.dtype)


def packed_attention(q, k, v, lengths):
    out, start = [], 0
    for n in lengths:
        Q, K, V = (float_of(t[start : start + n]) for t in (q, k, v))
        logits = torch.einsum("ihd,jhd->hij", Q, K) / Q.shape[-1] ** 0.5
        out.append(torch.einsum("hij,jhm->ihm", logits.softmax(-1), V))
        start += n
    return torch.cat(out).to(v.dtype)


def merge_patches(x, grids, factor=2):
    out, start = [], 0
    for h, w in grids:
        if h % factor or w % factor:
            raise ValueError("grid does not divide")
        image = x[start : start + h * w].reshape(h, w, -1)
        start += h * w
        tiles = image.unfold(0, factor, factor).unfold(1, factor, factor)  # (h/f, w/f, E, f, f)
        out.append(tiles.permute(0, 1, 3, 4, 2).flatten(2).flatten(0, 1))
    return torch.cat(out)


class Projector(nn.Module):
    """From patches of the encoder to tokens of the text."""

    def __init__(self, width: int, hidden: int, text_width: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(factor**2 * width, hidden)
        self.linear_2 = nn.Linear(hidden, text_width)

    def forward(self, x, grids):
        y = self.norm(x)
        y = merge_patches(y, grids, self.factor)
        y = F.gelu(self.linear_1(y))
        return self.linear_2(y)


class Block(nn.Module):
    """A pre-norm transformer block over packed patches, on `rotate` and `packed_attention` (given)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).unbind(1)  # (N, heads, D)
        attended = packed_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, lengths)
        x = x + self.output(attended.flatten(1))  # (N, width)
        return x + self.down(nn.functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class MoonViT(nn.Module):
    """The encoder: patches, positions, blocks, and a last norm."""

    def __init__(
        self, patch: int, width: int, heads: int, blocks: int, hidden: int, table: tuple[int, int], channels: int = 3
    ) -> None:
        super().__init__()
        self.patch = patch
        self.head = width // heads  # features of a head
        self.embedding = nn.Linear(channels * patch * patch, width)
        self.positions = nn.Parameter(torch.randn(*table, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, images):
        patches, grids = pack(images, self.patch)
        positions = [interpolate_positions(self.positions, *grid) for grid in grids]
        x = self.embedding(patches) + torch.cat(positions, dim=0)
        cos, sin = rope_tables(grids, self.head, dtype=float_of(x).dtype, device=x.device)
        lengths = [h * w for h, w in grids]
        for block in self.blocks:
            x = block(x, cos, sin, lengths)
        return self.norm(x), grids


def splice(embeddings, token_ids, features, placeholder):
    mask = token_ids == placeholder
    if int(mask.sum()) != features.shape[0]:
        raise ValueError("number of image tokens")
    mask = mask.unsqueeze(-1).expand_as(embeddings)
    return embeddings.masked_scatter(mask, features.to(embeddings.dtype))
