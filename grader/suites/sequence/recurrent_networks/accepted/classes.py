"""A small tape in a class, weights joined into one matrix for the backward pass, recursion over windows."""

from __future__ import annotations

import torch


def rnn_cell(a, state, W_hh, b_hh):
    h = state[0]
    return (torch.tanh(torch.nn.functional.linear(h, W_hh, b_hh).add(a)),)


def lstm_cell(a, state, W_hh, b_hh):
    h, c, _ = LongShort.forward(torch.nn.functional.linear(state[0], W_hh, b_hh) + a, state[1])
    return h, c


def gru_cell(a, state, W_hh, b_hh):
    h = state[0]
    B, H = h.shape
    a, u = a.reshape(B, 3, H), (h @ W_hh.mT + b_hh).reshape(B, 3, H)
    r, z = torch.sigmoid(a[:, :2] + u[:, :2]).unbind(1)
    n = torch.tanh(a[:, 2] + r * u[:, 2])
    return (z * h + n - z * n,)


class LongShort:
    """One step of the LSTM with what its way back needs."""

    @staticmethod
    def forward(s, c):
        B, H = c.shape
        blocks = s.reshape(B, 4, H)
        i, f, o = (torch.sigmoid(blocks[:, k]) for k in (0, 1, 3))
        g = torch.tanh(blocks[:, 2])
        new = f * c + i * g
        squashed = torch.tanh(new)
        return o * squashed, new, (i, f, g, o, c, squashed)

    @staticmethod
    def backward(kept, dh, dc):
        i, f, g, o, c, squashed = kept
        dc = dc + dh * o * (1 - squashed) * (1 + squashed)
        ds = torch.stack(
            [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g) * (1 + g), dh * squashed * o * (1 - o)], 1
        )
        return ds.reshape(len(dc), -1), dc * f


def layer(cell, x, weights, state):
    W_ih, W_hh, b_ih, b_hh = weights
    a = torch.nn.functional.linear(x, W_ih, b_ih)
    outputs = [None] * len(x)
    for t, a_t in enumerate(a):
        state = cell(a_t, state, W_hh, b_hh)
        outputs[t] = state[0]
    return torch.stack(outputs), tuple(state)


def lstm_backward(x, weights, state, d_outputs, d_state):
    W_ih, W_hh, b_ih, b_hh = weights
    T, B, D = x.shape
    a = torch.nn.functional.linear(x, W_ih, b_ih + b_hh)
    h, c = state
    hs, tape = [], []
    for a_t in a:
        hs.append(h)
        h, c, kept = LongShort.forward(a_t + h @ W_hh.T, c)
        tape.append(kept)
    dh, dc = d_state
    rows = []
    while tape:
        dh = dh + d_outputs[len(tape) - 1]
        ds, dc = LongShort.backward(tape.pop(), dh, dc)
        dh = ds @ W_hh
        rows.append(ds)
    ds = torch.stack(rows[::-1])
    joined = torch.cat([x, torch.stack(hs)], dim=-1).reshape(T * B, -1)
    dW = ds.reshape(T * B, -1).T @ joined
    db = ds.sum(dim=(0, 1))
    return ds @ W_ih, (dW[:, :D].contiguous(), dW[:, D:].contiguous(), db, db + 0), (dh, dc)


def truncated_bptt(cell, x, weights, state, window, loss, start=0):
    outputs, state = layer(cell, x[:window], weights, state)
    value = loss(outputs, start)
    value.backward()
    value, state = value.detach(), tuple(s.detach() for s in state)
    del outputs
    if len(x) <= window:
        return value, state
    rest, state = truncated_bptt(cell, x[window:], weights, state, window, loss, start + window)
    return value + rest, state


def gradient_norms(h, W_hh, upstream):
    gradients = {len(h) - 1: upstream}
    for t in reversed(range(1, len(h))):
        gradients[t - 1] = (gradients[t] * (1 - h[t]) * (1 + h[t])) @ W_hh
    return torch.stack([torch.linalg.norm(gradients[t], dim=-1) for t in range(len(h))])
