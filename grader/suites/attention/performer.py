"""Hidden suite for attention/performer: the explicit formulas in float64, quadrature instead of luck, and counted costs."""

import math

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe
from grader.probes import vjp

EXERCISE = Exercise(
    title="Performer",
    level="stretch",
    minutes=55,
    after=("linear_attention",),
    needs=("torch",),
    forbid=("softmax",),
    hints=(
        "`torch.linalg.qr` of a block's transpose gives orthogonal columns that span the right spaces, with signs of its "
        "own choice. Gram-Schmidt has a positive diagonal in R.",
        "With logarithms, a stabiliser is a subtraction. Which subtractions cancel in the fraction? Whatever depends on the "
        "query alone; and whatever depends on the feature alone, if queries get back what keys lose.",
        "For the variances, add exponents before you take the exponential, compute |x - y|^2 and |x + y|^2 from the "
        "difference and the sum, and look at `torch.expm1`.",
        "In the causal form keep, beside the two sums over earlier keys, the maxima c that they are relative to. When a "
        "chunk raises the maxima, multiply the old sums by e^(old c - new c) first: earlier keys act like one more key whose "
        "logarithms are c.",
        "The maxima are constants, those that are carried from chunk to chunk too: a maximum that is a constant in one place "
        "and has a gradient in another does not cancel.",
    ),
    follow_ups=(
        (
            "Both estimates are unbiased. Why do trigonometric features fail in attention?",
            "Relative to the kernel's square, their variance is e^{|x+y|^2 - 4 x.y} (1 - e^{-|x-y|^2})^2 / (2 m), huge where "
            "the kernel is small, and most attention weights are small. Their estimates take both signs, so the sum in the "
            "denominator may come near 0 or below it: outputs explode and are no averages. Positive features have the "
            "relative variance (e^{|x+y|^2} - 1) / m, which vanishes as y nears -x, and give a convex combination of values "
            "always. Their weak side is the other one: aligned long vectors, where trigonometric features are exact at x = y.",
        ),
        (
            "Is the attention estimated without bias too, and how many features does it take?",
            "The numerator and the denominator are unbiased, their quotient is not; its bias falls as 1 / m, and it "
            "converges to softmax attention. The variance grows as e^{|x+y|^2}, so what counts is the norm of q and k after "
            "D^{-1/4}, more than T. For bounded norms, some D log D orthogonal features approximate the whole matrix "
            "uniformly, independent of T. Sharp attention with large norms needs exponentially many: the weights of m "
            "features have rank m at most.",
        ),
        (
            "What does orthogonality gain, and what goes wrong if QR's signs are kept as they come?",
            "Each row is still normal, so nothing changes in expectation, but rows of a block cannot repeat each other: they "
            "are negatively correlated in what they measure, and the variance falls in every dimension (Theorem 2 of the "
            "paper), most for long vectors and many features. LAPACK's reflections make the signs depend on the matrix, so "
            "that row i has a mean different from 0 in component i. Trigonometric features cannot see it, their products are "
            "even in the direction; e^{w.x} can, and the estimate is biased. Widely used code has this flaw. Multiply by the "
            "signs of R's diagonal, or by random signs.",
        ),
    ),
)

# --- probes ---


@probe
def as_list(results):
    """One tensor or several, as a list."""
    return [results] if torch.is_tensor(results) else list(results)


@probe
def several(module, name, calls):
    """The results of several calls."""
    return [getattr(module, name)(*call) for call in calls]


@probe
def gradients(module, name, leaves, rest, upstream, **call):
    """The results, and what reaches `leaves` when `upstream` arrives at the results."""
    leaves = [x.clone().requires_grad_() for x in leaves]
    results = as_list(getattr(module, name)(*leaves, *rest, **call))
    return [y.detach() for y in results], vjp(results, leaves, upstream)


@probe
def rounded(module, name, calls):
    """The types of the results of several calls, and their values in float64."""
    results = several(module, name, calls)
    return [y.dtype for y in results], [y.double() for y in results]


@probe
def logarithms(module, calls):
    """Logarithms of the variances, in float64, where small numbers show."""
    return [[value.double().log() for value in module.kernel_variances(*call)] for call in calls]


# --- oracles ---

F64 = torch.float64
B, H, L, T, D, M, F = 2, 3, 6, 11, 5, 7, 13  # F directions
HALF = "one rounding to half precision is allowed, at the end"


def positive(x, directions):
    """Logarithms of positive features, from the distance of x to each direction, in float64."""
    x, directions = x.double(), directions.double()
    apart = (x[..., None, :] - directions).square().sum(dim=-1)
    return (directions.square().sum(dim=-1) - apart - math.log(len(directions))) / 2


def trigonometric(x, directions):
    """Trigonometric features, as parts of a complex exponential, in float64."""
    angles = torch.einsum("...d,md->...m", x.double(), directions.double())
    size = (x.double().square().sum(dim=-1, keepdim=True) / 2 - math.log(len(directions)) / 2).exp()
    waves = torch.polar(size.expand_as(angles).contiguous(), angles)
    return torch.cat([waves.imag, waves.real], dim=-1)


def variances(x, y, m):
    """Both variances, in float64, with the cancelling difference written as 2 sinh."""
    x, y = x.double(), y.double()
    difference, total = (x - y).square().sum(dim=-1), (x + y).square().sum(dim=-1)
    squares = x.square().sum(dim=-1) + y.square().sum(dim=-1)
    trigonometric = 2 * (squares - difference).exp() * torch.sinh(difference / 2) ** 2 / m
    return trigonometric, 2 * (2 * (x * y).sum(dim=-1) + total / 2).exp() * torch.sinh(total / 2) / m


