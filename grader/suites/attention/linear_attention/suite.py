"""Hidden suite for attention/linear_attention: the explicit T x T formula in float64, its gradients, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.probes import back, gradients, rounded, vjp
from grader.properties import (
    EVERY_FUNCTION,
    case,
    given,
    holds,
    is_differentiable,
    rounds_once,
    type_follows,
)
from grader.suite import probe

# --- probes ---


@probe
def output_of(result):
    """The output alone; the causal form returns its state beside it."""
    return result if torch.is_tensor(result) else result[0]


@probe
def mapped(module, x):
    """phi(x) and its derivative, element by element."""
    x = x.clone().requires_grad_()
    y = module.feature_map(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


@probe
def output_gradients(module, name, q, k, v, upstream, **call):
    """The output, and what reaches q, k and v when `upstream` arrives at it."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    return back(output_of(getattr(module, name)(*leaves, **call)), leaves, upstream)


@probe
def decoded(module, q, k, v):
    """Step by step from nothing: all outputs, and the last state."""
    outputs, state = [], None
    for t in range(q.shape[2]):
        y, state = module.linear_attention_step(q[:, :, t], k[:, :, t], v[:, :, t], state)
        outputs.append(y)
    return torch.stack(outputs, dim=2), list(state)


@probe
def last_step(module, meter, q, k, v):
    """The cost of the last step; all others have gone before."""
    state = None
    for t in range(q.shape[2] - 1):
        _, state = module.linear_attention_step(q[:, :, t], k[:, :, t], v[:, :, t], state)
    q, k, v = q[:, :, -1], k[:, :, -1], v[:, :, -1]
    with meter:
        _, state = module.linear_attention_step(q, k, v, state)
    return sum(x.numel() for x in state)


# --- oracles ---


def phi(x):
    """elu(x) + 1 as the sum of its two sides, in float64."""
    x = x.double()
    return x.clamp(max=0).exp() + x.clamp(min=0)


def explicit(q, k, v, mask=None, causal=False, state=None):
    """Every score written out, (B, H, L, T), in float64."""
    scores = phi(q) @ phi(k).mT
    keep = torch.ones(scores.shape[-2:], dtype=torch.bool)
    keep = keep.tril() if causal else keep
    if mask is not None:
        keep = keep & mask[:, None, None, :]
    scores = scores * keep
    numerator, denominator = scores @ v.double(), scores.sum(dim=-1, keepdim=True)
    if state is not None:
        numerator = numerator + phi(q) @ state[0].double()
        denominator = denominator + phi(q) @ state[1].double()[..., None]
    return numerator / (denominator + (denominator == 0))


def summed(k, v, mask=None):
    """(S, z) over all tokens, in float64."""
    features = phi(k) if mask is None else phi(k) * mask[:, None, :, None]
    return torch.einsum("bhtd,bhtm->bhdm", features, v.double()), features.sum(dim=2)


def explicit_gradients(q, k, v, upstream, **how):
    """As the probe `gradients`, of the explicit formula."""
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    y = explicit(*leaves, **how)
    return y.detach(), vjp([y], leaves, [upstream])


F64 = torch.float64
B, H, T, D, M = 2, 3, 11, 5, 7
HOLES = torch.tensor([[1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0], [1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1]], dtype=torch.bool)


def tokens(draw, length=T, dtype=F64, shape=(B, H), dim=D, values=M):
    """q, k and v of so many tokens."""
    q, k = (draw.normal(*shape, length, dim, dtype=dtype) for _ in range(2))
    return q, k, draw.normal(*shape, length, values, dtype=dtype)


def past(draw):
    """The state after some tokens that no test sees again."""
    _, k, v = tokens(draw, 9)
    return summed(k, v)


def output(result):
    """The output alone; anything but (output, state) or a tensor is left to the check."""
    return result[0] if isinstance(result, list | tuple) and result else result


SEQUENCES = pytest.mark.parametrize(
    "name",
    [
        pytest.param("linear_attention", marks=pytest.mark.part("linear_attention")),
        pytest.param("causal_linear_attention", marks=pytest.mark.part("causal_linear_attention")),
    ],
)


