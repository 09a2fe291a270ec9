"""Functional: projections through F.linear, keys and values of the context in one product, gradients by the outer form."""

import torch
import torch.nn.functional as F
from torch import nn

NEVER = float("-inf")


def causal_mask(queries: int, keys: int, device=None) -> torch.Tensor:
    return ~torch.triu(torch.ones(queries, keys, device=device), diagonal=1 + keys - queries).bool()


def masked_softmax(logits, mask=None):
    if mask is not None:
        if mask.dtype == torch.bool:
            logits = logits.where(mask, NEVER)
        else:
            logits = logits + mask
    blind = logits.amax(-1, keepdim=True) == NEVER
    return F.softmax(logits.where(~blind, 0.0), dim=-1) * ~blind


def attention_weights(query, key, mask=None, causal=False, scale=None):
    dtype = query.dtype if query.dtype.itemsize > 2 else torch.float32
    s = query.shape[-1] ** -0.5 if scale is None else scale
    q, k = query.to(dtype) * s, key.to(dtype)
    logits = q @ k.transpose(-1, -2)
    if causal:
        logits = logits.where(causal_mask(q.shape[-2], k.shape[-2], q.device), NEVER)
    return masked_softmax(logits, mask)


def dot_product_attention(query, key, value, mask=None, causal=False, scale=None):
    w = attention_weights(query, key, mask, causal, scale)
    return (w @ value.to(w.dtype)).to(value.dtype)


@torch.no_grad()
def attention_gradients(upstream, query, key, value, mask=None, causal=False, scale=None):
    w = attention_weights(query, key, mask, causal, scale)
    q, k, v, u = (x.to(w.dtype) for x in (query, key, value, upstream))
    s = q.shape[-1] ** -0.5 if scale is None else scale
    pull = u @ v.mT
    pull = w * (pull - ((w @ v) * u).sum(-1, keepdim=True))
    d_query, d_key, d_value = pull @ k * s, pull.mT @ q * s, w.mT @ u
    return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)


class MultiHeadAttention(nn.Module):
    def __init__(self, width, heads, context_width=None):
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} / {heads}")
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = (nn.Linear(context_width or width, width) for _ in range(2))
        self.heads = heads

    def forward(self, x, context=None, mask=None, causal=False):
        context = x if context is None else context
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        weight = torch.cat([self.key.weight, self.value.weight])
        bias = torch.cat([self.key.bias, self.value.bias])
        both = F.linear(context, weight, bias).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        key, value = both.unbind()
        out = dot_product_attention(query, key, value, mask, causal)
        return self.output(out.transpose(1, 2).flatten(-2))
