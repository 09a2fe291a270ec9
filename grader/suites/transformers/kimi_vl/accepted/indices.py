"""Everything by index: flat pixel numbers, flat patch numbers, cumulative lengths; the softmax by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def _blocks(h, w, f, device=None):
    """Numbers of the cells of an h x w picture, one row for each block of f x f."""
    cells = torch.arange(h * w, device=device).view(h // f, f, w // f, f)
    return cells.permute(0, 2, 1, 3).reshape(-1, f * f)


def pack(images, patch):
    if any(side % patch for image in images for side in image.shape[1:]):
        raise ValueError(f"sizes must be multiples of {patch}")
    grids = [(image.shape[1] // patch, image.shape[2] // patch) for image in images]
    rows = []
    for image in images:
        index = _blocks(image.shape[1], image.shape[2], patch, image.device)
        pixels = image.reshape(image.shape[0], -1)[:, index]  # (C, n, p * p)
        rows.append(pixels.transpose(0, 1).flatten(1))
    return torch.cat(rows), grids


def interpolate_positions(table, rows, columns):
    precise = torch.float64 if table.dtype == torch.float64 else torch.float32
    picture = table.to(precise).movedim(-1, 0)[None]
    return nn.Upsample(size=(rows, columns), mode="bicubic")(picture)[0].flatten(1).transpose(0, 1).to(table.dtype)


def rope_tables(grids, dim, base=10000.0, dtype=torch.float32, device=None):
    if dim & 3:
        raise ValueError(dim)
    theta = torch.tensor([base ** (-4 * i / dim) for i in range(dim // 4)], dtype=dtype, device=device)
    theta = theta.repeat_interleave(2)
    places = []
    for h, w in grids:
        row = torch.arange(h, device=device).repeat_interleave(w)
        column = torch.arange(w, device=device).repeat(h)
        places.append(torch.stack([column, row], 1).repeat(1, dim // 4))
    angle = torch.cat(places).to(dtype) * theta
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    precise = torch.promote_types(x.dtype, torch.float32)
    y = torch.empty_like(x)
    a, b = x[..., 0::2].to(precise), x[..., 1::2].to(precise)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    y[..., 0::2] = (a * cos - b * sin).to(x.dtype)
    y[..., 1::2] = (a * sin + b * cos).to(x.dtype)
    return y


def packed_attention(q, k, v, lengths):
    precise = torch.promote_types(v.dtype, torch.float32)
    ends = torch.tensor(list(lengths)).cumsum(0).tolist()
    out = torch.empty_like(v, dtype=precise)
    for start, end in zip([0, *ends[:-1]], ends):
        Q = q[start:end].to(precise).permute(1, 0, 2)
        K = k[start:end].to(precise).permute(1, 2, 0)
        V = v[start:end].to(precise).permute(1, 0, 2)
        logits = torch.matmul(Q, K).div(q.shape[-1] ** 0.5)
        e = (logits - logits.max(dim=-1, keepdim=True).values.detach()).exp()
        out[start:end] = (e @ V / e.sum(dim=-1, keepdim=True)).permute(1, 0, 2)
    return out.to(v.dtype)


def merge_patches(x, grids, factor=2):
    start, index = 0, []
    for h, w in grids:
        if h % factor or w % factor:
            raise ValueError((h, w))
        index.append(start + _blocks(h, w, factor, x.device))
        start += h * w
    return x[torch.cat(index)].flatten(1)


class Projector(nn.Module):
    """From patches of the encoder to tokens of the text."""

    def __init__(self, width: int, hidden: int, text_width: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(factor**2 * width, hidden)
        self.linear_2 = nn.Linear(hidden, text_width)

    def forward(self, x, grids):
        hidden = self.linear_1(merge_patches(self.norm(x), grids, factor=self.factor))
        return self.linear_2(hidden * 0.5 * (1 + torch.erf(hidden * 0.5**0.5)))


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
        x, grids = pack(images, self.patch)
        x = self.embedding(x)
        start, parts = 0, []
        for h, w in grids:
            parts.append(x[start : start + h * w] + interpolate_positions(self.positions, h, w))
            start += h * w
        x = torch.cat(parts)
        tables = rope_tables(grids, self.head, 10000.0, torch.promote_types(x.dtype, torch.float32), x.device)
        for block in self.blocks:
            x = block(x, *tables, lengths=[len(part) for part in parts])
        return self.norm(x), grids


def splice(embeddings, token_ids, features, placeholder):
    flat = (token_ids.reshape(-1) == placeholder).nonzero().squeeze(1)
    if len(flat) != len(features):
        raise ValueError(f"expected {len(flat)} image tokens, got {len(features)}")
    B, T, E = embeddings.shape
    return embeddings.reshape(B * T, E).index_copy(0, flat, features.to(embeddings.dtype)).reshape(B, T, E)
