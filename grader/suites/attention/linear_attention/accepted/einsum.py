"""Einsums throughout, and all chunks at once: earlier chunks come in through an exclusive cumsum of their sums."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def feature_map(x):
    positive = x >= 0
    return torch.where(positive, x, 0) + torch.where(positive, 0, x).exp()


def normalise(numerator, denominator):
    empty = denominator == 0
    return torch.where(empty, 0, numerator / torch.where(empty, 1, denominator))


def _up(*tensors):
    return [x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in tensors]


def linear_attention(q, k, v, mask=None):
    kind = v.dtype
    q, k, v = _up(q, k, v)
    q, k = feature_map(q), feature_map(k)
    if mask is not None:
        k = torch.einsum("bhtd,bt->bhtd", k, mask.to(k))
    S = torch.einsum("bhtd,bhtm->bhdm", k, v)
    numerator = torch.einsum("bhld,bhdm->bhlm", q, S)
    denominator = torch.einsum("bhld,bhd->bhl", q, torch.einsum("bhtd->bhd", k))
    return normalise(numerator, denominator.unsqueeze(-1)).to(kind)


def causal_linear_attention(q, k, v, mask=None, chunk_size=64, state=None):
    kind, T = v.dtype, q.shape[2]
    q, k, v = _up(q, k, v)
    q, k = feature_map(q), feature_map(k)
    if mask is not None:
        k = torch.einsum("bhtd,bt->bhtd", k, mask.to(k))
    chunk_size = min(chunk_size, T)
    more = -T % chunk_size
    # features of 0, so that what fills up the tail is no key
    q, k, v = (F.pad(x, (0, 0, 0, more)).unflatten(2, (-1, chunk_size)) for x in (q, k, v))
    S = torch.einsum("bhncd,bhncm->bhndm", k, v).cumsum(2)
    z = k.sum(3).cumsum(2)
    if state is not None:
        S, z = S + state[0][:, :, None], z + state[1][:, :, None]
        S = torch.cat([state[0][:, :, None], S], 2)
        z = torch.cat([state[1][:, :, None], z], 2)
    else:
        S, z = F.pad(S, (0, 0, 0, 0, 1, 0)), F.pad(z, (0, 0, 1, 0))
    scores = torch.einsum("bhncd,bhnkd->bhnck", q, k).tril()
    numerator = torch.einsum("bhnck,bhnkm->bhncm", scores, v) + torch.einsum("bhncd,bhndm->bhncm", q, S[:, :, :-1])
    denominator = scores.sum(-1) + torch.einsum("bhncd,bhnd->bhnc", q, z[:, :, :-1])
    output = normalise(numerator, denominator.unsqueeze(-1)).flatten(2, 3)
    return output[:, :, :T].to(kind), (S[:, :, -1], z[:, :, -1])


def linear_attention_step(q, k, v, state=None):
    kind = v.dtype
    q, k, v = _up(q, k, v)
    q, k = feature_map(q), feature_map(k)
    S, z = torch.einsum("bhd,bhm->bhdm", k, v), k
    if state is not None:
        S, z = S + state[0], z + state[1]
    numerator, denominator = torch.einsum("bhd,bhdm->bhm", q, S), torch.einsum("bhd,bhd->bh", q, z)
    return normalise(numerator, denominator[..., None]).to(kind), (S, z)
