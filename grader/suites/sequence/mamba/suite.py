"""Hidden suite for sequence/mamba: recurrences summed up explicitly in float64, gradients through them, counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.probes import vjp
from grader.suite import probe

# --- probes ---


@probe
def gradients(module, name, tensors, upstream, *rest):
    """What reaches the tensors when `upstream` arrives at the results of a function of the module."""
    leaves = [x.clone().requires_grad_() for x in tensors]
    results = getattr(module, name)(*leaves, *rest)
    results = [results] if torch.is_tensor(results) else results
    return vjp([torch.view_as_real(y) if y.is_complex() else y for y in results], leaves, upstream)


@probe
def regrouped(module, first, second, third):
    """Three steps combined in both groupings."""
    left = module.combine(module.combine(first, second), third)
    return tuple(left), tuple(module.combine(first, module.combine(second, third)))


@probe
def scans_in_parts(module, a, b, cut):
    """A scan, and the same in two parts with the state handed on."""
    whole = module.parallel_scan(a, b)
    start = module.parallel_scan(a[:, :cut], b[:, :cut])
    end = module.parallel_scan(a[:, cut:], b[:, cut:], start[:, -1])
    return whole, torch.cat([start, end], dim=1)


@probe
def scans_of_lengths(module, a, b, h, lengths):
    """The scans of the first 1, 2, 3, ... steps."""
    return [module.parallel_scan(a[:, :length], b[:, :length], h) for length in lengths]


@probe
def both_starts(module, name, arguments, state):
    """The results from zeros, and from a state."""
    return [tuple(getattr(module, name)(*arguments)), tuple(getattr(module, name)(*arguments, state))]


@probe
def chunked(module, arguments, sizes):
    """The chunked scan with several sizes of a chunk."""
    return [module.chunked_scan(*arguments, chunk_size=size) for size in sizes]


@probe
def two_scans(module, arguments, size):
    """The sequential and the chunked scan."""
    return module.selective_scan(*arguments), module.chunked_scan(*arguments, chunk_size=size)


@probe
def rounded(module, name, inputs):
    """The types of y and of the state, and their values in float64, for each of several inputs."""
    results = [getattr(module, name)(*arguments) for arguments in inputs]
    return [([y.dtype, h.dtype], [y.double(), h.double()]) for y, h in results]


@probe
def conv_in_parts(module, x, weight, bias, cuts):
    """The outputs and the last state of a convolution over pieces of x, each with the state of those before."""
    outputs, state = [], None
    for piece in x.split(cuts, dim=1):
        y, state = module.causal_conv(piece, weight, bias, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


@probe
def block_of(module, sizes, weights):
    """A block with given weights."""
    made = module.MambaBlock(*sizes).to(weights["D"].dtype)
    made.load_state_dict(weights)
    return made


@probe
def run_block(module, sizes, weights, x, state=None, mask=None):
    """A block's outputs and state."""
    with torch.no_grad():
        return block_of(module, sizes, weights)(x, state, mask)


@probe
def block_gradients(module, sizes, weights, x, state, upstream):
    """What reaches x, the state and all parameters."""
    made = block_of(module, sizes, weights)
    x, *state = leaves = [y.clone().requires_grad_() for y in (x, *state)]
    y, last = made(x, tuple(state))
    names = dict(made.named_parameters())
    return vjp([y, *last], [*leaves, *(names[name] for name in sorted(names))], upstream)


@probe
def padded_gradients(module, sizes, weights, x, mask, upstream):
    """What reaches x and all parameters from the outputs of a padded batch."""
    made, x = block_of(module, sizes, weights), x.clone().requires_grad_()
    names = dict(made.named_parameters())
    return vjp([made(x, None, mask)[0]], [x, *(names[name] for name in sorted(names))], [upstream])


@probe
def decoded(module, sizes, weights, x, prompt):
    """A prompt, and then step by step: all outputs and the last state."""
    made = block_of(module, sizes, weights)
    with torch.no_grad():
        y, state = made(x[:, :prompt])
        outputs = [y]
        for t in range(prompt, x.shape[1]):
            y, state = made.step(x[:, t], state)
            outputs.append(y[:, None])
    return torch.cat(outputs, dim=1), state


