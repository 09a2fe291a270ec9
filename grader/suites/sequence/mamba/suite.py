"""Hidden suite for sequence/mamba: recurrences summed up explicitly in float64, gradients through them, counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.probes import back, gradients, loaded, several
from grader.properties import (
    EVERY_FUNCTION,
    case,
    empty_and_single,
    given,
    holds,
    is_differentiable,
    on,
    parameters_are_read_each_time,
    rounds_once,
    type_follows,
)
from grader.suite import probe

# --- probes ---


@probe
def scans_in_parts(module, a, b, cut):
    """A scan, and the same in two parts with the state handed on."""
    whole = module.parallel_scan(a, b)
    start = module.parallel_scan(a[:, :cut], b[:, :cut])
    end = module.parallel_scan(a[:, cut:], b[:, cut:], start[:, -1])
    return whole, torch.cat([start, end], dim=1)


@probe
def conv_in_parts(module, x, weight, bias, cuts):
    """The outputs and the last state of a convolution over pieces of x, each with the state of those before."""
    outputs, state = [], None
    for piece in x.split(cuts, dim=1):
        y, state = module.causal_conv(piece, weight, bias, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


@probe
def block_of(module, weights):
    """A block with given weights, whose outputs are zeros at padding, where they may be anything."""
    inner, dim = weights["out_proj.weight"].shape[::-1]
    states, kernel, rank = (weights[name].shape[1] for name in ("A_log", "conv_weight", "dt_proj.weight"))
    settings = dict(dim=dim, inner=inner, states=states, kernel=kernel, rank=rank)
    made = loaded(module, "MambaBlock", settings, weights)

    def only_real(_, args, how, result):
        mask = how.get("mask")
        return result if mask is None else (torch.where(mask[..., None], result[0], 0), result[1])

    made.register_forward_hook(only_real, with_kwargs=True)
    return made


@probe
def step_of(module, weights):
    """A block's method for single tokens."""
    return block_of(module, weights).step


@probe
def run_block(module, weights, x, state=None, **how):
    """A block's outputs, zeros at padding, and its state."""
    return block_of(module, weights)(x, state, **how)


@probe
def decoded(module, weights, x, prompt, mask=None):
    """A prompt, and then step by step: all outputs, zeros at padding, and the last state."""
    made = block_of(module, weights)
    y, state = made(x[:, :prompt], mask=mask)
    outputs = [y]
    for t in range(prompt, x.shape[1]):
        y, state = made.step(x[:, t], state)
        outputs.append(y[:, None])
    return torch.cat(outputs, dim=1), state


@probe
def last_step(module, meter, weights, x):
    """The cost of the last step; all others have gone before. Returns how many numbers the state has then."""
    made = block_of(module, weights)
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


def scanned(a, b, h=None):
    """All states, step by step."""
    h, states = torch.zeros_like(b[:, 0]) if h is None else h, []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def discrete(u, delta, A, B):
    """The steps a and b of a selective scan."""
    return torch.exp(torch.einsum("...e,en->...en", delta, A)), torch.einsum("...e,...n->...en", delta * u, B)


def selective(u, delta, A, B, C, D, h=None, chunk_size=64):
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


def blocked(weights, x, state=None, mask=None):
    """y, zeros at padding, and the state of a block: each prompt by itself where there is padding."""
    if mask is not None:
        alone = [blocked(weights, row[seen][None]) for row, seen in zip(x, mask, strict=True)]
        y = [torch.nn.functional.pad(y, (0, 0, x.shape[1] - y.shape[1], 0)) for y, _ in alone]
        return torch.cat(y), tuple(torch.cat(parts) for parts in zip(*(last for _, last in alone), strict=True))
    conv_state, h = state or (None, None)
    channels, rank, states = len(weights["D"]), weights["dt_proj.weight"].shape[1], weights["A_log"].shape[1]
    inner = x @ weights["in_proj.weight"].T
    u, conv_state = convolved(inner[..., :channels], weights["conv_weight"], weights["conv_bias"], conv_state)
    u = silu(u)
    delta, B, C = (u @ weights["x_proj.weight"].T).split([rank, states, states], dim=-1)
    delta = delta @ weights["dt_proj.weight"].T + weights["dt_proj.bias"]
    delta = torch.logaddexp(delta, torch.zeros_like(delta))
    y, h = selective(u, delta, -weights["A_log"].exp(), B, C, weights["D"], h)
    return (y * silu(inner[..., channels:])) @ weights["out_proj.weight"].T, (conv_state, h)


