"""Additive biases of -inf, batch and heads folded into one axis, one tile's arithmetic in a helper."""

from __future__ import annotations

import numpy as np
import torch


def combine(first, second):
    m1, l1 = first
    m2, l2 = second
    m = torch.maximum(m1, m2)
    z = torch.nan_to_num(m, neginf=0.0)
    return m, l1 * torch.exp(m1 - z) + l2 * torch.exp(m2 - z)


def online_softmax(logits, tile):
    pairs = []
    for start in range(0, logits.shape[-1], tile):
        x = logits[..., start : start + tile]
        m, _ = torch.max(x, dim=-1)
        pair = m, torch.sum(torch.exp(x - torch.nan_to_num(m, neginf=0.0)[..., None]), dim=-1)
        pairs.append(combine(pairs[-1], pair) if pairs else pair)
    return tuple(torch.stack(each, dim=-1) for each in zip(*pairs))


def _up(x):
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def _bias(shape, rows, columns, queries, keys, mask, causal, like):
    bias = like.new_zeros(shape)
    if causal:
        i, j = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)[None]
        late = torch.from_numpy(j - keys > i - queries).to(like.device)
        bias = bias.masked_fill(late, -np.inf)
    if mask is not None:
        bias = bias.masked_fill(~mask[:, None, None, columns], -np.inf)
    return bias


def tile_logits(query, key, rows, columns, mask=None, causal=False, scale=None):
    Q, K = _up(query[:, :, rows]), _up(key[:, :, columns])
    scale = 1 / np.sqrt(Q.shape[-1]) if scale is None else scale
    S = torch.matmul(Q, torch.swapaxes(K, -1, -2)) * scale
    return S + _bias(S.shape, rows, columns, query.shape[2], key.shape[2], mask, causal, S)


def _number(length, size):
    return [slice(n * size, min((n + 1) * size, length)) for n in range((length + size - 1) // size)]


def flash_forward(query, key, value, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    Tq, Tk = query.shape[2], key.shape[2]
    output = torch.zeros((*query.shape[:3], value.shape[-1]), dtype=value.dtype, device=value.device)
    lse = _up(query.new_zeros(query.shape[:3]))
    for rows in _number(Tq, tile_q):
        shape = (*query.shape[:2], rows.stop - rows.start)
        m = lse.new_full(shape, -np.inf)
        l = lse.new_zeros(shape)
        O = lse.new_zeros((*shape, value.shape[-1]))
        for columns in _number(Tk, tile_k):
            if causal and columns.start - Tk > rows.stop - 1 - Tq:
                continue
            S = tile_logits(query, key, rows, columns, mask, causal, scale)
            new = torch.maximum(m, torch.max(S, dim=-1).values)
            z = torch.nan_to_num(new, neginf=0.0)
            P = torch.exp(S - z[..., None])
            old = torch.exp(m - z)
            l = old * l + torch.sum(P, dim=-1)
            O = old[..., None] * O + torch.matmul(P, _up(value[:, :, columns]))
            m = new
        zero = (l == 0).to(l.dtype)
        output[:, :, rows] = (O / (l + zero)[..., None]).to(value.dtype)
        lse[:, :, rows] = m + torch.log(l)
    return output, lse


def flash_backward(upstream, query, key, value, output, lse, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    Tq, Tk = query.shape[2], key.shape[2]
    factor = 1 / np.sqrt(query.shape[-1]) if scale is None else scale
    z = torch.nan_to_num(lse, neginf=0.0)
    delta = torch.sum(_up(upstream) * _up(output), dim=-1)
    dQ = torch.zeros_like(_up(query))
    dKs, dVs = [], []
    for columns in _number(Tk, tile_k):
        K, V = _up(key[:, :, columns]), _up(value[:, :, columns])
        dK, dV = torch.zeros_like(K), torch.zeros_like(V)
        for rows in _number(Tq, tile_q):
            if causal and columns.start - Tk > rows.stop - 1 - Tq:
                continue
            Q, G = _up(query[:, :, rows]), _up(upstream[:, :, rows])
            S = tile_logits(query, key, rows, columns, mask, causal, scale)
            P = torch.exp(S - z[:, :, rows, None])
            dS = P * (torch.matmul(G, torch.swapaxes(V, 2, 3)) - delta[:, :, rows, None])
            dV = dV + torch.matmul(torch.swapaxes(P, 2, 3), G)
            dK = dK + torch.matmul(torch.swapaxes(dS, 2, 3), Q)
            dQ[:, :, rows] += factor * torch.matmul(dS, K)
        dKs.append(factor * dK)
        dVs.append(dV)
    return dQ.to(query.dtype), torch.cat(dKs, dim=2).to(key.dtype), torch.cat(dVs, dim=2).to(value.dtype)


class FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, mask, causal, scale, tile_q, tile_k):
        output, lse = flash_forward(query, key, value, mask, causal, scale, tile_q, tile_k)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.settings = dict(mask=mask, causal=causal, scale=scale, tile_q=tile_q, tile_k=tile_k)
        return output

    @staticmethod
    def backward(ctx, upstream):
        return flash_backward(upstream, *ctx.saved_tensors, **ctx.settings) + (None,) * 5


def flash_attention(query, key, value, mask=None, causal=False, scale=None, tile_q=64, tile_k=64):
    return FlashAttention.apply(query, key, value, mask, causal, scale, tile_q, tile_k)