class TestValues:
    @pytest.mark.part("feature_map")
    def test_feature_map(self, submission, draw):
        """phi is x + 1 above zero and e^x below"""
        x = 3 * draw.normal(4, T, D, dtype=F64)
        assert_close(submission.feature_map(x), phi(x), what="phi(x)", dtype=F64)

    @pytest.mark.part("normalise")
    def test_normalise(self, submission, draw):
        """numerators are divided by their denominators, and 0 / 0 is 0"""
        numerator, denominator = draw.normal(4, T, M, dtype=F64), draw.uniform(4, T, 1, low=0.1, high=9, dtype=F64)
        numerator[1, ::2], denominator[1, ::2] = 0, 0
        expected = torch.where(denominator > 0, numerator / denominator, 0)
        assert_close(submission.normalise(numerator, denominator), expected, what="quotient", dtype=F64)

    @pytest.mark.part("linear_attention")
    @pytest.mark.points(2)
    def test_linear_attention(self, submission, draw):
        """every query weighs all values; there may be fewer queries than keys"""
        q, k, v = tokens(draw)
        q = q[:, :, :6].clone()
        got = submission.linear_attention(q, k, v)
        assert_close(got, explicit(q, k, v), what="output", dtype=F64)

    @pytest.mark.part("causal_linear_attention")
    @pytest.mark.points(2)
    @pytest.mark.parametrize(
        ("length", "chunk"),
        [(11, 4), (5, None), (1, 3)],
        ids=["ragged tail", "less than a chunk", "one token"],
    )
    def test_causal(self, submission, draw, length, chunk):
        """every query weighs the values up to its own, and the state sums up all tokens"""
        q, k, v = tokens(draw, length)
        call = {} if chunk is None else {"chunk_size": chunk}
        got = submission.causal_linear_attention(q, k, v, **call)
        assert_close(got, (explicit(q, k, v, causal=True), summed(k, v)), what="(output, (S, z))", dtype=F64)

    @pytest.mark.part("causal_linear_attention")
    def test_causal_goes_on(self, submission, draw):
        """given a state, the causal form goes on from there"""
        (q, k, v), state = tokens(draw), past(draw)
        got = submission.causal_linear_attention(q, k, v, chunk_size=4, state=state)
        total = tuple(a + b for a, b in zip(state, summed(k, v), strict=True))
        expected = (explicit(q, k, v, causal=True, state=state), total)
        assert_close(got, expected, what="(output, (S, z))", dtype=F64)

    @pytest.mark.part("linear_attention_step")
    def test_step(self, submission, draw):
        """a step adds its token to the state, and then reads"""
        (q, k, v), state = tokens(draw, 1), past(draw)
        got = submission.linear_attention_step(q[:, :, 0], k[:, :, 0], v[:, :, 0], state)
        total = tuple(a + b for a, b in zip(state, summed(k, v), strict=True))
        expected = (explicit(q, k, v, causal=True, state=state)[:, :, 0], total)
        assert_close(got, expected, what="(output, (S, z))", dtype=F64)

    @pytest.mark.part("linear_attention_step")
    @pytest.mark.points(2)
    def test_recurrence(self, submission, draw):
        """steps from nothing give what the causal form gives"""
        q, k, v = tokens(draw)
        got = submission.run(decoded, q, k, v)
        expected = (explicit(q, k, v, causal=True), summed(k, v))
        assert_close(got, expected, what="(outputs of all steps, (S, z))", dtype=F64)

    @SEQUENCES
    def test_average(self, submission, draw, name):
        """outputs are averages: where all values are 1, so are they"""
        q, k, v = tokens(draw)
        got = output(getattr(submission, name)(q, k, torch.ones_like(v)))
        assert_close(got, torch.ones_like(v), what="output for values of 1")


class TestGradients:
    @pytest.mark.part("feature_map")
    def test_feature_map_gradient(self, submission, draw):
        """the derivative of phi is 1 from zero on, zero included, and e^x below"""
        x = torch.cat([3 * draw.normal(T, dtype=F64), torch.zeros(2, dtype=F64)])
        got = submission.run(mapped, x)
        assert_close(got, (phi(x), x.clamp(max=0).exp()), what="(phi(x), its derivative)")

    @pytest.mark.part("normalise")
    def test_normalise_gradient(self, submission, draw):
        """both arguments get their gradients, and 0 / 0 sends 0 back"""
        numerator, denominator = draw.normal(4, T, M, dtype=F64), draw.uniform(4, T, 1, low=0.1, high=9, dtype=F64)
        upstream = draw.normal(4, T, M, dtype=F64)
        numerator[1, ::2], denominator[1, ::2] = 0, 0
        got = submission.run(gradients, "normalise", [numerator, denominator], upstream)[1]
        inverse = torch.where(denominator > 0, 1 / denominator, 0)
        expected = [upstream * inverse, -(upstream * numerator).sum(dim=-1, keepdim=True) * inverse**2]
        assert_close(got, expected, what="[gradient of numerator, of denominator]")


