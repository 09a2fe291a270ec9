"""Written as for NumPy: slices of a result made beforehand, softmax by hand, slopes as the larger of two cases."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def feature_map(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, torch.exp(torch.minimum(x, torch.zeros(()))))


def score_gradient(scores: Tensor, upstream: Tensor) -> Tensor:
    total = torch.sum(scores, -1, keepdim=True)
    p = torch.divide(scores, total)
    centred = upstream - torch.sum(p * upstream, -1, keepdim=True)
    return torch.divide(centred, total)


def steepest_slope(scores: Tensor, exponential: bool = False) -> Tensor:
    if scores.shape[-1] == 1:
        return torch.zeros_like(scores[..., 0])
    if exponential:
        e = torch.exp(scores - torch.amax(scores, -1, keepdim=True))
        p = e / torch.sum(e, -1, keepdim=True)
        diagonal = torch.amax(p * (1 - p), -1)
        top = torch.topk(p, 2, dim=-1).values
        return torch.maximum(diagonal, top[..., 0] * top[..., 1])
    total = torch.sum(scores, -1)
    diagonal = (total - torch.amin(scores, -1)) / total
    beside = torch.amax(scores, -1) / total
    return torch.maximum(diagonal, beside) / total


def rms_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    full = x.to(torch.promote_types(x.dtype, torch.float32))
    mean_square = torch.mean(full * full, -1, keepdim=True)
    return (full * (mean_square + eps) ** -0.5).to(x.dtype)


def _promoted(*tensors: Tensor) -> list[Tensor]:
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def norm_attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, chunk_size: int = 64, eps: float = 1e-6
) -> Tensor:
    Q, K, V = _promoted(q, k, v)
    Q, K = feature_map(Q), feature_map(K)
    B, H, T, D = Q.shape
    M = V.shape[-1]
    result = torch.zeros(B, T, H, M, dtype=V.dtype, device=V.device)
    if causal:
        state = torch.zeros(B, H, D, M, dtype=V.dtype, device=V.device)
        for start in range(0, T, chunk_size):
            part = slice(start, min(start + chunk_size, T))
            scores = torch.tril(torch.matmul(Q[:, :, part], K[:, :, part].transpose(-1, -2)))
            sums = torch.matmul(scores, V[:, :, part]) + torch.matmul(Q[:, :, part], state)
            result[:, part] = sums.transpose(1, 2)
            state = state + torch.matmul(K[:, :, part].transpose(-1, -2), V[:, :, part])
    else:
        result[:] = torch.matmul(Q, torch.matmul(K.transpose(-1, -2), V)).transpose(1, 2)
    return rms_norm(result.reshape(B, T, H * M), eps).to(v.dtype)


def diag_attention(q: Tensor, k: Tensor, v: Tensor, size: int, causal: bool = False) -> Tensor:
    B, H, T, D = q.shape
    M = v.shape[-1]
    w = size if size < T else T
    N = math.ceil(T / w)
    blocks = []
    for x in _promoted(q, k, v):
        filled = torch.zeros(B, H, N * w, x.shape[-1], dtype=x.dtype, device=x.device)
        filled[:, :, :T] = x
        blocks.append(filled.reshape(B, H, N, w, x.shape[-1]))
    Q, K, V = blocks
    logits = torch.matmul(Q, K.transpose(-1, -2)) / math.sqrt(D)
    hidden = torch.zeros(N, w, w, dtype=torch.bool, device=q.device)
    if N * w > T:
        hidden[-1, :, T - N * w :] = True
    if causal:
        hidden |= torch.triu(torch.ones(w, w, dtype=torch.bool, device=q.device), 1)
    logits = logits.masked_fill(hidden, float("-inf"))
    e = torch.exp(logits - torch.amax(logits, -1, keepdim=True).detach())
    p = e / torch.sum(e, -1, keepdim=True)
    out = torch.matmul(p, V).reshape(B, H, N * w, M)[:, :, :T]
    return out.transpose(1, 2).reshape(B, T, H * M).to(v.dtype)


class TransNormerLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, size: int | None = None) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, hidden, False) for _ in range(2))
        self.down = nn.Linear(hidden, width, False)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        normed = rms_norm(x)
        q, k, v = self._heads(self.query(normed)), self._heads(self.key(normed)), self._heads(self.value(normed))
        if self.size is not None:
            attended = diag_attention(q, k, v, self.size, causal=causal)
        else:
            attended = norm_attention(q, k, v, causal=causal)
        middle = x + self.output(attended)
        normed = rms_norm(middle)
        gate = self.gate(normed)
        return middle + self.down(gate / (1 + torch.exp(-gate)) * self.up(normed))


class TransNormer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, diag: int, norm: int, size: int = 64) -> None:
        super().__init__()
        below = [TransNormerLayer(width, heads, hidden, size) for _ in range(diag)]
        above = [TransNormerLayer(width, heads, hidden) for _ in range(norm)]
        self.layers = nn.ModuleList(below + above)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        for layer in self.layers:
            x = layer(x, causal)
        return x