def stabilised(log_q, log_k):
    """Features relative to constant maxima, in float64."""
    c = log_k.detach().amax(dim=-2, keepdim=True)
    raised = log_q + c
    return [(raised - raised.detach().amax(dim=-1, keepdim=True)).exp(), (log_k - c).exp()]


def explicit(q, k, v, directions, causal=False):
    """The logarithm of every weight written out, (B, H, L, T), in float64."""
    scale = q.shape[-1] ** 0.25
    log_q, log_k = positive(q.double() / scale, directions), positive(k.double() / scale, directions)
    weights = torch.logsumexp(log_q[..., :, None, :] + log_k[..., None, :, :], dim=-1)
    if causal:
        weights = weights.masked_fill(torch.ones(weights.shape[-2:]).triu(1).bool(), -torch.inf)
    return torch.softmax(weights, dim=-1) @ v.double()


def expected_gradients(function, leaves, upstream):
    """As the probe `gradients`, of an oracle."""
    leaves = [x.clone().requires_grad_() for x in leaves]
    results = as_list(function(*leaves))
    return [y.detach() for y in results], vjp(results, leaves, upstream)


def tokens(draw, queries=T, keys=T, dtype=F64, dim=D, values=M, features=F):
    """q, k, v and directions."""
    return (
        draw.normal(B, H, queries, dim, dtype=dtype),
        draw.normal(B, H, keys, dim, dtype=dtype),
        draw.normal(B, H, keys, values, dtype=dtype),
        draw.normal(features, dim, dtype=dtype),
    )


def slanted(draw, rows, dim):
    """A matrix of well-conditioned blocks, and what Gram-Schmidt makes of it."""
    given, wanted = [], []
    for start in range(0, rows, dim):
        r = min(dim, rows - start)
        U = torch.linalg.qr(draw.normal(dim, dim, dtype=F64)).Q * (2.0 * draw.integers(0, 2, dim) - 1)
        mix = draw.uniform(r, r, low=-1, high=1, dtype=F64).tril(-1) + draw.uniform(r, low=0.5, dtype=F64).diag()
        given.append(mix @ U[:r])
        wanted.append(given[-1].norm(dim=1, keepdim=True) * U[:r])
    return torch.cat(given), torch.cat(wanted)


def quadrature(n=32):
    """Directions (n^2, 2) and weights (n^2,): sums over them are means over two normal numbers (Golub & Welsch)."""
    step = torch.arange(1, n, dtype=F64).sqrt()
    nodes, vectors = torch.linalg.eigh(step.diag(1) + step.diag(-1))
    weights = vectors[0] ** 2
    return torch.cartesian_prod(nodes, nodes), torch.outer(weights, weights).flatten()


def spread_out(radii=64, angles=8):
    """Directions in the plane that stand for the normal distribution: equally likely radii, equal angles."""
    r = (-2 * (1 - (torch.arange(radii, dtype=F64) + 0.5) / radii).log()).sqrt()
    turn = (torch.arange(angles, dtype=F64) + 0.25) * 2 * math.pi / angles
    return torch.polar(*torch.broadcast_tensors(r[:, None], turn)).flatten().view(F64).reshape(-1, 2)


def opposed(draw):
    """Long keys with little between them, queries the other way, and directions along both: hard for one maximum."""
    q, k, v, directions = tokens(draw)
    along = torch.zeros(D, dtype=F64)
    along[2] = 1
    directions[:2] = torch.stack([2.5 * along, -2.5 * along])
    return q - 400 * along, k / 40 + 400 * along, v, directions


PAIR = torch.tensor([[0.9, -0.4], [-0.3, 0.8], [0.7, 0.2]], dtype=F64)  # x, and y of two kinds
FORMS = ("favor_attention", "causal_favor_attention")
BOTH = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.part(name)) for name in FORMS])
FEATURES = ("log_features", "trigonometric_features")
EITHER = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.part(name)) for name in FEATURES])
ORACLES = {"log_features": positive, "trigonometric_features": trigonometric}
VARIANCES = pytest.mark.part("kernel_variances")
STABILISE = pytest.mark.part("stabilise")
CAUSAL = pytest.mark.part("causal_favor_attention")