class TestStability:
    @pytest.mark.part("feature_map")
    @pytest.mark.points(2)
    @pytest.mark.parametrize(("dtype", "rtol"), [(torch.bfloat16, 2.0**-7), (torch.float16, 2.0**-9)], ids=str)
    def test_half_feature_map(self, submission, draw, dtype, rtol):
        """features near x = -8 are small, not 0, in half precision"""
        x = draw.uniform(4, T, low=-9, high=-6).to(dtype)
        got, values = submission.run(rounded, "feature_map", x)
        assert_equal(got, dtype, what="type of phi(x)")
        reason = f"two roundings to {dtype} are allowed"
        assert_close(values, phi(x), what="phi(x)", rtol=rtol, atol=1e-9, reason=reason)

    @pytest.mark.part("feature_map")
    def test_large_features(self, submission):
        """neither phi nor its derivative overflows"""
        x = torch.tensor([-1000.0, -100.0, -20.0, 20.0, 100.0, 1000.0])
        got = submission.run(mapped, x)
        expected = (phi(x).float(), x.clamp(max=0).exp())
        assert_close(got, expected, what="(phi(x), its derivative)", dtype=torch.float32)

    @SEQUENCES
    def test_large_inputs(self, submission, draw, name):
        """queries and keys of +-1000 give finite outputs and gradients"""
        (q, k, v), upstream = tokens(draw), draw.normal(B, H, T, M, dtype=F64)
        q[..., 0], q[..., 2], k[..., 1], k[..., 3] = 1000, -1000, 1000, -1000
        got = submission.run(output_gradients, name, q, k, v, upstream)
        expected = explicit_gradients(q, k, v, upstream, causal=name == "causal_linear_attention")
        assert_close(got, expected, what="(output, gradients of [q, k, v])")

    @pytest.mark.part("linear_attention")
    def test_small_denominators(self, submission, draw):
        """a small denominator is divided by as it is"""
        q, k, v = tokens(draw)
        got = submission.linear_attention(q - 12, k - 12, v)
        assert_close(got, explicit(q - 12, k - 12, v), what="output for queries and keys near -12")


class TestEdgeCases:
    @SEQUENCES
    @pytest.mark.points(2)
    def test_padding(self, submission, draw, name):
        """each row of a padded batch comes out as it does alone"""
        q, k, v = tokens(draw)
        lengths = (9, 6)
        mask = torch.arange(T) < torch.tensor(lengths)[:, None]
        got = output(getattr(submission, name)(q, k, v, mask=mask))
        for i, n in enumerate(lengths):
            alone = [x[i : i + 1, :, :n] for x in (q, k, v)]
            expected = explicit(*alone, causal=name == "causal_linear_attention")
            assert_close(got[i : i + 1, :, :n], expected, what=f"row {i}, with {n} real tokens of {T}")

    @SEQUENCES
    def test_no_key(self, submission, draw, name):
        """a query that sees no key gives 0, and gradients of 0"""
        (q, k, v), upstream = tokens(draw), draw.normal(B, H, T, M, dtype=F64)
        mask = torch.stack([torch.arange(T) >= 4, torch.zeros(T, dtype=torch.bool)])  # left padding; nothing real
        got = submission.run(output_gradients, name, q, k, v, upstream, mask=mask)
        expected = explicit_gradients(q, k, v, upstream, mask=mask, causal=name == "causal_linear_attention")
        assert_close(got, expected, what="(output, gradients of [q, k, v])")

    @pytest.mark.part("causal_linear_attention")
    def test_masked_state(self, submission, draw):
        """padding enters neither the sums nor the state"""
        q, k, v = tokens(draw)
        got = submission.causal_linear_attention(q, k, v, mask=HOLES, chunk_size=4)
        expected = (explicit(q, k, v, mask=HOLES, causal=True), summed(k, v, HOLES))
        assert_close(got, expected, what="(output, (S, z))", dtype=F64)

    @pytest.mark.part("causal_linear_attention")
    def test_future(self, submission, draw):
        """what comes later changes nothing earlier"""
        q, k, v = tokens(draw)
        before = output(submission.causal_linear_attention(q, k, v, chunk_size=4))
        for x in (q, k, v):
            x[:, :, 6:] += 3
        after = output(submission.causal_linear_attention(q, k, v, chunk_size=4))
        assert_close(after[:, :, :6], before[:, :, :6], what="outputs of tokens 0 to 5, when tokens 6 to 10 change")


