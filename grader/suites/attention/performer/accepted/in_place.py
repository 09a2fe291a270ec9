"""Results allocated first and filled, and what may be changed is changed in place."""

from __future__ import annotations

import math

import torch


def orthogonal_directions(gaussian):
    m, D = gaussian.shape
    result = torch.empty_like(gaussian)
    for first in range(0, m, D):
        block = gaussian[first : first + D]
        q, r = torch.linalg.qr(block.mT)
        flip = torch.where(torch.diagonal(r) < 0, -1.0, 1.0).to(q.dtype)
        result[first : first + D] = (q * flip).mT * torch.linalg.vector_norm(block, dim=1)[:, None]
    return result


def _float(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def log_features(x, directions):
    x = _float(x)
    out = torch.nn.functional.linear(x, directions.to(x))
    out = out - 0.5 * torch.linalg.vecdot(x, x)[..., None]
    return out - math.log(directions.shape[0] ** 0.5)


def trigonometric_features(x, directions):
    x = _float(x)
    m = directions.shape[0]
    angle = torch.nn.functional.linear(x, directions.to(x))
    out = x.new_empty(*x.shape[:-1], 2 * m)
    out[..., :m] = angle.sin()
    out[..., m:] = angle.cos()
    return out * torch.exp(0.5 * torch.linalg.vecdot(x, x)[..., None] - 0.5 * math.log(m))


def kernel_variances(x, y, m):
    x, y = _float(x), _float(y)
    xy = (x * y).sum(-1)
    minus, plus = ((x - y) ** 2).sum(-1), ((x + y) ** 2).sum(-1)
    one = torch.special.expm1(-minus)
    trig = one.mul(one).mul_(torch.exp(plus - 2 * xy)).div_(2 * m)
    return trig, torch.special.expm1(-plus).neg_().mul_(torch.exp(plus + 2 * xy)).div_(m)


def stabilise(log_q, log_k):
    top = log_k.detach().max(dim=-2, keepdim=True)[0]
    keys = (log_k - top).exp_()
    queries = log_q + top
    queries = (queries - queries.detach().max(dim=-1, keepdim=True)[0]).exp_()
    return queries, keys


def _prepare(q, k, v, directions):
    q, k, v = _float(q), _float(k), _float(v)
    root = math.sqrt(math.sqrt(q.shape[-1]))
    return log_features(q / root, directions), log_features(k / root, directions), v


def favor_attention(q, k, v, directions):
    kind = v.dtype
    q, k, v = _prepare(q, k, v, directions)
    q, k = stabilise(q, k)
    out = q @ (k.transpose(-1, -2) @ v)
    out /= (q * k.sum(dim=-2, keepdim=True)).sum(dim=-1, keepdim=True)
    return out.to(kind)


def causal_favor_attention(q, k, v, directions, chunk_size=64):
    kind = v.dtype
    q, k, v = _prepare(q, k, v, directions)
    B, H, T, m = q.shape
    out = torch.empty(B, H, T, v.shape[-1], dtype=v.dtype, device=v.device)
    top = torch.full((B, H, 1, m), torch.finfo(q.dtype).min, dtype=q.dtype, device=q.device)
    S = torch.zeros(B, H, m, v.shape[-1], dtype=v.dtype, device=v.device)
    z = torch.zeros(B, H, m, 1, dtype=v.dtype, device=v.device)
    for a in range(0, T, chunk_size):
        b = min(a + chunk_size, T)
        Q, K, V = q[:, :, a:b], k[:, :, a:b], v[:, :, a:b]
        higher = torch.maximum(top, K.detach().amax(dim=-2, keepdim=True))
        shrink = (top - higher).exp_().mT
        S, z, top = S * shrink, z * shrink, higher
        Q, K = Q + top, (K - top).exp_()
        Q = (Q - Q.detach().amax(dim=-1, keepdim=True)).exp_()
        weights = (Q @ K.mT).tril_()
        numerator = weights @ V
        numerator += Q @ S
        out[:, :, a:b] = numerator / (weights.sum(-1, keepdim=True) + Q @ z)
        S, z = S.add(K.mT @ V), z.add(K.sum(dim=-2).unsqueeze(-1))
    return out.to(kind)
