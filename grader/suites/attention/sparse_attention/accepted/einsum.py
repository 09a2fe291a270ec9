"""Einsums; windows as blocks with their neighbours, blocks as a list of visible pairs summed up by row."""

import math

import torch
import torch.nn.functional as F


def window_mask(length, before, after):
    full = torch.ones(length, length, dtype=torch.bool)
    return full.triu(-before) & full.tril(after)


def strided_mask(length, stride, causal=False):
    residue = torch.arange(length).remainder(stride)
    same = residue[:, None].eq(residue[None, :])
    return same & torch.ones_like(same).tril() if causal else same


def block_mask(layout, size, length):
    block = torch.arange(length) // size
    return layout[block][:, block]


def bigbird_layout(blocks, near, common):
    layout = torch.ones(blocks, blocks, dtype=torch.bool).triu(-near).tril(near)
    layout[:common] = True
    layout[:, :common] = True
    return layout


def _up(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _softmax(s, seen):
    s = torch.where(seen, s, -math.inf)
    top = s.detach().amax(-1, keepdim=True)
    e = torch.exp(s - torch.where(top.isinf(), 0.0, top))
    total = e.sum(-1, keepdim=True)
    return e / torch.where(total > 0, total, 1.0)


def _with_neighbours(x, dim, back, ahead):
    """Every block beside the blocks before and behind it; `dim` counts blocks, `dim + 1` tokens in a block."""
    n = x.shape[dim]
    after = 2 * (x.dim() - dim - 1)
    padded = F.pad(x, (*[0] * after, back, ahead))
    return torch.cat([padded.narrow(dim, k, n) for k in range(back + ahead + 1)], dim + 1)


def window_attention(query, key, value, before, after, mask=None):
    B, H, T, D = query.shape
    before, after = min(before, T - 1), min(after, T - 1)
    c = max(before, after, 1)
    back, ahead = int(before > 0), int(after > 0)
    more = -T % c
    n = (T + more) // c
    q, k, v = (F.pad(_up(x), (0, 0, 0, more)).reshape(B, H, n, c, -1) for x in (query, key, value))
    real = torch.ones(B, T, dtype=torch.bool, device=key.device) if mask is None else mask
    real = _with_neighbours(F.pad(real, (0, more)).reshape(B, n, c), 1, back, ahead)
    k, v = _with_neighbours(k, 2, back, ahead), _with_neighbours(v, 2, back, ahead)
    s = torch.einsum("bhncd,bhnkd->bhnck", q, k) / math.sqrt(D)
    i = torch.arange(c, device=q.device)[:, None]
    j = torch.arange(-back * c, (1 + ahead) * c, device=q.device)[None]
    seen = ((i - j <= before) & (j - i <= after)) & real[:, None, :, None]
    out = torch.einsum("bhnck,bhnkm->bhncm", _softmax(s, seen), v)
    return out.reshape(B, H, n * c, -1)[:, :, :T].to(value.dtype)


def strided_attention(query, key, value, stride, causal=False, mask=None):
    B, H, T, D = query.shape
    n = math.ceil(T / stride)
    more = n * stride - T
    q, k, v = (F.pad(_up(x), (0, 0, 0, more)).reshape(B, H, n, stride, -1) for x in (query, key, value))
    s = torch.einsum("bhird,bhjrd->bhrij", q, k) / math.sqrt(D)
    real = torch.ones(B, T, dtype=torch.bool, device=key.device) if mask is None else mask
    seen = F.pad(real, (0, more)).reshape(B, 1, n, stride).permute(0, 1, 3, 2).unsqueeze(3).expand(B, 1, stride, n, n)
    if causal:
        seen = seen.tril()
    out = torch.einsum("bhrij,bhjrm->bhirm", _softmax(s, seen), v)
    return out.reshape(B, H, n * stride, -1)[:, :, :T].to(value.dtype)


def block_attention(query, key, value, layout, size, mask=None):
    B, H, T, D = query.shape
    n = layout.shape[0]
    more = n * size - T
    q, k, v = (F.pad(_up(x), (0, 0, 0, more)).reshape(B, H, n, size, -1) for x in (query, key, value))
    real = torch.ones(B, T, dtype=torch.bool, device=key.device) if mask is None else mask
    real = F.pad(real, (0, more)).reshape(B, 1, n, 1, size)
    a, b = layout.nonzero(as_tuple=True)
    s = torch.einsum("bhpcd,bhpkd->bhpck", q[:, :, a], k[:, :, b]) / math.sqrt(D)
    s = torch.where(real[:, :, b], s, -math.inf)
    top = torch.stack([s[:, :, a == x].detach().amax((2, 4)) if (a == x).any() else s.new_zeros(B, H, size) for x in range(n)], 2)
    top = torch.where(top.isinf(), 0.0, top)
    e = torch.exp(s - top[:, :, a, :, None])
    total = torch.zeros_like(top).index_add(2, a, e.sum(-1))
    out = torch.zeros_like(v).index_add(2, a, torch.einsum("bhpck,bhpkm->bhpcm", e, v[:, :, b]))
    out = out / torch.where(total > 0, total, 1.0)[..., None]
    return out.reshape(B, H, n * size, -1)[:, :, :T].to(value.dtype)
