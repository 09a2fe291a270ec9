"""Everything as tables of indices: which keys a group of queries sees, -1 for none, and one gather for all groups."""

from __future__ import annotations

import torch


def window_mask(length, before, after):
    i = torch.arange(length).unsqueeze(1)
    j = torch.arange(length).unsqueeze(0)
    return torch.logical_and(i - before <= j, j <= i + after)


def strided_mask(length, stride, causal=False):
    i, j = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
    return ((j - i).abs() % stride == 0) & ((j <= i) | (not causal))


def block_mask(layout, size, length):
    return torch.kron(layout, torch.ones(size, size, dtype=torch.bool))[:length, :length]


def bigbird_layout(blocks, near, common):
    everywhere = [range(blocks)] * common
    rows = [*everywhere, *([*range(common), *range(max(0, a - near), min(blocks, a + near + 1))] for a in range(common, blocks))]
    return torch.tensor([[b in row for b in range(blocks)] for row in rows])


def _groups(query, key, value, queries, keys, mask, allowed):
    """Attention of the groups of `queries`, (G, C), to `keys`, (G, W); both are positions, negative for nothing."""
    kind = torch.promote_types(query.dtype, torch.float32)
    q = query[:, :, queries.clamp(min=0)].to(kind)
    k, v = (x[:, :, keys.clamp(min=0)].to(kind) for x in (key, value))
    keep = (keys >= 0)[:, None] & allowed
    keep = keep.expand(query.shape[0], *keep.shape)
    if mask is not None:
        keep = keep & mask[:, keys.clamp(min=0)][:, :, None]
    keep = keep[:, None]
    logits = (q @ k.mT / query.shape[-1] ** 0.5).masked_fill(~keep, torch.finfo(kind).min)
    weights = torch.where(keep, torch.softmax(logits, dim=-1), 0)
    return (weights @ v).to(value.dtype)


def window_attention(query, key, value, before, after, mask=None):
    T, device = query.shape[2], query.device
    before, after = min(before, T), min(after, T)
    C = max(1, min(before + after, T))
    starts = torch.arange(0, T, C, device=device)[:, None]
    queries = starts + torch.arange(C, device=device)
    keys = starts + torch.arange(-before, C + after, device=device)
    distance = keys[:, None, :] - queries[:, :, None]
    keys = keys.where(keys < T, -1)
    output = _groups(query, key, value, queries.clamp(max=T - 1), keys, mask, (-before <= distance) & (distance <= after))
    return output.flatten(2, 3)[:, :, :T]


def strided_attention(query, key, value, stride, causal=False, mask=None):
    T, device = query.shape[2], query.device
    table = torch.arange(-(-T // stride) * stride, device=device).view(-1, stride).T
    back = table.T.flatten()[:T]
    table = table.where(table < T, -1)
    allowed = table[:, None, :] <= table[:, :, None] if causal else torch.tensor(True, device=device)
    output = _groups(query, key, value, table, table, mask, allowed)
    place = torch.arange(table.numel(), device=device).view(stride, -1).T.flatten()
    return output.flatten(2, 3)[:, :, place[back]]


def block_attention(query, key, value, layout, size, mask=None):
    T, device = query.shape[2], query.device
    always = torch.tensor(True, device=device)

    def row(a, blocks):
        queries = torch.arange(a * size, min(T, (a + 1) * size), device=device)
        spans = [range(b * size, min(T, (b + 1) * size)) for b, seen in enumerate(blocks) if seen]
        keys = torch.tensor([j for span in spans for j in span], dtype=torch.long, device=device)
        return _groups(query, key, value, queries[None], keys[None], mask, always)[:, :, 0]

    return torch.cat([row(a, blocks) for a, blocks in enumerate(layout.tolist())], dim=2)
