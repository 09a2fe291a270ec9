"""Hidden suite for sequence/recurrent_networks: gate by gate in float64, autograd through that, and counted products."""

import functools
import weakref

import pytest
import torch

from grader.compare import assert_close, assert_that
from grader.cost import assert_cost, assert_growth
from grader.probes import back, vjp
from grader.properties import (
    EVERY_FUNCTION,
    case,
    empty_and_single,
    given,
    holds,
    is_differentiable,
    on,
)
from grader.suite import probe

# --- probes ---


@probe
def cell_gradients(module, name, a, state, weights, upstream):
    """The next state, and what reaches a, the state, W_hh and b_hh when `upstream` arrives at it."""
    leaves = [x.detach().requires_grad_() for x in (a, *state, *weights)]
    return back(getattr(module, name)(leaves[0], tuple(leaves[1:-2]), *leaves[-2:]), leaves, upstream)


@probe
def run_layer(module, name, x, weights, state):
    """Outputs and last state of a layer of the module's own cell."""
    outputs, last = module.layer(getattr(module, name), x, weights, state)
    return outputs, list(last)


@probe
def sine(outputs, start):
    """A loss that is not linear, and depends on the step."""
    return (outputs.sin() * torch.arange(start + 1, start + 1 + len(outputs)).to(outputs)[:, None, None]).sum()


@probe
def trained(module, name, x, weights, state, window):
    """Gradients after truncated BPTT, loss, last state, the windows that the loss saw, and what is still in a graph."""
    leaves = tuple(w.detach().requires_grad_() for w in weights)
    seen = []

    def loss(outputs, start):
        seen.append((start, len(outputs)))
        return sine(outputs, start)

    total, last = module.truncated_bptt(getattr(module, name), x, leaves, state, window, loss)
    return [w.grad for w in leaves], total, list(last), seen, [y.requires_grad for y in (total, *last)]


@probe
def trained_cost(module, meter, name, x, weights, state, window):
    """The loss; truncated BPTT is metered."""
    leaves = tuple(w.detach().requires_grad_() for w in weights)
    with meter:
        total, _ = module.truncated_bptt(getattr(module, name), x, leaves, state, window, sine)
    return total


@probe
def trained_twice(module, name, x, weights, state, window):
    """The gradients that are there when two sequences are trained on without clearing them."""
    leaves = tuple(w.clone().requires_grad_() for w in weights)
    for _ in range(2):
        module.truncated_bptt(getattr(module, name), x, leaves, state, window, lambda outputs, start: outputs.sum())
    return [w.grad for w in leaves]


@probe
def windows_alive(module, name, x, weights, state, window):
    """At each call of the loss: how many earlier windows' outputs, which their graphs hold, are still in memory."""
    leaves = tuple(w.clone().requires_grad_() for w in weights)
    seen, alive = [], []

    def loss(outputs, start):
        alive.append(sum(1 for reference in seen if reference() is not None))
        seen.append(weakref.ref(outputs))
        return outputs.square().sum()

    module.truncated_bptt(getattr(module, name), x, leaves, state, window, loss)
    return alive


# --- oracles: one gate at a time ---

F64 = torch.float64
T, B, D, H = 7, 3, 5, 6
BLOCKS = {"rnn_cell": 1, "lstm_cell": 4, "gru_cell": 3}
STATES = {"rnn_cell": 1, "lstm_cell": 2, "gru_cell": 1}
TRAINED = "(gradients of weights, loss, last state, (start, length) of each call of the loss, what has a graph)"
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addbmm", "aten::mv", "aten::addmv")


def advance(name, a, state, W_hh, b_hh):
    """The next state by the statement's formulas."""
    size = W_hh.shape[1]

    def given(k):
        return a[:, k * size : (k + 1) * size]

    def recurrent(k):
        rows = slice(k * size, (k + 1) * size)
        return torch.einsum("bh,gh->bg", state[0], W_hh[rows]) + b_hh[rows]

    def sigmoid(k):
        return (1 + torch.tanh((given(k) + recurrent(k)) / 2)) / 2

    if name == "rnn_cell":
        return (torch.tanh(given(0) + recurrent(0)),)
    if name == "lstm_cell":
        candidate = torch.tanh(given(2) + recurrent(2))
        c = sigmoid(1) * state[1] + sigmoid(0) * candidate
        return sigmoid(3) * torch.tanh(c), c
    candidate = torch.tanh(given(2) + sigmoid(0) * recurrent(2))
    return (candidate + sigmoid(1) * (state[0] - candidate),)


