"""Einsum throughout, Gram-Schmidt row by row, and a column of ones beside the values."""

from __future__ import annotations

import torch
from torch import einsum


def orthogonal_directions(gaussian):
    m, D = gaussian.shape
    rows = []
    for i in range(m):
        w = gaussian[i]
        for _ in range(2):  # the second round removes what rounding left
            for u in rows[i - i % D : i]:
                w = w - (w @ u) * u
        rows.append(w / w.norm())
    return torch.stack([u * g.norm() for u, g in zip(rows, gaussian, strict=True)])


def log_features(x, directions):
    x = x if x.dtype == torch.float64 else x.float()
    w = directions.to(x.dtype)
    half = einsum("...d,...d->...", x, x).unsqueeze(-1) / 2
    return einsum("...d,md->...m", x, w) - half - 0.5 * torch.log(torch.tensor(float(w.shape[0]), dtype=x.dtype))


def trigonometric_features(x, directions):
    x = x if x.dtype == torch.float64 else x.float()
    w = directions.to(x.dtype)
    angles = einsum("...d,md->...m", x, w)
    half = einsum("...d,...d->...", x, x).unsqueeze(-1) / 2
    return torch.cat([angles.sin(), angles.cos()], dim=-1) * (half.exp() / w.shape[0] ** 0.5)


def kernel_variances(x, y, m):
    x, y = (t if t.dtype == torch.float64 else t.float() for t in (x, y))
    diff, total = x - y, x + y
    norms = (x * x).sum(-1) + (y * y).sum(-1)
    a, b = (diff * diff).sum(-1), (total * total).sum(-1)
    trig = norms.exp() * torch.expm1(-a).square() / 2
    pos = -(norms + 4 * (x * y).sum(-1)).exp() * torch.expm1(-b)
    return trig / m, pos / m


def stabilise(log_q, log_k):
    with torch.no_grad():
        c = log_k.max(dim=-2).values.unsqueeze(-2)
        r = (log_q + c).max(dim=-1).values.unsqueeze(-1)
    return torch.exp(log_q + c - r), torch.exp(log_k - c)


def _logs(x, directions):
    x = x if x.dtype == torch.float64 else x.float()
    return log_features(x / x.shape[-1] ** 0.25, directions)


def _with_ones(v):
    v = v if v.dtype == torch.float64 else v.float()
    return torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)


def favor_attention(q, k, v, directions):
    fq, fk = stabilise(_logs(q, directions), _logs(k, directions))
    sums = einsum("bhtf,bhtm->bhfm", fk, _with_ones(v))
    out = einsum("bhlf,bhfm->bhlm", fq, sums)
    return (out[..., :-1] / out[..., -1:]).to(v.dtype)


def causal_favor_attention(q, k, v, directions, chunk_size=64):
    log_q, log_k, values = _logs(q, directions), _logs(k, directions), _with_ones(v)
    c = sums = None
    pieces = []
    for start in range(0, q.shape[2], chunk_size):
        here = slice(start, start + chunk_size)
        Q, K, V = log_q[:, :, here], log_k[:, :, here], values[:, :, here]
        with torch.no_grad():
            new = K.amax(dim=2)
            if c is not None:
                new = torch.maximum(new, c)
            r = (Q + new[:, :, None]).amax(dim=3, keepdim=True)
        if c is not None:
            sums = einsum("bhf,bhfm->bhfm", torch.exp(c - new), sums)
        Q, K = torch.exp(Q + new[:, :, None] - r), torch.exp(K - new[:, :, None])
        out = einsum("bhij,bhjm->bhim", torch.tril(einsum("bhif,bhjf->bhij", Q, K)), V)
        if sums is not None:
            out = out + einsum("bhif,bhfm->bhim", Q, sums)
        added = einsum("bhjf,bhjm->bhfm", K, V)
        sums = added if sums is None else sums + added
        c = new
        pieces.append(out[..., :-1] / out[..., -1:])
    return torch.cat(pieces, dim=2).to(v.dtype)