def going_on(weights, x, prompt, mask=None):
    """What `decoded` gives: all of x is one prompt."""
    if mask is not None:
        mask = torch.nn.functional.pad(mask, (0, x.shape[1] - prompt), value=True)
    return blocked(weights, x, None, mask)


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


def tokens(draw, length=L, dtype=F64, channels=E, states=N, batch=BATCH):
    """u, delta, A, B, C, D."""
    return [
        draw.normal(batch, length, channels).to(dtype),
        draw.uniform(batch, length, channels, low=0.1, high=1.5).to(dtype),
        -draw.uniform(channels, states, low=0.2, high=1.5).to(dtype),
        draw.normal(batch, length, states).to(dtype),
        draw.normal(batch, length, states).to(dtype),
        draw.normal(channels).to(dtype),
    ]


def weights_of(draw, dtype=F64, dim=DIM, inner=E, states=N, kernel=K, rank=R):
    """The parameters of a block."""
    shapes = {
        "in_proj.weight": (2 * inner, dim),
        "conv_weight": (inner, kernel),
        "conv_bias": (inner,),
        "x_proj.weight": (rank + 2 * states, inner),
        "dt_proj.weight": (inner, rank),
        "dt_proj.bias": (inner,),
        "A_log": (inner, states),
        "D": (inner,),
        "out_proj.weight": (dim, inner),
    }
    return {name: (0.6 * draw.normal(*shape)).to(dtype) for name, shape in shapes.items()}


def block_state(draw, batch=BATCH):
    """A state of a block."""
    return draw.normal(batch, K - 1, E, dtype=F64), draw.normal(batch, E, N, dtype=F64)


def heads(draw, length=L, sizes=(BATCH, H, N, M)):
    """q, k, v and gamma."""
    batch, count, keys, values = sizes
    shapes = ((batch, length, count, size) for size in (keys, keys, values))
    return [*(draw.normal(*shape, dtype=F64) for shape in shapes), draw.uniform(count, low=0.5, high=0.95, dtype=F64)]


def complex_of(draw, *shape, dtype=C128):
    return torch.complex(draw.normal(*shape, dtype=F64), draw.normal(*shape, dtype=F64)).to(dtype)


def unit(draw, length=L, sizes=(BATCH, H, N)):
    """u, nu, theta, B, C, D."""
    batch, width, states = sizes
    return [
        draw.normal(batch, length, width, dtype=F64),
        draw.uniform(states, low=-3, high=0, dtype=F64),
        draw.uniform(states, low=-2, high=1, dtype=F64),
        complex_of(draw, states, width),
        complex_of(draw, width, states),
        draw.normal(width, dtype=F64),
    ]


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
        assert_close(submission.discretise(u, delta, A, B), discrete(u, delta, A, B), what="(a, b)", dtype=F64)

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

    @pytest.mark.part("causal_conv")
    @pytest.mark.points(2)
    def test_conv(self, submission, draw):
        """the last tap meets the present input, and the state holds the last inputs"""
        x, weight, bias = draw.normal(BATCH, L, E, dtype=F64), draw.normal(E, K, dtype=F64), draw.normal(E, dtype=F64)
        arguments, state = [x, weight, bias], draw.normal(BATCH, K - 1, E, dtype=F64)
        got = submission.run(several, "causal_conv", [(arguments, {}), ([*arguments, state], {})])
        expected = [convolved(*arguments), convolved(*arguments, state)]
        assert_close(got, expected, what="[(y, state) from zeros, from a state]", dtype=F64)

    @pytest.mark.part("MambaBlock")
    @GIVEN
    @pytest.mark.points(2)
    def test_block(self, submission, draw, given):
        """the block is the paper's, from a state as well"""
        weights, x = weights_of(draw), draw.normal(BATCH, L, DIM, dtype=F64)
        state = block_state(draw) if given else None
        got = submission.run(run_block, weights, x, state)
        assert_close(got, blocked(weights, x, state), what="(y, state)", dtype=F64)

    @pytest.mark.part("MambaBlock")
    @pytest.mark.points(3)
    def test_decoding(self, submission, draw):
        """a prompt and then single steps give what the whole sequence gives, outputs and state"""
        weights, x = weights_of(draw), draw.normal(BATCH, 7, DIM, dtype=F64)
        got = submission.run(decoded, weights, x, 3)
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
        got = submission.run(several, "lru", [(arguments, {}), ([*arguments, x], {})])
        assert_close(
            got, [lru_of(*arguments), lru_of(*arguments, x)], what="[(y, last state) from zeros, from a state]"
        )


