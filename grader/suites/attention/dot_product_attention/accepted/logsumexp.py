"""Weights as exp(logits - logsumexp), and one boolean mask for everything that is hidden."""

import torch


def causal_mask(queries, keys, device=None):
    last = torch.arange(keys - queries, keys, device=device)
    return torch.arange(keys, device=device).expand(queries, keys) <= last.unsqueeze(1)


def masked_softmax(logits, mask=None):
    if mask is not None:
        logits = torch.where(mask, logits, float("-inf")) if mask.dtype is torch.bool else logits + mask
    seen = logits > float("-inf")
    some = seen.any(-1, keepdim=True)
    safe = torch.where(some, logits, 0)
    return torch.where(seen, (safe - safe.logsumexp(-1, True)).exp(), 0)


def compute_type(x):
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def attention_weights(query, key, mask=None, causal=False, scale=None):
    kind = compute_type(query)
    if scale is None:
        scale = query.size(-1) ** -0.5
    logits = query.to(kind) @ (key.to(kind) * scale).transpose(-1, -2)
    if causal:
        logits = torch.where(causal_mask(*logits.shape[-2:], logits.device), logits, float("-inf"))
    return masked_softmax(logits, mask)


def dot_product_attention(query, key, value, mask=None, causal=False, scale=None):
    out = attention_weights(query, key, mask, causal, scale) @ value.to(compute_type(value))
    return out.to(value.dtype)


@torch.no_grad()
def attention_gradients(upstream, query, key, value, mask=None, causal=False, scale=None):
    kind = compute_type(value)
    p = attention_weights(query, key, mask, causal, scale)
    g = upstream.to(kind)
    if scale is None:
        scale = query.size(-1) ** -0.5
    dp = g @ value.to(kind).transpose(-1, -2)
    ds = p * dp
    ds = (ds - p * ds.sum(-1, True)) * scale
    result = ds @ key.to(kind), ds.transpose(-1, -2) @ query.to(kind), p.transpose(-1, -2) @ g
    return tuple(r.to(x.dtype) for r, x in zip(result, (query, key, value)))


class MultiHeadAttention(torch.nn.Module):
    def __init__(self, width, heads, context_width=None):
        super().__init__()
        size, rest = divmod(width, heads)
        if rest:
            raise ValueError("width is not a multiple of heads")
        self.shape = heads, size
        inputs = {"query": width, "key": context_width or width, "value": context_width or width, "output": width}
        for name, size in inputs.items():
            self.add_module(name, torch.nn.Linear(size, width))

    def forward(self, x, context=None, mask=None, causal=False):
        y = x if context is None else context
        q, k, v = (
            layer(z).reshape(*z.shape[:2], *self.shape).swapaxes(1, 2)
            for layer, z in ((self.query, x), (self.key, y), (self.value, y))
        )
        o = dot_product_attention(q, k, v, mask, causal).swapaxes(1, 2)
        return self.output(o.reshape(*x.shape[:2], -1))
