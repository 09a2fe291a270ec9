"""Hidden suite for attention/transnormer: Jacobians, T x T forms and layers written out in float64, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import back, gradients, layout, loaded, rounded, several
from grader.properties import (
    EVERY_FUNCTION,
    EVERY_MODULE,
    case,
    given,
    holds,
    is_differentiable,
    on,
    rounds_once,
    type_follows,
)
from grader.suite import probe

# --- probes ---


@probe
def forward(module, name, sizes, state, x):
    """The outputs of a layer or a stack with the given parameters, not causal and causal."""
    network = loaded(module, name, sizes, state)
    return network(x), network(x, causal=True)


@probe
def network_cost(module, meter, name, sizes, x, **how):
    """Nothing; the forward of a new layer or stack is metered, without a graph."""
    network = getattr(module, name)(**sizes)
    with torch.no_grad(), meter:
        network(x, **how)


# --- oracles ---

F64 = torch.float64
B, H, T, D, M = 2, 3, 11, 4, 6
E, F = H * D, 10  # a layer's width and its hidden features
W = 4  # tokens of a block


def jacobian(scores, exponential):
    """All derivatives of p_j with respect to s_k, (..., T, T), in float64."""
    s = scores.double()
    if exponential:
        p = torch.exp(s - torch.logsumexp(s, dim=-1, keepdim=True))
        return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    total = s.sum(dim=-1)[..., None, None]
    return torch.eye(s.shape[-1], dtype=F64) / total - s[..., :, None] / total / total


def steepest(scores, exponential):
    """The largest absolute derivative of each row."""
    return jacobian(scores, exponential).abs().amax(dim=(-2, -1))


def score_gradients(scores, upstream):
    """The Jacobian applied to the gradient of the weights."""
    return torch.einsum("...jk,...j->...k", jacobian(scores, False), upstream.double())


def scaled(x, eps=1e-6):
    """RMSNorm over the last axis, in float64."""
    x = x.double()
    return x / ((x * x).sum(dim=-1, keepdim=True) / x.shape[-1] + eps) ** 0.5


def phi(x):
    """elu(x) + 1 as the sum of its two sides, in float64."""
    x = x.double()
    return x.clamp(max=0).exp() + x.clamp(min=0)


def side_by_side(x):
    """(B, H, T, M) to (B, T, H M), head after head."""
    return torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1)


def norm(q, k, v, causal=False, eps=1e-6):
    """NormAttention by its T x T scores, in float64."""
    scores = torch.einsum("bhid,bhjd->bhij", phi(q), phi(k))
    scores = scores.tril() if causal else scores
    return scaled(side_by_side(torch.einsum("bhij,bhjm->bhim", scores, v.double())), eps)


def diag(q, k, v, size, causal=False):
    """DiagAttention by a T x T mask, in float64."""
    i = torch.arange(q.shape[2])
    visible = i[:, None] // size == i // size
    visible = visible & (i <= i[:, None]) if causal else visible
    logits = torch.einsum("bhid,bhjd->bhij", q.double(), k.double()) / q.shape[-1] ** 0.5
    logits = torch.where(visible, logits, -1e300)
    p = torch.where(visible, torch.exp(logits - torch.logsumexp(logits, dim=-1, keepdim=True)), 0)
    return side_by_side(torch.einsum("bhij,bhjm->bhim", p, v.double()))


def layer(state, heads, size, x, causal=False):
    """A layer head by head, in float64."""
    y, width = scaled(x), x.shape[-1] // heads
    rows = [slice(h * width, (h + 1) * width) for h in range(heads)]
    q, k, v = (torch.stack([y @ state[f"{name}.weight"][r].T for r in rows], 1) for name in ("query", "key", "value"))
    joined = norm(q, k, v, causal) if size is None else diag(q, k, v, size, causal)
    x = x + joined @ state["output.weight"].T
    y = scaled(x)
    gate = y @ state["gate.weight"].T
    return x + (gate * gate.sigmoid() * (y @ state["up.weight"].T)) @ state["down.weight"].T


def stack(states, heads, sizes, x, causal=False):
    """Layer after layer; `states` has the parameters of each."""
    for state, size in zip(states, sizes, strict=True):
        x = layer(state, heads, size, x, causal)
    return x


def explicit_gradients(form, arguments, upstream, *rest, **how):
    """As the probe `gradients`, of an explicit form."""
    leaves = [x.clone().requires_grad_() for x in arguments]
    return back(form(*leaves, *rest, **how), leaves, upstream)


def tokens(draw, length=T, dtype=F64, dim=D, values=M):
    """q, k and v of so many tokens."""
    q, k = (draw.normal(B, H, length, dim, dtype=dtype) for _ in range(2))
    return q, k, draw.normal(B, H, length, values, dtype=dtype)


def rows_of(draw):
    """Scores of linear attention with a 0 here and there, as a mask leaves them, and never in the first column."""
    scores = draw.uniform(B, H, 5, 7, low=0.1, high=3, dtype=F64)
    scores[..., 1::3, 2::2] = 0
    return scores


def parameters(draw):
    """Random parameters of a layer, none of them small."""
    sizes = dict.fromkeys(("query", "key", "value", "output"), (E, E))
    sizes |= {"gate": (F, E), "up": (F, E), "down": (E, F)}
    return {f"{name}.weight": 0.5 * draw.normal(*shape, dtype=F64) for name, shape in sizes.items()}


def stacked(states):
    """The parameters of a stack from those of its layers."""
    return {f"layers.{i}.{name}": p for i, state in enumerate(states) for name, p in state.items()}


LAYER = {"width": E, "heads": H, "hidden": F}
HALF = "one rounding to half precision is allowed, at the end"
GRADIENT = pytest.mark.part("score_gradient")
SLOPE = pytest.mark.part("steepest_slope")
RMS = pytest.mark.part("rms_norm")
NORM = pytest.mark.part("norm_attention")
DIAG = pytest.mark.part("diag_attention")
ONE = pytest.mark.part("TransNormerLayer")
STACK = pytest.mark.part("TransNormer")
CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["all tokens", "causal"])


class TestValues:
    @SLOPE
    @pytest.mark.points(2)
    @pytest.mark.parametrize("exponential", [False, True], ids=["linear", "softmax"])
    def test_steepest_slope(self, submission, draw, exponential):
        """the largest entry of each row's Jacobian"""
        scores = rows_of(draw)
        several_scores = [scores, 3 * scores[0], scores[1, 2, 3, :2], 0.01 * scores[0, :, :, :5]]
        got = submission.run(several, "steepest_slope", [((s,), {"exponential": exponential}) for s in several_scores])
        expected = [steepest(s, exponential) for s in several_scores]
        assert_close(got, expected, what="slopes of four sets of rows", dtype=F64)

    @RMS
    def test_rms_norm(self, submission, draw):
        """x over the root of mean square plus epsilon"""
        x = draw.normal(B, 5, 7, dtype=F64) + 0.5
        calls = [((x,), {"eps": 0.3}), ((x[0],), {}), ((1e-3 * x[0, 1],), {})]
        expected = [scaled(x, 0.3), scaled(x[0]), scaled(1e-3 * x[0, 1])]
        got = submission.run(several, "rms_norm", calls)
        assert_close(got, expected, what="[eps of 0.3, the usual eps, small x]", dtype=F64)

    @NORM
    @pytest.mark.points(2)
    def test_norm_attention(self, submission, draw):
        """sums of all values by their scores, heads joined, then normalised"""
        q, k, v = tokens(draw)
        assert_close(submission.norm_attention(q, k, v), norm(q, k, v), what="output", dtype=F64)

    @NORM
    @pytest.mark.points(2)
    def test_causal_norm_attention(self, submission, draw):
        """sums over the tokens up to the query's own, whatever the chunks"""
        q, k, v = tokens(draw)
        short = [x[:, :, :5] for x in (q, k, v)]
        calls = [((q, k, v), {"causal": True, "chunk_size": chunk}) for chunk in (4, 11, 1)] + [
            (short, {"causal": True})
        ]
        expected = [norm(q, k, v, True)] * 3 + [norm(*short, True)]
        got = submission.run(several, "norm_attention", calls)
        assert_close(got, expected, what="outputs for chunks of [4, 11, 1, 64] tokens", dtype=F64)

    @NORM
    def test_norm_attention_eps(self, submission, draw):
        """epsilon is compared with the sums themselves"""
        q, k, v = tokens(draw)
        calls = [((q, k, v), {"eps": 20.0}), ((q, k, v), {"causal": True, "eps": 20.0}), ((q - 5, k - 5, v), {})]
        expected = [norm(q, k, v, eps=20.0), norm(q, k, v, True, 20.0), norm(q - 5, k - 5, v)]
        got = submission.run(several, "norm_attention", calls)
        assert_close(got, expected, what="[eps of 20, the same and causal, usual eps and small scores]", dtype=F64)

    @DIAG
    @pytest.mark.points(2)
    @CAUSAL
    def test_diag_attention(self, submission, draw, causal):
        """softmax attention inside blocks, the last of which may be shorter"""
        q, k, v = tokens(draw)
        lengths = (11, 9, 8)
        parts = [[x[:, :, :n] for x in (q, k, v)] for n in lengths]
        got = submission.run(several, "diag_attention", [((*part, W), {"causal": causal}) for part in parts])
        expected = [diag(*part, W, causal) for part in parts]
        assert_close(got, expected, what="outputs for [11, 9, 8] tokens in blocks of 4", dtype=F64)

    @ONE
    @pytest.mark.points(2)
    @pytest.mark.parametrize("size", [W, None], ids=["diag", "norm"])
    def test_layer(self, submission, draw, size):
        """attention and a gated linear unit on normalised inputs, each added to x"""
        state, x = parameters(draw), 2 * draw.normal(B, T, E, dtype=F64)
        got = submission.run(forward, "TransNormerLayer", {**LAYER, "size": size}, state, x)
        expected = [layer(state, H, size, x, causal) for causal in (False, True)]
        assert_close(got, expected, what="(output, causal output)", dtype=F64)

    @ONE
    def test_layer_layout(self, submission):
        """a layer's parameters are the weights of seven linear layers, without biases"""
        expected = {f"{name}.weight": [E, E] for name in ("query", "key", "value", "output")}
        expected |= {"gate.weight": [F, E], "up.weight": [F, E], "down.weight": [E, F]}
        got = submission.run(layout, "TransNormerLayer", {**LAYER, "size": W})
        assert_equal(got, expected, what="shapes of the parameters")

    @STACK
    @pytest.mark.points(2)
    def test_stack(self, submission, draw):
        """layers with DiagAttention come first, then those with NormAttention"""
        states, x = [parameters(draw) for _ in range(3)], draw.normal(B, T, E, dtype=F64)
        sizes = {**LAYER, "diag": 2, "norm": 1, "size": W}
        got = submission.run(forward, "TransNormer", sizes, stacked(states), x)
        expected = [stack(states, H, [W, W, None], x, causal) for causal in (False, True)]
        assert_close(got, expected, what="(output, causal output)", dtype=F64)


