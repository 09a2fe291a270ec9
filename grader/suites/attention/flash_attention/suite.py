"""Hidden suite for attention/flash_attention: the whole T x T softmax in float64, autograd, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import rounded, vjp
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
def whole(module, query, key, columns, **how):
    """All tiles of logits put together."""
    rows = [slice(0, 3), slice(3, 7), slice(7, query.shape[2])]
    strips = [[module.tile_logits(query, key, a, slice(*b), **how) for b in columns] for a in rows]
    return torch.cat([torch.cat(strip, dim=3) for strip in strips], dim=2)


@probe
def strip(module, query, key, first, last, **how):
    """One strip of logits: queries from `first` to before `last`, and all keys."""
    return module.tile_logits(query, key, slice(first, last), slice(0, key.shape[2]), **how)


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


def explicit(query, key, value, tile_q=64, tile_k=64, **how):
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


def from_saved(upstream, query, key, value, output, lse, tile_q=64, tile_k=64, **how):
    """The formulas of the backward with the output and log-sum-exp as they are given, in float64."""
    upstream, query, key, value, output, lse = (x.double() for x in (upstream, query, key, value, output, lse))
    scale = how.get("scale") or 1 / query.shape[-1] ** 0.5
    logits = logits_of(query, key, **how)
    p = torch.where(logits > -torch.inf, torch.exp(logits - lse[..., None]), 0)
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
        assert_close(submission.combine(*pairs), combined(*pairs), what="(m, l)", dtype=F64)

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
    def test_large_half_precision(self, submission, draw):
        """dot products above 65504 do not overflow in float16"""
        query, key, value = tokens(draw, dtype=torch.float16)
        query, key = 300 * query, 300 * key
        got, values = submission.run(rounded, "flash_forward", query, key, value, **TILES)
        assert_equal(got, [torch.float16, torch.float32], what="types of (output, lse)")
        expected, reason = list(explicit(query, key, value)), "float32 logits near 1e5 are off by up to 0.01"
        assert_close(values, expected, what="[output, lse]", rtol=2.0**-9, atol=5e-2, reason=reason)


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


ALL = {"mask": PADDING, "causal": True, "scale": 0.7, "tile_q": 4, "tile_k": 6}  # nothing is given without the rest


def pairs_of(draw):
    """Two pairs (m, l), in two shapes."""

    def pair(*shape):
        return draw.normal(*shape, dtype=F64), draw.uniform(*shape, low=1, high=4, dtype=F64)

    return [given(pair(5, 7), pair(5, 7)), given(pair(3), pair(3))]


def combined(first, second):
    """(m, l) of two sets together."""
    (m1, l1), (m2, l2) = first, second
    m = torch.where(m1 > m2, m1, m2)
    return m, (l1 * torch.exp(m1) + l2 * torch.exp(m2)) * torch.exp(-m)


def calls(draw):
    """Many keys, and with everything that there is."""
    return [given(*tokens(draw, 5, 40), tile_q=2, tile_k=16), given(*tokens(draw), **ALL)]


def saved_calls(draw):
    """The same for the backward."""
    several = []
    for arguments, how in ((tokens(draw, 20, 30), {"tile_q": 6, "tile_k": 8}), (tokens(draw), ALL)):
        output, lse = explicit(*arguments, **how)
        query, _, value = arguments
        several.append(given(upstream_of(draw, query, value), *arguments, output, lse.clamp(min=-30), **how))
    return several


def tile_calls(draw):
    """One tile of logits for itself."""
    query, key, _ = tokens(draw)
    return [given(query, key, 3, 7, mask=PADDING, causal=True, scale=0.7), given(*tokens(draw, 4, 9)[:2], 0, 4)]


TestProperties = holds(
    case("combine", pairs_of, *EVERY_FUNCTION, expect=combined),
    case(
        "online_softmax",
        lambda draw: [given(2 * draw.normal(4, 7, 10, dtype=F64), 3), given(draw.normal(5, 6, dtype=F64), 2)],
        *EVERY_FUNCTION,
        expect=running,
    ),
    case(
        "tile_logits",
        tile_calls,
        *EVERY_FUNCTION,
        rounds_once(wide=None),
        of=strip,
        expect=lambda query, key, first, last, **how: logits_of(query, key, **how)[:, :, first:last],
    ),
    case("flash_forward", calls, *EVERY_FUNCTION, rounds_once(wide=(1,)), expect=explicit),
    case("flash_backward", saved_calls, *EVERY_FUNCTION, rounds_once(kept=(5,)), expect=from_saved),
    case(
        "FlashAttention",
        calls,
        *EVERY_FUNCTION,
        is_differentiable,
        type_follows(2),
        expect=lambda *arguments, **how: explicit(*arguments, **how)[0],
        target="flash_attention",
    ),
)


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