class TestValues:
    @pytest.mark.part("orthogonal_directions")
    @pytest.mark.points(2)
    def test_orthogonal(self, submission, draw):
        """blocks of D rows go through Gram-Schmidt, and rows keep their lengths"""
        (many, wanted_many), (few, wanted_few) = slanted(draw, F, D), slanted(draw, 3, M)
        got = submission.run(several, "orthogonal_directions", [[many], [few]])
        assert_close(got, [wanted_many, wanted_few], what=f"[directions of ({F}, {D}), of (3, {M})]", dtype=F64)

    @pytest.mark.part("orthogonal_directions")
    def test_orthogonal_unbiased(self, submission):
        """the mean of e^(w.z) over the directions is that of normal ones, within its error"""
        generator = torch.Generator().manual_seed(5)
        gaussian = torch.randn(400, 4, generator=generator, dtype=F64)
        z = torch.tensor([0.4, 0.4, 0.4, -0.4], dtype=F64)
        squared = z.square().sum().item()
        error = ((math.exp(2 * squared) - math.exp(squared)) / 400) ** 0.5
        got = (submission.orthogonal_directions(gaussian) @ z).exp().mean().item()
        wanted = math.exp(squared / 2)
        off = f"{wanted:.4f} within 3 standard errors of {error:.4f} each"
        assert_that(abs(got - wanted) < 3 * error, f"a mean of {off}", got=f"{got:.4f}")

    @EITHER
    def test_features(self, submission, draw, name):
        """each feature is right, and so is its order and its root of m"""
        x, directions = draw.normal(B, T, D, dtype=F64), draw.normal(F, D, dtype=F64)
        got = getattr(submission, name)(x, directions)
        assert_close(got, ORACLES[name](x, directions), what="features", dtype=F64)

    @EITHER
    def test_unbiased(self, submission, name):
        """the mean of phi(x).phi(y) over all directions is e^(x.y)"""
        nodes, weights = quadrature()
        features = getattr(submission, name)(PAIR, nodes).double()
        features = features.exp() if name == "log_features" else features
        products = features[:1] * features[1:]
        m = len(nodes)
        got = (products.reshape(2, -1, m).sum(dim=1) * weights * m).sum(dim=1)
        assert_close(got, (PAIR[1:] @ PAIR[0]).exp(), what="the mean over normal directions, by quadrature")

    @VARIANCES
    @pytest.mark.points(2)
    def test_variances(self, submission):
        """both are the variances of the estimates, which fall as 1 / m"""
        nodes, weights = quadrature()
        wanted = []
        for function in (trigonometric, lambda x, w: positive(x, w).exp()):
            products = (function(PAIR[:1], nodes) * function(PAIR[1:], nodes)).reshape(2, -1, len(nodes)).sum(dim=1)
            products = products * len(nodes)
            wanted.append((products**2 @ weights - (products @ weights) ** 2) / 6)
        got = submission.kernel_variances(PAIR[0], PAIR[1:], 6)
        assert_close(got, tuple(wanted), what="(trigonometric, positive) variances for m = 6", dtype=F64)

    @STABILISE
    @pytest.mark.points(2)
    def test_stabilise(self, submission, draw):
        """each feature's largest key is 1, each query's largest feature is 1, and inner products keep their ratios"""
        calls = [[3 * draw.normal(*shape, n, F, dtype=F64) for n in (L, T)] for shape in ((B, H), (4,), ())]
        got = submission.run(several, "stabilise", calls)
        expected = [tuple(stabilised(*call)) for call in calls]
        assert_close(got, expected, what="(features of queries, of keys) for 4, 3 and 2 axes", dtype=F64)

    @pytest.mark.part("favor_attention")
    @pytest.mark.points(2)
    def test_favor(self, submission, draw):
        """every query weighs all values; there may be fewer queries than keys, or more"""
        few, many = tokens(draw, L, T), tokens(draw, T, L)
        got = submission.run(several, "favor_attention", [few, many])
        assert_close(got, [explicit(*few), explicit(*many)], what=f"[{L} queries of {T} keys, {T} of {L}]", dtype=F64)

    @CAUSAL
    @pytest.mark.points(2)
    def test_causal(self, submission, draw):
        """every query weighs the values up to its own; the last chunk may be shorter, and the only one too"""
        ragged, short = tokens(draw), tokens(draw, 6, 6)
        got = submission.run(several, "causal_favor_attention", [[*ragged, 4], [*ragged, 11], short])
        whole = explicit(*ragged, causal=True)
        what = "[11 tokens in chunks of 4, of 11, 6 tokens in chunks of 64]"
        assert_close(got, [whole, whole, explicit(*short, causal=True)], what=what, dtype=F64)

    @BOTH
    def test_softmax(self, submission, draw, name):
        """with many well-spread directions the output is that of softmax attention, to 0.02"""
        q, k = (draw.uniform(B, H, T, 2, low=-0.8, high=0.8, dtype=F64) for _ in range(2))
        v = draw.uniform(B, H, T, M, low=-1, high=1, dtype=F64)
        scores = q @ k.mT / 2**0.5
        if name == "causal_favor_attention":
            scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
        got = getattr(submission, name)(q, k, v, spread_out())
        reason = "512 directions stand for all"
        assert_close(got, torch.softmax(scores, dim=-1) @ v, what="output", rtol=0, atol=0.02, reason=reason)


class TestGradients:
    @EITHER
    def test_features_gradient(self, submission, draw, name):
        """features send gradients back to x"""
        x, directions = draw.normal(B, T, D, dtype=F64), draw.normal(F, D, dtype=F64)
        upstream = [draw.normal(B, T, F * (1 + (name == "trigonometric_features")), dtype=F64)]
        got = submission.run(gradients, name, [x], [directions], upstream)
        expected = expected_gradients(lambda x: ORACLES[name](x, directions), [x], upstream)
        assert_close(got, expected, what="([features], [gradient of x])")

    @STABILISE
    def test_stabilise_gradient(self, submission, draw):
        """the maxima are constants"""
        log_q, log_k = 3 * draw.normal(B, H, L, F, dtype=F64), 3 * draw.normal(B, H, T, F, dtype=F64)
        upstream = [draw.normal(B, H, L, F, dtype=F64), draw.normal(B, H, T, F, dtype=F64)]
        got = submission.run(gradients, "stabilise", [log_q, log_k], [], upstream)
        expected = expected_gradients(stabilised, [log_q, log_k], upstream)
        assert_close(got, expected, what="([features], gradients of [log_q, log_k])")

    @BOTH
    @pytest.mark.points(2)
    def test_gradients(self, submission, draw, name):
        """queries, keys and values get the gradients of the explicit formula"""
        *leaves, directions = tokens(draw)
        upstream = [draw.normal(B, H, T, M, dtype=F64)]
        causal = name == "causal_favor_attention"
        got = submission.run(gradients, name, leaves, [directions], upstream, **({"chunk_size": 4} if causal else {}))
        expected = expected_gradients(lambda *x: explicit(*x, directions, causal), leaves, upstream)
        assert_close(got, expected, what="([output], gradients of [q, k, v])")