def goes_on(q, k, v, state=None, mask=None, chunk_size=64):
    """Output and new state of the causal form, or of a step."""
    step = q.ndim == 3
    q, k, v = (x[:, :, None] for x in (q, k, v)) if step else (q, k, v)
    y, total = explicit(q, k, v, mask=mask, causal=True, state=state), summed(k, v, mask)
    if state is not None:
        total = tuple(a + b for a, b in zip(state, total, strict=True))
    return y[:, :, 0] if step else y, total


def causal_calls(draw):
    """With a mask, small chunks and a state, and with nothing and more tokens."""
    return [given(*tokens(draw), mask=HOLES, chunk_size=4, state=past(draw)), given(*tokens(draw, 70))]


def step_calls(draw):
    """On a state, and from nothing."""
    one, other = ([x[:, :, 0] for x in tokens(draw, 1)] for _ in range(2))
    return [given(*one, past(draw)), given(*other)]


TestProperties = holds(
    case(
        "feature_map",
        lambda draw: [given(3 * draw.normal(*shape, dtype=F64)) for shape in ((4, T, D), (3, 2))],
        *EVERY_FUNCTION,
        expect=phi,
    ),
    case(
        "normalise",
        lambda draw: [given(draw.normal(*s, M, dtype=F64), 2 + draw.uniform(*s, 1, dtype=F64)) for s in ((4, T), (3,))],
        *EVERY_FUNCTION,
        expect=lambda numerator, denominator: numerator / denominator,
    ),
    case(
        "linear_attention",
        lambda draw: [given(*tokens(draw), HOLES), given(*tokens(draw, 60))],
        *EVERY_FUNCTION,
        is_differentiable,
        rounds_once,
        type_follows(2),
        expect=explicit,
    ),
    case(
        "causal_linear_attention",
        causal_calls,
        *EVERY_FUNCTION,
        is_differentiable,
        rounds_once(wide=(1, 2), kept=("state",)),
        expect=goes_on,
    ),
    case(
        "linear_attention_step",
        step_calls,
        *EVERY_FUNCTION,
        is_differentiable,
        rounds_once(wide=(1, 2), kept=(3,)),
        expect=goes_on,
    ),
)


class TestPerformance:
    @SEQUENCES
    @pytest.mark.points(2)
    def test_growth(self, submission, draw, name):
        """time and memory grow with T; nothing is T x T or T x D x M"""
        # in numbers a token and head: T x T has 512, T x D x M 768, T x C 64, and q, k, v 24 and 32
        costs = [submission.measure(name, *tokens(draw, n, torch.float32, dim=24, values=32)).cost for n in (256, 512)]
        for metric in ("flops", "peak_bytes"):
            assert_growth(*costs, metric, at_most=2.2, when="T doubles")
        limit = 160 * B * H * 512 * 4
        assert_cost(costs[1], "largest_bytes", at_most=limit, why="160 floats a token and head, for D = 24 and M = 32")

    @pytest.mark.part("causal_linear_attention")
    def test_operators(self, submission, draw):
        """operators are as many as there are chunks, not tokens"""
        cost = submission.measure("causal_linear_attention", *tokens(draw, 512, torch.float32)).cost
        assert_cost(cost, "operators", at_most=900, why="100 for each of 8 chunks, and 100 beside")

    @pytest.mark.part("linear_attention_step")
    def test_step_cost(self, submission, draw):
        """a step costs the same after 4 tokens and after 32, and keeps no more"""
        few, many = (submission.measure(last_step, *tokens(draw, n, torch.float32)) for n in (4, 32))
        for metric in ("operators", "flops", "peak_bytes", "largest_bytes"):
            assert_growth(few.cost, many.cost, metric, at_most=1.0, when="a step comes after 32 tokens and not after 4")
        size = B * H * (D * M + D)
        assert_that(many.value == size, f"a state of B H (D M + D) = {size} numbers", got=f"{many.value} numbers")
