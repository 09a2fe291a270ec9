"""Ready-made layers where there are any: unfold and fold's relatives, baddbmm, where; lists of images throughout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def widen(x):
    return x.to(torch.result_type(x, torch.zeros(1, dtype=torch.float32)))


def pack(images, patch):
    patches, grids = [], []
    for image in images:
        (_, H, W) = image.shape
        (h, rest_h), (w, rest_w) = divmod(H, patch), divmod(W, patch)
        if rest_h + rest_w > 0:
            raise ValueError(f"cannot cut {H} x {W} into {patch}")
        tiles = image.unflatten(1, (h, patch)).unflatten(3, (w, patch))  # (C, h, p, w, p)
        tiles = tiles.movedim((1, 3), (0, 1))  # (h, w, C, p, p)
        patches += [tiles.flatten(2).flatten(0, 1)]
        grids += [(h, w)]
    return torch.vstack(patches), grids


def interpolate_positions(table, rows, columns):
    image = widen(table).permute(2, 0, 1).contiguous()
    image = F.interpolate(image.unsqueeze(0), [rows, columns], mode="bicubic").squeeze(0)
    return torch.flatten(image, 1).t().contiguous().to(table.dtype)


def rope_tables(grids, dim, base=10000.0, dtype=torch.float32, device=None):
    quarter, remainder = divmod(dim, 4)
    if remainder:
        raise ValueError("four features for each frequency")
    exponents = torch.linspace(0, 1, quarter + 1, dtype=torch.float64)[:-1]
    theta = torch.exp(-exponents * torch.log(torch.tensor(base, dtype=torch.float64))).to(device)
    tables = []
    for h, w in grids:
        angle = torch.zeros(h, w, quarter, 2, dtype=torch.float64, device=device)
        angle[..., 0] = torch.arange(w, device=device)[None, :, None] * theta
        angle[..., 1] = torch.arange(h, device=device)[:, None, None] * theta
        tables.append(angle.view(h * w, dim // 2))
    angle = torch.cat(tables)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, cos, sin):
    y = widen(x)
    swapped = torch.stack([-y[..., 1::2], y[..., ::2]], dim=-1).flatten(-2)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (y * cos[:, None, :] + swapped * sin[:, None, :]).to(x.dtype)


def _one(q, k, v):
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    empty = q.new_zeros(q.shape[0], q.shape[1], k.shape[1])
    logits = torch.baddbmm(empty, q, k.transpose(1, 2), beta=0, alpha=q.shape[2] ** -0.5)
    return torch.bmm(F.softmax(logits, dim=2), v).transpose(0, 1)


def packed_attention(q, k, v, lengths):
    lengths = list(lengths)
    images = zip(widen(q).split(lengths), widen(k).split(lengths), widen(v).split(lengths))
    return torch.cat([_one(*image) for image in images]).type(v.dtype)


def merge_patches(x, grids, factor=2):
    images = x.split([h * w for h, w in grids])
    out = []
    for image, (h, w) in zip(images, grids):
        if h % factor != 0 or w % factor != 0:
            raise ValueError("blocks do not fit")
        picture = image.reshape(1, h, w, -1).permute(0, 3, 1, 2)  # (1, E, h, w)
        tiles = F.pixel_unshuffle(picture, factor)  # (1, E f f, h / f, w / f)
        tiles = tiles.reshape(-1, factor**2, (h // factor) * (w // factor))  # (E, f f, n)
        out.append(tiles.permute(2, 1, 0).reshape(tiles.shape[2], -1))
    return torch.cat(out, dim=0)


class Projector(nn.Module):
    """From patches of the encoder to tokens of the text."""

    def __init__(self, width: int, hidden: int, text_width: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(factor**2 * width, hidden)
        self.linear_2 = nn.Linear(hidden, text_width)

    def forward(self, x, grids):
        layers = nn.Sequential(self.linear_1, nn.GELU(), self.linear_2)
        return layers(merge_patches(self.norm(x), grids, self.factor))


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
        lengths = [h * w for h, w in grids]
        table = torch.cat([interpolate_positions(self.positions, h, w) for (h, w) in grids])
        hidden = torch.add(self.embedding(patches), table)
        exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        cos, sin = rope_tables(grids, self.head, dtype=exact, device=hidden.device)
        for block in self.blocks:
            hidden = block(hidden, cos, sin, lengths)
        return self.norm(hidden), grids


def splice(embeddings, token_ids, features, placeholder):
    image = token_ids.eq(placeholder)
    count = image.sum().item()
    if count != features.size(0):
        raise ValueError(f"{count} != {features.size(0)}")
    if count == 0:
        return embeddings.clone()
    order = (image.flatten().cumsum(0) - 1).clamp(min=0).view_as(image)
    return torch.where(image[..., None], features[order].to(embeddings.dtype), embeddings)