def run(name, x, weights, state, cut=None):
    """Outputs and last state, step by step; every `cut` steps the state is cut out of the graph."""
    W_ih, W_hh, b_ih, b_hh = weights
    outputs = []
    for t, x_t in enumerate(x):
        if cut and t % cut == 0:
            state = tuple(y.detach() for y in state)
        state = advance(name, torch.einsum("bd,gd->bg", x_t, W_ih) + b_ih, state, W_hh, b_hh)
        outputs.append(state[0])
    return torch.stack(outputs), list(state)


def sequence(draw, name, length=T, batch=B, dim=D, hidden=H, dtype=F64):
    """x, weights and a state to start from."""
    rows = BLOCKS[name] * hidden
    weights = tuple(0.8 * draw.normal(*shape) for shape in ((rows, dim), (rows, hidden), (rows,), (rows,)))
    state = tuple(draw.normal(batch, hidden) for _ in range(STATES[name]))
    x = draw.normal(length, batch, dim)
    return x.to(dtype), tuple(w.to(dtype) for w in weights), tuple(s.to(dtype) for s in state)


def step(draw, name, batch=B, hidden=H):
    """a, a state, and the recurrent weights: the arguments of a cell."""
    _, (_, W_hh, _, b_hh), state = sequence(draw, name, batch=batch, hidden=hidden)
    return 1.5 * draw.normal(batch, BLOCKS[name] * hidden, dtype=F64), state, (W_hh, b_hh)


def upstream_of(draw, name, length=T):
    """Random gradients for outputs and last state."""
    return [draw.normal(length, B, H, dtype=F64), *(draw.normal(B, H, dtype=F64) for _ in range(STATES[name]))]


def run_gradients(name, x, weights, state, upstream):
    """What reaches x, weights and state, by autograd through the oracle."""
    leaves = [y.clone().requires_grad_() for y in (x, *weights, *state)]
    outputs, last = run(name, leaves[0], leaves[1:5], tuple(leaves[5:]))
    return vjp([outputs, *last], leaves, upstream)


def lstm_gradients(x, weights, state, d_outputs, d_state):
    """The same of an LSTM, in the form of `lstm_backward`."""
    dx, *others = run_gradients("lstm_cell", x, weights, state, [d_outputs, *d_state])
    return dx, tuple(others[:4]), tuple(others[4:])


def trained_by(name, x, weights, state, window):
    """As the probe `trained`, of the oracle: the state is cut out of the graph where a window begins."""
    leaves = [w.clone().requires_grad_() for w in weights]
    outputs, last = run(name, x, leaves, state, cut=window)
    loss = sine(outputs, 0)
    seen = [(start, min(window, len(x) - start)) for start in range(0, len(x), window)]
    gradients = list(torch.autograd.grad(loss, leaves))
    return gradients, loss.detach(), [y.detach() for y in last], seen, [False] * (1 + len(last))


def products(cost):
    """How many matrix products were computed."""
    return sum(cost.by_name.get(name, 0) for name in PRODUCTS)


def contraction(draw, scale):
    """A matrix H x H that scales every vector by `scale`, exactly."""
    q, _ = torch.linalg.qr(draw.normal(H, H, dtype=F64))
    return scale * q


CELLS = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.part(name)) for name in BLOCKS])
LAYERS = pytest.mark.parametrize("name", BLOCKS)


