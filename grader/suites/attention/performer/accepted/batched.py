"""All full blocks at once, all chunks at once; only the sums over earlier chunks are a loop."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def _gram_schmidt(blocks):  # (n, r, D)
    Q, R = torch.linalg.qr(blocks.mT)
    return (Q * torch.sgn(torch.diagonal(R, dim1=-2, dim2=-1))[:, None]).mT


def orthogonal_directions(gaussian):
    m, D = gaussian.shape
    whole = m - m % D
    parts = []
    if whole:
        parts.append(_gram_schmidt(gaussian[:whole].reshape(-1, D, D)).reshape(-1, D))
    if m % D:
        parts.append(_gram_schmidt(gaussian[None, whole:])[0])
    return torch.cat(parts) * gaussian.pow(2).sum(1, keepdim=True).sqrt()


def _up(x):
    return x.to(torch.result_type(x, torch.empty(1, dtype=torch.float32)) if x.dtype != torch.float64 else x.dtype)


def log_features(x, directions):
    x = _up(x)
    m = x.new_tensor(directions.shape[0])
    return x @ directions.to(x.dtype).mT - (x.pow(2).sum(-1, keepdim=True) + m.log()) / 2


def trigonometric_features(x, directions):
    x = _up(x)
    angle = x @ directions.to(x.dtype).mT
    both = torch.stack([angle.sin(), angle.cos()], dim=-2).flatten(-2)
    return both * (x.pow(2).sum(-1, keepdim=True) / 2).exp() * len(directions) ** -0.5


def kernel_variances(x, y, m):
    x, y = _up(x), _up(y)
    squares = x.pow(2).sum(-1) + y.pow(2).sum(-1)
    trigonometric = squares.exp() * torch.expm1(-(x - y).pow(2).sum(-1)).pow(2) * (0.5 / m)
    positive = -torch.expm1(-(x + y).pow(2).sum(-1)) * (squares + 4 * (x * y).sum(-1)).exp() / m
    return trigonometric, positive


def stabilise(log_q, log_k):
    c = log_k.amax(-2, keepdim=True).detach()
    lifted = log_q + c
    return (lifted - lifted.amax(-1, keepdim=True).detach()).exp(), (log_k - c).exp()


def favor_attention(q, k, v, directions):
    scale = q.shape[-1] ** -0.25
    phi_q, phi_k = stabilise(log_features(_up(q) * scale, directions), log_features(_up(k) * scale, directions))
    return ((phi_q @ (phi_k.mT @ _up(v))) / (phi_q @ phi_k.sum(-2).unsqueeze(-1))).to(v.dtype)


def causal_favor_attention(q, k, v, directions, chunk_size=64):
    T, scale = q.shape[2], q.shape[-1] ** -0.25
    more = -T % chunk_size
    log_q, log_k = (log_features(_up(x) * scale, directions) for x in (q, k))
    log_q = F.pad(log_q, (0, 0, 0, more)).unflatten(2, (-1, chunk_size))  # (B, H, N, C, m)
    log_k = F.pad(log_k, (0, 0, 0, more), value=-torch.inf).unflatten(2, (-1, chunk_size))
    values = F.pad(F.pad(_up(v), (0, 1), value=1.0), (0, 0, 0, more)).unflatten(2, (-1, chunk_size))
    c = log_k.detach().amax(dim=3).cummax(dim=2).values  # (B, H, N, m)
    phi_k = (log_k - c[:, :, :, None]).exp()
    lifted = log_q + c[:, :, :, None]
    phi_q = (lifted - lifted.detach().amax(dim=-1, keepdim=True)).exp()
    added = (phi_k.mT @ values).unbind(dim=2)  # N of (B, H, m, M + 1)
    before, sums = [], torch.zeros_like(added[0])
    for n, here in enumerate(added):
        if n:
            sums = (c[:, :, n - 1] - c[:, :, n]).exp()[..., None] * sums
        before.append(sums)
        sums = sums + here
    out = (phi_q @ phi_k.mT).tril() @ values + phi_q @ torch.stack(before, dim=2)
    out = out[..., :-1] / out[..., -1:]
    return out.flatten(2, 3)[:, :, :T].to(v.dtype)