class TestGradients:
    @GRADIENT
    @pytest.mark.points(2)
    def test_score_gradient(self, submission, draw):
        """dS is the Jacobian of the weights applied to dP"""
        scores, upstream = rows_of(draw), draw.normal(B, H, 5, 7, dtype=F64)
        calls = [((scores, upstream), {}), ((scores[0, 1, 2] / 100, upstream[0, 1, 2]), {})]
        expected = [score_gradients(*arguments) for arguments, _ in calls]
        got = submission.run(several, "score_gradient", calls)
        assert_close(got, expected, what="dS of [many rows, one row of small scores]", dtype=F64)

    @RMS
    @pytest.mark.points(2)
    def test_rms_norm_gradient(self, submission, draw):
        """the gradient runs through the root too, and is 1 / sqrt(eps) times its upstream at 0"""
        x, upstream = draw.normal(B, 5, 7, dtype=F64), draw.normal(B, 5, 7, dtype=F64)
        x[:, 3] = 0
        got = submission.run(gradients, "rms_norm", [x], upstream, eps=1e-2)
        assert_close(got, explicit_gradients(scaled, [x], upstream, 1e-2), what="(output, [gradient of x])")


class TestStability:
    @GRADIENT
    def test_score_gradient_sizes(self, submission, draw):
        """scores of 1e-30 and of 1e30 neither vanish nor overflow in float32"""
        base, upstream = draw.uniform(5, 7, low=0.5, high=3).float(), draw.normal(5, 7)
        for size in (1e-30, 1e30):
            dtype, values = submission.run(rounded, "score_gradient", base * size, upstream)
            assert_equal(dtype, torch.float32, what="type of dS")
            expected = score_gradients(base, upstream).float()
            assert_close((values * size).float(), expected, what=f"{size:.0e} dS for scores near {size:.0e}")

    @SLOPE
    def test_slope_sizes(self, submission, draw):
        """slopes for scores of 1e-30 and of 1e30 neither overflow nor vanish in float32"""
        base = draw.uniform(5, 7, low=0.5, high=3).float()
        for size in (1e-30, 1e30):
            dtype, values = submission.run(rounded, "steepest_slope", base * size)
            assert_equal(dtype, torch.float32, what="type of the slopes")
            expected = steepest(base, False).float()
            assert_close((values * size).float(), expected, what=f"{size:.0e} slopes for scores near {size:.0e}")

    @SLOPE
    def test_slope_of_large_logits(self, submission, draw):
        """logits near 1000 and -1000 neither overflow nor vanish"""
        logits = [(size + 2 * draw.normal(5, 7)).float() for size in (1000, -1000)]
        got = submission.run(several, "steepest_slope", [((x,), {"exponential": True}) for x in logits])
        expected = [steepest(x, True).float() for x in logits]
        what, reason = "slopes for logits near [1000, -1000]", "float32 near 1000 has steps of 6e-5"
        assert_close(got, expected, what=what, dtype=torch.float32, rtol=1e-3, atol=1e-4, reason=reason)

    @RMS
    def test_half_precision_norm(self, submission, draw):
        """squares above 65504 do not overflow in float16"""
        x = (500 * draw.normal(4, 33)).half()
        _, values = submission.run(rounded, "rms_norm", x)
        assert_close(values, scaled(x), what="output", rtol=2.0**-10, atol=1e-6, reason=HALF)

    @NORM
    @pytest.mark.points(2)
    def test_half_precision_norm_attention(self, submission, draw):
        """sums above 65504 do not overflow in float16; all is float32 up to one rounding"""
        q, k, v = tokens(draw, 100, torch.float16)
        q, k, v = 8 * q, 8 * k, 50 * v
        for how in ({}, {"causal": True, "chunk_size": 16}):
            _, values = submission.run(rounded, "norm_attention", q, k, v, **how)
            expected = norm(q, k, v, bool(how))
            assert_close(values, expected, what=f"output with {how}", rtol=2.0**-10, atol=2e-5, reason=HALF)

    @DIAG
    @pytest.mark.points(2)
    def test_half_precision_diag_attention(self, submission, draw):
        """logits above 65504 do not overflow in float16"""
        q, k, v = tokens(draw, 50, torch.float16)
        large = [
            torch.cat([torch.full_like(x[..., :1], 260), x[..., 1:]], dim=-1) for x in (q, k)
        ]  # 260^2 in all logits
        _, values = submission.run(rounded, "diag_attention", *large, v, W)
        what, reason = "output for dot products near 67600", "float32 has steps of 1e-2 there"
        assert_close(values, diag(*large, v, W), what=what, rtol=2.0**-10, atol=3e-2, reason=reason)