class TestStability:
    @VARIANCES
    @pytest.mark.points(2)
    def test_close(self, submission, draw):
        """variances near 0 are right to rounding, where x is close to y or to -y"""
        x = draw.integers(-256, 257, T, D) / 256.0  # in steps that make x + y and x - y exact
        y = x + draw.integers(1, 100, T, D) / 2.0**18
        got = submission.run(logarithms, [[x, y, 3], [x, -y, 3]])
        expected = [[value.log() for value in variances(x, sign * y, 3)] for sign in (1, -1)]
        what = "logarithms of the variances in float32 for [x close to y, x close to -y]"
        assert_close(got, expected, what=what, rtol=0, atol=1e-4, reason="small numbers are right to rounding")

    @VARIANCES
    def test_exponents(self, submission):
        """no factor overflows where the variance does not, in float32 or for float16"""
        x, y = torch.tensor([[12.0, 0.0], [6.0, 1.0]]), torch.tensor([[-2.0, 1.0], [6.0, 1.0]])
        calls = [[x[0] / 2, y[0], 2], [x[0], y[0], 2], [x[1], y[1], 2], [x[1] / 2, y[1].half() / 2, 2]]
        calls.append([x[0].half() / 2, y[0].half(), 2])
        got = submission.run(several, "kernel_variances", calls)
        wanted = [[value.float() for value in variances(*call)] for call in calls]
        results, expected = ([f[0], f[1], s[1], t[0], *u, *h] for f, s, t, u, h in (got, wanted))
        what = "variances that fit float32"
        reason = "exponents of size 60 are rounded"
        assert_close(results, expected, what=what, dtype=torch.float32, rtol=1e-4, reason=reason)

    @EITHER
    def test_half_features(self, submission, draw, name):
        """half precision is converted first: no square is rounded, and none overflows"""
        x, directions = draw.uniform(T, D, low=-1), draw.normal(F, D)
        if name == "log_features":
            x[0] = 200 * x[0].sign()
        calls = [[x.to(dtype), directions] for dtype in (torch.bfloat16, torch.float16)]
        types, values = submission.run(rounded, name, calls)
        expected = [ORACLES[name](*call) for call in calls]
        what = "features of [bfloat16, float16]"
        if name == "trigonometric_features":  # a sine near 0 is as exact as others of its token, and no more
            sizes = [(half.double().square().sum(dim=-1, keepdim=True) / 2).exp() for half, _ in calls]
            values, expected = ([x / size for x, size in zip(xs, sizes, strict=True)] for xs in (values, expected))
            what = f"{what}, divided by e^(|x|^2 / 2)"
        reason = "float32, and logarithms of size 1e5"
        assert_close(values, expected, what=what, rtol=1e-4, atol=1e-5, reason=reason)
        assert_equal(types, [torch.float32] * 2, what="types of the features")

    @BOTH
    @pytest.mark.points(2)
    def test_half(self, submission, draw, name):
        """half precision is computed in float32, and rounded once"""
        q, k, v, directions = tokens(draw, dtype=torch.float32)
        kinds = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}
        calls = [[q.to(dtype), k.to(dtype), v.to(dtype), directions] for dtype in kinds]
        types, values = submission.run(rounded, name, calls)
        for call, value, dtype, rtol in zip(calls, values, kinds, kinds.values(), strict=True):
            expected = explicit(*call, causal=name == "causal_favor_attention")
            assert_close(value, expected, what=f"output for {dtype}", rtol=rtol, atol=1e-5, reason=HALF)
        assert_equal(types, list(kinds), what="types of the outputs")

    @BOTH
    @pytest.mark.points(2)
    def test_long(self, submission, draw, name):
        """queries and keys may be long, and lie opposite to each other"""
        *leaves, directions = opposed(draw)
        upstream = [draw.normal(B, H, T, M, dtype=F64)]
        causal = name == "causal_favor_attention"
        got = submission.run(gradients, name, leaves, [directions], upstream, **({"chunk_size": 4} if causal else {}))
        expected = expected_gradients(lambda *x: explicit(*x, directions, causal), leaves, upstream)
        reason = "logarithms of size 1e5 are rounded to 1e-11, and gradients are products with inputs of size 400"
        assert_close(got, expected, what="([output], gradients of [q, k, v])", rtol=1e-7, atol=1e-7, reason=reason)

    @BOTH
    def test_samples(self, submission, draw, name):
        """one sample's and one head's long keys do not touch the others"""
        q, k, v, directions = tokens(draw)
        k[0, 1] /= 20
        k[0, 1, :, 3] += 200
        k[1, 2] /= 20
        k[1, 2, :, 0] -= 300
        got = getattr(submission, name)(q, k, v, directions)
        expected = explicit(q, k, v, directions, causal=name == "causal_favor_attention")
        assert_close(got, expected, what="output", rtol=1e-8, reason="logarithms of size 2e4 are rounded to 1e-12")

    @CAUSAL
    @pytest.mark.points(2)
    def test_chunks_apart(self, submission, draw):
        """keys of one chunk may be far longer than those of the next, and far shorter again"""
        q, k, v, directions = tokens(draw, 14, 14)
        k[:, :, :4] /= 8
        k[:, :, :4, 1] += 100
        k[:, :, 8:12] /= 8
        k[:, :, 8:12, 4] += 100
        got = submission.causal_favor_attention(q, k, v, directions, chunk_size=4)
        expected = explicit(q, k, v, directions, causal=True)
        assert_close(got, expected, what="output", rtol=1e-8, reason="logarithms of size 2e3 are rounded to 1e-13")


