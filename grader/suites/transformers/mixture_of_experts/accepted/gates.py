"""A sparse matrix of gates, zero where an expert is not selected; experts read their column of it."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import nn


class SwiGLU(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))


HALVES = {torch.bfloat16, torch.float16}


def route(logits, k, bias=None, renormalise=True):
    z = logits.float() if logits.dtype in HALVES else logits
    z = z - z.max(dim=-1, keepdim=True).values.detach()
    p = z.exp() / z.exp().sum(dim=-1, keepdim=True)
    experts = (p if bias is None else bias[None] + p).argsort(dim=-1, descending=True)[:, :k]
    if renormalise:
        keep = torch.zeros_like(z, dtype=torch.bool).scatter(1, experts, True)
        p = z.masked_fill(~keep, float("-inf")).softmax(dim=-1)
    return p.gather(1, experts), experts


def dispatch(experts, num_experts):
    flat = experts.contiguous().view(-1)
    load = flat.new_zeros(num_experts).scatter_add_(0, flat, torch.ones_like(flat))
    key = flat * flat.numel() + torch.arange(flat.numel(), device=flat.device)
    return key.argsort(), load


def mixture(x, weights, experts, functions):
    k = experts.shape[1]
    gates = weights.new_zeros(x.shape[0], len(functions)).scatter(1, experts, weights)
    slots, load = dispatch(experts, len(functions))
    ends = list(accumulate(load.tolist()))
    y = 0 * (x.float() if x.dtype in HALVES else x)
    for i, (start, end) in enumerate(zip([0, *ends], ends)):
        if start < end:
            t = slots[start:end] // k
            result = functions[i](x[t])
            result = result.float() if result.dtype in HALVES else result
            y = y.index_put((t,), gates[t, i, None] * result, accumulate=True)
    return y


def load_balance_loss(logits, experts, mask=None):
    z = logits.float() if logits.dtype in HALVES else logits
    if mask is not None and not mask.any():
        return 0 * z.sum()
    total = 0
    for layer in range(len(z)):
        p, e = z[layer].softmax(dim=-1), experts[layer]
        if mask is not None:
            p, e = p[mask], e[mask]
        n = z.shape[2]
        f = (e[..., None] == torch.arange(n, device=e.device)).to(p.dtype).mean(dim=(0, 1))
        total = total + n * (f * p.mean(dim=0)).sum()
    return total / len(z)


def update_bias(bias, load, rate=1e-3):
    error = load.to(torch.float64).mean() - load.to(torch.float64)
    return bias + (rate * torch.sign(error)).to(bias.dtype)


class MixtureOfExperts(nn.Module):
    def __init__(self, width, hidden, num_experts, k, num_shared=0, renormalise=True):
        super().__init__()
        if num_experts < k:
            raise ValueError(f"cannot choose {k} of {num_experts}")
        self.router = nn.Linear(width, num_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(width, hidden) for _ in range(num_experts))
        if num_shared:
            self.shared = SwiGLU(width, num_shared * hidden)
        self.register_buffer("bias", torch.zeros(num_experts))
        self.options = dict(k=k, renormalise=renormalise)

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        high = torch.float32 if x.dtype in HALVES else x.dtype
        logits = tokens.to(high) @ self.router.weight.to(high).t()
        weights, experts = route(logits, bias=self.bias, **self.options)
        y = mixture(tokens, weights, experts, list(self.experts))
        if hasattr(self, "shared"):
            y = y + self.shared(tokens)
        return y.to(x.dtype).reshape_as(x), logits, experts
