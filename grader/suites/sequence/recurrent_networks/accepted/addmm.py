"""Fused multiply-adds, preallocated results that are written in place where no graph is needed."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def rnn_cell(a, state, W_hh, b_hh):
    return (torch.addmm(a + b_hh, state[0], W_hh.t()).tanh_(),)


def lstm_cell(a, state, W_hh, b_hh):
    h, c = state
    s = torch.addmm(a + b_hh, h, W_hh.t())
    H = h.size(1)
    i, f, g, o = s.split(H, 1)
    c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
    return o.sigmoid() * c.tanh(), c


def gru_cell(a, state, W_hh, b_hh):
    (h,) = state
    H = h.size(1)
    u = F.linear(h, W_hh, b_hh)
    gates = torch.sigmoid(a.narrow(1, 0, 2 * H) + u.narrow(1, 0, 2 * H))
    n = torch.tanh(torch.addcmul(a.narrow(1, 2 * H, H), gates.narrow(1, 0, H), u.narrow(1, 2 * H, H)))
    return (torch.lerp(n, h, gates.narrow(1, H, H)),)


def layer(cell, x, weights, state):
    W_ih, W_hh, b_ih, b_hh = weights
    T, B, D = x.shape
    a = torch.addmm(b_ih, x.reshape(T * B, D), W_ih.t()).view(T, B, -1)
    rows = []
    for step in a.unbind(0):
        state = cell(step, state, W_hh, b_hh)
        rows.append(state[0].unsqueeze(0))
    return torch.cat(rows), tuple(state)


def lstm_backward(x, weights, state, d_outputs, d_state):
    W_ih, W_hh, b_ih, b_hh = weights
    T, B, D = x.shape
    H = W_hh.size(1)
    s = torch.addmm(b_ih + b_hh, x.reshape(T * B, D), W_ih.t()).view(T, B, 4 * H)
    h = x.new_empty(T + 1, B, H)
    c = x.new_empty(T + 1, B, H)
    h[0], c[0] = state
    for t in range(T):
        s[t].addmm_(h[t], W_hh.t())
        s[t, :, : 2 * H].sigmoid_()
        s[t, :, 2 * H : 3 * H].tanh_()
        s[t, :, 3 * H :].sigmoid_()
        i, f, g, o = s[t].split(H, 1)
        torch.addcmul(f * c[t], i, g, out=c[t + 1])
        torch.mul(o, c[t + 1].tanh(), out=h[t + 1])
    d = torch.empty_like(s)
    dh, dc = d_state[0].clone(), d_state[1].clone()
    for t in range(T - 1, -1, -1):
        i, f, g, o = s[t].split(H, 1)
        th = c[t + 1].tanh()
        dh += d_outputs[t]
        dc += dh * o * (1 - th.square())
        d[t, :, :H] = dc * g * i * (1 - i)
        d[t, :, H : 2 * H] = dc * c[t] * f * (1 - f)
        d[t, :, 2 * H : 3 * H] = dc * i * (1 - g.square())
        d[t, :, 3 * H :] = dh * th * o * (1 - o)
        torch.mm(d[t], W_hh, out=dh)
        dc *= f
    flat = d.view(T * B, 4 * H)
    bias = flat.sum(0)
    dW_ih, dW_hh = flat.t() @ x.reshape(T * B, D), flat.t() @ h[:-1].reshape(T * B, H)
    return (flat @ W_ih).view(T, B, D), (dW_ih, dW_hh, bias, bias), (dh, dc)


def truncated_bptt(cell, x, weights, state, window, loss):
    total = torch.zeros((), dtype=x.dtype)
    start = 0
    for part in x.split(window):
        outputs, state = layer(cell, part, weights, state)
        value = loss(outputs, start)
        gradients = torch.autograd.grad(value, weights)
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w.grad = g if w.grad is None else w.grad + g
            total += value
        state = tuple(s.detach().clone() for s in state)
        start += len(part)
    return total, state


def gradient_norms(h, W_hh, upstream):
    out = h.new_empty(h.shape[:2])
    g = upstream.clone()
    for t in range(h.size(0) - 1, -1, -1):
        out[t] = torch.linalg.vector_norm(g, dim=1)
        if t:
            g = torch.mm(g - g * h[t] * h[t], W_hh)
    return out