@probe
def last_step(module, meter, sizes, weights, x):
    """The cost of the last step; all others have gone before. Returns how many numbers the state has then."""
    made = block_of(module, sizes, weights)
    with torch.no_grad():
        _, state = made(x[:, :2])
        for t in range(2, x.shape[1] - 1):
            _, state = made.step(x[:, t], state)
        with meter:
            _, state = made.step(x[:, -1], state)
    return [part.numel() for part in state]


# --- oracles ---

F64, C128 = torch.float64, torch.complex128
BATCH, L, K, N, E, DIM, R, H, M = 2, 11, 3, 4, 5, 6, 7, 3, 8
SIZES = (DIM, E, N, K, R)


def scanned(a, b, h=None):
    """All states, step by step."""
    h, states = torch.zeros_like(b[:, 0]) if h is None else h, []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def selective(u, delta, A, B, C, D, h=None):
    """y and the last state as sums over all earlier tokens, each with its decay in one exponential."""
    time = delta.cumsum(dim=1)  # (B, L, E)
    seen = torch.ones(u.shape[1], u.shape[1], dtype=torch.bool).tril()[:, :, None]
    span = (time[:, :, None] - time[:, None]).masked_fill(~seen, 0)  # (B, t, s, E)
    decay = (span[..., None] * A).exp() * seen[..., None]
    states = torch.einsum("btsen,bsen->bten", decay, (delta * u)[..., None] * B[:, :, None])
    if h is not None:
        states = states + (time[..., None] * A).exp() * h[:, None]
    return torch.einsum("bten,btn->bte", states, C) + D * u, states[:, -1]


def convolved(x, weight, bias, state=None):
    """y tap by tap, and the last inputs."""
    taps = weight.shape[1]
    past = torch.zeros(len(x), taps - 1, x.shape[2], dtype=x.dtype) if state is None else state
    joined = torch.cat([past, x], dim=1)
    y = [(joined[:, t : t + taps] * weight.mT).sum(dim=1) + bias for t in range(x.shape[1])]
    return torch.stack(y, dim=1), joined[:, len(joined[0]) - taps + 1 :]


def silu(x):
    return x / (1 + (-x).exp())


def blocked(weights, x, state=None):
    """y and the state of a block."""
    conv_state, h = state or (None, None)
    inner = x @ weights["in_proj.weight"].T
    u, conv_state = convolved(inner[..., :E], weights["conv_weight"], weights["conv_bias"], conv_state)
    u = silu(u)
    made = u @ weights["x_proj.weight"].T
    delta = made[..., :R] @ weights["dt_proj.weight"].T + weights["dt_proj.bias"]
    delta = torch.logaddexp(delta, torch.zeros_like(delta))
    B, C = made[..., R : R + N], made[..., R + N :]
    y, h = selective(u, delta, -weights["A_log"].exp(), B, C, weights["D"], h)
    return (y * silu(inner[..., E:])) @ weights["out_proj.weight"].T, (conv_state, h)


def retained(q, k, v, gamma, S=None):
    """Retention in its parallel form: scores times powers of gamma, masked before the power is taken."""
    length = q.shape[1]
    lag = torch.arange(length)[:, None] - torch.arange(length)
    decay = gamma[:, None, None] ** lag.clamp(min=0) * (lag >= 0)  # (H, t, s)
    o = torch.einsum("bthk,bshk,hts->bhts", q, k, decay)
    o = torch.einsum("bhts,bshm->bthm", o, v)
    left = decay[:, -1].T[..., None] * k  # (B, s, H, K)
    last = torch.einsum("bshk,bshm->bhkm", left, v)
    if S is not None:
        powers = gamma ** torch.arange(1, length + 1)[:, None]  # (L, H)
        o = o + torch.einsum("bthk,bhkm->bthm", q, S) * powers[:, :, None]
        last = last + powers[-1][:, None, None] * S
    return o, last


def lru_of(u, nu, theta, B, C, D, x=None):
    """The linear recurrent unit step by step, with lambda in its Cartesian form."""
    r, angle = torch.exp(-torch.exp(nu)), torch.exp(theta)
    lam = torch.complex(r * torch.cos(angle), r * torch.sin(angle))
    scale = (-torch.expm1(-2 * torch.exp(nu))).sqrt()
    b = torch.einsum("nh,blh->bln", B, u.to(B.dtype)) * scale
    states = scanned(lam.expand_as(b), b, x)
    return torch.einsum("hn,bln->blh", C, states).real + D * u, states[:, -1]


