"""Images of equal size share their work: tables and positions by grid, attention in batches of equal length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

gelu = nn.functional.gelu
resize = partial(nn.functional.interpolate, mode="bicubic", align_corners=False)


def pack(images, patch):
    def grid_of(image):
        _, H, W = image.shape
        if H % patch or W % patch:
            raise ValueError("not a multiple of the patch")
        return H // patch, W // patch

    def cut(image):
        h, w = grid_of(image)
        return image.reshape(-1, h, patch, w, patch).transpose(2, 3).flatten(3).permute(1, 2, 0, 3).flatten(2).flatten(0, 1)

    return torch.cat(list(map(cut, images))), list(map(grid_of, images))


def interpolate_positions(table, rows, columns):
    high = table.double() if table.dtype == torch.float64 else table.float()
    return resize(high.permute(2, 0, 1)[None], (rows, columns))[0].permute(1, 2, 0).flatten(0, 1).to(table.dtype)


def rope_tables(grids, dim, base=10000.0, dtype=torch.float32, device=None):
    if dim != dim // 4 * 4:
        raise ValueError("rows and columns need as many pairs")
    theta = torch.pow(base, -torch.arange(dim // 4, dtype=dtype, device=device) * (4 / dim))
    known = {}
    for h, w in set(grids):
        y, x = torch.arange(h, dtype=dtype, device=device), torch.arange(w, dtype=dtype, device=device)
        by_row = torch.einsum("h,f->hf", y, theta)[:, None, :].expand(h, w, -1)
        by_column = torch.einsum("w,f->wf", x, theta)[None, :, :].expand(h, w, -1)
        angle = torch.stack([by_column, by_row], dim=-1).reshape(h * w, -1)
        known[h, w] = angle.cos(), angle.sin()
    return torch.cat([known[tuple(g)][0] for g in grids]), torch.cat([known[tuple(g)][1] for g in grids])


def rotate(x, cos, sin):
    high = x if x.dtype == torch.float64 else x.float()
    c, s = cos[:, None, :, None], sin[:, None, :, None]
    pairs = high.reshape(x.shape[0], x.shape[1], -1, 2)
    matrix = torch.stack([torch.cat([c, -s], -1), torch.cat([s, c], -1)], dim=-2)  # (N, 1, D/2, 2, 2)
    return (matrix * pairs[..., None, :]).sum(-1).reshape(x.shape).to(x.dtype)


def packed_attention(q, k, v, lengths):
    high = torch.float64 if v.dtype == torch.float64 else torch.float32
    lengths = list(lengths)
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    same = defaultdict(list)
    for i, n in enumerate(lengths):
        same[n].append(i)
    pieces = [None] * len(lengths)
    for n, members in same.items():
        for i in members:
            rows = slice(starts[i], starts[i] + n)
            Q, K, V = (y[rows].to(high).swapaxes(0, 1) for y in (q, k, v))
            P = torch.softmax(Q @ K.swapaxes(1, 2) * Q.shape[-1] ** -0.5, dim=-1)
            pieces[i] = (P @ V).swapaxes(0, 1)
    return torch.cat(pieces).to(v.dtype)


def merge_patches(x, grids, factor=2):
    f, E, out, rest = factor, x.shape[1], [], x
    for h, w in grids:
        if h % f or w % f:
            raise ValueError("an odd grid")
        image, rest = rest[: h * w].reshape(h, w, E), rest[h * w :]
        corners = [image[a::f, b::f] for a in range(f) for b in range(f)]
        out.append(torch.cat(corners, dim=-1).reshape(-1, f * f * E))
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
        return self.linear_2(gelu(self.linear_1(merge_patches(self.norm(x), grids, self.factor))))


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
        by_grid = {g: interpolate_positions(self.positions, *g) for g in set(grids)}
        x = self.embedding(patches) + torch.cat([by_grid[g] for g in grids])
        high = torch.float64 if x.dtype == torch.float64 else torch.float32
        cos, sin = rope_tables(grids, self.head, dtype=high, device=x.device)
        lengths = [h * w for h, w in grids]
        for block in self.blocks:
            x = block(x, cos, sin, lengths)
        return self.norm(x), grids


def splice(embeddings, token_ids, features, placeholder):
    b, t = torch.nonzero(token_ids == placeholder, as_tuple=True)
    if b.numel() != features.shape[0]:
        raise ValueError("image tokens and placeholders do not match")
    return embeddings.index_put((b, t), features.to(embeddings))