class TestEdgeCases:
    @SLOPE
    def test_lone_score(self, submission, draw):
        """the weight of a lone score is 1 whatever the score: its slope is 0"""
        scores = draw.uniform(3, 1, low=1, high=2, dtype=F64)
        calls = [((scores,), {"exponential": exponential}) for exponential in (False, True)]
        got = submission.run(several, "steepest_slope", calls)
        assert_close(got, [torch.zeros(3, dtype=F64)] * 2, what="[linear, softmax]")

    @NORM
    def test_norm_attention_of_one(self, submission, draw):
        """one token sees itself, causal or not"""
        q, k, v = tokens(draw, 1)
        got = submission.run(several, "norm_attention", [((q, k, v), {"causal": causal}) for causal in (False, True)])
        assert_close(got, [norm(q, k, v)] * 2, what="[output, causal output]")

    @DIAG
    def test_large_blocks(self, submission, draw):
        """blocks of T tokens or more are attention to all, and blocks of one token return its value"""
        q, k, v = tokens(draw, 7)
        one = [x[:, :, :1] for x in (q, k, v)]
        calls = [
            ((q, k, v, 7), {}),
            ((q, k, v, 30), {"causal": True}),
            ((q, k, v, 1), {}),
            ((*one, W), {"causal": True}),
        ]
        expected = [diag(q, k, v, 7), diag(q, k, v, 7, True), side_by_side(v), side_by_side(one[2])]
        got = submission.run(several, "diag_attention", calls)
        assert_close(got, expected, what="[block of T, larger block, blocks of one, one token]")

    @DIAG
    def test_borders(self, submission, draw):
        """what one block holds changes nothing in the others"""
        q, k, v = tokens(draw)
        before = submission.diag_attention(q, k, v, W)
        for x in (q, k, v):
            x[:, :, 4:8] += 3
        after = submission.diag_attention(q, k, v, W)
        others = [0, 1, 2, 3, 8, 9, 10]
        assert_close(
            after[:, others], before[:, others], what="outputs of tokens 0 to 3 and 8 to 10, when 4 to 7 change"
        )

    @STACK
    def test_one_kind(self, submission, draw):
        """a stack may have layers of one kind alone"""
        state, x = parameters(draw), draw.normal(B, T, E, dtype=F64)
        for kind, size in (("diag", W), ("norm", None)):
            sizes = {**LAYER, "diag": 0, "norm": 0, kind: 1, "size": W}
            got = submission.run(forward, "TransNormer", sizes, stacked([state]), x)
            expected = [layer(state, H, size, x, causal) for causal in (False, True)]
            assert_close(got, expected, what=f"(output, causal output) of one {kind} layer")


