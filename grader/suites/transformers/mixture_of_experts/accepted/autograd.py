"""The gather and the scatter as one pair of autograd functions, each the other's backward; the loss by matrix products."""

from __future__ import annotations

import torch
from torch import nn


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Permute(torch.autograd.Function):
    """Rows of tokens, repeated and sorted."""

    @staticmethod
    def forward(ctx, x, tokens):
        ctx.save_for_backward(tokens)
        ctx.rows = x.shape[0]
        return x.index_select(0, tokens)

    @staticmethod
    def backward(ctx, d):
        (tokens,) = ctx.saved_tensors
        return d.new_zeros(ctx.rows, d.shape[1]).index_add_(0, tokens, d), None


class Unpermute(torch.autograd.Function):
    """Rows added up, token by token."""

    @staticmethod
    def forward(ctx, rows, tokens, count):
        ctx.save_for_backward(tokens)
        return rows.new_zeros(count, rows.shape[1]).index_add_(0, tokens, rows)

    @staticmethod
    def backward(ctx, d):
        (tokens,) = ctx.saved_tensors
        return d.index_select(0, tokens), None, None


def promoted(x):
    return x.to(torch.promote_types(torch.float32, x.dtype))


def route(logits, k, bias=None, renormalise=True):
    logits = promoted(logits)
    p = torch.softmax(logits, -1)
    ranking = p.detach() if bias is None else p.detach() + bias
    experts = torch.topk(ranking, k).indices
    rows = torch.arange(len(logits), device=logits.device).unsqueeze(1)
    return (torch.softmax(logits[rows, experts], -1) if renormalise else p[rows, experts]), experts


def dispatch(experts, num_experts):
    flat = experts.ravel()
    return torch.argsort(flat, stable=True), torch.histc(flat.double(), num_experts, 0, num_experts).long()


def mixture(x, weights, experts, functions):
    slots, load = dispatch(experts, len(functions))
    tokens = slots // experts.size(1)
    rows = list(torch.split(Permute.apply(x, tokens), load.tolist()))
    rows = [f(r) if r.size(0) else r for f, r in zip(functions, rows)]
    rows = promoted(torch.cat(rows, 0))
    return Unpermute.apply(rows * weights.reshape(-1, 1)[slots], tokens, x.size(0))


def load_balance_loss(logits, experts, mask=None):
    logits = promoted(logits)
    if mask is not None:
        index = mask.nonzero().ravel()
        logits, experts = logits.index_select(1, index), experts.index_select(1, index)
    L, T, E = logits.shape
    if T == 0:
        return logits.sum()
    picked = torch.zeros_like(logits).scatter_(2, experts, 1.0).detach()
    f = picked.mean(1) / experts.size(2)
    P = torch.softmax(logits, 2).mean(1)
    return E * (f.unsqueeze(1) @ P.unsqueeze(2)).mean()


def update_bias(bias, load, rate=1e-3):
    return bias - rate * torch.sign(load - load.double().mean()).to(bias)


class MixtureOfExperts(nn.Module):
    def __init__(self, width, hidden, num_experts, k, num_shared=0, renormalise=True):
        if k > num_experts:
            raise ValueError("too many")
        super().__init__()
        self.register_buffer("bias", torch.zeros(num_experts))
        self.k = k
        self.renormalise = renormalise
        self.shared = SwiGLU(width, hidden * num_shared) if num_shared > 0 else None
        self.experts = nn.ModuleList([SwiGLU(width, hidden) for i in range(num_experts)])
        self.router = nn.Linear(width, num_experts, bias=False)

    def forward(self, x):
        batch, time, width = x.shape
        x = x.reshape(batch * time, width)
        logits = nn.functional.linear(promoted(x), promoted(self.router.weight))
        weights, experts = route(logits, self.k, self.bias, self.renormalise)
        y = mixture(x, weights, experts, self.experts)
        if self.shared:
            y += promoted(self.shared(x))
        return y.to(x.dtype).unflatten(0, (batch, time)), logits, experts
