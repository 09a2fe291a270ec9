"""In place on its own buffers, with heads folded into the batch and `baddbmm`."""

from __future__ import annotations

import torch
from torch import nn


def causal_mask(queries, keys, device=None):
    mask = torch.ones((queries, keys), dtype=torch.bool, device=device)
    return mask.triu_(keys - queries + 1).logical_not_()


def masked_softmax(logits, mask=None):
    if mask is None:
        hidden = torch.isneginf(logits)
    elif mask.dtype == torch.bool:
        hidden = torch.isneginf(logits) | ~mask
    else:
        logits = logits + mask
        hidden = torch.isneginf(logits)
    # the smallest number stands for -inf: no NaN anywhere, and what it leaves behind is erased
    filled = logits.masked_fill(hidden, torch.finfo(logits.dtype).min)
    return torch.softmax(filled, -1).masked_fill(hidden, 0.0)


def _float(x):
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def attention_weights(query, key, mask=None, causal=False, scale=None):
    q, k = _float(query), _float(key)
    logits = torch.matmul(q, k.transpose(-2, -1))
    logits *= q.size(-1) ** -0.5 if scale is None else scale
    if causal:
        logits.masked_fill_(causal_mask(q.size(-2), k.size(-2), q.device).logical_not(), float("-inf"))
    return masked_softmax(logits, mask)


def dot_product_attention(query, key, value, mask=None, causal=False, scale=None):
    weights = attention_weights(query, key, mask=mask, causal=causal, scale=scale)
    return torch.matmul(weights, _float(value)).to(value.dtype)


@torch.no_grad()
def attention_gradients(upstream, query, key, value, mask=None, causal=False, scale=None):
    weights = attention_weights(query, key, mask=mask, causal=causal, scale=scale)
    up, q, k, v = _float(upstream), _float(query), _float(key), _float(value)
    d_value = weights.transpose(-2, -1) @ up
    d_logits = up @ v.transpose(-2, -1)
    d_logits *= weights
    d_logits -= weights * d_logits.sum(-1, keepdim=True)
    d_logits *= q.size(-1) ** -0.5 if scale is None else scale
    d_query, d_key = d_logits @ k, d_logits.transpose(-2, -1) @ q
    return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)


class MultiHeadAttention(nn.Module):
    def __init__(self, width, heads, context_width=None):
        if width % heads:
            raise ValueError((width, heads))
        super().__init__()
        self.heads, self.width = heads, width
        source = width if context_width is None else context_width
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source, width)
        self.value = nn.Linear(source, width)
        self.output = nn.Linear(width, width)

    def _split(self, x):
        batch, length, _ = x.shape
        return x.view(batch, length, self.heads, self.width // self.heads).permute(0, 2, 1, 3)

    def forward(self, x, context=None, mask=None, causal=False):
        if context is None:
            context = x
        q, k, v = self._split(self.query(x)), self._split(self.key(context)), self._split(self.value(context))
        out = dot_product_attention(q, k, v, mask, causal)
        return self.output(out.permute(0, 2, 1, 3).contiguous().view(x.shape))