class TestEdgeCases:
    @pytest.mark.part("orthogonal_directions")
    def test_few_directions(self, submission, draw):
        """a block of one row is left as it is: m = 1, D = 1, and one row more than D"""
        one, flat, (more, wanted) = draw.normal(1, D, dtype=F64), draw.normal(4, 1, dtype=F64), slanted(draw, 6, 5)
        got = submission.run(several, "orthogonal_directions", [[one], [flat], [more], [more.float()]])
        what = "[directions of (1, 5), of (4, 1), of (6, 5), of (6, 5) in float32]"
        assert_close(got, [one, flat, wanted, wanted.float()], what=what)

    @EITHER
    def test_one_vector(self, submission, draw, name):
        """x may be a single vector, in another order in memory, and the directions may be one, in another type"""
        flat, directions = draw.normal(D, dtype=F64), draw.normal(D, F).T
        strided = draw.normal(D, T, dtype=F64).T
        calls = [[flat, directions], [strided, directions], [strided, directions[:1]]]
        got = submission.run(several, name, calls)
        assert_close(got, [ORACLES[name](*call) for call in calls], what="features", dtype=F64)

    @VARIANCES
    def test_broadcast(self, submission, draw):
        """x and y broadcast, and equal or opposite vectors give 0 exactly"""
        x, y = draw.normal(4, 1, D, dtype=F64), draw.normal(T, D, dtype=F64)
        got = submission.run(several, "kernel_variances", [[x, y, 5], [y, y, 5], [y, -y, 5]])
        assert_close(got[0], variances(x, y, 5), what="(trigonometric, positive) variances", dtype=F64)
        zero = torch.zeros(T, dtype=F64)
        assert_equal([got[1][0], got[2][1]], [zero, zero], what="[trigonometric at x = y, positive at x = -y]")

    @BOTH
    def test_average(self, submission, draw, name):
        """outputs are averages: values of 1 give 1, and a single key's value is the output"""
        (q, k, v, directions), (Q, K, V, _) = tokens(draw), tokens(draw, 1, 1)
        calls = [[q, k, torch.ones_like(v), directions], [100 * Q, 200 * K, V, directions], [Q, K, V, directions[:1]]]
        got = submission.run(several, name, calls)
        what = "[output for values of 1, for one token with 13 directions, with one]"
        assert_close(got, [torch.ones_like(v), V, V], what=what)

    @BOTH
    def test_memory_order(self, submission, draw, name):
        """inputs may lie in memory in any order, or be expanded"""
        q = draw.normal(B, T, H, D, dtype=F64).transpose(1, 2)
        k = draw.normal(B, H, D, T, dtype=F64).mT
        v = draw.normal(B, 1, T, M, dtype=F64).expand(B, H, T, M)
        directions = draw.normal(D, F, dtype=F64).T
        got = getattr(submission, name)(q, k, v, directions)
        assert_close(got, explicit(q, k, v, directions, causal=name == "causal_favor_attention"), what="output")

    @CAUSAL
    def test_future(self, submission, draw):
        """what comes later changes nothing earlier, however large it is"""
        q, k, v, directions = tokens(draw)
        before = submission.causal_favor_attention(q, k, v, directions, 4)
        q[:, :, 8:], k[:, :, 8:], v[:, :, 8:] = q[:, :, 8:] + 3, 0.01 * k[:, :, 8:], v[:, :, 8:] + 3
        after = submission.causal_favor_attention(q, k, v, directions, 4)
        what = "outputs of tokens 0 to 7, when tokens 8 to 10 change"
        assert_close(after[:, :, :8], before[:, :, :8], what=what)


class TestPerformance:
    @BOTH
    @pytest.mark.points(2)
    def test_growth(self, submission, draw, name):
        """time and memory grow with T; nothing is T x T, T x m x D or T x m x M"""
        # in numbers a token and head: T x T has 512, T x m x D 960, T x m x M 1280, T x m 40 and T x C 64
        sizes = {"dtype": torch.float32, "dim": 24, "values": 32, "features": 40}
        costs = [submission.measure(name, *tokens(draw, n, n, **sizes)).cost for n in (256, 512)]
        for metric in ("flops", "peak_bytes"):
            assert_growth(*costs, metric, at_most=2.2, when="T doubles")
        limit = 200 * B * H * 512 * 4
        why = "200 floats a token and head, for D = 24, M = 32 and 40 directions"
        assert_cost(costs[1], "largest_bytes", at_most=limit, why=why)

    @CAUSAL
    def test_operators(self, submission, draw):
        """operators are as many as there are chunks, not tokens"""
        cost = submission.measure("causal_favor_attention", *tokens(draw, 512, 512, torch.float32)).cost
        assert_cost(cost, "operators", at_most=900, why="100 for each of 8 chunks, and 100 beside")