class TestStability:
    @pytest.mark.part("parallel_scan")
    @pytest.mark.points(2)
    def test_underflow(self, submission, draw):
        """the product of all a underflows, some are 0 and some negative: the states are right"""
        a, b = draw.uniform(BATCH, 350, E, low=-0.2, high=0.2, dtype=F64), draw.normal(BATCH, 350, E, dtype=F64)
        a[:, 5::40] = 0
        assert_close(submission.parallel_scan(a, b), scanned(a, b), what="all states", dtype=F64)

    @SCANS
    def test_large_steps(self, submission, draw, name):
        """steps of 10000 forget everything before: results and gradients stay finite and right"""
        tensors = tokens(draw, 6)
        tensors[1][:, 2:4, 1:3] = 1e4
        leaves = [x.clone().requires_grad_() for x in tensors]
        results = selective(*leaves)
        upstream = [draw.normal(*y.shape, dtype=F64) for y in results]
        got = submission.run(gradients, name, tensors, upstream)
        expected = back(results, leaves, upstream)
        assert_close(got, expected, what="([y, last state], gradients of [u, delta, A, B, C, D])")

    @pytest.mark.part("MambaBlock")
    def test_softplus(self, submission, draw):
        """steps far beyond where the exponential overflows are right, in float32"""
        weights, x = weights_of(draw), draw.normal(BATCH, L, DIM, dtype=F64)
        weights["dt_proj.bias"][:2] = torch.tensor([1000.0, -1000.0])
        got = submission.run(run_block, {k: w.float() for k, w in weights.items()}, x.float())
        y, _ = blocked(weights, x)
        reason = "a step of 1000 scales the rounding of what it multiplies"
        assert_close(got[0].double() / 1000, y / 1000, what="y / 1000", rtol=1e-4, atol=1e-5, reason=reason)

    @pytest.mark.part("MambaBlock")
    def test_half_block(self, submission, draw):
        """a bfloat16 block gives bfloat16, and keeps its state h in float32, digits included"""
        weights, x = weights_of(draw, torch.bfloat16), draw.normal(BATCH, L, DIM, dtype=torch.bfloat16)
        y, (conv_state, h) = submission.run(decoded, weights, x, 3)
        kinds = [torch.bfloat16, torch.bfloat16, torch.float32]
        assert_equal([y.dtype, conv_state.dtype, h.dtype], kinds, what="types of y and the state's two parts")
        digits = (h != h.bfloat16().float()).any()
        assert_that(digits, "the state h has more digits than bfloat16 holds", got="a rounded state")

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
        a, b, h = (draw.normal(*shape, dtype=F64) for shape in ((BATCH, 15, E), (BATCH, 15, E), (BATCH, E)))
        expected = [scanned(a, b, h)[:, :length] for length in lengths]
        got = submission.run(several, "parallel_scan", [((a[:, :n], b[:, :n], h), {}) for n in lengths])
        assert_close(got, expected, what=f"states for L in {lengths}")

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
        got = submission.run(several, "chunked_scan", [(arguments, {"chunk_size": size}) for size in sizes])
        assert_close(got, [selective(*arguments)] * len(sizes), what=f"(y, state) for chunks of {sizes}")

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
        got = submission.run(run_block, weights, x, mask=mask)
        assert_close(got, blocked(weights, x, None, mask), what="(y of real tokens, state)", dtype=F64)

    @pytest.mark.part("MambaBlock")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("lengths", [[1], [2], [4, 1], [2, 6, 3]], ids=str)
    def test_padding_and_steps(self, submission, draw, lengths):
        """one padded prompt or several, also with fewer tokens than taps, and steps from there"""
        weights, prompt = weights_of(draw), max(4, *lengths)
        mask = torch.arange(prompt) >= prompt - torch.tensor(lengths)[:, None]
        x = draw.normal(len(lengths), prompt + 3, DIM, dtype=F64)
        x[:, :prompt][~mask] *= 50
        got = submission.run(decoded, weights, x, prompt, mask)
        assert_close(got, going_on(weights, x, prompt, mask), what="(y of real tokens, last state)", dtype=F64)


def calls_of(make, *sizes, **how):
    """Calls with the state that comes last in what `make` gives and without it, in turn."""

    def drawn(draw):
        calls = []
        for number, size in enumerate(sizes):
            arguments = make(draw, *size)
            named = {key: values[number] for key, values in how.items()}
            calls.append(given(*arguments[: len(arguments) - number % 2], **named))
        return calls

    return drawn