def tokens(draw, length=L, dtype=F64, channels=E, states=N):
    """u, delta, A, B, C, D."""
    return [
        draw.normal(BATCH, length, channels).to(dtype),
        draw.uniform(BATCH, length, channels, low=0.1, high=1.5).to(dtype),
        -draw.uniform(channels, states, low=0.2, high=1.5).to(dtype),
        draw.normal(BATCH, length, states).to(dtype),
        draw.normal(BATCH, length, states).to(dtype),
        draw.normal(channels).to(dtype),
    ]


def weights_of(draw, dtype=F64):
    """The parameters of a block."""
    shapes = {
        "in_proj.weight": (2 * E, DIM),
        "conv_weight": (E, K),
        "conv_bias": (E,),
        "x_proj.weight": (R + 2 * N, E),
        "dt_proj.weight": (E, R),
        "dt_proj.bias": (E,),
        "A_log": (E, N),
        "D": (E,),
        "out_proj.weight": (DIM, E),
    }
    return {name: (0.6 * draw.normal(*shape)).to(dtype) for name, shape in shapes.items()}


def block_state(draw):
    """A state of a block."""
    return draw.normal(BATCH, K - 1, E, dtype=F64), draw.normal(BATCH, E, N, dtype=F64)


def heads(draw, length=L, dtype=F64):
    """q, k, v and gamma."""
    shapes = ((BATCH, length, H, N), (BATCH, length, H, N), (BATCH, length, H, M))
    return [*(draw.normal(*shape).to(dtype) for shape in shapes), draw.uniform(H, low=0.5, high=0.95).to(dtype)]


def complex_of(draw, *shape, dtype=C128):
    return torch.complex(draw.normal(*shape, dtype=F64), draw.normal(*shape, dtype=F64)).to(dtype)


def unit(draw, length=L):
    """u, nu, theta, B, C, D."""
    return [
        draw.normal(BATCH, length, H, dtype=F64),
        draw.uniform(N, low=-3, high=0, dtype=F64),
        draw.uniform(N, low=-2, high=1, dtype=F64),
        complex_of(draw, N, H),
        complex_of(draw, H, N),
        draw.normal(H, dtype=F64),
    ]


def expected_gradients(function, tensors, upstream):
    """As the probe `gradients`, of an oracle."""
    leaves = [x.clone().requires_grad_() for x in tensors]
    results = function(*leaves)
    results = [results] if torch.is_tensor(results) else results
    return vjp([torch.view_as_real(y) if y.is_complex() else y for y in results], leaves, upstream)


def upstream_of(draw, results):
    """Random gradients in the shapes of results."""
    results = [results] if torch.is_tensor(results) else results
    shapes = [(*y.shape, 2) if y.is_complex() else y.shape for y in results]
    return [draw.normal(*shape, dtype=F64) for shape in shapes]


GIVEN = pytest.mark.parametrize("given", [False, True], ids=["from zeros", "from a state"])
SCANS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.part(name)) for name in ("selective_scan", "chunked_scan")]
)


