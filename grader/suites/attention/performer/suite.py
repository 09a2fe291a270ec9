"""Hidden suite for attention/performer: the explicit formulas in float64, quadrature instead of luck, and counted costs."""

import math

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.probes import back, gradients, rounded, several
from grader.properties import (
    EVERY_FUNCTION,
    any_layout,
    case,
    given,
    holds,
    is_differentiable,
    rounds_once,
)
from grader.suite import probe

# --- probes ---


@probe
def logarithms(module, calls):
    """Logarithms of the variances, in float64, where small numbers show."""
    return [[value.double().log() for value in module.kernel_variances(*call)] for call in calls]


# --- oracles ---

F64 = torch.float64
B, H, L, T, D, M, F = 2, 3, 6, 11, 5, 7, 13  # F directions


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
    return back(function(*leaves), leaves, upstream)


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


def gram_schmidt(directions):
    """Block by block by QR, whose signs are mended, in float64."""
    blocks = []
    for block in directions.double().split(directions.shape[1]):
        Q, R = torch.linalg.qr(block.T)
        blocks.append(block.norm(dim=1, keepdim=True) * (Q * R.diagonal().sign()).T)
    return torch.cat(blocks)


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


def plain(calls):
    """Calls without keywords, as `several` takes them."""
    return [(call, {}) for call in calls]


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
        got = submission.run(several, "orthogonal_directions", plain([[many], [few]]))
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
        got = submission.run(several, "stabilise", plain(calls))
        expected = [tuple(stabilised(*call)) for call in calls]
        assert_close(got, expected, what="(features of queries, of keys) for 4, 3 and 2 axes", dtype=F64)

    @pytest.mark.part("favor_attention")
    @pytest.mark.points(2)
    def test_favor(self, submission, draw):
        """every query weighs all values; there may be fewer queries than keys, or more"""
        few, many = tokens(draw, L, T), tokens(draw, T, L)
        got = submission.run(several, "favor_attention", plain([few, many]))
        assert_close(got, [explicit(*few), explicit(*many)], what=f"[{L} queries of {T} keys, {T} of {L}]", dtype=F64)

    @CAUSAL
    @pytest.mark.points(2)
    def test_causal(self, submission, draw):
        """every query weighs the values up to its own; the last chunk may be shorter, and the only one too"""
        ragged, short = tokens(draw), tokens(draw, 6, 6)
        got = submission.run(several, "causal_favor_attention", plain([[*ragged, 4], [*ragged, 11], short]))
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
        got = submission.run(several, "kernel_variances", plain(calls))
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
        types, values = zip(*(submission.run(rounded, name, *call) for call in calls), strict=True)
        expected = [ORACLES[name](*call) for call in calls]
        what = "features of [bfloat16, float16]"
        if name == "trigonometric_features":  # a sine near 0 is as exact as others of its token, and no more
            sizes = [(half.double().square().sum(dim=-1, keepdim=True) / 2).exp() for half, _ in calls]
            values, expected = ([x / size for x, size in zip(xs, sizes, strict=True)] for xs in (values, expected))
            what = f"{what}, divided by e^(|x|^2 / 2)"
        reason = "float32, and logarithms of size 1e5"
        assert_close(values, expected, what=what, rtol=1e-4, atol=1e-5, reason=reason)
        assert_equal(types, (torch.float32,) * 2, what="types of the features")

    @BOTH
    @pytest.mark.points(2)
    def test_long(self, submission, draw, name):
        """queries and keys may be long, and lie opposite to each other"""
        *leaves, directions = opposed(draw)
        upstream = draw.normal(B, H, T, M, dtype=F64)
        causal = name == "causal_favor_attention"
        got = submission.run(gradients, name, leaves, upstream, directions, **({"chunk_size": 4} if causal else {}))
        expected = expected_gradients(lambda *x: explicit(*x, directions, causal), leaves, upstream)
        reason = "logarithms of size 1e5 are rounded to 1e-11, and gradients are products with inputs of size 400"
        assert_close(got, expected, what="(output, gradients of [q, k, v])", rtol=1e-7, atol=1e-7, reason=reason)

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
        got = submission.run(several, "orthogonal_directions", plain([[one], [flat], [more], [more.float()]]))
        what = "[directions of (1, 5), of (4, 1), of (6, 5), of (6, 5) in float32]"
        assert_close(got, [one, flat, wanted, wanted.float()], what=what)

    @EITHER
    def test_one_vector(self, submission, draw, name):
        """x may be a single vector, in another order in memory, and the directions may be one, in another type"""
        flat, directions = draw.normal(D, dtype=F64), draw.normal(D, F).T
        strided = draw.normal(D, T, dtype=F64).T
        calls = [[flat, directions], [strided, directions], [strided, directions[:1]]]
        got = submission.run(several, name, plain(calls))
        assert_close(got, [ORACLES[name](*call) for call in calls], what="features", dtype=F64)

    @VARIANCES
    def test_broadcast(self, submission, draw):
        """x and y broadcast, and equal or opposite vectors give 0 exactly"""
        x, y = draw.normal(4, 1, D, dtype=F64), draw.normal(T, D, dtype=F64)
        got = submission.run(several, "kernel_variances", plain([[x, y, 5], [y, y, 5], [y, -y, 5]]))
        assert_close(got[0], variances(x, y, 5), what="(trigonometric, positive) variances", dtype=F64)
        zero = torch.zeros(T, dtype=F64)
        assert_equal([got[1][0], got[2][1]], [zero, zero], what="[trigonometric at x = y, positive at x = -y]")

    @BOTH
    def test_average(self, submission, draw, name):
        """outputs are averages: values of 1 give 1, and a single key's value is the output"""
        (q, k, v, directions), (Q, K, V, _) = tokens(draw), tokens(draw, 1, 1)
        calls = [[q, k, torch.ones_like(v), directions], [100 * Q, 200 * K, V, directions], [Q, K, V, directions[:1]]]
        got = submission.run(several, name, plain(calls))
        what = "[output for values of 1, for one token with 13 directions, with one]"
        assert_close(got, [torch.ones_like(v), V, V], what=what)

    @CAUSAL
    def test_future(self, submission, draw):
        """what comes later changes nothing earlier, however large it is"""
        q, k, v, directions = tokens(draw)
        before = submission.causal_favor_attention(q, k, v, directions, 4)
        q[:, :, 8:], k[:, :, 8:], v[:, :, 8:] = q[:, :, 8:] + 3, 0.01 * k[:, :, 8:], v[:, :, 8:] + 3
        after = submission.causal_favor_attention(q, k, v, directions, 4)
        what = "outputs of tokens 0 to 7, when tokens 8 to 10 change"
        assert_close(after[:, :, :8], before[:, :, :8], what=what)