class TestValues:
    @CELLS
    @pytest.mark.points(2)
    def test_cell(self, submission, draw, name):
        """a step of the cell follows its formulas, gate by gate"""
        a, state, weights = step(draw, name)
        got = getattr(submission, name)(a, state, *weights)
        assert_close(got, advance(name, a, state, *weights), what="next state", dtype=F64)

    @pytest.mark.part("layer")
    @LAYERS
    def test_layer(self, submission, draw, name):
        """a layer gives the outputs of all steps and the last state"""
        x, weights, state = sequence(draw, name)
        got = submission.run(run_layer, name, x, weights, state)
        assert_close(got, run(name, x, weights, state), what="(outputs, last state)", dtype=F64)

    @pytest.mark.part("gradient_norms")
    @pytest.mark.points(2)
    def test_norms(self, submission, draw):
        """the norms are those of the gradients that autograd brings to every state"""
        W_hh, upstream = 0.8 * draw.normal(H, H, dtype=F64), draw.normal(B, H, dtype=F64)
        states = [draw.normal(B, H, dtype=F64).requires_grad_()]
        for _ in range(T - 1):
            states.append(torch.tanh(draw.normal(B, H, dtype=F64) + torch.einsum("bh,gh->bg", states[-1], W_hh)))
        gradients = torch.autograd.grad((states[-1] * upstream).sum(), states)
        got = submission.gradient_norms(torch.stack(states).detach(), W_hh, upstream)
        expected = torch.stack(gradients).square().sum(dim=-1).sqrt()
        assert_close(got, expected, what="norms of the gradients of h_1 ... h_T, for each sequence", dtype=F64)


class TestGradients:
    @pytest.mark.part("lstm_backward")
    @pytest.mark.points(4)
    @pytest.mark.parametrize("length", [2, 7], ids=["two steps", "seven steps"])
    def test_backward(self, submission, draw, length):
        """the gradients by hand are those of autograd"""
        x, weights, state = sequence(draw, "lstm_cell", length)
        upstream = upstream_of(draw, "lstm_cell", length)
        arguments = x, weights, state, upstream[0], tuple(upstream[1:])
        expected = lstm_gradients(*arguments)
        assert_close(submission.lstm_backward(*arguments), expected, what="gradients of (x, weights, state)", dtype=F64)

    @pytest.mark.part("truncated_bptt")
    @pytest.mark.points(2)
    @LAYERS
    def test_truncated(self, submission, draw, name):
        """three windows, the last a short one: no gradient crosses their borders, and the state does"""
        x, weights, state = sequence(draw, name)
        got = submission.run(trained, name, x, weights, state, 3)
        assert_close(got, trained_by(name, x, weights, state, 3), what=TRAINED, dtype=F64)

    @pytest.mark.part("truncated_bptt")
    def test_accumulated(self, submission, draw):
        """gradients are added to those that the weights already have"""
        x, weights, state = sequence(draw, "rnn_cell")
        got = submission.run(trained_twice, "rnn_cell", x, weights, state, 4)
        leaves = [w.clone().requires_grad_() for w in weights]
        outputs, _ = run("rnn_cell", x, leaves, state, cut=4)
        assert_close(got, list(torch.autograd.grad(2 * outputs.sum(), leaves)), what="gradients after two sequences")