class TestValues:
    @pytest.mark.part("combine")
    def test_operator(self, submission, draw):
        """the combined step is the first and then the second"""
        (a1, b1), (a2, b2) = steps = [(draw.normal(E, dtype=F64), draw.normal(E, dtype=F64)) for _ in range(2)]
        assert_close(submission.combine(*steps), (a2 * a1, a2 * b1 + b2), what="(a, b)", dtype=F64)

    @pytest.mark.part("combine")
    def test_associative(self, submission, draw):
        """the grouping of three steps does not matter"""
        steps = [(draw.normal(E, dtype=F64), draw.normal(E, dtype=F64)) for _ in range(3)]
        left, right = submission.run(regrouped, *steps)
        assert_close(left, right, what="(1 2) 3, against 1 (2 3)")

    @pytest.mark.part("parallel_scan")
    @pytest.mark.points(3)
    @GIVEN
    def test_scan(self, submission, draw, given):
        """the parallel scan gives the states of the sequential one"""
        a, b = draw.normal(BATCH, L, E, N, dtype=F64), draw.normal(BATCH, L, E, N, dtype=F64)
        h = draw.normal(BATCH, E, N, dtype=F64) if given else None
        assert_close(submission.parallel_scan(a, b, h), scanned(a, b, h), what="all states", dtype=F64)

    @pytest.mark.part("discretise")
    def test_discretisation(self, submission, draw):
        """A is held, and the input is delta B u"""
        u, delta, A, B, *_ = tokens(draw)
        expected = torch.exp(torch.einsum("ble,en->blen", delta, A)), (delta * u)[..., None] * B[:, :, None]
        assert_close(submission.discretise(u, delta, A, B), expected, what="(a, b)", dtype=F64)

    @SCANS
    @GIVEN
    @pytest.mark.points(2)
    def test_selective(self, submission, draw, name, given):
        """y and the last state are sums over all tokens so far"""
        arguments = tokens(draw)
        more = [draw.normal(BATCH, E, N, dtype=F64)] if given else [None]
        sizes = [4] if name == "chunked_scan" else []
        got = getattr(submission, name)(*arguments, *more, *sizes)
        assert_close(got, selective(*arguments, *more), what="(y, last state)", dtype=F64)

    @pytest.mark.part("chunked_scan")
    def test_same_scans(self, submission, draw):
        """the chunked and the sequential scan give the same numbers"""
        sequential, parallel = submission.run(two_scans, [*tokens(draw), draw.normal(BATCH, E, N, dtype=F64)], 3)
        assert_close(parallel, sequential, what="(y, last state) in chunks, against token by token")

    @pytest.mark.part("causal_conv")
    @pytest.mark.points(2)
    def test_conv(self, submission, draw):
        """the last tap meets the present input, and the state holds the last inputs"""
        x, weight, bias = draw.normal(BATCH, L, E, dtype=F64), draw.normal(E, K, dtype=F64), draw.normal(E, dtype=F64)
        arguments, state = [x, weight, bias], draw.normal(BATCH, K - 1, E, dtype=F64)
        got = submission.run(both_starts, "causal_conv", arguments, state)
        expected = [convolved(*arguments), convolved(*arguments, state)]
        assert_close(got, expected, what="[(y, state) from zeros, from a state]", dtype=F64)

    @pytest.mark.part("MambaBlock")
    @GIVEN
    @pytest.mark.points(2)
    def test_block(self, submission, draw, given):
        """the block is the paper's, from a state as well"""
        weights, x = weights_of(draw), draw.normal(BATCH, L, DIM, dtype=F64)
        state = block_state(draw) if given else None
        got = submission.run(run_block, SIZES, weights, x, state)
        assert_close(got, blocked(weights, x, state), what="(y, state)", dtype=F64)

    @pytest.mark.part("MambaBlock")
    @pytest.mark.points(3)
    def test_decoding(self, submission, draw):
        """a prompt and then single steps give what the whole sequence gives, outputs and state"""
        weights, x = weights_of(draw), draw.normal(BATCH, 7, DIM, dtype=F64)
        got = submission.run(decoded, SIZES, weights, x, 3)
        assert_close(got, blocked(weights, x), what="(all y, last state)", dtype=F64)

    @pytest.mark.part("retention")
    @pytest.mark.points(2)
    def test_retention(self, submission, draw):
        """retention in its recurrent form, from a state, is its parallel form"""
        arguments = [*heads(draw), draw.normal(BATCH, H, N, M, dtype=F64)]
        assert_close(submission.retention(*arguments), retained(*arguments), what="(o, last state)", dtype=F64)

    @pytest.mark.part("retention")
    def test_linear_attention(self, submission, draw):
        """with gamma 1 it is linear attention: a triangle of scores times values"""
        q, k, v, gamma = heads(draw)
        got, _ = submission.retention(q, k, v, torch.ones_like(gamma))
        scores = torch.einsum("bthk,bshk->bhts", q, k).tril()
        assert_close(got, torch.einsum("bhts,bshm->bthm", scores, v), what="o", dtype=F64)

    @pytest.mark.part("lru")
    @pytest.mark.points(2)
    def test_lru(self, submission, draw):
        """the linear recurrent unit: a complex state with scaled inputs, from zeros or not, and real outputs"""
        arguments, x = unit(draw), complex_of(draw, BATCH, N)
        got = submission.run(both_starts, "lru", arguments, x)
        assert_close(
            got, [lru_of(*arguments), lru_of(*arguments, x)], what="[(y, last state) from zeros, from a state]"
        )