def steps_of(draw, *shape, make=None):
    """a, b and a state."""
    a, b = (make(draw, *shape) if make else draw.normal(*shape, dtype=F64) for _ in range(2))
    return a, b, b[:, 0] + 1


def pairs(draw):
    """Real and complex steps, and one number."""
    shapes = (((BATCH, 2, E), None), ((3, 2, 2), complex_of), ((1, 2, 1), None))
    every = [steps_of(draw, *shape, make=make)[:2] for shape, make in shapes]
    return [given((a[:, 0], b[:, 0]), (a[:, 1], b[:, 1])) for a, b in every]


def scans(draw):
    """Real and complex steps with more axes and without, and single steps."""
    real = calls_of(steps_of, (BATCH, L, E, N), (1, 8), (2, 1, 1), (3, 1, 2))
    return [*real(draw), given(*steps_of(draw, BATCH, 6, E, make=complex_of))]


def rows_of(draw):
    """u, delta, A and B: whole sequences, one token of each, and one token."""
    whole, few = tokens(draw)[:4], tokens(draw, 1, F64, 2, 1, 3)[:4]
    u, delta, A, B = tokens(draw, 1, F64, 1, 3, 1)[:4]
    return [
        given(*whole),
        given(*(x[:, 0] if x.ndim == 3 else x for x in few)),
        given(u[0, 0], delta[0, 0], A, B[0, 0]),
    ]


def from_state(draw, length, channels, states, batch):
    """The arguments of a selective scan, and a state."""
    return *tokens(draw, length, F64, channels, states, batch), draw.normal(batch, channels, states, dtype=F64)


def taps_of(draw, batch, length, channels, taps):
    """x, weight, bias, and a state."""
    shapes = ((batch, length, channels), (channels, taps), (channels,), (batch, taps - 1, channels))
    return [draw.normal(*shape, dtype=F64) for shape in shapes]


def prompts(draw):
    """The next part of a sequence, a prompt, a part of one, and a single token; and left padding of several, and of one."""
    shapes = ((BATCH, L, DIM), (BATCH, 4, DIM), (1, 2, DIM), (1, 1, DIM))
    calls = calls_of(lambda draw, *shape: (draw.normal(*shape, dtype=F64), block_state(draw, shape[0])), *shapes)(draw)
    for lengths in ([3, 6, 1], [1], [4]):
        mask = torch.arange(6) >= 6 - torch.tensor(lengths)[:, None]
        calls.append(given(draw.normal(len(lengths), 6, DIM, dtype=F64), mask=mask))
    return on((weights_of(draw),), *calls)


def single_tokens(draw):
    """A token of each sequence of a batch, and of one."""
    return on((weights_of(draw),), *(given(draw.normal(n, DIM, dtype=F64), block_state(draw, n)) for n in (BATCH, 1)))


def smallest(draw):
    """One of everything, in a block of one channel and one state."""
    weights = weights_of(draw, dim=1, inner=1, states=1, kernel=2, rank=1)
    return on((weights,), given(draw.normal(1, 1, 1, dtype=F64)), given(draw.normal(2, 3, 1, dtype=F64)))


def one_token(weights, x, state):
    """y and the state of a step."""
    y, state = blocked(weights, x[:, None], state)
    return y[:, 0], state


def with_matrices(draw, length, *sizes):
    """The arguments of retention, and a state."""
    return *heads(draw, length, sizes), draw.normal(*sizes, dtype=F64)


def with_units(draw, length, *sizes):
    """The arguments of the linear recurrent unit, and a state."""
    return *unit(draw, length, sizes), complex_of(draw, sizes[0], sizes[2])


