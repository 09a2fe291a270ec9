"""Columns as in the formulas, W h with h of shape (H, B), and gates in a dict by their letters."""

from __future__ import annotations

import functools

import torch

SIGMOID, TANH = torch.sigmoid, torch.tanh


def named(letters, rows):
    return dict(zip(letters, rows.chunk(len(letters), dim=-2), strict=True))


def rnn_cell(a, state, W_hh, b_hh):
    return (TANH(a.T + W_hh @ state[0].T + b_hh[:, None]).T,)


def lstm_cell(a, state, W_hh, b_hh):
    s = named("ifgo", a.T + W_hh @ state[0].T + b_hh[:, None])
    c = SIGMOID(s["f"]) * state[1].T + SIGMOID(s["i"]) * TANH(s["g"])
    return (SIGMOID(s["o"]) * TANH(c)).T, c.T


def gru_cell(a, state, W_hh, b_hh):
    given, own = named("rzn", a.T), named("rzn", W_hh @ state[0].T + b_hh[:, None])
    r, z = (SIGMOID(given[k] + own[k]) for k in "rz")
    n = TANH(given["n"] + r * own["n"])
    return (((1 - z) * n + z * state[0].T).T,)


def layer(cell, x, weights, state):
    W_ih, W_hh, b_ih, b_hh = weights
    projected = torch.nn.functional.linear(x, W_ih, b_ih)

    def move(states, a):
        return [*states, cell(a, states[-1], W_hh, b_hh)]

    states = functools.reduce(move, projected, [tuple(state)])[1:]
    return torch.stack([s[0] for s in states]), states[-1]


def lstm_backward(x, weights, state, d_outputs, d_state):
    W_ih, W_hh, b_ih, b_hh = weights
    projected = torch.nn.functional.linear(x, W_ih, b_ih)
    h, c, tape = *state, []
    for a in projected:
        s = named("ifgo", (a + h @ W_hh.T + b_hh).T)
        i, f, g, o = (SIGMOID(s["i"]).T, SIGMOID(s["f"]).T, TANH(s["g"]).T, SIGMOID(s["o"]).T)
        c_new = f * c + i * g
        tape.append(dict(h=h, c=c, new=TANH(c_new), i=i, f=f, g=g, o=o))
        h, c = o * TANH(c_new), c_new

    def back(m, dh, dc):
        dc = dc + dh * m["o"] * (1 - m["new"] ** 2)
        di, df, dg, do = dc * m["g"], dc * m["c"], dc * m["i"], dh * m["new"]
        for d, k in ((di, "i"), (df, "f"), (do, "o")):
            d *= m[k] * (1 - m[k])
        dg *= 1 - m["g"] ** 2
        ds = torch.cat([di, df, dg, do], dim=1)
        return ds, ds @ W_hh, dc * m["f"]

    dh, dc = d_state
    slopes = []
    for m, d in zip(reversed(tape), d_outputs.flip(0), strict=True):
        ds, dh, dc = back(m, dh + d, dc)
        slopes.append(ds)
    s = torch.stack(slopes[::-1])
    rows = s.reshape(-1, s.shape[-1])
    before = torch.cat([m["h"] for m in tape])
    everything = rows.T @ torch.cat([x.reshape(len(rows), -1), before, torch.ones_like(rows[:, :1])], dim=1)
    D = x.shape[-1]
    b = everything[:, -1]
    return s @ W_ih, (everything[:, :D], everything[:, D:-1], b, b), (dh, dc)


def truncated_bptt(cell, x, weights, state, window, loss):
    losses = []
    for start in range(0, len(x), window):
        outputs, state = layer(cell, x[start : min(len(x), start + window)], weights, state)
        state = tuple(map(torch.detach, state))
        losses.append(loss(outputs, start))
        losses[-1].backward()
        losses[-1] = losses[-1].detach()
    return sum(losses), state


def gradient_norms(h, W_hh, upstream):
    slope = (1 - h * h).transpose(1, 2)  # (T, H, B)
    g = upstream.T
    norms = [g.norm(dim=0)]
    for t in range(len(h) - 1, 0, -1):
        g = W_hh.T @ (slope[t] * g)
        norms.append(g.norm(dim=0))
    norms.reverse()
    return torch.stack(norms)