def network_calls(name, sizes):
    """Causal and not, in two lengths."""

    def drawn(draw):
        state = stacked([parameters(draw) for _ in range(2)]) if name == "TransNormer" else parameters(draw)
        x, few = 2 * draw.normal(B, T, E, dtype=F64), draw.normal(B, 3, E, dtype=F64)
        return on((name, {**LAYER, **sizes}, state), given(x, causal=True), given(few))

    return drawn


def whole_stack(name, sizes, state, x, causal=False):
    states = [{key.split(".", 2)[2]: p for key, p in state.items() if key.startswith(f"layers.{i}.")} for i in (0, 1)]
    return stack(states, H, [sizes["size"], None], x, causal)


TestProperties = holds(
    case(
        "score_gradient",
        lambda draw: [given(rows_of(draw), draw.normal(B, H, 5, 7, dtype=F64)), given(*draw.uniform(2, 3, dtype=F64))],
        *EVERY_FUNCTION,
        expect=score_gradients,
    ),
    case(
        "steepest_slope",
        lambda draw: [given(rows_of(draw), exponential=True), given(draw.uniform(4, 3, low=0.1, dtype=F64))],
        *EVERY_FUNCTION,
        expect=lambda scores, exponential=False: steepest(scores, exponential),
    ),
    case(
        "rms_norm",
        lambda draw: [given(draw.normal(B, 5, 70, dtype=F64), eps=0.3), given(draw.normal(7, dtype=F64))],
        *EVERY_FUNCTION,
        rounds_once,
        expect=scaled,
    ),
    case(
        "norm_attention",
        lambda draw: [given(*tokens(draw), causal=True, chunk_size=4, eps=0.5), given(*tokens(draw, 40))],
        *EVERY_FUNCTION,
        is_differentiable,
        rounds_once,
        type_follows(2),
        expect=lambda q, k, v, chunk_size=64, **how: norm(q, k, v, **how),
    ),
    case(
        "diag_attention",
        lambda draw: [given(*tokens(draw), W, causal=True), given(*tokens(draw, 50), 32)],
        *EVERY_FUNCTION,
        is_differentiable,
        rounds_once,
        type_follows(2),
        expect=diag,
    ),
    *(
        case(
            "TransNormerLayer",
            network_calls("TransNormerLayer", {"size": size}),
            *EVERY_MODULE,
            is_differentiable,
            made=loaded,
            expect=lambda name, sizes, state, x, causal=False: layer(state, H, sizes["size"], x, causal),
            name=f"{kind} layer",
        )
        for kind, size in (("diag", W), ("norm", None))
    ),
    case(
        "TransNormer",
        network_calls("TransNormer", {"diag": 1, "norm": 1, "size": W}),
        *EVERY_MODULE,
        is_differentiable,
        made=loaded,
        expect=whole_stack,
    ),
)