GRAM_SCHMIDT = """    for G in gaussian.split(gaussian.shape[1]):  # (r, D), r = D but for the last
"""
QUOTIENT = "((phi_q @ S) / (phi_q @ z)).to(dtype)"
NORM = "projected - x.square().sum(dim=-1, keepdim=True) / 2 - "
CHUNKS = """    c = torch.full_like(k[:, :, :1], -torch.inf)  # (B, H, 1, m)
"""
MAXIMA = """    c = log_k.detach().amax(dim=-2, keepdim=True)  # (..., 1, m)
    log_q = log_q + c
"""
SHIFTED = "    return (log_q - log_q.detach().amax(dim=-1, keepdim=True)).exp(), (log_k - c).exp()"

MISTAKES = [
    Mistake(
        "qr-signs-kept",
        "the signs are left as QR gives them, so that single directions are not normal and the estimate is biased; make "
        "R's diagonal positive",
        {"(Q * R.diagonal().sign()).T": "Q.T"},
    ),
    Mistake(
        "unit-directions",
        "the directions have length 1; give each row the length it had",
        {"gaussian.norm(dim=1, keepdim=True) * torch.cat(blocks)": "torch.cat(blocks)"},
    ),
    Mistake(
        "root-of-dimension-lengths",
        "all directions have the length sqrt(D), which estimates another kernel; give each row the length it had",
        {"gaussian.norm(dim=1, keepdim=True) * torch": "gaussian.shape[1] ** 0.5 * torch"},
    ),
    Mistake(
        "columns-returned",
        "Q's columns are the orthogonalised rows; a full block is returned without transposing back",
        {
            "(Q * R.diagonal().sign()).T)": "Q * R.diagonal().sign() if len(G) == len(G.T) else (Q * R.diagonal().sign()).T)"
        },
    ),
    Mistake(
        "last-block-independent",
        "the last block's rows are left as they came when there are fewer than D; they are made orthogonal too",
        {
            GRAM_SCHMIDT: GRAM_SCHMIDT + "        if len(G) < len(G.T):\n"
            "            blocks.append(G / G.norm(dim=1, keepdim=True))\n"
            "            continue\n"
        },
    ),
    Mistake(
        "one-block-repeated",
        "one orthogonal block is used for all rows, with new lengths; every block has directions of its own",
        {GRAM_SCHMIDT: GRAM_SCHMIDT + "        G = gaussian[: len(G)]\n"},
    ),
    Mistake(
        "norm-missing",
        "the features lack e^(-|x|^2 / 2)",
        {NORM: "projected - "},
    ),
    Mistake(
        "norm-added",
        "positive features are multiplied by e^(|x|^2 / 2), as trigonometric ones are; it is e^(-|x|^2 / 2)",
        {NORM: NORM.replace("projected -", "projected +")},
    ),
    Mistake(
        "root-of-m-missing",
        "positive features are not divided by the root of m, and their inner product is m times too large",
        {" / 2 - math.log(len(directions)) / 2": " / 2"},
    ),
    Mistake(
        "divided-by-m",
        "positive features are divided by m; it is the root of m for each of the two factors",
        {"math.log(len(directions)) / 2": "math.log(len(directions))"},
    ),
    Mistake(
        "gaussian-kernel",
        "the trigonometric features estimate the Gaussian kernel; the softmax's has e^(|x|^2 / 2) before it",
        {"(x.square().sum(dim=-1, keepdim=True) / 2).exp() * waves": "waves"},
    ),
    Mistake(
        "trigonometric-norm-negative",
        "trigonometric features are multiplied by e^(-|x|^2 / 2), as positive ones are; it is e^(|x|^2 / 2)",
        {
            "(x.square().sum(dim=-1, keepdim=True) / 2).exp() * waves": "(x.square().sum(dim=-1, keepdim=True) / -2).exp() * waves"
        },
    ),
    Mistake(
        "cosines-first",
        "the cosines come before the sines; here the sines are first",
        {"[projected.sin(), projected.cos()]": "[projected.cos(), projected.sin()]"},
    ),
    Mistake(
        "divided-by-root-of-2m",
        "the 2m trigonometric features are divided by the root of 2m; sine and cosine of a direction make one term of m",
        {"waves / len(directions) ** 0.5": "waves / (2 * len(directions)) ** 0.5"},
    ),
    Mistake(
        "half-precision-kept",
        "half precision is computed in half precision; convert to float32 before anything else",
        {"return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]": "return list(tensors)"},
    ),
    Mistake(
        "scaled-in-half",
        "q and k are scaled in half precision, which rounds them; convert to float32 first",
        {
            "    q, k, v = wide(q, k, v)\n    phi_q, phi_k = stabilise(log_features(scale * q, directions), log_features(scale * k, directions))": "    q, k, v = wide(scale * q, scale * k, v)\n"
            "    phi_q, phi_k = stabilise(log_features(q, directions), log_features(k, directions))",
            "    q, k, v = wide(q, k, v)\n    q, k = log_features(scale * q, directions), log_features(scale * k, directions)": "    q, k, v = wide(scale * q, scale * k, v)\n"
            "    q, k = log_features(q, directions), log_features(k, directions)",
        },
    ),
    Mistake(
        "variances-cancel",
        "1 - e^(-t) is computed as it stands, which cancels for small t; use expm1",
        {"torch.expm1(-apart) ** 2": "(1 - (-apart).exp()) ** 2", "-torch.expm1(-together)": "(1 - (-together).exp())"},
    ),
    Mistake(
        "variance-factors-overflow",
        "e^(|x+y|^2) is computed as a factor of its own, which overflows; add the exponents first",
        {
            "(together - 2 * dot).exp()": "together.exp() / dot.exp() ** 2",
            "(together + 2 * dot).exp()": "together.exp() * dot.exp() ** 2",
        },
    ),
    Mistake(
        "sine-and-cosine-counted-twice",
        "the trigonometric variance lacks its factor 1/2",
        {"/ (2 * m)": "/ m"},
    ),
    Mistake(
        "variance-of-one-direction",
        "the variances are those of a single direction; with m independent ones they are m times smaller",
        {"/ (2 * m)": "/ 2", "-torch.expm1(-together) / m": "-torch.expm1(-together)"},
    ),
    Mistake(
        "variances-swapped",
        "the two variances are returned in the wrong order: the trigonometric one comes first",
        {"return trigonometric, positive": "return positive, trigonometric"},
    ),
    Mistake(
        "key-stabiliser-per-key",
        "each key's own largest feature is taken out of it, which changes its weight; take out of each feature its maximum "
        "over all keys",
        {MAXIMA: "    c = log_k.detach().amax(dim=-1, keepdim=True)\n"},
    ),
    Mistake(
        "maxima-not-given-to-queries",
        "the features' maxima are taken from the keys and not given to the queries; add them there, or they do not cancel",
        {"    log_q = log_q + c\n": ""},
    ),
    Mistake(
        "one-maximum-per-head",
        "one maximum is taken from all features of all keys: it cancels, but where queries prefer other features the "
        "denominator underflows; take one for each feature",
        {"log_k.detach().amax(dim=-2, keepdim=True)": "log_k.detach().amax(dim=(-2, -1), keepdim=True)"},
    ),
    Mistake(
        "maximum-over-the-batch",
        "the maxima run over batch and heads too: one sample with long keys underflows the others, or is underflowed",
        {
            MAXIMA: "    c = log_k.detach().amax(dim=tuple(range(log_k.dim() - 1)), keepdim=True)  # (..., 1, m)\n    log_q = log_q + c\n"
        },
    ),
    Mistake(
        "no-stabiliser",
        "the features are taken as they are, and underflow for long queries or keys; subtract maxima that cancel",
        {MAXIMA: "", SHIFTED: "    return log_q.exp(), log_k.exp()"},
    ),
    Mistake(
        "maxima-with-gradient",
        "gradients flow through the maxima; they are constants",
        {"log_k.detach()": "log_k", "log_q.detach()": "log_q"},
    ),
    Mistake(
        "epsilon-added",
        "an epsilon is added to the features, which gives every key some weight; there is none",
        {
            SHIFTED: "    return (log_q - log_q.detach().amax(dim=-1, keepdim=True)).exp() + 1e-4, (log_k - c).exp() + 1e-4"
        },
    ),
    Mistake(
        "scale-missing",
        "q and k are not multiplied by D^(-1/4); the kernel is e^(q.k / sqrt(D))",
        {
            "    dtype, scale = v.dtype, q.shape[-1] ** -0.25\n    q, k, v = wide(q, k, v)\n    phi_q": "    dtype, scale = v.dtype, 1\n    q, k, v = wide(q, k, v)\n    phi_q",
            "    dtype, scale = v.dtype, q.shape[-1] ** -0.25\n    q, k, v = wide(q, k, v)\n    q, k": "    dtype, scale = v.dtype, 1\n    q, k, v = wide(q, k, v)\n    q, k",
        },
    ),
    Mistake(
        "scale-applied-twice",
        "both q and k are divided by the root of D, so that q.k is divided by D; multiply each by D^(-1/4)",
        {
            "    dtype, scale = v.dtype, q.shape[-1] ** -0.25\n    q, k, v = wide(q, k, v)\n    phi_q": "    dtype, scale = v.dtype, q.shape[-1] ** -0.5\n    q, k, v = wide(q, k, v)\n    phi_q",
            "    dtype, scale = v.dtype, q.shape[-1] ** -0.25\n    q, k, v = wide(q, k, v)\n    q, k": "    dtype, scale = v.dtype, q.shape[-1] ** -0.5\n    q, k, v = wide(q, k, v)\n    q, k",
        },
    ),
    Mistake(
        "denominator-multiplied",
        "the numerator is multiplied by the denominator; divide by it",
        {
            QUOTIENT: QUOTIENT.replace(" / ", " * "),
            "(A @ V + Q @ S) / (": "(A @ V + Q @ S) * (",
        },
    ),
    Mistake(
        "denominator-detached",
        "the denominator is cut out of the graph: outputs are right, gradients of queries and keys are not",
        {
            QUOTIENT: QUOTIENT.replace("@ z)", "@ z).detach()"),
            "(A.sum(dim=-1, keepdim=True) + Q @ z))": "(A.sum(dim=-1, keepdim=True) + Q @ z).detach())",
        },
    ),
    Mistake(
        "other-directions-for-keys",
        "queries and keys are projected on different directions; an inner product of features needs the same ones",
        {
            "stabilise(log_features(scale * q, directions), log_features(scale * k, directions))": "stabilise(log_features(scale * q, directions), log_features(scale * k, directions.flip(0)))",
            "= log_features(scale * q, directions), log_features(scale * k, directions)  #": "= log_features(scale * q, directions), log_features(scale * k, directions.flip(0))  #",
        },
    ),
    Mistake(
        "all-weights",
        "all T x T weights are computed; multiply keys by values first, m x M numbers a head",
        {QUOTIENT: QUOTIENT.replace("phi_q @ S", "(phi_q @ phi_k.mT) @ v")},
    ),
    Mistake(
        "own-token-excluded",
        "the triangle lacks its diagonal: a token does not see itself",
        {"(Q @ K.mT).tril()": "(Q @ K.mT).tril(-1)"},
    ),
    Mistake(
        "chunk-sees-its-future",
        "within a chunk every token sees all others; keep the lower triangle of its weights",
        {"(Q @ K.mT).tril()": "Q @ K.mT"},
    ),
    Mistake(
        "maxima-of-the-whole-sequence",
        "the maxima are taken over the whole sequence, later keys included: the first keys underflow when later ones are "
        "larger; take those of the keys seen so far",
        {CHUNKS: "    c = k.detach().amax(dim=2, keepdim=True)\n"},
    ),
    Mistake(
        "sums-not-rescaled",
        "the sums over earlier keys are not rescaled when the maxima rise; multiply them by e^(old - new)",
        {"        S, z = fade * S, fade * z\n": ""},
    ),
    Mistake(
        "carried-maxima-with-gradient",
        "the maxima carried to the next chunk have a gradient, and the sums relative to them have none; both are constants",
        {"c = seen.detach().amax": "c = seen.amax"},
    ),
    Mistake(
        "sums-detached",
        "the sums are cut out of the graph between chunks: earlier keys and values miss gradients",
        {
            "        S = S + K.mT @ V  # (B, H, m, M)\n        z = z + K.sum(dim=2)[..., None]  # (B, H, m, 1)\n": "        S = (S + K.mT @ V).detach()\n"
            "        z = (z + K.sum(dim=2)[..., None]).detach()\n"
        },
    ),
    Mistake(
        "chunk-counted-twice",
        "the chunk is added to the sums before it reads from them, and so counts twice",
        {
            "        S = S + K.mT @ V  # (B, H, m, M)\n        z = z + K.sum(dim=2)[..., None]  # (B, H, m, 1)\n": "",
            "        S, z = fade * S, fade * z\n": "        S, z = fade * S + K.mT @ V, fade * z + K.sum(dim=2)[..., None]\n",
        },
    ),
    Mistake(
        "one-chunk",
        "the whole sequence is one chunk, with T x T weights; keep to `chunk_size`",
        {CHUNKS: CHUNKS + "    chunk_size = q.shape[2] if q.shape[2] > 100 else chunk_size\n"},
    ),
    Mistake(
        "token-by-token",
        "the causal form loops over tokens; take a chunk of them at a time",
        {CHUNKS: CHUNKS + "    chunk_size = 1\n"},
    ),
    Mistake(
        "sums-of-every-token",
        "the running sum of outer products is kept for every token, T x m x M numbers; keep one for each chunk",
        {
            CHUNKS: "    if q.shape[2] > 100:\n"
            "        phi_q, phi_k = stabilise(q, k)\n"
            "        S = (phi_k[..., :, None] * v[..., None, :]).cumsum(dim=2)\n"
            "        z = phi_k.cumsum(dim=2)\n"
            "        output = (phi_q[..., None, :] @ S).squeeze(-2) / (phi_q * z).sum(dim=-1, keepdim=True)\n"
            "        return output.to(dtype)\n" + CHUNKS
        },
    ),
]