class TestGradients:
    @pytest.mark.part("parallel_scan")
    @pytest.mark.points(2)
    def test_scan_gradients(self, submission, draw):
        """gradients flow through the scan to a, b and the first state"""
        tensors = [
            draw.normal(BATCH, 7, E, dtype=F64),
            draw.normal(BATCH, 7, E, dtype=F64),
            draw.normal(BATCH, E).double(),
        ]
        upstream = upstream_of(draw, scanned(*tensors))
        got = submission.run(gradients, "parallel_scan", tensors, upstream)
        assert_close(got, expected_gradients(scanned, tensors, upstream), what="gradients of [a, b, h]")

    @SCANS
    def test_selective_gradients(self, submission, draw, name):
        """gradients reach all arguments, the state among them, and flow through the last state"""
        tensors = [*tokens(draw, 7), draw.normal(BATCH, E, N, dtype=F64)]
        upstream = upstream_of(draw, selective(*tensors))
        sizes = [3] if name == "chunked_scan" else []
        got = submission.run(gradients, name, tensors, upstream, *sizes)
        expected = expected_gradients(selective, tensors, upstream)
        assert_close(got, expected, what="gradients of [u, delta, A, B, C, D, h]")

    @pytest.mark.part("causal_conv")
    def test_conv_gradients(self, submission, draw):
        """input, taps, bias and state get their gradients"""
        shapes = ((BATCH, 7, E), (E, K), (E,), (BATCH, K - 1, E))
        tensors = [draw.normal(*shape, dtype=F64) for shape in shapes]
        upstream = upstream_of(draw, convolved(*tensors))
        got = submission.run(gradients, "causal_conv", tensors, upstream)
        assert_close(
            got, expected_gradients(convolved, tensors, upstream), what="gradients of [x, weight, bias, state]"
        )

    @pytest.mark.part("MambaBlock")
    @pytest.mark.points(2)
    def test_block_gradients(self, submission, draw):
        """gradients reach the input, the state and every parameter"""
        weights, x, state = weights_of(draw), draw.normal(BATCH, 5, DIM, dtype=F64), block_state(draw)
        names = sorted(weights)

        def flat(x, conv_state, h, *parameters):
            y, last = blocked(dict(zip(names, parameters, strict=True)), x, (conv_state, h))
            return y, *last

        tensors = [x, *state, *(weights[name] for name in names)]
        upstream = upstream_of(draw, flat(*tensors))
        got = submission.run(block_gradients, SIZES, weights, x, state, upstream)
        expected = expected_gradients(flat, tensors, upstream)
        assert_close(got, expected, what=f"gradients of [x, *state, {', '.join(names)}]")

    @pytest.mark.part("MambaBlock")
    def test_padding_gradients(self, submission, draw):
        """with padding, real tokens and parameters get their gradients, and padding gets none"""
        weights, x = weights_of(draw), draw.normal(BATCH, 5, DIM, dtype=F64)
        upstream = draw.normal(BATCH, 5, DIM, dtype=F64)
        mask = torch.arange(5) >= torch.tensor([[0], [2]])
        upstream[~mask] = 0
        names = sorted(weights)

        def flat(x, *parameters):
            given = dict(zip(names, parameters, strict=True))
            alone = [blocked(given, x[:1])[0], blocked(given, x[1:, 2:])[0]]
            return torch.cat([alone[0], torch.cat([0 * x[1:, :2], alone[1]], dim=1)])

        got = submission.run(padded_gradients, SIZES, weights, x, mask, upstream)
        expected = expected_gradients(flat, [x, *(weights[name] for name in names)], [upstream])
        assert_close(got, expected, what=f"gradients of [x, {', '.join(names)}]")

    @pytest.mark.part("retention")
    def test_retention_gradients(self, submission, draw):
        """queries, keys, values, gamma and the state get their gradients"""
        tensors = [*heads(draw, 7), draw.normal(BATCH, H, N, M, dtype=F64)]
        upstream = upstream_of(draw, retained(*tensors))
        got = submission.run(gradients, "retention", tensors, upstream)
        assert_close(got, expected_gradients(retained, tensors, upstream), what="gradients of [q, k, v, gamma, S]")

    @pytest.mark.part("lru")
    def test_lru_gradients(self, submission, draw):
        """all parameters of the linear recurrent unit, its input and its state get their gradients"""
        tensors = [*unit(draw, 7), complex_of(draw, BATCH, N)]
        upstream = upstream_of(draw, lru_of(*tensors))
        got = submission.run(gradients, "lru", tensors, upstream)
        expected = expected_gradients(lru_of, tensors, upstream)
        assert_close(got, expected, what="gradients of [u, nu, theta, B, C, D, x]")