class TestStability:
    @CELLS
    def test_saturated(self, submission, draw, name):
        """gates far beyond saturation give right results and gradients, in float32"""
        a, state, weights = step(draw, name)
        a = torch.where(draw.normal(*a.shape) > 0, 1000.0, -1000.0).to(F64)
        a[0] /= 1000  # one sequence of the batch stays where gradients flow
        upstream = [draw.normal(B, H, dtype=F64) for _ in state]
        leaves = [y.clone().requires_grad_() for y in (a, *state, *weights)]
        result = advance(name, leaves[0], leaves[1:-2], *leaves[-2:])
        expected = ([y.detach().float() for y in result], [g.float() for g in vjp(result, leaves, upstream)])
        narrow = [a.float(), tuple(s.float() for s in state), tuple(w.float() for w in weights)]
        got = submission.run(cell_gradients, name, *narrow, [u.float() for u in upstream])
        assert_close(got, expected, what="(next state, gradients of [a, *state, W_hh, b_hh])", dtype=torch.float32)

    @pytest.mark.part("lstm_backward")
    def test_saturated_backward(self, submission, draw):
        """gradients by hand stay right where gates are saturated"""
        x, weights, state = sequence(draw, "lstm_cell", 4)
        x[1:3] *= 400
        upstream = upstream_of(draw, "lstm_cell", 4)
        arguments = x, weights, state, upstream[0], tuple(upstream[1:])
        expected = lstm_gradients(*arguments)
        assert_close(submission.lstm_backward(*arguments), expected, what="gradients of (x, weights, state)", dtype=F64)

    @pytest.mark.part("layer")
    def test_long_memory(self, submission, draw):
        """an LSTM with open forget gates carries its cell over 40 steps"""
        x, (W_ih, W_hh, b_ih, b_hh), state = sequence(draw, "lstm_cell", 40)
        b_ih[H : 2 * H] = 6.0
        weights = (W_ih / 8, W_hh / 8, b_ih, b_hh)
        got = submission.run(run_layer, "lstm_cell", x, weights, state)
        assert_close(got, run("lstm_cell", x, weights, state), what="(outputs, last state)", dtype=F64)

    @pytest.mark.part("layer")
    def test_half_precision(self, submission, draw):
        """in bfloat16 a layer gives bfloat16, right to a few roundings"""
        dtype = torch.bfloat16
        x, weights, state = sequence(draw, "lstm_cell", dtype=dtype)
        got = submission.run(run_layer, "lstm_cell", x, weights, state)
        wide = [x.double(), [w.double() for w in weights], tuple(s.double() for s in state)]
        expected = [
            [y.to(dtype) for y in part] if isinstance(part, list) else part.to(dtype)
            for part in run("lstm_cell", *wide)
        ]
        reason = "the roundings of seven steps are allowed"
        assert_close(got, expected, what="(outputs, last state)", dtype=dtype, atol=0.06, reason=reason)

    @pytest.mark.part("gradient_norms")
    @pytest.mark.parametrize("scale", [0.25, 4.0], ids=["vanishing", "exploding"])
    def test_powers(self, submission, draw, scale):
        """where states are 0, a matrix that scales by s gives norms that are powers of s, over 60 steps"""
        upstream = draw.normal(B, H, dtype=F64)
        got = submission.gradient_norms(torch.zeros(60, B, H, dtype=F64), contraction(draw, scale), upstream)
        back = torch.arange(59, -1, -1, dtype=F64)[:, None]
        expected = upstream.square().sum(dim=-1).log() / 2 + back * torch.tensor(scale, dtype=F64).log()
        assert_that(got.shape == expected.shape, f"norms of shape {tuple(expected.shape)}", got=tuple(got.shape))
        assert_close(got.log(), expected, what="logarithms of the norms")


def cells(name):
    """A batch, a batch of one, and one unit."""

    def drawn(draw):
        steps = [step(draw, name, batch, hidden) for batch, hidden in ((B, H), (1, 3), (2, 1))]
        return [given(a, state, *weights) for a, state, weights in steps]

    return drawn


def layers(name, *windows):
    """Several steps of a batch, one step of one sequence, single features and units, and two steps; with windows, too."""

    def drawn(draw):
        sizes = ((T, B, D, H), (1, 1, 3, 2), (4, 2, 1, 1), (2, 2, 3, 4))
        return on((name,), *(given(*sequence(draw, name, *size), *windows[i : i + 1]) for i, size in enumerate(sizes)))

    return drawn


def backwards(draw):
    """The same, with the loss's gradients."""
    calls = []
    for length, batch, dim, hidden in ((4, B, D, H), (1, 1, 3, 2), (3, 2, 1, 1)):
        d_outputs, *d_state = (draw.normal(*shape, batch, hidden, dtype=F64) for shape in ((length,), (), ()))
        calls.append(given(*sequence(draw, "lstm_cell", length, batch, dim, hidden), d_outputs, tuple(d_state)))
    return calls


def histories(draw):
    """States, weights and the last gradient: a batch, and one of everything."""
    shapes = ((T, B, H), (1, 1, 3), (3, 2, 1))
    return [
        given(
            draw.uniform(*shape, low=-0.9, high=0.9, dtype=F64),
            draw.normal(*shape[2:], *shape[2:], dtype=F64),
            draw.normal(*shape[1:], dtype=F64),
        )
        for shape in shapes
    ]


def norms_of(h, W_hh, upstream):
    """The norms of equation 5, by the Jacobians' product with the gradient."""
    rows, g = [], upstream
    for h_t in h.flip(0):
        rows.append(g.square().sum(dim=-1).sqrt())
        g = torch.einsum("bh,bh,hk->bk", g, 1 - h_t * h_t, W_hh)
    return torch.stack(rows[::-1])


