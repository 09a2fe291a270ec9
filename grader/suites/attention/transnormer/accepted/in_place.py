"""In-place steps on tensors of its own, features and heads packed together, weights of the softmax by logsumexp."""

import torch
from torch import nn


def feature_map(x):
    return torch.where(x > 0, 1 + x, x.clamp(max=0).exp())


def score_gradient(scores, upstream):
    inverse = scores.sum(dim=-1, keepdim=True).reciprocal()
    mean = torch.linalg.vecdot(scores * inverse, upstream).unsqueeze(-1)
    return (upstream - mean).mul_(inverse)


def steepest_slope(scores, exponential=False):
    if exponential:
        p = (scores - scores.logsumexp(dim=-1, keepdim=True)).exp_()
        return p.mul_(1 - p).amax(dim=-1)
    inverse = scores.sum(dim=-1, keepdim=True).reciprocal()
    return (scores * inverse).neg_().add_(1).mul_(inverse).amax(dim=-1)


def rms_norm(x, eps=1e-6):
    y = x.double() if x.dtype == torch.float64 else x.float()
    size = y.shape[-1]
    root = (y.pow(2).sum(dim=-1, keepdim=True) + size * eps).sqrt()
    return (y * size**0.5 / root).type_as(x)


def norm_attention(q, k, v, causal=False, chunk_size=64, eps=1e-6):
    result_type = v.dtype
    if result_type != torch.float64:
        q, k, v = q.float(), k.float(), v.float()
    batch, heads, length, values = v.shape
    q = feature_map(q).flatten(0, 1)
    k = feature_map(k).flatten(0, 1)
    v = v.flatten(0, 1)
    if causal:
        parts = []
        total = torch.zeros_like(torch.bmm(k[:, :1].mT, v[:, :1]))
        for first in range(0, length, chunk_size):
            queries, keys, rows = (x[:, first : first + chunk_size] for x in (q, k, v))
            inside = torch.bmm(queries, keys.mT).tril_()
            parts.append(torch.baddbmm(torch.bmm(queries, total), inside, rows))
            total = torch.baddbmm(total, keys.mT, rows)
        sums = torch.cat(parts, dim=1)
    else:
        sums = torch.bmm(q, torch.bmm(k.mT, v))
    sums = sums.reshape(batch, heads, length, values).movedim(1, 2)
    return rms_norm(sums.reshape(batch, length, heads * values), eps).to(result_type)


def diag_attention(q, k, v, size, causal=False):
    result_type = v.dtype
    if result_type != torch.float64:
        q, k, v = q.float(), k.float(), v.float()
    batch, heads, length, values = v.shape
    size = min(size, length)
    count = (length + size - 1) // size
    more = count * size - length
    q, k, v = (nn.functional.pad(x, (0, 0, 0, more)).reshape(batch, heads, count, size, -1) for x in (q, k, v))
    logits = torch.einsum("bhnid,bhnjd->bhnij", q * q.shape[-1] ** -0.5, k)
    place = torch.arange(count * size, device=q.device).reshape(count, size)
    seen = (place < length)[:, None, :].expand(count, size, size)
    if causal:
        seen = seen & (place[:, None, :] <= place[:, :, None])
    logits = torch.where(seen, logits, torch.finfo(logits.dtype).min)
    p = (logits - logits.logsumexp(dim=-1, keepdim=True)).exp()
    outputs = torch.einsum("bhnij,bhnjm->bnihm", p, v).reshape(batch, count * size, heads * values)
    return outputs[:, :length].to(result_type)


class TransNormerLayer(nn.Module):
    def __init__(self, width, heads, hidden, size=None):
        super().__init__()
        shapes = {"query": (width, width), "key": (width, width), "value": (width, width), "output": (width, width)}
        shapes.update(gate=(width, hidden), up=(width, hidden), down=(hidden, width))
        for name, (inputs, outputs) in shapes.items():
            self.add_module(name, nn.Linear(inputs, outputs, bias=False))
        self.heads = heads
        self.size = size

    def forward(self, x, causal=False):
        y = rms_norm(x)
        q, k, v = (
            torch.stack(projection(y).chunk(self.heads, dim=-1), dim=1)
            for projection in (self.query, self.key, self.value)
        )
        if self.size is None:
            out = norm_attention(q, k, v, causal=causal)
        else:
            out = diag_attention(q, k, v, self.size, causal=causal)
        x = self.output(out).add_(x)
        y = rms_norm(x)
        return torch.add(x, self.down(nn.SiLU()(self.gate(y)).mul(self.up(y))))


class TransNormer(nn.Module):
    def __init__(self, width, heads, hidden, diag, norm, size=64):
        super().__init__()
        self.layers = nn.ModuleList([TransNormerLayer(width, heads, hidden, size) for _ in range(diag)])
        self.layers.extend(TransNormerLayer(width, heads, hidden) for _ in range(norm))

    def forward(self, x, causal=False):
        for layer in self.layers:
            x = layer(x, causal)
        return x
