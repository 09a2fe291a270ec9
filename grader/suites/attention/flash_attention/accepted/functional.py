"""A fold of `combine` over triples (m, l, O), batch and heads folded into one axis."""

from functools import reduce
from itertools import accumulate

import torch


def _wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _exp_difference(a, b):
    """e^(a - b), and 0 where both are -inf."""
    return torch.exp(torch.where(a == -torch.inf, -torch.inf, a - b))


def combine(first, second):
    m = torch.maximum(first[0], second[0])
    l = first[1] * _exp_difference(first[0], m) + second[1] * _exp_difference(second[0], m)
    return m, l


def _summary(x):
    m = x.amax(dim=-1, keepdim=True)
    return m[..., 0], _exp_difference(x, m).sum(dim=-1)


def online_softmax(logits, tile):
    pairs = list(accumulate((_summary(x) for x in logits.split(tile, -1)), combine))
    return torch.stack([p[0] for p in pairs], -1), torch.stack([p[1] for p in pairs], -1)


def tile_logits(query, key, rows, columns, mask=None, causal=False, scale=None):
    logits = _wide(query[:, :, rows]) @ _wide(key[:, :, columns]).mT
    logits = logits / query.shape[-1] ** 0.5 if scale is None else logits * scale
    keep = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device)
    if causal:
        keep = keep.tril(rows.start - columns.start + key.shape[2] - query.shape[2])
    if mask is not None:
        keep = keep & mask[:, None, None, columns]
    return torch.where(keep, logits, -torch.inf)


def _slices(n, size):
    bounds = [*range(0, n, size), n]
    return [slice(a, b) for a, b in zip(bounds, bounds[1:])]


def flash_forward(query, key, value, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    last = key.shape[2] - query.shape[2]

    def triple(rows, columns):
        S = tile_logits(query, key, rows, columns, mask, causal, scale)
        m = S.amax(-1, keepdim=True)
        P = _exp_difference(S, m)
        return m, P.sum(-1, keepdim=True), P @ _wide(value[:, :, columns])

    def merge(a, b):
        m = torch.maximum(a[0], b[0])
        x, y = _exp_difference(a[0], m), _exp_difference(b[0], m)
        return m, a[1] * x + b[1] * y, a[2] * x + b[2] * y

    def rows_of(rows):
        seen = [c for c in _slices(key.shape[2], tile_k) if not causal or c.start <= rows.stop - 1 + last]
        if not seen:
            shape = (*query.shape[:2], rows.stop - rows.start)
            kind = _wide(query[:0]).dtype
            return value.new_zeros(*shape, value.shape[-1]), value.new_full(shape, -torch.inf, dtype=kind)
        m, l, O = reduce(merge, (triple(rows, c) for c in seen))
        O = torch.where(l > 0, O / torch.where(l > 0, l, 1), 0)
        return O.to(value.dtype), (m + torch.log(l)).squeeze(-1)

    results = [rows_of(rows) for rows in _slices(query.shape[2], tile_q)]
    return torch.cat([r[0] for r in results], 2), torch.cat([r[1] for r in results], 2)


def flash_backward(upstream, query, key, value, output, lse, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    last = key.shape[2] - query.shape[2]
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    dQ, dK, dV = (torch.zeros_like(_wide(x)) for x in (query, key, value))
    for rows in _slices(query.shape[2], tile_q):
        g = _wide(upstream[:, :, rows])
        delta = (g * _wide(output[:, :, rows])).sum(-1, keepdim=True)
        for columns in _slices(key.shape[2], tile_k):
            if causal and columns.start > rows.stop - 1 + last:
                break
            P = _exp_difference(tile_logits(query, key, rows, columns, mask, causal, scale), lse[:, :, rows, None])
            dS = factor * P * (g @ _wide(value[:, :, columns]).mT - delta)
            dV[:, :, columns].add_(P.mT @ g)
            dQ[:, :, rows].add_(dS @ _wide(key[:, :, columns]))
            dK[:, :, columns].add_(dS.mT @ _wide(query[:, :, rows]))
    return dQ.to(query.dtype), dK.to(key.dtype), dV.to(value.dtype)


class FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        query, key, value, mask, *ctx.rest = arguments
        output, lse = flash_forward(*arguments)
        ctx.save_for_backward(query, key, value, output, lse, mask)
        return output

    @staticmethod
    def backward(ctx, upstream):
        query, key, value, output, lse, mask = ctx.saved_tensors
        return *flash_backward(upstream, query, key, value, output, lse, mask, *ctx.rest), *([None] * 5)


def flash_attention(query, key, value, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    return FlashAttention.apply(query, key, value, mask, causal, scale, tile_q, tile_k)