FUNCTION = (*EVERY_FUNCTION, empty_and_single)
FORWARD = (*FUNCTION, is_differentiable)
TestProperties = holds(
    *(case(name, cells(name), *FORWARD, expect=functools.partial(advance, name)) for name in BLOCKS),
    *(
        case("layer", layers(name), *FORWARD, of=run_layer, expect=run, target="layer", name=f"layer of {name}")
        for name in ("lstm_cell", "gru_cell")
    ),
    case("lstm_backward", backwards, *FUNCTION, expect=lstm_gradients),
    case("truncated_bptt", layers("lstm_cell", 3, 1, 2, 5), *EVERY_FUNCTION, of=trained, expect=trained_by),
    case("gradient_norms", histories, *FUNCTION, expect=norms_of),
)


class TestPerformance:
    @pytest.mark.part("layer")
    @LAYERS
    def test_products(self, submission, draw, name):
        """one matrix product for all inputs, and one for each step"""
        length, hidden = 12, 32
        gates = BLOCKS[name] * hidden
        arguments = sequence(draw, name, length, hidden=hidden, dtype=torch.float32)
        cost = submission.measure(run_layer, name, *arguments).cost
        assert_that(products(cost) <= length + 1, f"{length + 1} products for {length} steps", got=f"{products(cost)}")
        assert_cost(cost, "operators", at_most=40 * length + 20, why="40 for each of 12 steps, and 20 beside")
        at_most = 2 * length * B * gates * (D + hidden)
        assert_cost(cost, "flops", at_most=at_most, why="2 T B G H (D + H): those of the products")
        at_most = 2 * max(length * B, hidden) * gates * 4
        assert_cost(cost, "largest_bytes", at_most=at_most, why="twice the inputs of all gates, or the weights")

    @pytest.mark.part("lstm_backward")
    @pytest.mark.points(2)
    def test_backward_cost(self, submission, draw):
        """two matrix products a step, a few for all steps, and nothing saved for autograd"""
        length, hidden = 12, 32
        x, weights, state = sequence(draw, "lstm_cell", length, hidden=hidden, dtype=torch.float32)
        upstream = draw.normal(length, B, hidden), (draw.normal(B, hidden), draw.normal(B, hidden))
        cost = submission.measure("lstm_backward", x, weights, state, *upstream).cost
        assert_cost(cost, "saved_bytes", at_most=0, why="gradients are computed by hand, without autograd")
        at_most = 2 * length + 6
        assert_that(
            products(cost) <= at_most, f"at most {at_most} products for {length} steps", got=f"{products(cost)}"
        )
        assert_cost(
            cost, "operators", at_most=130 * length + 60, why="130 for each of 12 steps, there and back, and 60 beside"
        )
        at_most = 2 * length * B * 4 * hidden * (3 * D + 5 * hidden)
        assert_cost(cost, "flops", at_most=at_most, why="3 products with D and 5 with H numbers a gate")
        at_most = 2 * length * B * 4 * hidden * 4
        assert_cost(cost, "largest_bytes", at_most=at_most, why="twice the inputs of all gates")

    @pytest.mark.part("truncated_bptt")
    @pytest.mark.points(2)
    def test_truncated_memory(self, submission, draw):
        """memory is that of a window: earlier ones are gone, but for perhaps the last"""
        alive = submission.run(windows_alive, "lstm_cell", *sequence(draw, "lstm_cell", 12), 2)
        assert_that(
            max(alive, default=0) <= 1, "at most one earlier window is still in memory", got=f"{alive} by window"
        )
        costs = [
            submission.measure(trained_cost, "rnn_cell", *sequence(draw, "rnn_cell", length, hidden=16), 8).cost
            for length in (32, 64)
        ]
        assert_growth(*costs, "peak_bytes", at_most=1.15, when="the sequence is twice as long, and windows are not")

    @pytest.mark.part("gradient_norms")
    def test_norms_cost(self, submission, draw):
        """a step back is a product of the gradient with W_hh, not of Jacobians with each other"""
        length, hidden = 12, 32
        h, W_hh, upstream = (
            draw.uniform(length, B, hidden, low=-1),
            draw.normal(hidden, hidden) / 8,
            draw.normal(B, hidden),
        )
        cost = submission.measure("gradient_norms", h, W_hh, upstream).cost
        assert_cost(cost, "flops", at_most=2 * length * B * hidden**2, why="2 B H^2 for each of 12 steps")
        at_most = B * hidden * max(length, hidden) * 4
        assert_cost(cost, "largest_bytes", at_most=at_most, why="nothing larger than the states or B x H x H")
