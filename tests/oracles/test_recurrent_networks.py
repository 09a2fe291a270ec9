"""sequence/recurrent_networks' solution against torch.nn.RNN, LSTM and GRU, and their gradients by autograd."""

import pytest
import torch

T, B, D, H = 9, 3, 5, 4
THEIRS = {"rnn_cell": torch.nn.RNN, "lstm_cell": torch.nn.LSTM, "gru_cell": torch.nn.GRU}
CELLS = {"rnn_cell": torch.nn.RNNCell, "lstm_cell": torch.nn.LSTMCell, "gru_cell": torch.nn.GRUCell}


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def problem(name, draw):
    """Their layer, x, its weights, and a state."""
    network = THEIRS[name](D, H).double()
    for p in network.parameters():
        p.data.copy_(draw(*p.shape) * 0.7)
    state = tuple(draw(B, H) for _ in range(2 if name == "lstm_cell" else 1))
    return network, draw(T, B, D), tuple(network.parameters()), state


def theirs(network, x, state):
    wide = tuple(s[None] for s in state)
    outputs, last = network(x, wide if len(wide) == 2 else wide[0])
    return outputs, tuple(s[0] for s in (last if len(wide) == 2 else (last,)))


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", THEIRS)
def test_cell(mine, draw, name):
    cell = CELLS[name](D, H).double()
    x, state = draw(B, D), tuple(draw(B, H) for _ in range(2 if name == "lstm_cell" else 1))
    got = getattr(mine, name)(x @ cell.weight_ih.T + cell.bias_ih, state, cell.weight_hh, cell.bias_hh)
    expected = cell(x, state if len(state) == 2 else state[0])
    close(got, expected if len(state) == 2 else (expected,))


@pytest.mark.parametrize("name", THEIRS)
def test_layer(mine, draw, name):
    network, x, weights, state = problem(name, draw)
    close(mine.layer(getattr(mine, name), x, weights, state), theirs(network, x, state))


def test_backward(mine, draw):
    network, x, weights, state = problem("lstm_cell", draw)
    d_outputs, d_state = draw(T, B, H), (draw(B, H), draw(B, H))
    leaves = [y.clone().requires_grad_() for y in (x, *state)]
    outputs, last = theirs(network, leaves[0], tuple(leaves[1:]))
    expected = torch.autograd.grad([outputs, *last], [leaves[0], *weights, *leaves[1:]], [d_outputs, *d_state])
    with torch.no_grad():
        dx, d_weights, d_first = mine.lstm_backward(x, weights, state, d_outputs, d_state)
    close([dx, *d_weights, *d_first], list(expected), 1e-11)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("window", [4, T])
def test_truncated(mine, draw, name, window):
    network, x, weights, state = problem(name, draw)
    target = draw(T, B, H)
    total, last = mine.truncated_bptt(
        getattr(mine, name), x, weights, state, window, lambda y, s: ((y - target[s : s + len(y)]) ** 2).sum()
    )
    got = [w.grad for w in weights]
    network.zero_grad()
    expected = 0.0
    for start in range(0, T, window):
        outputs, state = theirs(network, x[start : start + window], state)
        loss = ((outputs - target[start : start + window]) ** 2).sum()
        loss.backward()
        expected, state = expected + loss.detach(), tuple(s.detach() for s in state)
    close(got, [w.grad for w in weights], 1e-11)
    close((total, last), (expected, state))


def test_gradient_norms(mine, draw):
    network, x, _, state = problem("rnn_cell", draw)
    upstream, expected = draw(B, H), []
    outputs, _ = theirs(network, x, state)
    for t in range(T):
        h = outputs[t].detach().requires_grad_()
        last = theirs(network, x[t + 1 :], (h,))[0][-1] if t + 1 < T else h
        expected.append(torch.autograd.grad((last * upstream).sum(), h)[0].norm(dim=-1))
    close(mine.gradient_norms(outputs.detach(), network.weight_hh_l0.detach(), upstream), torch.stack(expected))