class TestStability:
    @pytest.mark.part("parallel_scan")
    @pytest.mark.points(2)
    def test_underflow(self, submission, draw):
        """the product of all a underflows, some are 0 and some negative: the states are right"""
        a, b = draw.uniform(BATCH, 350, E, low=-0.2, high=0.2, dtype=F64), draw.normal(BATCH, 350, E, dtype=F64)
        a[:, 5::40] = 0
        assert_close(submission.parallel_scan(a, b), scanned(a, b), what="all states", dtype=F64)

    @SCANS
    def test_half_precision(self, submission, draw, name):
        """bfloat16 and float16 are computed in float32: y is rounded once, and the state is float32"""
        halves = [torch.bfloat16, torch.float16]
        inputs = [tokens(draw, dtype=dtype) for dtype in halves]
        for dtype, arguments, (types, got) in zip(halves, inputs, submission.run(rounded, name, inputs), strict=True):
            assert_equal(types, [dtype, torch.float32], what=f"types of (y, last state) for {dtype}")
            y, h = selective(*(x.double() for x in arguments))
            assert_close(got[1], h, what="last state", rtol=1e-5, atol=1e-5, reason="roundings to float32 are allowed")
            rtol = torch.finfo(dtype).eps
            assert_close(got[0], y, what="y", rtol=rtol, atol=1e-5, reason=f"one rounding to {dtype} is allowed")

    @SCANS
    def test_large_steps(self, submission, draw, name):
        """steps of 10000 forget everything before: results and gradients stay finite and right"""
        tensors = tokens(draw, 6)
        tensors[1][:, 2:4, 1:3] = 1e4
        upstream = upstream_of(draw, selective(*tensors))
        got = submission.run(gradients, name, tensors, upstream)
        expected = expected_gradients(selective, tensors, upstream)
        assert_close(got, expected, what="gradients of [u, delta, A, B, C, D]")

    @pytest.mark.part("MambaBlock")
    def test_softplus(self, submission, draw):
        """steps far beyond where the exponential overflows are right, in float32"""
        weights, x = weights_of(draw), draw.normal(BATCH, L, DIM, dtype=F64)
        weights["dt_proj.bias"][:2] = torch.tensor([1000.0, -1000.0])
        got = submission.run(run_block, SIZES, {k: w.float() for k, w in weights.items()}, x.float())
        y, _ = blocked(weights, x)
        reason = "a step of 1000 scales the rounding of what it multiplies"
        assert_close(got[0].double() / 1000, y / 1000, what="y / 1000", rtol=1e-4, atol=1e-5, reason=reason)

    @pytest.mark.part("retention")
    def test_strong_decay(self, submission, draw):
        """powers of gamma that underflow, and whose inverses overflow, over 200 tokens"""
        q, k, v, gamma = heads(draw, 200)
        gamma[1] = 0.01
        got = submission.retention(q, k, v, gamma)
        assert_close(got, retained(q, k, v, gamma), what="(o, last state)", dtype=F64)

    @pytest.mark.part("lru")
    def test_near_the_circle(self, submission, draw):
        """where r is within 1e-9 of 1 the scale of the inputs is not what cancellation leaves, in float32"""
        u, nu, theta, B, C, D = unit(draw)
        nu[1:3], B[1:3] = -20.0, 2e4 * B[1:3]
        arguments = [u, nu, theta, B, C, D]
        y, _ = lru_of(*arguments)
        narrow = [x.to(torch.complex64 if x.is_complex() else torch.float32) for x in arguments]
        got, _ = submission.lru(*narrow)
        reason = "the roundings of eleven steps in float32 are allowed"
        assert_close(got, y.float(), what="y", dtype=torch.float32, rtol=1e-3, atol=1e-3, reason=reason)