def features_of(draw):
    """Vectors of two axes and of one, and directions."""
    return [given(draw.normal(*s, D, dtype=F64), draw.normal(m, D, dtype=F64)) for s, m in (((B, T), F), ((4,), 3))]


def favor_calls(*chunk):
    """Few and many tokens."""
    return lambda draw: [given(*tokens(draw), *chunk), given(*tokens(draw, 40, 40))]


def causally(q, k, v, directions, chunk_size=64):
    return explicit(q, k, v, directions, causal=True)


TestProperties = holds(
    case(
        "orthogonal_directions",
        lambda draw: [given(slanted(draw, F, D)[0]), given(slanted(draw, 3, M)[0])],
        any_layout(expand=False),  # rows that are alike have no directions
        *EVERY_FUNCTION[1:],
        expect=gram_schmidt,
    ),
    case("log_features", features_of, *EVERY_FUNCTION, is_differentiable(0), expect=positive),
    case("trigonometric_features", features_of, *EVERY_FUNCTION, is_differentiable(0), expect=trigonometric),
    case(
        "kernel_variances",
        lambda draw: [given(*(draw.normal(*s, D, dtype=F64) / 2 for _ in "xy"), 3) for s in ((T,), (2, 3))],
        *EVERY_FUNCTION,
        expect=variances,
    ),
    case(
        "stabilise",
        lambda draw: [given(*(3 * draw.normal(*s, n, F, dtype=F64) for n in (L, T))) for s in ((B, H), ())],
        *EVERY_FUNCTION,
        is_differentiable,
        expect=stabilised,
    ),
    case("favor_attention", favor_calls(), *EVERY_FUNCTION, is_differentiable(0, 1, 2), rounds_once, expect=explicit),
    case(
        "causal_favor_attention",
        favor_calls(4),
        *EVERY_FUNCTION,
        is_differentiable(0, 1, 2),
        rounds_once,
        expect=causally,
    ),
)


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
