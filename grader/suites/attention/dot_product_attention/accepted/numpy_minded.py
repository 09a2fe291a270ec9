"""Everything multiplied by zeros and ones, as in numpy, and the modules' weights used as matrices."""

from __future__ import annotations

import numpy as np
import torch


def causal_mask(queries, keys, device=None):
    return torch.from_numpy(np.tri(queries, keys, keys - queries, dtype=bool)).to(device)


def masked_softmax(logits, mask=None):
    if mask is None:
        keep = torch.ones_like(logits, dtype=torch.bool)
    elif mask.dtype == torch.bool:
        keep = torch.broadcast_to(mask, logits.shape)
    else:
        logits = logits + mask
        keep = torch.ones_like(logits, dtype=torch.bool)
    keep = keep & (logits != -np.inf)
    low = torch.where(keep, logits, logits.new_tensor(-np.inf)).max(dim=-1, keepdim=True).values
    low = torch.nan_to_num(low.detach(), neginf=0.0)
    shifted = torch.where(keep, logits - low, torch.zeros_like(logits))
    e = keep.to(logits.dtype) * torch.exp(shifted)
    total = torch.sum(e, dim=-1, keepdim=True)
    return e / (total + (total == 0).to(total.dtype))


def _up(x):
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def attention_weights(query, key, mask=None, causal=False, scale=None):
    query, key = _up(query), _up(key)
    D, Tq, Tk = query.shape[-1], query.shape[-2], key.shape[-2]
    logits = torch.matmul(query, torch.swapaxes(key, -1, -2))
    logits = logits / np.sqrt(D) if scale is None else logits * scale
    if causal:
        hidden = ~causal_mask(Tq, Tk, query.device)
        logits = logits.masked_fill(hidden, -np.inf)
    return masked_softmax(logits, mask)


def dot_product_attention(query, key, value, mask=None, causal=False, scale=None):
    return torch.matmul(attention_weights(query, key, mask, causal, scale), _up(value)).type(value.dtype)


def attention_gradients(upstream, query, key, value, mask=None, causal=False, scale=None):
    with torch.no_grad():
        P = attention_weights(query, key, mask, causal, scale)
        Q, K, V, G = _up(query), _up(key), _up(value), _up(upstream)
        factor = 1 / np.sqrt(Q.shape[-1]) if scale is None else scale
        dP = G @ torch.swapaxes(V, -1, -2)
        rows = torch.sum(P * dP, dim=-1, keepdim=True)
        dS = P * (dP - rows)
        dQ = factor * (dS @ K)
        dK = factor * (torch.swapaxes(dS, -1, -2) @ Q)
        dV = torch.swapaxes(P, -1, -2) @ G
    return dQ.type(query.dtype), dK.type(key.dtype), dV.type(value.dtype)


class MultiHeadAttention(torch.nn.Module):
    def __init__(self, width, heads, context_width=None):
        super().__init__()
        if width // heads * heads != width:
            raise ValueError("width must be a multiple of heads")
        self.heads = heads
        if context_width is None:
            context_width = width
        self.query = torch.nn.Linear(width, width)
        self.key = torch.nn.Linear(context_width, width)
        self.value = torch.nn.Linear(context_width, width)
        self.output = torch.nn.Linear(width, width)

    def forward(self, x, context=None, mask=None, causal=False):
        if context is None:
            context = x
        B, Tq, E = x.shape
        Tk = context.shape[1]
        D = E // self.heads
        Q = (x @ self.query.weight.T + self.query.bias).reshape(B, Tq, self.heads, D)
        K = (context @ self.key.weight.T + self.key.bias).reshape(B, Tk, self.heads, D)
        V = (context @ self.value.weight.T + self.value.bias).reshape(B, Tk, self.heads, D)
        O = dot_product_attention(Q.movedim(2, 1), K.movedim(2, 1), V.movedim(2, 1), mask, causal)
        return O.movedim(1, 2).reshape(B, Tq, E) @ self.output.weight.T + self.output.bias
