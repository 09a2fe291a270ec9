"""One expert after the other: who wants it, what does it say, add it. Weights by division of shifted exponentials."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def up(t):
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


def route(logits, k, bias=None, renormalise=True):
    logits = up(logits)
    p = F.softmax(logits, dim=1)
    with torch.no_grad():
        score = p.clone()
        if bias is not None:
            score += bias
        _, experts = torch.topk(score, k, dim=1)
    if not renormalise:
        return torch.gather(p, 1, experts), experts
    z = torch.gather(logits, 1, experts)
    e = torch.exp(z - z.amax(dim=1, keepdim=True).detach())
    return e / e.sum(dim=1, keepdim=True), experts


def dispatch(experts, num_experts):
    slots, load = [], []
    flat = experts.reshape(-1)
    for i in range(num_experts):
        mine = torch.nonzero(flat == i).squeeze(1)
        slots.append(mine)
        load.append(mine.numel())
    return torch.cat(slots), torch.tensor(load, device=experts.device)


def mixture(x, weights, experts, functions):
    out = torch.zeros_like(up(x))
    for i, function in enumerate(functions):
        token, column = torch.where(experts == i)
        if token.numel() == 0:
            continue
        y = up(function(x[token])) * weights[token, column].unsqueeze(1)
        out = out.index_add(0, token, y)
    return out


def load_balance_loss(logits, experts, mask=None):
    layers, _, E = logits.shape
    if mask is None:
        mask = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    real = mask.to(up(logits).dtype)
    count = real.sum().clamp(min=1)
    losses = []
    for z, chosen in zip(up(logits), experts):
        one_hot = F.one_hot(chosen, E).to(z.dtype).sum(dim=1)
        f = (one_hot * real[:, None]).sum(dim=0) / (count * chosen.shape[1])
        P = torch.softmax(z, dim=1).masked_fill(~mask[:, None], 0).sum(dim=0) / count
        losses.append(E * torch.dot(f, P))
    return torch.stack(losses).mean()


def update_bias(bias, load, rate=1e-3):
    mean = load.double().mean()
    new = bias.clone()
    new[load > mean] -= rate
    new[load < mean] += rate
    return new


class MixtureOfExperts(nn.Module):
    def __init__(self, width, hidden, num_experts, k, num_shared=0, renormalise=True):
        super().__init__()
        if k > num_experts:
            raise ValueError("k is larger than the number of experts")
        self.k = k
        self.renormalise = renormalise
        self.num_shared = num_shared
        self.router = nn.Linear(width, num_experts, bias=False)
        self.experts = nn.ModuleList([SwiGLU(width, hidden) for _ in range(num_experts)])
        if num_shared > 0:
            self.shared = SwiGLU(width, num_shared * hidden)
        self.register_buffer("bias", torch.zeros(num_experts))

    def forward(self, x):
        B, T, D = x.shape
        tokens = x.reshape(B * T, D)
        logits = F.linear(up(tokens), up(self.router.weight))
        weights, experts = route(logits, self.k, self.bias, self.renormalise)
        y = mixture(tokens, weights, experts, self.experts)
        if self.num_shared > 0:
            y = y + up(self.shared(tokens))
        return y.to(x.dtype).reshape(B, T, D), logits, experts
