"""Sort, compute, undo the sort with the inverse permutation, and contract over the choices with einsum."""

from __future__ import annotations

import torch
from torch import nn


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x))"""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.gate(x)
        return self.down(gate * torch.sigmoid(gate) * self.up(x))


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def route(logits, k, bias=None, renormalise=True):
    log_p = torch.log_softmax(logits.to(_precise(logits.dtype)), dim=-1)
    score = log_p.exp() + (0 if bias is None else bias)
    experts = score.sort(dim=-1, descending=True)[1][..., :k]
    chosen = torch.take_along_dim(log_p, experts, dim=-1)
    if renormalise:
        chosen = chosen - chosen.logsumexp(dim=-1, keepdim=True)
    return chosen.exp(), experts


def dispatch(experts, num_experts):
    numbers, slots = torch.sort(experts.reshape(-1), stable=True)
    edges = torch.searchsorted(numbers, torch.arange(num_experts + 1, device=experts.device))
    return slots, edges.diff()


def mixture(x, weights, experts, functions):
    T, k = experts.shape
    slots, load = dispatch(experts, len(functions))
    inverse = torch.empty_like(slots)
    inverse[slots] = torch.arange(T * k, device=x.device)
    rows = x.index_select(0, torch.div(slots, k, rounding_mode="floor"))
    out, start = [], 0
    for function, n in zip(functions, load.tolist()):
        out.append(function(rows[start : start + n]))
        start += n
    y = torch.cat(out).to(_precise(x.dtype))[inverse].reshape(T, k, -1)
    return torch.einsum("tk,tkd->td", weights.to(y.dtype), y)


def load_balance_loss(logits, experts, mask=None):
    L, T, E = logits.shape
    k = experts.shape[-1]
    z = logits.to(_precise(logits.dtype))
    z = z if mask is None else torch.where(mask[:, None], z, 0)
    real = torch.ones(T, dtype=z.dtype, device=z.device) if mask is None else mask.to(z.dtype)
    n = real.sum()
    if n == 0:
        return (z * 0).sum()
    counts = torch.zeros(L, E, dtype=z.dtype, device=z.device)
    counts.scatter_add_(1, experts.reshape(L, -1), real.repeat_interleave(k).expand(L, -1))
    P = torch.einsum("lte,t->le", z.softmax(-1), real) / n
    return torch.einsum("le,le->", counts / (n * k), P) * E / L


def update_bias(bias, load, rate=1e-3):
    E = load.shape[0]
    crowded = (load * E > load.sum()).to(bias.dtype)
    idle = (load * E < load.sum()).to(bias.dtype)
    return bias + rate * (idle - crowded)


class MixtureOfExperts(nn.Module):
    def __init__(self, width, hidden, num_experts, k, num_shared=0, renormalise=True):
        super().__init__()
        if not k <= num_experts:
            raise ValueError((k, num_experts))
        self.hyper = (k, renormalise)
        self.experts = nn.ModuleList()
        for _ in range(num_experts):
            self.experts.append(SwiGLU(width, hidden))
        self.shared = None if num_shared == 0 else SwiGLU(width, hidden * num_shared)
        self.router = nn.Linear(width, num_experts, bias=False)
        self.register_buffer("bias", torch.zeros(num_experts))

    def forward(self, x):
        k, renormalise = self.hyper
        tokens = x.reshape(-1, x.shape[-1])
        precise = _precise(x.dtype)
        logits = torch.einsum("td,ed->te", tokens.to(precise), self.router.weight.to(precise))
        weights, experts = route(logits, k, bias=self.bias, renormalise=renormalise)
        out = mixture(tokens, weights, experts, self.experts)
        if self.shared is not None:
            out = self.shared(tokens).to(precise) + out
        return out.reshape(x.shape).to(x.dtype), logits, experts
