"""Hidden suite for attention/sparse_attention: dense attention under written-out masks in float64, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import back, gradients, several
from grader.properties import (
    EVERY_FUNCTION,
    case,
    given,
    holds,
    is_differentiable,
    no_state_between_calls,
    rounds_once,
)

# --- oracles ---

F64 = torch.float64
B, H, T, D, M = 2, 3, 17, 5, 7

# a whole window of padding in the first row, and holes in the second
PADDING = torch.tensor(
    [[1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0]],
    dtype=torch.bool,
)
LAYOUT = torch.tensor(
    [[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0], [0, 1, 0, 1, 1]], dtype=torch.bool
)


def grid(length, sees):
    """The mask of a rule for one query and one key, (length, length)."""
    return torch.tensor([[bool(sees(i, j)) for j in range(length)] for i in range(length)])


def visible(length, before=None, after=None, stride=None, causal=False, layout=None, size=None):
    """Which keys each query sees, by whichever pattern is given."""
    if stride is not None:
        return grid(length, lambda i, j: (i - j) % stride == 0 and (j <= i or not causal))
    if layout is not None:
        return grid(length, lambda i, j: layout[i // size, j // size])
    return grid(length, lambda i, j: i - before <= j <= i + after)


def dense(query, key, value, mask=None, **pattern):
    """All logits, hidden ones left out of every sum, in float64."""
    logits = torch.einsum("bhid,bhjd->bhij", query.double(), key.double()) / query.shape[-1] ** 0.5
    seen = visible(query.shape[2], **pattern)
    seen = seen if mask is None else seen & mask[:, None, None, :]
    top = torch.where(seen, logits, -1e300).amax(dim=-1, keepdim=True)
    terms = torch.where(seen, torch.exp(torch.where(seen, logits - top, 0)), 0)
    total = terms.sum(dim=-1, keepdim=True)
    return torch.einsum("bhij,bhjm->bhim", terms / (total + (total == 0)), value.double())


def dense_gradients(query, key, value, upstream, **how):
    """As the probe `gradients`, of the dense formula."""
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    return back(dense(*leaves, **how), leaves, upstream)


def tokens(draw, length=T, dtype=F64, shape=(B, H), dim=D, values=M):
    """Query, key and value."""
    query, key = (draw.normal(*shape, length, dim, dtype=dtype) for _ in range(2))
    return query, key, draw.normal(*shape, length, values, dtype=dtype)


PATTERNS = {
    "window": ("window_attention", {"before": 3, "after": 2}),
    "causal window": ("window_attention", {"before": 4, "after": 0}),
    "window ahead": ("window_attention", {"before": 1, "after": 3}),
    "stride": ("strided_attention", {"stride": 4}),
    "causal stride": ("strided_attention", {"stride": 3, "causal": True}),
    "blocks": ("block_attention", {"layout": LAYOUT, "size": 4}),
}


def each(*names):
    """A test for each pattern named, part of its function."""
    params = [pytest.param(*PATTERNS[name], marks=pytest.mark.part(PATTERNS[name][0]), id=name) for name in names]
    return pytest.mark.parametrize(("name", "pattern"), params)


ALL = each(*PATTERNS)
THREE = each("window", "causal stride", "blocks")
WINDOW = pytest.mark.part("window_attention")
STRIDE = pytest.mark.part("strided_attention")
BLOCKS = pytest.mark.part("block_attention")


class TestValues:
    @pytest.mark.part("window_mask")
    def test_window_mask(self, submission):
        """a window begins `before` tokens back and ends `after` tokens ahead"""
        calls = [((7, 2, 1), {}), ((6, 0, 3), {}), ((5, 2, 0), {}), ((4, 9, 9), {})]
        expected = [visible(length, before=before, after=after) for (length, before, after), _ in calls]
        assert_equal(submission.run(several, "window_mask", calls), expected, what="masks")

    @pytest.mark.part("strided_mask")
    def test_strided_mask(self, submission):
        """every stride-th token is seen, counted from the query, and if causal only earlier ones"""
        calls = [((11, 3), {}), ((7, 2), {"causal": True}), ((5, 1), {}), ((4, 6), {"causal": True})]
        expected = [visible(length, stride=stride, **how) for (length, stride), how in calls]
        assert_equal(submission.run(several, "strided_mask", calls), expected, what="masks")

    @pytest.mark.part("block_mask")
    def test_block_mask(self, submission):
        """every entry of the layout becomes a square of tokens; the last block may be shorter"""
        calls = [((LAYOUT, 3, 15), {}), ((LAYOUT, 4, T), {}), ((LAYOUT, 1, 5), {})]
        expected = [visible(length, layout=layout, size=size) for (layout, size, length), _ in calls]
        assert_equal(submission.run(several, "block_mask", calls), expected, what="masks")

    @pytest.mark.part("bigbird_layout")
    def test_bigbird_layout(self, submission):
        """near blocks see each other, and common blocks see all and are seen by all"""
        calls = [((9, 1, 2), {}), ((7, 2, 0), {}), ((6, 0, 1), {})]
        rules = [
            lambda a, b, near=near, common=common: abs(a - b) <= near or min(a, b) < common
            for (_, near, common), _ in calls
        ]
        expected = [grid(count, rule) for ((count, _, _), _), rule in zip(calls, rules, strict=True)]
        assert_equal(submission.run(several, "bigbird_layout", calls), expected, what="layouts")

    @ALL
    @pytest.mark.points(2)
    def test_attention(self, submission, draw, name, pattern):
        """outputs are those of dense attention under the pattern's mask"""
        arguments = tokens(draw)
        got = getattr(submission, name)(*arguments, **pattern)
        assert_close(got, dense(*arguments, **pattern), what="output", dtype=F64)

    @THREE
    def test_padding(self, submission, draw, name, pattern):
        """padded keys are not seen, but count as positions; a query that sees none gives 0"""
        arguments = tokens(draw)
        got = getattr(submission, name)(*arguments, **pattern, mask=PADDING)
        assert_close(got, dense(*arguments, **pattern, mask=PADDING), what="output", dtype=F64)