EQUIVALENT = [
    Equivalent(
        "axis 2 of four is axis -2, and axis 1 of two is axis -1",
        {
            "gaussian.shape[1": "gaussian.shape[(-1)",
            "gaussian.norm(dim=1": "gaussian.norm(dim=(-1)",
            "phi_k.sum(dim=2": "phi_k.sum(dim=(-2)",
            "q.split(chunk_size, 2": "q.split(chunk_size, (-2)",
            "k.split(chunk_size, 2": "k.split(chunk_size, (-2)",
            "v.split(chunk_size, 2": "v.split(chunk_size, (-2)",
            "c, K], dim=2": "c, K], dim=(-2)",
            " K.sum(dim=2": " K.sum(dim=(-2)",
            ").amax(dim=2": ").amax(dim=(-2)",
            "outputs, dim=2": "outputs, dim=(-2)",
        },
    ),
    Equivalent("a sign is its own inverse", {".append((Q *": ".append((Q /"}),
    Equivalent(
        "directions and variances are asked for no gradient",
        {
            "gaussian.norm(dim=1, keepdim=True) * torch.cat(blocks)": "(gaussian.norm(dim=1, keepdim=True) * torch.cat(blocks)).detach()",
            "(x * y).sum(dim=-1)": "((x * y).sum(dim=-1)).detach()",
            "(together - 2 * dot).exp() * torch.expm1(-apart) ** 2 / (2 * m)": "((together - 2 * dot).exp() * torch.expm1(-apart) ** 2 / (2 * m)).detach()",
            "(together + 2 * dot).exp() * -torch.expm1(-together) / m": "((together + 2 * dot).exp() * -torch.expm1(-together) / m).detach()",
        },
    ),
    Equivalent("the variances are symmetric", {" = wide(x, y": " = wide(y, x"}),
    Equivalent(
        "a constant is cut out of the graph already",
        {
            "log_k.detach().amax(dim=-2, keepdim=True)": "(log_k.detach().amax(dim=-2, keepdim=True)).detach()",
            "torch.full_like(k[:, :, :1], -torch.inf)": "(torch.full_like(k[:, :, :1], -torch.inf)).detach()",
            "seen.detach().amax(dim=2, keepdim=True)": "(seen.detach().amax(dim=2, keepdim=True)).detach()",
        },
    ),
    Equivalent(
        "the first sums are multiplied by e^(-inf) = 0",
        {
            "outputs = 0.0": ("outputs = 1.0", "outputs = -0.0"),
            "outputs = 0.0, 0.0": ("outputs = 0.0, 1.0", "outputs = 0.0, -0.0"),
        },
    ),
]