class TestEdgeCases:
    @pytest.mark.part("parallel_scan")
    @pytest.mark.points(2)
    def test_lengths(self, submission, draw):
        """any length will do, powers of 2 or not"""
        lengths = [1, 2, 3, 4, 6, 8, 9, 15]
        a, b, h = (
            draw.normal(BATCH, 15, E, dtype=F64),
            draw.normal(BATCH, 15, E, dtype=F64),
            draw.normal(BATCH, E).double(),
        )
        expected = [scanned(a, b, h)[:, :length] for length in lengths]
        assert_close(submission.run(scans_of_lengths, a, b, h, lengths), expected, what=f"states for L in {lengths}")

    @pytest.mark.part("parallel_scan")
    def test_parts(self, submission, draw):
        """a complex scan in two parts, the state handed on, is the scan of the whole; time lies last in memory"""
        a, b = (complex_of(draw, BATCH, E, L).mT for _ in range(2))
        whole, parts = submission.run(scans_in_parts, a, b, 4)
        assert_close(whole, scanned(a, b), what="all states", dtype=C128)
        assert_close(parts, whole, what="states of two scans, against those of one")

    @pytest.mark.part("chunked_scan")
    def test_chunk_sizes(self, submission, draw):
        """chunks of one, chunks that divide L or not, and one chunk that is longer"""
        sizes = [1, 5, 11, 64]
        arguments = [*tokens(draw), draw.normal(BATCH, E, N, dtype=F64)]
        expected = [selective(*arguments)] * len(sizes)
        assert_close(submission.run(chunked, arguments, sizes), expected, what=f"(y, state) for chunks of {sizes}")

    @SCANS
    def test_one_token(self, submission, draw, name):
        """a sequence of one token, with an expanded state and inputs that lie in memory in another order"""
        u, delta, A, B, C, D = tokens(draw, 1)
        arguments = [u, delta, A.T.contiguous().T, B, C, D, draw.normal(1, E, N, dtype=F64).expand(BATCH, E, N)]
        got = getattr(submission, name)(*arguments)
        assert_close(got, selective(*arguments), what="(y, last state)", dtype=F64)

    @pytest.mark.part("causal_conv")
    @pytest.mark.points(2)
    def test_short_pieces(self, submission, draw):
        """pieces shorter than the taps, one input at a time among them, give what the whole gives"""
        x, weight, bias = draw.normal(BATCH, L, E, dtype=F64), draw.normal(E, 5, dtype=F64), draw.normal(E, dtype=F64)
        got = submission.run(conv_in_parts, x, weight, bias, [1, 2, 1, 1, 6])
        assert_close(got, convolved(x, weight, bias), what="(all y, last state)", dtype=F64)

    @pytest.mark.part("MambaBlock")
    @pytest.mark.points(2)
    def test_padding(self, submission, draw):
        """prompts padded on the left give what they give alone: outputs and states"""
        weights, x = weights_of(draw), draw.normal(BATCH, L, DIM, dtype=F64)
        mask = torch.arange(L) >= torch.tensor([[0], [4]])
        y, state = submission.run(run_block, SIZES, weights, x, None, mask)
        alone = [blocked(weights, x[:1]), blocked(weights, x[1:, 4:])]
        got = y[:1], y[1:, 4:]
        assert_close(got, tuple(y for y, _ in alone), what="y of each prompt's real tokens", dtype=F64)
        expected = tuple(torch.cat(parts) for parts in zip(*(last for _, last in alone), strict=True))
        assert_close(state, expected, what="state", dtype=F64)

    @pytest.mark.part("MambaBlock")
    def test_short_prompt(self, submission, draw):
        """a prompt of one token, shorter than the taps, and steps from there"""
        weights, x = weights_of(draw), draw.normal(BATCH, 4, DIM, dtype=F64)
        got = submission.run(decoded, SIZES, weights, x, 1)
        assert_close(got, blocked(weights, x), what="(all y, last state)", dtype=F64)


def assert_few(cost, doublings):
    """At most 40 operators for each doubling of L, and 100 beside."""
    why = f"40 for each of {doublings} doublings, and 100 beside"
    assert_cost(cost, "operators", at_most=40 * doublings + 100, why=why)


