"""Einsums throughout; one additive bias holds every mask, and the softmax is written out."""

from __future__ import annotations

import math

import torch
import torch.nn as nn


def causal_mask(queries, keys, device=None):
    i = torch.arange(queries, device=device)[:, None]
    j = torch.arange(keys, device=device)[None, :]
    return j <= i + (keys - queries)


def _bias(mask, like):
    if mask.dtype == torch.bool:
        return torch.where(mask, 0.0, -torch.inf).to(like.dtype)
    return mask.to(like.dtype)


def masked_softmax(logits, mask=None):
    if mask is not None:
        logits = logits + _bias(mask, logits)
    top = logits.detach().amax(dim=-1, keepdim=True)
    top = torch.where(top == -torch.inf, 0.0, top)
    e = torch.exp(logits - top)
    total = e.sum(-1, keepdim=True)
    return e / torch.where(total == 0, 1.0, total)


def _up(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def attention_weights(query, key, mask=None, causal=False, scale=None):
    q, k = _up(query), _up(key)
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    logits = torch.einsum("...id,...jd->...ij", q, k) * scale
    if causal:
        logits = logits + _bias(causal_mask(q.shape[-2], k.shape[-2], q.device), logits)
    return masked_softmax(logits, mask)


def dot_product_attention(query, key, value, mask=None, causal=False, scale=None):
    weights = attention_weights(query, key, mask, causal, scale)
    return torch.einsum("...ij,...jm->...im", weights, _up(value)).to(value.dtype)


@torch.no_grad()
def attention_gradients(upstream, query, key, value, mask=None, causal=False, scale=None):
    P = attention_weights(query, key, mask, causal, scale)
    q, k, v, dO = map(_up, (query, key, value, upstream))
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    dP = torch.einsum("...im,...jm->...ij", dO, v)
    O = torch.einsum("...ij,...jm->...im", P, v)
    delta = torch.einsum("...im,...im->...i", dO, O)
    dS = P * (dP - delta[..., None]) * scale
    return (
        torch.einsum("...ij,...jd->...id", dS, k).to(query.dtype),
        torch.einsum("...ij,...id->...jd", dS, q).to(key.dtype),
        torch.einsum("...ij,...im->...jm", P, dO).to(value.dtype),
    )


class MultiHeadAttention(nn.Module):
    def __init__(self, width, heads, context_width=None):
        super().__init__()
        if width % heads != 0:
            raise ValueError("heads must divide width")
        self.heads = heads
        c = context_width or width
        self.query, self.key = nn.Linear(width, width), nn.Linear(c, width)
        self.value, self.output = nn.Linear(c, width), nn.Linear(width, width)

    def project(self, layer, x):
        weight = layer.weight.view(self.heads, -1, layer.in_features)
        return torch.einsum("bte,hde->bhtd", x, weight) + layer.bias.view(self.heads, 1, -1)

    def forward(self, x, context=None, mask=None, causal=False):
        context = x if context is None else context
        q, k, v = self.project(self.query, x), self.project(self.key, context), self.project(self.value, context)
        heads = dot_product_attention(q, k, v, mask=mask, causal=causal)
        weight = self.output.weight.view(-1, self.heads, heads.shape[-1])
        return torch.einsum("bhtd,ehd->bte", heads, weight) + self.output.bias