FUNCTION = (*EVERY_FUNCTION, is_differentiable, empty_and_single)
SCANNED = ((L, E, N, BATCH), (5, 2, 3, 1), (1, 1, 1, 2))
HALF = rounds_once(wide=(1,), kept=(6,))
TestProperties = holds(
    case("combine", pairs, *FUNCTION, expect=lambda one, two: (two[0] * one[0], two[0] * one[1] + two[1])),
    case("parallel_scan", scans, *FUNCTION, expect=scanned),
    case("discretise", rows_of, *FUNCTION, expect=discrete),
    case("selective_scan", calls_of(from_state, *SCANNED), *FUNCTION, HALF, expect=selective),
    case("chunked_scan", calls_of(from_state, *SCANNED, chunk_size=(4, 5, 1)), *FUNCTION, HALF, expect=selective),
    *(
        case(
            name,
            lambda draw: [given(*tokens(draw))],
            type_follows(*places, wide=(1,)),
            expect=selective,
            name=f"{name}, {what}",
        )
        for name in ("selective_scan", "chunked_scan")
        for places, what in (((0,), "u alone"), ((0, 1, 3, 4), "all but A and D"))
    ),
    case(
        "causal_conv",
        calls_of(taps_of, (BATCH, L, E, K), (1, 2, 3, 5), (3, 1, 1, 2), (BATCH, 3, 2, 4), (1, 2, 2, 4)),
        *FUNCTION,
        expect=convolved,
    ),
    case("MambaBlock", prompts, *FUNCTION, parameters_are_read_each_time, made=block_of, expect=blocked),
    case("MambaBlock", smallest, empty_and_single, made=block_of, expect=blocked, name="smallest block"),
    case(
        "MambaBlock",
        single_tokens,
        *EVERY_FUNCTION,
        empty_and_single,
        made=step_of,
        expect=one_token,
        target="MambaBlock.step",
        name="step",
    ),
    case(
        "retention",
        calls_of(with_matrices, (L, BATCH, H, N, M), (4, 1, 2, 3, 1), (1, 1, 1, 1, 1), (1, 2, 1, 2, 3)),
        *FUNCTION,
        expect=retained,
    ),
    case(
        "lru",
        calls_of(with_units, (L, BATCH, H, N), (4, 1, 1, 3), (1, 2, 2, 1), (1, 1, 1, 1)),
        *FUNCTION,
        expect=lru_of,
    ),
)


def assert_few(cost, doublings):
    """At most 40 operators for each doubling of L, and 100 beside."""
    why = f"40 for each of {doublings} doublings, and 100 beside"
    assert_cost(cost, "operators", at_most=40 * doublings + 100, why=why)


class TestPerformance:
    @pytest.mark.part("parallel_scan")
    @pytest.mark.points(3)
    def test_scan_cost(self, submission, draw):
        """the scan has logarithmic depth, and no tensor of L x L"""
        cost = submission.measure("parallel_scan", draw.uniform(BATCH, 512, 8), draw.normal(BATCH, 512, 8)).cost
        assert_few(cost, 9)
        at_most = 6 * BATCH * 512 * 8 * 4
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
        costs = []
        for length in (128, 256):
            arguments = tokens(draw, length, torch.float32, 16, 16)
            costs.append(submission.measure("chunked_scan", *arguments, None, 16).cost)
        chunk = BATCH * 16 * 16 * 16 * 4
        why = "6 times the states of a chunk; those of all 16 are too many"
        assert_cost(costs[1], "largest_bytes", at_most=6 * chunk, why=why)
        why = "40 for each of 4 doublings and 100 beside, for each of 16 chunks"
        assert_cost(costs[1], "operators", at_most=16 * (40 * 4 + 100), why=why)
        more = costs[1].peak_bytes - costs[0].peak_bytes
        assert_that(
            more <= 4 * chunk,
            "the states of at most 4 chunks more in memory for 8 chunks more",
            got=f"{more / chunk:.3g}",
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
        early, late = (submission.measure(last_step, weights, x[:, : n + 1]) for n in (3, 30))
        assert_equal(late.value, early.value, what="numbers in the state after 30 tokens, as after 3")
        for metric in ("operators", "flops", "peak_bytes"):
            assert_growth(early.cost, late.cost, metric, at_most=1.0, when="10 times as many tokens have been seen")

    @pytest.mark.part("retention")
    def test_retention_cost(self, submission, draw):
        """retention is a scan: logarithmic depth, and no tensor of L x L"""
        arguments = [x.float() for x in heads(draw, 512, (BATCH, 6, 2, 2))]
        cost = submission.measure("retention", *arguments).cost
        assert_few(cost, 9)
        at_most = 6 * 512 * BATCH * 6 * 2 * 2 * 4
        assert_cost(cost, "largest_bytes", at_most=at_most, why="6 times the states; L x L scores are too many")

    @pytest.mark.part("lru")
    def test_lru_cost(self, submission, draw):
        """the linear recurrent unit is a scan: logarithmic depth, and no tensor of L x L"""
        arguments = [x.to(torch.complex64 if x.is_complex() else torch.float32) for x in unit(draw, 512)]
        cost = submission.measure("lru", *arguments).cost
        assert_few(cost, 9)
        at_most = 6 * 512 * BATCH * N * 8
        assert_cost(cost, "largest_bytes", at_most=at_most, why="6 times the states; L x L are too many")