class TestPerformance:
    @pytest.mark.part("parallel_scan")
    @pytest.mark.points(3)
    def test_scan_cost(self, submission, draw):
        """the scan has logarithmic depth, and no tensor of L x L"""
        cost = submission.measure("parallel_scan", draw.uniform(BATCH, 512), draw.normal(BATCH, 512)).cost
        assert_few(cost, 9)
        at_most = 6 * BATCH * 512 * 4
        assert_cost(cost, "largest_bytes", at_most=at_most, why="six numbers for each one of b; L x L are too many")

    @pytest.mark.part("selective_scan")
    @pytest.mark.points(2)
    def test_one_state(self, submission, draw):
        """the sequential scan keeps one state: no tensor of L E N, and memory that does not grow with L N"""
        channels, states = 16, 64
        costs = []
        for length in (16, 32):
            arguments = tokens(draw, length, torch.float32, channels, states)
            costs.append(submission.measure("selective_scan", *arguments).cost)
        at_most = 4 * BATCH * 32 * states * 4
        assert_cost(
            costs[1],
            "largest_bytes",
            at_most=at_most,
            why="four times the size of B; the states of all tokens are 16 times its size",
        )
        assert_growth(*costs, "operators", at_most=2.2, when="L doubles")
        state = BATCH * channels * states * 4
        more = costs[1].peak_bytes - costs[0].peak_bytes
        assert_that(more <= 8 * state, "at most 8 states more in memory for 16 tokens more", got=f"{more / state:.3g}")

    @pytest.mark.part("chunked_scan")
    @pytest.mark.points(2)
    def test_chunks_cost(self, submission, draw):
        """within a chunk the scan is parallel, and only one chunk's states are in memory"""
        long = submission.measure("chunked_scan", *tokens(draw, 512, torch.float32, 3, 2), None, 512).cost
        assert_few(long, 9)
        short = submission.measure("chunked_scan", *tokens(draw, 256, torch.float32), None, 16).cost
        at_most = 6 * BATCH * 16 * E * N * 4
        assert_cost(
            short, "largest_bytes", at_most=at_most, why="6 times the states of a chunk; those of all 16 are too many"
        )

    @pytest.mark.part("causal_conv")
    def test_conv_cost(self, submission, draw):
        """the convolution has no loop over time, and no tensor of L x L"""
        weight, bias = draw.normal(E, K), draw.normal(E)
        costs = [submission.measure("causal_conv", draw.normal(BATCH, n, E), weight, bias).cost for n in (128, 256)]
        assert_growth(*costs, "operators", at_most=1.0, when="L doubles")
        at_most = 4 * K * BATCH * E * 256 * 4
        assert_cost(costs[1], "largest_bytes", at_most=at_most, why="4 K numbers for each one of x; L x L are too many")

    @pytest.mark.part("MambaBlock")
    @pytest.mark.points(3)
    def test_step_cost(self, submission, draw):
        """a step costs the same after 3 tokens and after 30, and so does its state"""
        weights, x = weights_of(draw, torch.float32), draw.normal(BATCH, 31, DIM)
        early, late = (submission.measure(last_step, SIZES, weights, x[:, : n + 1]) for n in (3, 30))
        assert_equal(late.value, early.value, what="numbers in the state after 30 tokens, as after 3")
        for metric in ("operators", "flops", "peak_bytes"):
            assert_growth(early.cost, late.cost, metric, at_most=1.0, when="10 times as many tokens have been seen")

    @pytest.mark.part("retention")
    def test_retention_cost(self, submission, draw):
        """retention is a scan: logarithmic depth, and no tensor of L x L"""
        shapes = ((BATCH, 512, 3, 2), (BATCH, 512, 3, 2), (BATCH, 512, 3, 4))
        arguments = [*(draw.normal(*shape) for shape in shapes), draw.uniform(3, low=0.5, high=0.95)]
        cost = submission.measure("retention", *arguments).cost
        assert_few(cost, 9)
        at_most = 6 * 512 * BATCH * 3 * 2 * 4 * 4
        assert_cost(cost, "largest_bytes", at_most=at_most, why="6 times the states; L x L scores are too many")

    @pytest.mark.part("lru")
    def test_lru_cost(self, submission, draw):
        """the linear recurrent unit is a scan: logarithmic depth, and no tensor of L x L"""
        arguments = [x.to(torch.complex64 if x.is_complex() else torch.float32) for x in unit(draw, 512)]
        cost = submission.measure("lru", *arguments).cost
        assert_few(cost, 9)
        at_most = 6 * 512 * BATCH * N * 8
        assert_cost(cost, "largest_bytes", at_most=at_most, why="6 times the states; L x L are too many")
