"""Masks by numpy's open grids, overlapping pieces by strides, batch and heads folded, biases of -inf."""

import numpy as np
import torch


def window_mask(length, before, after):
    i, j = np.ogrid[:length, :length]
    return torch.from_numpy((j - i >= -before) & (j - i <= after))


def strided_mask(length, stride, causal=False):
    i, j = np.ogrid[:length, :length]
    mask = np.mod(i - j, stride) == 0
    return torch.from_numpy(np.tril(mask) if causal else mask)


def block_mask(layout, size, length):
    mask = np.repeat(np.repeat(np.asarray(layout), size, axis=0), size, axis=1)
    return torch.from_numpy(np.ascontiguousarray(mask[:length, :length]))


def bigbird_layout(blocks, near, common):
    i, j = np.ogrid[:blocks, :blocks]
    return torch.from_numpy((np.abs(i - j) <= near) | (np.minimum(i, j) < common))


def _core(q, k, v, seen):
    bias = torch.zeros(seen.shape, dtype=q.dtype, device=q.device).masked_fill(torch.logical_not(seen), -np.inf)
    s = torch.matmul(q, torch.swapaxes(k, -1, -2)) / np.sqrt(q.shape[-1]) + bias
    top = torch.nan_to_num(torch.max(s, dim=-1, keepdim=True).values.detach(), neginf=0.0)
    e = torch.exp(s - top)
    total = torch.sum(e, dim=-1, keepdim=True)
    return torch.matmul(e, v) / (total + (total == 0))


def _fold(x):
    x = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    return torch.reshape(x, (-1, *x.shape[2:]))


def _real(mask, query):
    if mask is None:
        return torch.ones((query.shape[0] * query.shape[1], query.shape[2]), dtype=torch.bool, device=query.device)
    return torch.repeat_interleave(mask, query.shape[1], dim=0)


def _fill(x, left, right):
    shape = list(x.shape)
    shape[1] = left
    head = x.new_zeros(shape)
    shape[1] = right
    return torch.cat([head, x, x.new_zeros(shape)], dim=1)


def _pieces(x, count, step, width):
    x = x.contiguous()
    strides = x.stride()
    return torch.as_strided(
        x, (x.shape[0], count, width, *x.shape[2:]), (strides[0], step * strides[1], strides[1], *strides[2:])
    )


def window_attention(query, key, value, before, after, mask=None):
    T = query.shape[2]
    before, after = min(before, T - 1), min(after, T - 1)
    chunk = before + after + 1
    count = (T + chunk - 1) // chunk
    tail = count * chunk - T
    q = torch.reshape(_fill(_fold(query), 0, tail), (-1, count, chunk, query.shape[3]))
    k, v, real = (
        _pieces(_fill(x, before, after + tail), count, chunk, before + chunk + after)
        for x in (_fold(key), _fold(value), _real(mask, query))
    )
    a, b = np.ogrid[:chunk, : before + chunk + after]
    near = torch.from_numpy((b >= a) & (b <= a + before + after)).to(query.device)
    o = _core(q, k, v, real[:, :, None, :] & near)
    return torch.reshape(o, (*query.shape[:2], count * chunk, -1))[:, :, :T].to(value.dtype)


def strided_attention(query, key, value, stride, causal=False, mask=None):
    T = query.shape[2]
    count = (T + stride - 1) // stride
    tail = count * stride - T
    q, k, v = (
        torch.swapaxes(torch.reshape(_fill(_fold(x), 0, tail), (-1, count, stride, x.shape[3])), 1, 2)
        for x in (query, key, value)
    )
    real = torch.swapaxes(torch.reshape(_fill(_real(mask, query), 0, tail), (-1, count, stride)), 1, 2)
    i, j = np.ogrid[:count, :count]
    early = torch.from_numpy((j <= i) | (not causal)).to(query.device)
    o = torch.swapaxes(_core(q, k, v, real[:, :, None, :] & early), 1, 2)
    return torch.reshape(o, (*query.shape[:2], count * stride, -1))[:, :, :T].to(value.dtype)


def block_attention(query, key, value, layout, size, mask=None):
    T = query.shape[2]
    q, k, v, real = _fold(query), _fold(key), _fold(value), _real(mask, query)
    rows = []
    for a in range(len(layout)):
        chosen = np.flatnonzero(np.repeat(layout[a].cpu().numpy(), size)[:T])
        here = q[:, a * size : (a + 1) * size]
        if chosen.size:
            rows.append(_core(here, k[:, chosen], v[:, chosen], real[:, None, chosen]))
        else:
            rows.append(here.new_zeros((here.shape[0], here.shape[1], v.shape[2])))
    return torch.reshape(torch.cat(rows, dim=1), (*query.shape[:3], -1)).to(value.dtype)