class TestStability:
    @THREE
    def test_large_logits(self, submission, draw, name, pattern):
        """logits near 10000 and -10000 neither overflow nor vanish"""
        query, key, value = tokens(draw)
        query[..., 0], key[..., 0] = 1e4 * D**0.5, 1
        calls = [((sign * query, key, value), {**pattern, "mask": PADDING}) for sign in (1, -1)]
        got = submission.run(several, name, calls)
        assert_close(got, [dense(*arguments, **how) for arguments, how in calls], what="outputs")


class TestEdgeCases:
    @WINDOW
    def test_windows(self, submission, draw):
        """windows of one token, up to the start, and beyond the sequence, and a sequence of one token"""
        windows = ((0, 0), (T - 1, 0), (T - 2, T + 3), (5 * T, 5 * T))
        calls = [(tokens(draw), {"before": before, "after": after}) for before, after in windows]
        calls.append((tokens(draw, 1), {"before": 3, "after": 2}))
        calls.append((tokens(draw, 12), {"before": 1, "after": 2}))
        got = submission.run(several, "window_attention", calls)
        assert_close(got, [dense(*arguments, **how) for arguments, how in calls], what="outputs")

    @STRIDE
    def test_strides(self, submission, draw):
        """strides of 1, of divisors of T, of T, and beyond the sequence, and a sequence of one token"""
        strides = ((1, True), (1, False), (T, False), (T + 4, True))
        calls = [(tokens(draw), {"stride": stride, "causal": causal}) for stride, causal in strides]
        calls.append((tokens(draw, 1), {"stride": 3}))
        calls.append((tokens(draw, 12), {"stride": 4, "causal": True}))
        got = submission.run(several, "strided_attention", calls)
        assert_close(got, [dense(*arguments, **how) for arguments, how in calls], what="outputs")

    @BLOCKS
    def test_layouts(self, submission, draw):
        """blocks of one token, one block, whole blocks, and blocks that see none or are seen by none"""
        alone = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool)
        calls = [(tokens(draw, 5), {"layout": LAYOUT, "size": 1})]
        calls.append((tokens(draw, 6), {"layout": LAYOUT[:1, :1].clone(), "size": 6}))
        calls.append((tokens(draw, 1), {"layout": LAYOUT[:1, :1].clone(), "size": 4}))
        calls.append((tokens(draw, 15), {"layout": LAYOUT, "size": 3}))
        calls.append((tokens(draw, 11), {"layout": alone, "size": 4}))
        got = submission.run(several, "block_attention", calls)
        assert_close(got, [dense(*arguments, **how) for arguments, how in calls], what="outputs")

    @THREE
    def test_all_padding(self, submission, draw, name, pattern):
        """a row without a real key gives 0 and sends back 0"""
        arguments, upstream = tokens(draw), draw.normal(B, H, T, M, dtype=F64)
        mask = torch.stack([PADDING[1], torch.zeros(T, dtype=torch.bool)])
        got = submission.run(gradients, name, arguments, upstream, **pattern, mask=mask)
        expected = dense_gradients(*arguments, upstream, **pattern, mask=mask)
        assert_close(got, expected, what="(output, gradients of [query, key, value])")


