"""Einstein sums, gates kept from the forward pass, and weight gradients as sums over all steps at once."""

from __future__ import annotations

import torch


def rnn_cell(a, state, W_hh, b_hh):
    return ((a + torch.einsum("bh,gh->bg", state[0], W_hh) + b_hh).tanh(),)


def _gates(s):
    size = s.shape[-1] // 4
    return (
        s[..., :size].sigmoid(),
        s[..., size : 2 * size].sigmoid(),
        s[..., 2 * size : -size].tanh(),
        s[..., -size:].sigmoid(),
    )


def lstm_cell(a, state, W_hh, b_hh):
    i, f, g, o = _gates(a + torch.einsum("bh,gh->bg", state[0], W_hh) + b_hh)
    c = f * state[1] + i * g
    return o * torch.tanh(c), c


def gru_cell(a, state, W_hh, b_hh):
    h = state[0]
    size = h.shape[1]
    u = torch.einsum("bh,gh->bg", h, W_hh) + b_hh
    r, z = torch.sigmoid(a[:, : 2 * size] + u[:, : 2 * size]).split(size, dim=1)
    n = torch.tanh(a[:, 2 * size :] + r * u[:, 2 * size :])
    return (n + z * (h - n),)


def layer(cell, x, weights, state):
    W_ih, W_hh, b_ih, b_hh = weights
    a = torch.einsum("tbd,gd->tbg", x, W_ih) + b_ih
    outputs = []
    for t in range(x.shape[0]):
        state = cell(a[t], state, W_hh, b_hh)
        outputs.append(state[0])
    return torch.stack(outputs, 0), state


def lstm_backward(x, weights, state, d_outputs, d_state):
    W_ih, W_hh, b_ih, b_hh = weights
    a = torch.einsum("tbd,gd->tbg", x, W_ih) + b_ih
    h, c = state
    kept = []
    for t in range(len(x)):
        i, f, g, o = _gates(a[t] + torch.einsum("bh,gh->bg", h, W_hh) + b_hh)
        before = h, c
        c = f * c + i * g
        th = c.tanh()
        h = o * th
        kept.append((*before, i, f, g, o, th))
    dh, dc = d_state
    slopes = [None] * len(x)
    for t in range(len(x) - 1, -1, -1):
        _, c_before, i, f, g, o, th = kept[t]
        dh = dh + d_outputs[t]
        dc = dc + dh * o * (1 - th * th)
        slopes[t] = torch.cat(
            (dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * th * o * (1 - o)), 1
        )
        dh = torch.einsum("bg,gh->bh", slopes[t], W_hh)
        dc = dc * f
    s = torch.stack(slopes)
    before = torch.stack([step[0] for step in kept])
    return (
        torch.einsum("tbg,gd->tbd", s, W_ih),
        (
            torch.einsum("tbg,tbd->gd", s, x),
            torch.einsum("tbg,tbh->gh", s, before),
            torch.einsum("tbg->g", s),
            torch.einsum("tbg->g", s),
        ),
        (dh, dc),
    )


def truncated_bptt(cell, x, weights, state, window, loss):
    total = 0
    for start in range(0, x.shape[0], window):
        state = tuple(s.detach() for s in state)
        outputs, state = layer(cell, x[start : start + window], weights, state)
        piece = loss(outputs, start)
        piece.backward()
        total = total + piece.detach()
    return total, tuple(s.detach() for s in state)


def gradient_norms(h, W_hh, upstream):
    T = len(h)
    gradients = [upstream]
    for t in range(T - 1, 0, -1):
        gradients.insert(0, torch.einsum("bh,hk->bk", gradients[0] * (1 - h[t].square()), W_hh))
    return torch.stack(gradients).square().sum(-1).sqrt()