class TestPerformance:
    @GRADIENT
    def test_score_gradient_cost(self, submission, draw):
        """by the formula: no graph, and no tensor larger than the scores"""
        scores, upstream = draw.uniform(3, 5, 40, low=0.5, high=3), draw.normal(3, 5, 40)
        cost = submission.measure("score_gradient", scores, upstream).cost
        assert_cost(cost, "saved_bytes", at_most=0, why="the formula needs no graph")
        assert_cost(cost, "largest_bytes", at_most=8 * scores.numel(), why="the size of the scores")

    @SLOPE
    def test_slope_cost(self, submission, draw):
        """no Jacobian: no tensor larger than the scores"""
        scores = draw.uniform(3, 5, 40, low=0.5, high=3)
        for exponential in (False, True):
            cost = submission.measure("steepest_slope", scores, exponential=exponential).cost
            assert_cost(cost, "largest_bytes", at_most=8 * scores.numel(), why="the size of the scores")

    @NORM
    @pytest.mark.points(2)
    @CAUSAL
    def test_norm_attention_growth(self, submission, draw, causal):
        """time and memory grow with T; nothing is T x T or T x D x M"""
        # in numbers a token and head: T x T has 512, T x D x M 768, T x C 64, and q, k, v 24 and 32
        costs = [
            submission.measure("norm_attention", *tokens(draw, n, torch.float32, 24, 32), causal=causal).cost
            for n in (256, 512)
        ]
        for metric in ("flops", "peak_bytes"):
            assert_growth(*costs, metric, at_most=2.2, when="T doubles")
        limit = 160 * B * H * 512 * 4
        assert_cost(costs[1], "largest_bytes", at_most=limit, why="160 floats a token and head, for D = 24 and M = 32")

    @NORM
    def test_norm_attention_operators(self, submission, draw):
        """operators are as many as there are chunks, not tokens"""
        cost = submission.measure("norm_attention", *tokens(draw, 512, torch.float32), causal=True).cost
        assert_cost(cost, "operators", at_most=900, why="100 for each of 8 chunks, and 100 beside")

    @DIAG
    @pytest.mark.points(2)
    def test_diag_attention_cost(self, submission, draw):
        """only logits inside blocks are computed, and nothing is T x T"""
        costs = [
            submission.measure("diag_attention", *tokens(draw, n, torch.float32, 12, 16), size=32).cost
            for n in (250, 500)
        ]
        assert_growth(*costs, "peak_bytes", at_most=2.2, when="T doubles")
        limit = 1.05 * B * H * 512 * 32 * 2 * (12 + 16)
        assert_cost(costs[1], "flops", at_most=limit, why="T w logits, times D + M, T rounded up, and 5 % beside")
        limit = 4 * B * H * 512 * 4 * 16
        assert_cost(costs[1], "largest_bytes", at_most=limit, why="four inputs")

    @DIAG
    def test_diag_attention_operators(self, submission, draw):
        """all blocks go at once: operators do not grow with T"""
        few, many = (submission.measure("diag_attention", *tokens(draw, n), size=W, causal=True).cost for n in (26, 74))
        assert_growth(few, many, "operators", at_most=1.3, when="T is three times as large")

    @DIAG
    def test_oversized_blocks(self, submission, draw):
        """a block larger than the sequence costs no more than the sequence"""
        cost = submission.measure("diag_attention", *tokens(draw, 24, torch.float32), size=200).cost
        limit = 1.05 * B * H * 24 * 24 * 2 * (D + M)
        assert_cost(cost, "flops", at_most=limit, why="T x T logits, times D + M, and 5 % beside")

    @ONE
    def test_heads(self, submission, draw):
        """operators are as many for two heads as for six"""
        x = draw.normal(B, 9, 24)
        few, many = (
            submission.measure(network_cost, "TransNormerLayer", {"width": 24, "heads": heads, "hidden": 20}, x).cost
            for heads in (2, 6)
        )
        assert_growth(few, many, "operators", at_most=1.0, when="there are 6 heads and not 2")
