"""Hidden suite for attention/flash_attention: the whole T x T softmax in float64, autograd, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe
from grader.probes import vjp

EXERCISE = Exercise(
    title="FlashAttention",
    level="stretch",
    minutes=60,
    after=("dot_product_attention",),
    needs=("torch",),
    forbid=("softmax",),
    hints=(
        "What must you know of the keys seen so far to add one more? Their largest logit, the sum of exponentials relative "
        "to it, and the weighted sum of values relative to it: three things, however many keys there were.",
        "Every sum is relative to some maximum. When the maximum rises from m to m', multiply all old sums by e^(m - m'), "
        "the output's too, and only then add the new tile's, taken relative to m' and not to the tile's own maximum.",
        "Minus infinity minus minus infinity is NaN. Where nothing is visible yet, subtract 0 instead of the maximum: the "
        "exponential of minus infinity is then 0 by itself.",
        "The positions in a causal tile count from the start of the sequences, not of the tile. Let the last tile be "
        "shorter: a key filled up with zeros has the logit 0, which counts.",
        "Backward, the weights come back from the logits and the log-sum-exp alone. The sum over a whole row that the "
        "softmax's gradient needs equals the row's dot product of dO and O, so no tile has to see the others.",
    ),
    follow_ups=(
        (
            "Why keep the log-sum-exp and not the weights?",
            "The weights are T x T numbers a head; the log-sum-exp is T. With it a tile's weights are one exponential of "
            "logits that are computed again, already normalised. One number m + log l also replaces the pair (m, l) that "
            "the first paper kept.",
        ),
        (
            "How much does it read and write, and why is it faster although it computes more?",
            "With fast memory of S numbers, tiles of about S / (4 D) keys fit, and slow memory is accessed O(T^2 D^2 / S) "
            "times, where standard attention needs O(T D + T^2): with D = 64 and S = 50,000 that is some ten times less. "
            "Attention is bound by memory, not by arithmetic, so computing S again backward costs less than reading "
            "P, and the floating-point operations grow by about a quarter of the backward's only.",
        ),
        (
            "What changed from the first to the second version?",
            "The output is divided once at the end and not after every tile, so that fewer operations run outside matrix "
            "products; the outer loop goes over queries, so that tiles of queries are independent and run in parallel "
            "besides batch and heads; a warp splits queries and not keys, which saves exchanges; and one log-sum-exp is kept.",
        ),
    ),
)

# --- probes ---


@probe
def gradients(module, query, key, value, upstream, **how):
    """The output, and what reaches query, key and value."""
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    y = module.flash_attention(*leaves, **how)
    return y.detach(), vjp([y], leaves, [upstream])


@probe
def rounded(module, name, *arguments, **how):
    """The type of each result, and its values in float64."""
    results = getattr(module, name)(*arguments, **how)
    return [x.dtype for x in results], [x.double() for x in results]


@probe
def whole(module, query, key, columns, **how):
    """All tiles of logits put together."""
    rows = [slice(0, 3), slice(3, 7), slice(7, query.shape[2])]
    strips = [[module.tile_logits(query, key, a, slice(*b), **how) for b in columns] for a in rows]
    return torch.cat([torch.cat(strip, dim=3) for strip in strips], dim=2)


@probe
def differentiable(module, meter, query, key, value, **how):
    """The output, with a graph behind it."""
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    with meter:
        y = module.flash_attention(*leaves, **how)
    return y.detach()


# --- oracles ---

F64 = torch.float64
B, H, TQ, TK, D, M = 2, 3, 11, 14, 5, 7
TILES = {"tile_q": 4, "tile_k": 6}
HALF = "one rounding to half precision is allowed, at the end"

# the first tile of keys of the first row is padding, and the second row has holes
PADDING = torch.tensor(
    [[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1], [1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0]], dtype=torch.bool
)


def logits_of(query, key, mask=None, causal=False, scale=None):
    """All logits, in float64."""
    scale = 1 / query.shape[-1] ** 0.5 if scale is None else scale
    logits = torch.einsum("bhid,bhjd->bhij", query.double(), key.double()) * scale
    rows, columns = logits.shape[-2:]
    if causal:
        late = [[j - columns > i - rows for j in range(columns)] for i in range(rows)]
        logits = logits.masked_fill(torch.tensor(late), -torch.inf)
    return logits if mask is None else torch.where(mask[:, None, None, :], logits, -torch.inf)


def explicit(query, key, value, **how):
    """Output and log-sum-exp, in float64."""
    logits = logits_of(query, key, **how)
    seen = logits > -torch.inf
    some = seen.any(dim=-1, keepdim=True)
    lse = torch.logsumexp(torch.where(some, logits, 0), dim=-1, keepdim=True)
    p = torch.where(seen, torch.exp(torch.where(seen, logits, -1e300) - lse), 0)
    return p @ value.double(), torch.where(some, lse, -torch.inf).squeeze(-1)


def explicit_gradients(query, key, value, upstream, **how):
    """The output, and what autograd makes of the explicit formula."""
    leaves = [x.double().clone().requires_grad_() for x in (query, key, value)]
    y = explicit(*leaves, **how)[0]
    return y.detach(), vjp([y], leaves, [upstream.double()])


def from_saved(upstream, query, key, value, output, lse):
    """The formulas of the backward with the output and log-sum-exp as they are given, in float64."""
    upstream, query, key, value, output, lse = (x.double() for x in (upstream, query, key, value, output, lse))
    scale = 1 / query.shape[-1] ** 0.5
    p = torch.exp(torch.einsum("bhid,bhjd->bhij", query, key) * scale - lse[..., None])
    inner = (
        torch.einsum("bhim,bhjm->bhij", upstream, value) - torch.einsum("bhim,bhim->bhi", upstream, output)[..., None]
    )
    ds = scale * p * inner
    pairs = ("bhij,bhjd->bhid", ds, key), ("bhij,bhid->bhjd", ds, query), ("bhij,bhim->bhjm", p, upstream)
    return [torch.einsum(*pair) for pair in pairs]


def running(logits, tile):
    """(m, l) after every tile, from prefixes, in float64."""
    stops = [min(start + tile, logits.shape[-1]) for start in range(0, logits.shape[-1], tile)]
    m = torch.stack([logits[..., :stop].double().amax(dim=-1) for stop in stops], dim=-1)
    shift = torch.where(m == -torch.inf, 0, m)
    terms = [torch.exp(logits[..., :stop].double() - shift[..., n, None]) for n, stop in enumerate(stops)]
    return m, torch.stack([x.sum(dim=-1) for x in terms], dim=-1)


def tokens(draw, queries=TQ, keys=TK, dtype=F64, shape=(B, H), dim=D, values=M):
    """Query, key and value."""
    query, key = draw.normal(*shape, queries, dim, dtype=dtype), draw.normal(*shape, keys, dim, dtype=dtype)
    return query, key, draw.normal(*shape, keys, values, dtype=dtype)


def upstream_of(draw, query, value):
    """A gradient that arrives at the output."""
    return draw.normal(*query.shape[:3], value.shape[-1], dtype=value.dtype)


def at(draw, size):
    """Query, key and value with logits within a few of `size`."""
    query, key, value = tokens(draw)
    query[..., 0], key[..., 0] = size * D**0.5, 1
    return query, key, value


KINDS = {"plain": {}, "mask and scale": {"mask": PADDING, "scale": 0.7}, "causal": {"causal": True}}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
COMBINE = pytest.mark.part("combine")
ONLINE = pytest.mark.part("online_softmax")
LOGITS = pytest.mark.part("tile_logits")
FORWARD = pytest.mark.part("flash_forward")
BACKWARD = pytest.mark.part("flash_backward")
FUNCTION = pytest.mark.part("FlashAttention")


class TestValues:
    @COMBINE
    def test_combine(self, submission, draw):
        """two partial sums are brought to one maximum and added"""
        pairs = [(draw.normal(5, 7, dtype=F64), draw.uniform(5, 7, low=1, high=4, dtype=F64)) for _ in range(2)]
        (m1, l1), (m2, l2) = pairs
        m = torch.where(m1 > m2, m1, m2)
        expected = m, (l1 * torch.exp(m1) + l2 * torch.exp(m2)) * torch.exp(-m)
        assert_close(submission.combine(*pairs), expected, what="(m, l)", dtype=F64)

    @ONLINE
    @pytest.mark.parametrize("tile", [3, 5], ids=["ragged", "whole tiles"])
    def test_online_softmax(self, submission, draw, tile):
        """maximum and sum are right after every tile"""
        logits = 2 * draw.normal(4, 7, 10, dtype=F64)
        assert_close(submission.online_softmax(logits, tile), running(logits, tile), what="running (m, l)", dtype=F64)

    @LOGITS
    @pytest.mark.parametrize("kind", ["mask and scale", "causal"])
    def test_tile_logits(self, submission, draw, kind):
        """tiles of logits, put together, are all logits, hidden ones minus infinity"""
        query, key, _ = tokens(draw)
        got = submission.run(whole, query, key, [(0, 5), (5, 10), (10, 14)], **KINDS[kind])
        assert_close(got, logits_of(query, key, **KINDS[kind]), what="logits", dtype=F64)

    @FORWARD
    @pytest.mark.points(2)
    @EACH_KIND
    def test_forward(self, submission, draw, kind):
        """output and log-sum-exp are those of the whole softmax"""
        query, key, value = tokens(draw)
        got = submission.flash_forward(query, key, value, **KINDS[kind], **TILES)
        assert_close(got, explicit(query, key, value, **KINDS[kind]), what="(output, lse)", dtype=F64)

    @FORWARD
    @pytest.mark.parametrize("sizes", [{}, {"tile_q": 3, "tile_k": 2}], ids=["one", "many"])
    def test_tile_sizes(self, submission, draw, sizes):
        """results do not depend on the tiles; one may hold everything"""
        query, key, value = tokens(draw)
        got = submission.flash_forward(query, key, value, mask=PADDING, causal=True, **sizes)
        expected = explicit(query, key, value, mask=PADDING, causal=True)
        assert_close(got, expected, what="(output, lse)", dtype=F64)


class TestGradients:
    @BACKWARD
    @pytest.mark.points(2)
    @EACH_KIND
    def test_backward(self, submission, draw, kind):
        """dQ, dK and dV are the gradients of the whole softmax attention"""
        query, key, value = tokens(draw)
        upstream, call = upstream_of(draw, query, value), KINDS[kind]
        saved = explicit(query, key, value, **call)
        got = submission.flash_backward(upstream, query, key, value, *saved, **call, **TILES)
        expected = explicit_gradients(query, key, value, upstream, **call)[1]
        assert_close(got, expected, what="(dQ, dK, dV)", dtype=F64)

    @FUNCTION
    @pytest.mark.points(2)
    @EACH_KIND
    def test_autograd(self, submission, draw, kind):
        """autograd goes through the tiled forward and backward"""
        query, key, value = tokens(draw)
        upstream = upstream_of(draw, query, value)
        got = submission.run(gradients, query, key, value, upstream, **KINDS[kind], **TILES)
        expected = explicit_gradients(query, key, value, upstream, **KINDS[kind])
        assert_close(got, expected, what="(output, gradients of [query, key, value])", dtype=F64)


class TestStability:
    @COMBINE
    def test_combine_far_apart(self, submission):
        """maxima that lie thousands apart neither overflow nor vanish"""
        pairs = (
            (torch.tensor([0.0, 5000.0, -5000.0, -9000.0]), torch.tensor([2.0, 3.0, 1.5, 4.0])),
            (torch.tensor([5000.0, 0.0, -5001.0, -9000.0]), torch.tensor([1.0, 2.5, 2.0, 3.0])),
        )
        expected = torch.tensor([5000.0, 5000, -5000, -9000]), torch.tensor([1.0, 3, 1.5 + 2 * torch.e**-1, 7])
        assert_close(submission.combine(*pairs), expected, what="(m, l)", dtype=torch.float32)

    @ONLINE
    def test_running_extremes(self, submission, draw):
        """logits that climb or fall by thousands neither overflow nor vanish"""
        climb = torch.linspace(-4000, 4000, 11)
        logits = torch.stack([climb, -climb, climb - 9000]) + draw.normal(3, 11)
        expected = tuple(x.float() for x in running(logits, 4))
        assert_close(submission.online_softmax(logits, 4), expected, what="running (m, l)", dtype=torch.float32)

    @FORWARD
    @pytest.mark.parametrize("size", [1e4, -1e4], ids=["large", "small"])
    def test_large_logits(self, submission, draw, size):
        """logits near 10000 and -10000 neither overflow nor vanish"""
        arguments = at(draw, size)
        got = submission.flash_forward(*arguments, **TILES)
        assert_close(got, explicit(*arguments), what="(output, lse)")

    @BACKWARD
    def test_large_logits_backward(self, submission, draw):
        """the backward survives logits near -10000"""
        query, key, value = at(draw, -1e4)
        upstream = upstream_of(draw, query, value)
        got = submission.flash_backward(upstream, query, key, value, *explicit(query, key, value), **TILES)
        expected, reason = explicit_gradients(query, key, value, upstream)[1], "logits near 10000 lose four digits"
        assert_close(got, expected, what="(dQ, dK, dV)", rtol=1e-6, atol=1e-6, reason=reason)

    @FORWARD
    @pytest.mark.points(2)
    def test_half_precision(self, submission, draw):
        """half precision is summed up in float32 and rounded once; the log-sum-exp is float32"""
        query, key, value = tokens(draw, 9, 90, torch.bfloat16)
        got, values = submission.run(rounded, "flash_forward", query, key, value, tile_q=4, tile_k=16)
        assert_equal(got, [torch.bfloat16, torch.float32], what="types of (output, lse)")
        output, lse = explicit(query, key, value)
        assert_close(values[0], output, what="output", rtol=2.0**-8, atol=1e-5, reason=HALF)
        assert_close(values[1], lse, what="lse", rtol=1e-5, atol=1e-5, reason="float32 sums are off by up to 1e-5")

    @FORWARD
    def test_large_half_precision(self, submission, draw):
        """dot products above 65504 do not overflow in float16"""
        query, key, value = tokens(draw, dtype=torch.float16)
        query, key = 300 * query, 300 * key
        got, values = submission.run(rounded, "flash_forward", query, key, value, **TILES)
        assert_equal(got, [torch.float16, torch.float32], what="types of (output, lse)")
        expected, reason = list(explicit(query, key, value)), "float32 logits near 1e5 are off by up to 0.01"
        assert_close(values, expected, what="[output, lse]", rtol=2.0**-9, atol=5e-2, reason=reason)

    @BACKWARD
    def test_half_precision_backward(self, submission, draw):
        """gradients of half precision are summed up in float32 and rounded once, to the types of the inputs"""
        query, key, value = tokens(draw, 20, 30, torch.bfloat16)
        upstream = upstream_of(draw, query, value)
        output, lse = explicit(query, key, value)
        saved = output.bfloat16(), lse.float()
        arguments = (upstream, query, key, value, *saved)
        got, values = submission.run(rounded, "flash_backward", *arguments, tile_q=6, tile_k=8)
        assert_equal(got, [torch.bfloat16] * 3, what="types of (dQ, dK, dV)")
        assert_close(values, from_saved(*arguments), what="(dQ, dK, dV)", rtol=2.0**-8, atol=1e-5, reason=HALF)


class TestEdgeCases:
    @COMBINE
    def test_empty_sets(self, submission):
        """the empty set (-inf, 0) changes nothing, and two of them are empty"""
        empty, some = -torch.inf, 3.0
        pairs = (
            (torch.tensor([empty, some, empty]), torch.tensor([0.0, 2.0, 0.0])),
            (torch.tensor([some, empty, empty]), torch.tensor([2.0, 0.0, 0.0])),
        )
        expected = torch.tensor([some, some, empty]), torch.tensor([2.0, 2.0, 0.0])
        assert_close(submission.combine(*pairs), expected, what="(m, l)")

    @ONLINE
    def test_hidden_tiles(self, submission, draw):
        """tiles without a visible logit count for nothing, at the start too"""
        logits = draw.normal(3, 11, dtype=F64)
        logits[0, :5], logits[1, 4:8], logits[2] = -torch.inf, -torch.inf, -torch.inf
        assert_close(submission.online_softmax(logits, 4), running(logits, 4), what="running (m, l)")

    @FORWARD
    @pytest.mark.points(2)
    def test_hidden_rows(self, submission, draw):
        """queries that see no key have the output 0 and the log-sum-exp minus infinity"""
        query, key, value = tokens(draw)
        mask = PADDING.clone()
        mask[1] = False
        got = submission.flash_forward(query, key, value, mask=mask, **TILES)
        assert_close(got, explicit(query, key, value, mask=mask), what="(output, lse)")

    @FORWARD
    def test_more_queries_than_keys(self, submission, draw):
        """causal with more queries than keys: the first tile of queries sees nothing"""
        query, key, value = tokens(draw, 14, 9)
        got = submission.flash_forward(query, key, value, causal=True, **TILES)
        assert_close(got, explicit(query, key, value, causal=True), what="(output, lse)")

    @BACKWARD
    @pytest.mark.parametrize("causal", [False, True], ids=["padded", "causal"])
    def test_hidden_gradients(self, submission, draw, causal):
        """queries that see no key get and give gradients of 0"""
        query, key, value = tokens(draw, 14, 9) if causal else tokens(draw)
        mask = torch.stack([PADDING[0], torch.zeros(TK, dtype=torch.bool)])
        call = {"causal": True} if causal else {"mask": mask}
        upstream, saved = upstream_of(draw, query, value), explicit(query, key, value, **call)
        got = submission.flash_backward(upstream, query, key, value, *saved, **call, **TILES)
        expected = explicit_gradients(query, key, value, upstream, **call)[1]
        assert_close(got, expected, what="(dQ, dK, dV)")

    @FORWARD
    def test_one_query(self, submission, draw):
        """a single query, as in decoding, sees all keys, causal or not; a single key is copied"""
        for queries, keys in ((1, TK), (TQ, 1)):
            query, key, value = tokens(draw, queries, keys)
            got = submission.flash_forward(query, key, value, causal=queries == 1, **TILES)
            assert_close(got, explicit(query, key, value), what=f"(output, lse) for {queries} queries, {keys} keys")

    @FUNCTION
    def test_memory_order(self, submission, draw):
        """inputs and upstream gradients may lie in memory in any order, or be expanded"""
        query = draw.normal(B, TQ, H, D, dtype=F64).transpose(1, 2)
        key = draw.normal(B, H, D, TK, dtype=F64).mT
        value = draw.normal(B, 1, TK, M, dtype=F64).expand(B, H, TK, M)
        upstream = draw.normal(B, TQ, H, M, dtype=F64).transpose(1, 2)
        got = submission.run(gradients, query, key, value, upstream, **TILES)
        expected = explicit_gradients(query, key, value, upstream)
        assert_close(got, expected, what="(output, gradients of [query, key, value])")


class TestPerformance:
    @FORWARD
    @pytest.mark.points(2)
    def test_forward_cost(self, submission, draw):
        """two products; no tensor larger than a tile or an input; memory grows with T"""
        sizes = {"dim": 12, "values": 16, "dtype": torch.float32}
        costs = []
        for t in (64, 128):
            arguments = tokens(draw, t, t, **sizes)
            costs.append(submission.measure("flash_forward", *arguments, tile_q=32, tile_k=32).cost)
        limit = 1.5 * 4 * B * H * 128 * 16
        assert_cost(costs[1], "largest_bytes", at_most=limit, why="T x M floats a head, and half as much beside")
        limit = 1.05 * 2 * B * H * 128 * 128 * (12 + 16)
        assert_cost(costs[1], "flops", at_most=limit, why="2 T T (D + M) a head, and 5 % beside")
        assert_growth(*costs, "peak_bytes", at_most=2.2, when="T doubles")

    @FORWARD
    def test_operators(self, submission, draw):
        """operators are as many as there are tiles, whatever their size and the number of heads"""
        few = submission.measure("flash_forward", *tokens(draw, 24, 40), tile_q=8, tile_k=10).cost
        many = submission.measure("flash_forward", *tokens(draw, 48, 80, shape=(4, 5)), tile_q=16, tile_k=20).cost
        assert_growth(few, many, "operators", at_most=1.0, when="tiles are twice as large, and heads more")

    @FORWARD
    def test_causal_forward_cost(self, submission, draw):
        """tiles that are hidden altogether are skipped"""
        arguments = tokens(draw, 128, 128, torch.float32, dim=12, values=16)
        cost = submission.measure("flash_forward", *arguments, causal=True, tile_q=32, tile_k=32).cost
        limit = 1.05 * 2 * B * H * 10 * 32 * 32 * (12 + 16)
        assert_cost(cost, "flops", at_most=limit, why="two products over 10 of 16 tiles, and 5 % beside")

    @BACKWARD
    @pytest.mark.points(2)
    def test_backward_cost(self, submission, draw):
        """five products over the tiles that are not hidden; no tensor larger than a tile or an input"""
        query, key, value = tokens(draw, 128, 128, torch.float32, dim=12, values=16)
        upstream = upstream_of(draw, query, value)
        saved = [x.float() for x in explicit(query, key, value, causal=True)]
        arguments = (upstream, query, key, value, *saved)
        cost = submission.measure("flash_backward", *arguments, causal=True, tile_q=32, tile_k=32).cost
        limit = 1.5 * 4 * B * H * 128 * 16
        assert_cost(cost, "largest_bytes", at_most=limit, why="T x M floats a head, and half as much beside")
        limit = 1.05 * 2 * B * H * 10 * 32 * 32 * (3 * 12 + 2 * 16)
        assert_cost(cost, "flops", at_most=limit, why="five products over 10 of 16 tiles, and 5 % beside")

    @FUNCTION
    @pytest.mark.points(2)
    def test_saved(self, submission, draw):
        """for backward only query, key, value, output, log-sum-exp and mask are kept"""
        arguments = tokens(draw, 64, 96, torch.float32)
        mask = torch.ones(B, 96, dtype=torch.bool)
        cost = submission.measure(differentiable, *arguments, mask=mask, tile_q=16, tile_k=32).cost
        limit = 4 * B * H * (64 * (D + M + 1) + 96 * (D + M)) + B * 96
        for metric in ("saved_bytes", "held_bytes"):  # what autograd saves, the inputs too, and what else stays alive
            assert_cost(cost, metric, at_most=limit, why="query, key, value, output, log-sum-exp and mask")


TILE = "            S = tile_logits(query, key, rows, columns, mask, causal, scale)  # (B, H, Cq, Ck)\n"
IN_FORWARD = TILE + "            m_new"
IN_BACKWARD = TILE + "            P = (S - lse"
SKIPPED = "            if causal and hidden(rows, columns, query, key):\n                "
VALUES = "rescale * O + P @ wide(value[:, :, columns])[0]"

MISTAKES = [
    Mistake(
        "combined-without-rescaling",
        "`combine` adds sums that are relative to different maxima; bring both to the larger one first",
        {"return m, l1 * (m1 - shift).exp() + l2 * (m2 - shift).exp()": "return m, l1 + l2"},
    ),
    Mistake(
        "exponentials-without-maximum",
        "`combine` takes e^m of each maximum by itself, which overflows; take differences first",
        {
            "l1 * (m1 - shift).exp() + l2 * (m2 - shift).exp()": "(l1 * m1.exp() + l2 * m2.exp()) / shift.exp()",
        },
    ),
    Mistake(
        "empty-sets-nan",
        "two empty sets give -inf minus -inf, which is NaN; subtract 0 where the maximum is minus infinity",
        {"shift = m.masked_fill(m == -torch.inf, 0)": "shift = m"},
    ),
    Mistake(
        "hidden-tile-nan",
        "a hidden tile has the maximum minus infinity, and -inf minus -inf is NaN; subtract 0 there",
        {"(x - m.masked_fill(m == -torch.inf, 0)).exp()": "(x - m).exp()"},
    ),
    Mistake(
        "running-from-zero",
        "the running maximum starts at 0; before any logit it is minus infinity",
        {"state = logits.new_full((), -torch.inf)": "state = logits.new_full((), 0.0)"},
    ),
    Mistake(
        "tiles-not-accumulated",
        "every tile's own (m, l) is returned; they run over all tiles so far",
        {"states.append(state)": "states.append((m.squeeze(-1), l))"},
    ),
    Mistake(
        "tile-maximum-not-running",
        "a tile's weights are relative to its own maximum, but are added to sums relative to the running one",
        {"P = (S - shift).exp()": "P = (S - S.amax(dim=-1, keepdim=True).nan_to_num(neginf=0.0)).exp()"},
    ),
    Mistake(
        "maximum-starts-at-zero",
        "the running maximum starts at 0: where all logits are far below, every exponential is 0; start at minus infinity",
        {"m = l - torch.inf": "m = l"},
    ),
    Mistake(
        "output-not-rescaled",
        "the sum is rescaled when the maximum rises, and the output is not",
        {VALUES: VALUES.removeprefix("rescale * ")},
    ),
    Mistake(
        "sum-not-rescaled",
        "the output is rescaled when the maximum rises, and the sum is not",
        {"l = rescale * l + P": "l = l + P"},
    ),
    Mistake(
        "tail-filled-with-zeros",
        "the last tile is filled up with keys of zeros, whose logits 0 still count; leave it shorter",
        {
            IN_FORWARD: IN_FORWARD.replace("= tile_logits(", "= torch.nn.functional.pad(tile_logits(").replace(
                "scale)  #", "scale), (0, tile_k - columns.stop + columns.start))  #"
            ),
            "P @ wide(value[:, :, columns])[0]": "P[..., : columns.stop - columns.start] @ wide(value[:, :, columns])[0]",
        },
    ),
    Mistake(
        "tail-dropped",
        "keys after the last whole tile are left out; the last tile may be shorter",
        {
            "        for columns in tiles(key.shape[2], tile_k):\n            if causal": "        for columns in tiles(key.shape[2], tile_k)[: max(key.shape[2] // tile_k, 1)]:\n            if causal"
        },
    ),
    Mistake(
        "nothing-seen-nan",
        "the maximum of nothing is minus infinity, and -inf minus -inf is NaN; subtract 0 there",
        {"shift = m_new.masked_fill(m_new == -torch.inf, 0)": "shift = m_new"},
    ),
    Mistake(
        "zero-divided",
        "a query that sees no key gives 0 / 0 = NaN; its output is 0",
        {"O / l.masked_fill(l == 0, 1)": "O / l"},
    ),
    Mistake(
        "lse-without-maximum",
        "the log-sum-exp is the logarithm of the sum alone; the sum is relative to the maximum, so add that",
        {"lses.append((m + l.log())": "lses.append(l.log()"},
    ),
    Mistake(
        "lse-in-half",
        "the log-sum-exp of half precision is rounded to half precision; it stays float32",
        {"lses.append((m + l.log())": "lses.append((m + l.log()).to(value.dtype)"},
    ),
    Mistake(
        "scale-missing",
        "the logits are not scaled by 1 / sqrt(D)",
        {
            "    scale = query.shape[-1] ** -0.5 if scale is None else scale\n    Q, K": "    scale = 1 if scale is None else scale\n    Q, K"
        },
    ),
    Mistake(
        "causal-top-left",
        "the causal mask starts at the first key (top left); the last query sees all keys (bottom right)",
        {"j > i + key.shape[2] - query.shape[2]": "j > i"},
    ),
    Mistake(
        "positions-within-tile",
        "causal positions count from the start of the tile; they count from the start of the sequence",
        {
            "i = torch.arange(rows.start, rows.stop, device": "i = torch.arange(rows.stop - rows.start, device",
            "j = torch.arange(columns.start, columns.stop, device": "j = torch.arange(columns.stop - columns.start, device",
        },
    ),
    Mistake(
        "hidden-logits-finite",
        "padded logits are set to -1e9, so that a query that sees no key averages the padding; set them to minus infinity",
        {
            "S.masked_fill(~mask[:, None, None, columns], -torch.inf)": "S.masked_fill(~mask[:, None, None, columns], -1e9)"
        },
    ),
    Mistake(
        "sums-in-half",
        "half precision is multiplied and summed up in half precision; use float32 inside, and round once",
        {"return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]": "return list(tensors)"},
    ),
    Mistake(
        "delta-missing",
        "dS lacks the row's sum of dO and O: a constant added to all logits of a row must have the gradient 0",
        {"dS = P * (dO @ V.mT - delta[:, :, rows])": "dS = P * (dO @ V.mT)"},
    ),
    Mistake(
        "delta-of-tile",
        "the row's sum is taken over one tile of keys; it runs over all of them, and equals the row's dot product of dO and O",
        {
            "dS = P * (dO @ V.mT - delta[:, :, rows])": "dS = P * (dO @ V.mT - (P * (dO @ V.mT)).sum(dim=-1, keepdim=True))"
        },
    ),
    Mistake(
        "gradients-unscaled",
        "dQ and dK lack the scale of the logits",
        {"factor * dS @ K": "dS @ K", "factor * dS.mT @ Q": "dS.mT @ Q"},
    ),
    Mistake(
        "gradients-overwritten",
        "every tile of queries overwrites dK and dV; they sum up over the queries",
        {"dV[:, :, columns] += ": "dV[:, :, columns] = ", "dK[:, :, columns] += ": "dK[:, :, columns] = "},
    ),
    Mistake(
        "hidden-rows-nan-backward",
        "where the log-sum-exp is minus infinity, -inf minus -inf makes the weights NaN; subtract 0 there",
        {"lse = lse.masked_fill(lse == -torch.inf, 0)[..., None]": "lse = lse[..., None]"},
    ),
    Mistake(
        "backward-forgets-settings",
        "the backward runs without mask, causal and scale; it needs those of the forward",
        {"*ctx.saved_tensors, *ctx.settings)": "*ctx.saved_tensors[:5], None, False, None, *ctx.settings[2:])"},
    ),
    Mistake(
        "hidden-tiles-computed",
        "causal tiles that are hidden altogether are computed; skip them",
        {
            SKIPPED + "break": "            if False:\n                break",
            SKIPPED + "continue": "            if False:\n                continue",
        },
    ),
    Mistake(
        "one-tile",
        "all keys are one tile, with tile_q x T logits; keep to `tile_k`",
        {
            "    outputs, lses = [], []\n": "    outputs, lses = [], []\n    tile_k = key.shape[2]\n",
            "    for columns in tiles(key.shape[2], tile_k):\n        for rows": "    tile_q = query.shape[2]\n    for columns in tiles(key.shape[2], tile_k):\n        for rows",
        },
    ),
    Mistake(
        "query-by-query",
        "the loop goes over single queries; take a tile of them at a time",
        {"    outputs, lses = [], []\n": "    outputs, lses = [], []\n    tile_q = 1\n"},
    ),
    Mistake(
        "backward-by-autograd",
        "autograd goes through the tiled forward, which saves the weights of every tile; write the backward",
        {
            "return FlashAttention.apply(query, key, value, mask, causal, scale, tile_q, tile_k)": "return flash_forward(query, key, value, mask, causal, scale, tile_q, tile_k)[0]"
        },
    ),
    Mistake(
        "scaled-query-saved-too",
        "a scaled query is saved beside the query; what the backward can compute again is not kept",
        {
            "ctx.save_for_backward(query, key, value, output, lse, mask)": "ctx.save_for_backward(query, key, value, output, lse, mask, query * query.shape[-1] ** -0.5)",
            "*ctx.saved_tensors, *ctx.settings)": "*ctx.saved_tensors[:6], *ctx.settings)",
        },
    ),
    Mistake(
        "logits-kept-on-ctx",
        "the logits of all tiles are kept on `ctx` for backward; compute them again there from query, key and lse",
        {
            "        mask, *ctx.settings = settings\n": "        mask, *ctx.settings = settings\n"
            "        everything = slice(0, query.shape[2]), slice(0, key.shape[2])\n"
            "        ctx.logits = tile_logits(query, key, *everything, *settings[:3])\n"
        },
    ),
]

EQUIVALENT = [
    Equivalent(
        "autograd goes through `FlashAttention`, inside which no graph is built",
        {
            "torch.maximum(m1, m2)": "(torch.maximum(m1, m2)).detach()",
            "= m.masked_fill(m == -torch.inf, 0)": "= (m.masked_fill(m == -torch.inf, 0)).detach()",
            "x.amax(dim=-1, keepdim=True)": "(x.amax(dim=-1, keepdim=True)).detach()",
            "(x - m.masked_fill(m == -torch.inf, 0)).exp().sum(dim=-1)": "((x - m.masked_fill(m == -torch.inf, 0)).exp().sum(dim=-1)).detach()",
            "scale * Q @ K.mT": "(scale * Q @ K.mT).detach()",
            "S.masked_fill(~mask[:, None, None, columns], -torch.inf)": "(S.masked_fill(~mask[:, None, None, columns], -torch.inf)).detach()",
            "torch.arange(columns.start, columns.stop, device=S.device)": "(torch.arange(columns.start, columns.stop, device=S.device)).detach()",
            "S.masked_fill(j > i + key.shape[2] - query.shape[2], -torch.inf)": "(S.masked_fill(j > i + key.shape[2] - query.shape[2], -torch.inf)).detach()",
            "O.new_zeros(*O.shape[:3], 1)": "(O.new_zeros(*O.shape[:3], 1)).detach()",
            "l - torch.inf": "(l - torch.inf).detach()",
            "S = tile_logits(query, key, rows, columns, mask, causal, scale)  # (B, H, Cq, Ck)\n            m_new": "S = (tile_logits(query, key, rows, columns, mask, causal, scale)).detach()  # (B, H, Cq, Ck)\n            m_new",
            "torch.maximum(m, S.amax(dim=-1, keepdim=True))": "(torch.maximum(m, S.amax(dim=-1, keepdim=True))).detach()",
            "m_new.masked_fill(m_new == -torch.inf, 0)": "(m_new.masked_fill(m_new == -torch.inf, 0)).detach()",
            "(S - shift).exp()": "((S - shift).exp()).detach()",
            "(m - shift).exp()": "((m - shift).exp()).detach()",
            "rescale * l + P.sum(dim=-1, keepdim=True)": "(rescale * l + P.sum(dim=-1, keepdim=True)).detach()",
            "rescale * O + P @ wide(value[:, :, columns])[0]": "(rescale * O + P @ wide(value[:, :, columns])[0]).detach()",
            "(wide(upstream)[0] * output).sum(dim=-1, keepdim=True)": "((wide(upstream)[0] * output).sum(dim=-1, keepdim=True)).detach()",
            "S = tile_logits(query, key, rows, columns, mask, causal, scale)  # (B, H, Cq, Ck)\n            P": "S = (tile_logits(query, key, rows, columns, mask, causal, scale)).detach()  # (B, H, Cq, Ck)\n            P",
            "(S - lse[:, :, rows]).exp()": "((S - lse[:, :, rows]).exp()).detach()",
            "P * (dO @ V.mT - delta[:, :, rows])": "(P * (dO @ V.mT - delta[:, :, rows])).detach()",
        },
    ),
    Equivalent(
        "what is subtracted from minus infinity makes no difference",
        {
            "= m.masked_fill(m == -torch.inf, 0": (
                "= m.masked_fill(m == -torch.inf, 1",
                "= m.masked_fill(m == -torch.inf, (-1)",
            ),
            "- m.masked_fill(m == -torch.inf, 0": (
                "- m.masked_fill(m == -torch.inf, 1",
                "- m.masked_fill(m == -torch.inf, (-1)",
            ),
            "m_new == -torch.inf, 0": ("m_new == -torch.inf, 1", "m_new == -torch.inf, (-1)"),
            "lse == -torch.inf, 0": ("lse == -torch.inf, 1", "lse == -torch.inf, (-1)"),
        },
    ),
    Equivalent(
        "`combine` is commutative",
        {
            "state, (m.squeeze(-1), l)": "(m.squeeze(-1), l), state",
        },
    ),
    Equivalent(
        "all tensors of the suite lie on the default device",
        {
            "rows.stop, device=S.device": "rows.stop",
            "columns.stop, device=S.device": "columns.stop",
        },
    ),
    Equivalent(
        "axis 2 of four is axis -2",
        {
            "i + key.shape[2": "i + key.shape[(-2)",
            "i + key.shape[2] - query.shape[2": "i + key.shape[2] - query.shape[(-2)",
            "for rows in tiles(query.shape[2], tile_q):\n        O": "for rows in tiles(query.shape[(-2)], tile_q):\n        O",
            "query.shape[:2": "query.shape[:(-2)",
            "for columns in tiles(key.shape[2], tile_k):\n         ": "for columns in tiles(key.shape[(-2)], tile_k):\n         ",
            "outputs, dim=2": "outputs, dim=(-2)",
            "for columns in tiles(key.shape[2], tile_k):\n        for": "for columns in tiles(key.shape[(-2)], tile_k):\n        for",
            "for rows in tiles(query.shape[2], tile_q):\n         ": "for rows in tiles(query.shape[(-2)], tile_q):\n         ",
        },
    ),
    Equivalent(
        "the first of one is the last",
        {
            "shape[-1]))[0": "shape[-1]))[(-1)",
            " columns])[0": " columns])[(-1)",
            "(upstream)[0": "(upstream)[(-1)",
        },
    ),
    Equivalent(
        "the tiles that follow a hidden one are hidden too, and skipped",
        {
            "break\n      ": "continue\n      ",
        },
    ),
    Equivalent(
        "0 divided by any number is 0",
        {
            "masked_fill(l == 0, 1": ("masked_fill(l == 0, 2", "masked_fill(l == 0, (-1)"),
        },
    ),
]