def calls(**pattern):
    """With padding, and fewer tokens without."""
    few = {**pattern, "layout": LAYOUT[:2, :2].clone()} if "layout" in pattern else pattern
    return lambda draw: [given(*tokens(draw), **pattern, mask=PADDING), given(*tokens(draw, 6), **few)]


TestProperties = holds(
    case(
        "block_mask",
        lambda draw: [given(draw.normal(n, n) > 0, 3, 3 * n - 1) for n in (5, 2)],
        no_state_between_calls,
        expect=lambda layout, size, length: visible(length, layout=layout, size=size),
    ),
    *(
        case(
            PATTERNS[kind][0], calls(**PATTERNS[kind][1]), *EVERY_FUNCTION, is_differentiable, rounds_once, expect=dense
        )
        for kind in ("window", "causal stride", "blocks")
    ),
)


class TestPerformance:
    @WINDOW
    @pytest.mark.points(2)
    @pytest.mark.parametrize(("before", "after"), [(8, 8), (16, 0)], ids=["both sides", "causal"])
    def test_window_cost(self, submission, draw, before, after):
        """arithmetic and memory are proportional to T x w, and no tensor grows as T x T or T x w x D"""
        costs = []
        for t in (102, 204):
            arguments = tokens(draw, t, torch.float32, dim=12, values=16)
            costs.append(submission.measure("window_attention", *arguments, before=before, after=after).cost)
        limit = 3.5 * B * H * 204 * 17 * 2 * (12 + 16)
        assert_cost(costs[1], "flops", at_most=limit, why="3.5 T w logits, times D + M")
        assert_cost(costs[1], "largest_bytes", at_most=4 * B * H * 204 * 4 * 16, why="four inputs")
        assert_growth(*costs, "peak_bytes", at_most=2.2, when="T doubles")

    @WINDOW
    def test_window_operators(self, submission, draw):
        """all chunks go at once: the number of operators does not grow with T"""
        few, many = (submission.measure("window_attention", *tokens(draw, t), before=2, after=3).cost for t in (24, 72))
        assert_growth(few, many, "operators", at_most=1.3, when="T is three times as large")

    @WINDOW
    def test_window_beyond(self, submission, draw):
        """a window beyond the sequence costs no more than one that covers it"""
        arguments = tokens(draw, 24, torch.float32)
        cost = submission.measure("window_attention", *arguments, before=400, after=300).cost
        limit = 3.5 * B * H * 47 * 47 * 2 * (D + M)
        assert_cost(cost, "flops", at_most=limit, why="3.5 T w logits, w = 2 T - 1, and T rounded up to w")

    @STRIDE
    @pytest.mark.points(2)
    def test_strided_cost(self, submission, draw):
        """arithmetic is that of T / stride keys a query, and no tensor is T x T"""
        arguments = tokens(draw, 190, torch.float32, dim=12, values=16)
        cost = submission.measure("strided_attention", *arguments, stride=16).cost
        limit = 1.05 * B * H * 192 * 12 * 2 * (12 + 16)
        assert_cost(cost, "flops", at_most=limit, why="T ceil(T / stride) logits, T rounded up, and 5 % beside")
        assert_cost(cost, "largest_bytes", at_most=4 * B * H * 192 * 4 * 16, why="four inputs")

    @STRIDE
    def test_strided_operators(self, submission, draw):
        """all tokens go at once: operators grow neither with T nor with the stride"""
        few, many = (
            submission.measure("strided_attention", *tokens(draw, t), stride=stride, causal=True).cost
            for t, stride in ((24, 4), (72, 12))
        )
        assert_growth(few, many, "operators", at_most=1.3, when="T and the stride are three times as large")

    @BLOCKS
    @pytest.mark.points(2)
    def test_block_cost(self, submission, draw):
        """only visible blocks are computed, also where one block of queries sees all and others few"""
        arguments = tokens(draw, 256, torch.float32, dim=12, values=16)
        layout = grid(16, lambda a, b: abs(a - b) <= 1 or min(a, b) < 1)
        cost = submission.measure("block_attention", *arguments, layout=layout, size=16).cost
        logits = B * H * int(layout.sum()) * 16 * 16
        limit = 1.05 * logits * 2 * (12 + 16)
        assert_cost(cost, "flops", at_most=limit, why="the logits of the visible blocks, times D + M, and 5 % beside")
        assert_cost(cost, "largest_bytes", at_most=4.2 * logits, why="the logits of the visible blocks, and 5 % beside")

    @BLOCKS
    def test_block_operators(self, submission, draw):
        """operators grow with the number of blocks alone, and not with their size"""
        few, many = (
            submission.measure("block_attention", *tokens(draw, 5 * size), layout=LAYOUT, size=size).cost
            for size in (4, 16)
        )
        assert_growth(few, many, "operators", at_most=1.3, when="blocks are four times as large")
