"""Matrix products and transposes as in numpy, with batch and heads folded into one axis."""

from __future__ import annotations

import torch


def feature_map(x):
    negative = (x < 0).to(x.dtype)
    return torch.exp(x * negative) + x * (1 - negative)


def normalise(numerator, denominator):
    zero = (denominator == 0).to(denominator.dtype)
    return numerator / (denominator + zero) * (1 - zero)


def _fold(x):
    x = x if x.dtype == torch.float64 else x.to(torch.float32)
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _keys(k, mask):
    features = feature_map(_fold(k))
    if mask is None:
        return features
    return features * mask.repeat_interleave(k.shape[1], dim=0)[:, :, None].to(features.dtype)


def linear_attention(q, k, v, mask=None):
    phi_q, phi_k = feature_map(_fold(q)), _keys(k, mask)
    S = torch.matmul(phi_k.transpose(1, 2), _fold(v))
    z = phi_k.sum(dim=1, keepdim=True).transpose(1, 2)
    output = normalise(torch.matmul(phi_q, S), torch.matmul(phi_q, z))
    return output.reshape(*q.shape[:3], v.shape[3]).to(v.dtype)


def causal_linear_attention(q, k, v, mask=None, chunk_size=64, state=None):
    heads, D, M = q.shape[:2], q.shape[3], v.shape[3]
    phi_q, phi_k, values = feature_map(_fold(q)), _keys(k, mask), _fold(v)
    if state is None:
        S, z = phi_k.new_zeros(len(phi_k), D, M), phi_k.new_zeros(len(phi_k), D, 1)
    else:
        S, z = _fold(state[0]), _fold(state[1])[:, :, None]
    total, parts = phi_q.shape[1], []
    for number in range((total + chunk_size - 1) // chunk_size):
        here = slice(number * chunk_size, min((number + 1) * chunk_size, total))
        a, b, c = phi_q[:, here], phi_k[:, here], values[:, here]
        scores = torch.tril(torch.matmul(a, b.transpose(1, 2)))
        ones = torch.ones_like(c[:, :, :1])
        top = torch.matmul(scores, c) + torch.matmul(a, S)
        bottom = torch.matmul(scores, ones) + torch.matmul(a, z)
        parts.append(normalise(top, bottom))
        S = S + torch.matmul(b.transpose(1, 2), c)
        z = z + torch.matmul(b.transpose(1, 2), ones)
    output = torch.cat(parts, dim=1).reshape(*heads, total, M).to(v.dtype)
    return output, (S.reshape(*heads, D, M), z.reshape(*heads, D))


def linear_attention_step(q, k, v, state=None):
    output, state = causal_linear_attention(q[:, :, None], k[:, :, None], v[:, :, None], chunk_size=1, state=state)
    return output[:, :, 0], state
