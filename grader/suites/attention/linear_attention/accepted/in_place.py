"""One output tensor, filled chunk by chunk with in-place additions, and masks that select rows."""

from __future__ import annotations

import torch


def feature_map(x):
    out = x + 1
    below = x <= 0
    out[below] = x[below].exp()
    return out


def normalise(numerator, denominator):
    out = torch.zeros_like(numerator)
    some = (denominator != 0).squeeze(-1)
    out[some] = numerator[some] / denominator[some]
    return out


def _wide(x):
    return x.float() if x.dtype.itemsize < 4 else x


def linear_attention(q, k, v, mask=None):
    phi_q, phi_k = feature_map(_wide(q)), feature_map(_wide(k))
    if mask is not None:
        phi_k.masked_fill_(~mask[:, None, :, None], 0)
    S = phi_k.mT @ _wide(v)
    return normalise(phi_q @ S, (phi_q * phi_k.sum(dim=2, keepdim=True)).sum(dim=-1, keepdim=True)).to(v.dtype)


def causal_linear_attention(q, k, v, mask=None, chunk_size=64, state=None):
    phi_q, phi_k, values = feature_map(_wide(q)), feature_map(_wide(k)), _wide(v)
    if mask is not None:
        phi_k.masked_fill_(~mask[:, None, :, None], 0)
    numerator = torch.zeros_like(values, memory_format=torch.contiguous_format)
    denominator = torch.zeros_like(values[..., :1], memory_format=torch.contiguous_format)
    S, z = (None, None) if state is None else state
    for Q, K, V, start, stop in zip(
        *(x.split(chunk_size, dim=2) for x in (phi_q, phi_k, values)),
        range(0, q.shape[2], chunk_size),
        range(chunk_size, q.shape[2] + chunk_size, chunk_size),
    ):
        here = (slice(None), slice(None), slice(start, stop))
        scores = (Q @ K.mT).tril_()
        numerator[here] += scores @ V
        denominator[here] += scores.sum(dim=-1, keepdim=True)
        if S is not None:
            numerator[here] += Q @ S
            denominator[here] += Q @ z.unsqueeze(-1)
        S = K.mT @ V if S is None else S.add(K.mT @ V)
        z = K.sum(dim=2) if z is None else z.add(K.sum(dim=2))
    return normalise(numerator, denominator).to(v.dtype), (S, z)


def linear_attention_step(q, k, v, state=None):
    phi_q, phi_k, values = feature_map(_wide(q)), feature_map(_wide(k)), _wide(v)
    S = phi_k.unsqueeze(-1) * values.unsqueeze(-2)
    z = phi_k.clone()
    if state is not None:
        S.add_(state[0])
        z.add_(state[1])
    numerator = torch.zeros_like(values, memory_format=torch.contiguous_format)
    numerator += (phi_q.unsqueeze(-1) * S).sum(dim=-2)
    return normalise(numerator, (phi_q * z).sum(dim=-1, keepdim=True)).to(v.dtype), (S, z)
