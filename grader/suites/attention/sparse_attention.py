"""Hidden suite for attention/sparse_attention: dense attention under written-out masks in float64, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe
from grader.probes import vjp

EXERCISE = Exercise(
    title="Sparse attention",
    level="core",
    minutes=55,
    after=("dot_product_attention",),
    needs=("torch",),
    forbid=("attention",),
    hints=(
        "A mask is a comparison of two ranges of positions, one as a column and one as a row. For blocks, every entry of "
        "the layout becomes a square of tokens.",
        "C neighbouring queries of a window see C + before + after keys together, which are neighbours too. Cut the queries "
        "into chunks, and the padded keys into longer pieces that overlap (`Tensor.unfold`); each chunk needs a mask of its "
        "own, because not every query of it sees the whole piece.",
        "Tokens that lie a stride apart attend among themselves only. Write the sequence as a matrix of `stride` columns: "
        "every column is dense attention over T / stride tokens.",
        "One block of queries sees the keys of some blocks: select those by a boolean index, for keys, values and mask alike.",
        "What fills up the last chunk or the last row of the matrix is no key: treat it as padding, along with `mask`. A key "
        "of zeros has the logit 0, which counts.",
    ),
    follow_ups=(
        (
            "How far does information travel through several layers of each pattern?",
            "L layers of a window reach L times before and after, as a convolution does. A window followed by a stride of "
            "its length reaches every earlier token in two layers: one hop to the right residue, then hops of whole strides; "
            "with windows and strides of about sqrt(T) that costs T sqrt(T) (Child et al.). A global block makes any two "
            "tokens two hops apart, whatever T is, and random blocks do so for most pairs.",
        ),
        (
            "One head shall see the union of a window and a stride. How do you compute it without T x T?",
            "Compute both parts with their log-sum-exps L1 and L2 and merge them as tiles of FlashAttention are merged: "
            "o = (e^L1 o1 + e^L2 o2) / (e^L1 + e^L2), relative to the larger one. Keys that both patterns contain, at least "
            "the query's own, must be hidden in one of the two, or they count twice. Averaging the two outputs is another "
            "model: the parts then no longer compete in one softmax. The alternative is to give patterns to separate heads.",
        ),
        (
            "The chunks compute up to twice the logits that the window needs. Why not gather exactly w keys a query?",
            "That copies T w D numbers where chunks copy 2 T D or so, and turns matrix products into as many products of a "
            "vector with a small matrix: bound by memory instead of arithmetic. Hardware is fast on dense tiles, so patterns "
            "are made of blocks and the rest is masked. A fused kernel keeps the chunks but skips tiles that are hidden "
            "altogether, and stores no logits. In decoding, a causal window also bounds the cache: the last before + 1 keys "
            "in a ring buffer.",
        ),
    ),
)

# --- probes ---


@probe
def gradients(module, name, query, key, value, upstream, **how):
    """The output, and what reaches query, key and value."""
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    y = getattr(module, name)(*leaves, **how)
    return y.detach(), vjp([y], leaves, [upstream])


@probe
def rounded(module, name, query, key, value, **how):
    """The type of the output, and its values in float64."""
    y = getattr(module, name)(query, key, value, **how)
    return y.dtype, y.double()


@probe
def several(module, name, calls):
    """The results of several calls."""
    return [getattr(module, name)(*arguments, **how) for arguments, how in calls]


# --- oracles ---

F64 = torch.float64
B, H, T, D, M = 2, 3, 17, 5, 7
HALF = "one rounding to bfloat16 is allowed, at the end"

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
    y = dense(*leaves, **how)
    return y.detach(), vjp([y], leaves, [upstream])


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


class TestGradients:
    @ALL
    @pytest.mark.points(2)
    def test_gradients(self, submission, draw, name, pattern):
        """queries, keys and values get the gradients of masked dense attention, padding included"""
        arguments, upstream = tokens(draw), draw.normal(B, H, T, M, dtype=F64)
        got = submission.run(gradients, name, *arguments, upstream, **pattern, mask=PADDING)
        expected = dense_gradients(*arguments, upstream, **pattern, mask=PADDING)
        assert_close(got, expected, what="(output, gradients of [query, key, value])")


class TestStability:
    @THREE
    def test_large_logits(self, submission, draw, name, pattern):
        """logits near 10000 and -10000 neither overflow nor vanish"""
        query, key, value = tokens(draw)
        query[..., 0], key[..., 0] = 1e4 * D**0.5, 1
        calls = [((sign * query, key, value), {**pattern, "mask": PADDING}) for sign in (1, -1)]
        got = submission.run(several, name, calls)
        assert_close(got, [dense(*arguments, **how) for arguments, how in calls], what="outputs")

    @THREE
    def test_half_precision(self, submission, draw, name, pattern):
        """half precision is computed in float32 and rounded once, to its own type"""
        query, key, value = tokens(draw, dtype=torch.bfloat16)
        arguments = 3 * query, key, value
        got, values = submission.run(rounded, name, *arguments, **pattern)
        assert_equal(got, torch.bfloat16, what="type of the output")
        assert_close(values, dense(*arguments, **pattern), what="output", rtol=2.0**-8, atol=1e-5, reason=HALF)


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
        got = submission.run(gradients, name, *arguments, upstream, **pattern, mask=mask)
        expected = dense_gradients(*arguments, upstream, **pattern, mask=mask)
        assert_close(got, expected, what="(output, gradients of [query, key, value])")

    @THREE
    def test_memory_order(self, submission, draw, name, pattern):
        """inputs may lie in memory in any order, or be expanded"""
        query = draw.normal(B, T, H, D, dtype=F64).transpose(1, 2)
        key = draw.normal(B, H, D, T, dtype=F64).mT
        value = draw.normal(B, 1, T, M, dtype=F64).expand(B, H, T, M)
        mask = PADDING[1:].expand(B, T)
        got = getattr(submission, name)(query, key, value, **pattern, mask=mask)
        assert_close(got, dense(query, key, value, **pattern, mask=mask), what="output")


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


CHUNKS = "K, V = (pad(x, (0, 0, before, after + more)).unfold(2, W, C).mT for x in (key, value))"
REAL = "    real = pad(real_keys(key, mask), (before, after + more)).unfold(1, W, C)  # (B, N, W)\n"
START = "    T = query.shape[2]\n    before, after = min(before, T - 1), min(after, T - 1)\n"
STRIDED = "    T = query.shape[2]\n    more = -T % stride\n"
LOOP = "    real = real_keys(key, mask)\n    outputs = []\n"

MISTAKES = [
    Mistake(
        "window-mask-one-short",
        "the mask's window leaves out the token `before` back; both ends are included",
        {"(shift >= -before)": "(shift > -before)"},
    ),
    Mistake(
        "window-mask-transposed",
        "the window looks ahead by `before` and back by `after`: rows are queries and columns are keys",
        {"shift = i - i[:, None]  # j - i": "shift = i[:, None] - i"},
    ),
    Mistake(
        "window-mask-symmetric",
        "the window is as wide on both sides; it ends `after` tokens ahead",
        {"(shift <= after)": "(shift <= before)"},
    ),
    Mistake(
        "stride-from-the-start",
        "every query sees the multiples of the stride; count from the query, so that it sees itself",
        {"mask = (i - i[:, None]) % stride == 0": "mask = (i % stride == 0).expand(length, length)"},
    ),
    Mistake(
        "strided-mask-not-causal",
        "`causal` is ignored by the mask; later tokens are hidden",
        {"return mask.tril() if causal else mask": "return mask"},
    ),
    Mistake(
        "strided-mask-without-itself",
        "the causal mask hides the query's own token",
        {"return mask.tril() if causal": "return mask.tril(-1) if causal"},
    ),
    Mistake(
        "layout-tiled",
        "the layout is repeated side by side; every entry becomes a square of tokens",
        {"layout.repeat_interleave(size, dim=0).repeat_interleave(size, dim=1)": "layout.repeat(size, size)"},
    ),
    Mistake(
        "block-mask-transposed",
        "queries and keys are exchanged: a row of the layout belongs to a block of queries",
        {"mask = layout.repeat_interleave": "mask = layout.mT.repeat_interleave"},
    ),
    Mistake(
        "block-mask-not-cut",
        "the mask covers whole blocks; the last one may be shorter",
        {"return mask[:length, :length]": "return mask"},
    ),
    Mistake(
        "common-blocks-one-way",
        "common blocks are seen by all, but see only what is near; they see all blocks too",
        {"<= near) | (a < common) | (b < common)": "<= near) | (b < common)"},
    ),
    Mistake(
        "common-blocks-unseen",
        "common blocks see all, but are not seen by all; others see them too",
        {"<= near) | (a < common) | (b < common)": "<= near) | (a < common)"},
    ),
    Mistake(
        "near-excluded",
        "blocks exactly `near` away are left out; they are included",
        {".abs() <= near)": ".abs() < near)"},
    ),
    Mistake(
        "chunks-without-neighbours",
        "a chunk sees its own keys alone, so that windows are cut at its borders",
        {"near = (j >= i - before)": "near = (j >= 0) & (j < C) & (j >= i - before)"},
    ),
    Mistake(
        "whole-pieces-visible",
        "every query sees all keys of its chunk's piece; it sees its own window of them only",
        {"near & real[:, None, :, None, :]": "(near | True) & real[:, None, :, None, :]"},
    ),
    Mistake(
        "window-one-short",
        "the attention's window leaves out the token `before` back; both ends are included",
        {"near = (j >= i - before)": "near = (j > i - before)"},
    ),
    Mistake(
        "borders-counted",
        "what fills up the borders is seen as keys of zeros, whose logits 0 count; hide it",
        {
            REAL: "    real = pad(real_keys(key, mask), (before, after + more), value=True).unfold(1, W, C)  # (B, N, W)\n"
        },
    ),
    Mistake(
        "window-ignores-padding",
        "`mask` is not applied by the window",
        {REAL: REAL.replace("real_keys(key, mask)", "real_keys(key, None)")},
    ),
    Mistake(
        "padding-removed",
        "only the values of padded keys are set to 0; their logits still count in the denominator",
        {
            START: START + "    value = value * real_keys(key, mask)[:, None, :, None]\n    mask = None\n",
        },
    ),
    Mistake(
        "window-dense",
        "the window computes all T x T logits and masks them; compute chunks",
        {
            START: START + "    near = window_mask(T, before, after) & real_keys(key, mask)[:, None, None, :]\n"
            "    return attend(query, key, value, near)\n"
        },
    ),
    Mistake(
        "keys-gathered-for-each-query",
        "the w keys of every query are copied, T x w x D numbers; chunks of queries share theirs",
        {"    C = min(before + after + 1, T)  # queries a chunk\n": "    C = 1\n"},
    ),
    Mistake(
        "chunk-by-chunk",
        "the window loops over the chunks; batch them",
        {
            "    O = attend(Q, K, V, near & real[:, None, :, None, :])  # (B, H, N, C, M)\n": "    visible = near & real[:, None, :, None, :]\n"
            "    pieces = [attend(Q[:, :, n], K[:, :, n], V[:, :, n], visible[:, :, n]) for n in range(Q.shape[2])]\n"
            "    O = torch.stack(pieces, dim=2)\n"
        },
    ),
    Mistake(
        "window-not-clamped",
        "a window beyond the sequence pads the keys to its full length; limit it to T - 1 tokens on each side",
        {START: "    T = query.shape[2]\n"},
    ),
    Mistake(
        "runs-for-strides",
        "the sequence is cut into runs of neighbours; tokens a stride apart belong together",
        {
            "more)).unflatten(2, (-1, stride)).transpose(2, 3) for x": "more)).unflatten(2, (stride, -1)) for x",
            "real = pad(real_keys(key, mask), (0, more)).unflatten(1, (-1, stride)).mT": "real = pad(real_keys(key, mask), (0, more)).unflatten(1, (stride, -1))",
            "return O.transpose(2, 3).flatten(2, 3)[:, :, :T]": "return O.flatten(2, 3)[:, :, :T]",
        },
    ),
    Mistake(
        "strided-output-not-put-back",
        "outputs stay ordered by residue; put them back in the order of the tokens",
        {"return O.transpose(2, 3).flatten(2, 3)[:, :, :T]": "return O.flatten(2, 3)[:, :, :T]"},
    ),
    Mistake(
        "stride-not-causal",
        "`causal` is ignored by the strided attention; later tokens are hidden",
        {"    if causal:\n        N = Q": "    if False:\n        N = Q"},
    ),
    Mistake(
        "strided-tail-counted",
        "what fills up the last row is seen as keys of zeros, whose logits 0 count; hide it",
        {
            "real = pad(real_keys(key, mask), (0, more)).unflatten(1": "real = pad(real_keys(key, mask), (0, more), value=True).unflatten(1"
        },
    ),
    Mistake(
        "stride-ignores-padding",
        "`mask` is not applied by the stride",
        {
            "real = pad(real_keys(key, mask), (0, more)).unflatten(1": "real = pad(real_keys(key, None), (0, more)).unflatten(1"
        },
    ),
    Mistake(
        "stride-dense",
        "the stride computes all T x T logits and masks them; rearrange the tokens",
        {
            STRIDED: STRIDED
            + "    seen = strided_mask(T, stride, causal) & real_keys(key, mask)[:, None, None, :]\n    return attend(query, key, value, seen)\n"
        },
    ),
    Mistake(
        "residue-by-residue",
        "the stride loops over the residues; batch them",
        {
            "    O = attend(Q, K, V, visible)  # (B, H, stride, N, M)\n": "    columns = [attend(Q[:, :, r], K[:, :, r], V[:, :, r], visible[:, :, r]) for r in range(stride)]\n"
            "    O = torch.stack(columns, dim=2)\n"
        },
    ),
    Mistake(
        "layout-transposed",
        "the attention exchanges queries and keys: a row of the layout belongs to a block of queries",
        {"zip(query.split(size, dim=2), layout, strict=True)": "zip(query.split(size, dim=2), layout.mT, strict=True)"},
    ),
    Mistake(
        "blocks-ignore-padding",
        "`mask` is not applied by the blocks",
        {LOOP: LOOP.replace("real_keys(key, mask)", "real_keys(key, None)")},
    ),
    Mistake(
        "blocks-one-by-one",
        "a softmax over each block of keys is averaged; one softmax runs over all visible blocks",
        {
            "        outputs.append(attend(Q, key[:, :, seen], value[:, :, seen], visible))\n": "        pieces = zip(*(x[:, :, seen].split(size, dim=2) for x in (key, value)), visible.split(size, dim=3), strict=True)\n"
            "        parts = [attend(Q, K, V, some) for K, V, some in pieces]\n"
            "        outputs.append(sum(parts) / len(parts) if parts else torch.zeros_like(value[:, :, : Q.shape[2]]))\n"
        },
    ),
    Mistake(
        "blocks-dense",
        "the blocks compute all T x T logits and mask them; select the visible keys",
        {
            LOOP: LOOP
            + "    seen = block_mask(layout, size, key.shape[2]) & real[:, None, None, :]\n    return attend(query, key, value, seen)\n"
        },
    ),
    Mistake(
        "filled-up-to-the-longest-row",
        "every block of queries pays for as many blocks of keys as the one that sees most; compute the visible ones alone",
        {
            "        outputs.append(attend(Q, key[:, :, seen], value[:, :, seen], visible))\n": "        count = min(size * int(layout.sum(dim=1).max()), key.shape[2])\n"
            "        order = seen.int().argsort(descending=True, stable=True)[:count]\n"
            "        visible = (real & seen)[:, None, None, order]\n"
            "        outputs.append(attend(Q, key[:, :, order], value[:, :, order], visible))\n"
        },
    ),
    Mistake(
        "query-by-query",
        "the blocks loop over single queries; take a block of them at a time",
        {
            LOOP: LOOP
            + "    layout = layout.repeat_interleave(size, dim=1).repeat_interleave(size, dim=0)[: key.shape[2]]\n    size = 1\n"
        },
    ),
    Mistake(
        "scale-missing",
        "the logits are not divided by the root of D",
        {"(Q.shape[-1] ** -0.5 * Q @ K.mT)": "(Q @ K.mT)"},
    ),
    Mistake(
        "nothing-seen-nan",
        "a query that sees no key gives 0 / 0 = NaN; its output is 0",
        {"torch.finfo(Q.dtype).min)": "-torch.inf)", ".softmax(dim=-1).masked_fill(~visible, 0)": ".softmax(dim=-1)"},
    ),
    Mistake(
        "nothing-seen-average",
        "where all logits are hidden alike, a query that sees no key averages what is hidden; its output is 0",
        {".softmax(dim=-1).masked_fill(~visible, 0)": ".softmax(dim=-1)"},
    ),
    Mistake(
        "half-inside",
        "half precision is multiplied and summed up in half precision; use float32 inside, and round once",
        {"(x.to(torch.promote_types(x.dtype, torch.float32)) for x in (query, key, value))": "(query, key, value)"},
    ),
    Mistake(
        "exponentials-without-maximum",
        "the exponentials of the logits themselves are taken, which overflows; subtract the largest first",
        {
            "P = S.softmax(dim=-1).masked_fill(~visible, 0)": "P = S.exp() / S.exp().sum(dim=-1, keepdim=True).masked_fill(~visible.any(dim=-1, keepdim=True), 1)"
        },
    ),
    Mistake(
        "masked-after-softmax",
        "weights are masked after the softmax, so that they do not sum up to 1; hide the logits before",
        {".masked_fill(~visible, torch.finfo(Q.dtype).min)": ""},
    ),
]

EQUIVALENT = [
    Equivalent(
        "no gradient goes through masks and positions",
        {
            "i = torch.arange(length)\n    shift": "i = (torch.arange(length)).detach()\n    shift",
            " i - i[:, None]": " (i - i[:, None]).detach()",
            "(shift >= -before) & (shift <= after)": "((shift >= -before) & (shift <= after)).detach()",
            "i = torch.arange(length)\n    mask": "i = (torch.arange(length)).detach()\n    mask",
            "layout.repeat_interleave(size, dim=0).repeat_interleave(size, dim=1)": "(layout.repeat_interleave(size, dim=0).repeat_interleave(size, dim=1)).detach()",
            "torch.arange(blocks)": "(torch.arange(blocks)).detach()",
            "((a - b).abs() <= near) | (a < common) | (b < common)": "(((a - b).abs() <= near) | (a < common) | (b < common)).detach()",
            "pad(real_keys(key, mask), (before, after + more)).unfold(1, W, C)": "(pad(real_keys(key, mask), (before, after + more)).unfold(1, W, C)).detach()",
            "torch.arange(W, device=key.device) - before": "(torch.arange(W, device=key.device) - before).detach()",
            "(j >= i - before) & (j <= i + after)": "((j >= i - before) & (j <= i + after)).detach()",
            "visible & torch.ones(N, N, dtype=torch.bool, device=key.device).tril()": "(visible & torch.ones(N, N, dtype=torch.bool, device=key.device).tril()).detach()",
            " real_keys(key, mask)": " (real_keys(key, mask)).detach()",
        },
    ),
    Equivalent(
        "axis 1 of two is axis -1",
        {
            "(size, dim=1": "(size, dim=(-1)",
            "more)).unfold(1": "more)).unfold((-1)",
            ".unflatten(1": ".unflatten((-1)",
        },
    ),
    Equivalent(
        "axis 2 of four is axis -2",
        {
            "T = query.shape[2]\n    before": "T = query.shape[(-2)]\n    before",
            "query, (0, 0, 0, more)).unflatten(2": "query, (0, 0, 0, more)).unflatten((-2)",
            "more)).unfold(2": "more)).unfold((-2)",
            "T = query.shape[2]\n    more": "T = query.shape[(-2)]\n    more",
            "x, (0, 0, 0, more)).unflatten(2": "x, (0, 0, 0, more)).unflatten((-2)",
            "(size, dim=2": "(size, dim=(-2)",
            ": key.shape[2": ": key.shape[(-2)",
            "outputs, dim=2": "outputs, dim=(-2)",
        },
    ),
    Equivalent(
        "a window that ends a few tokens beyond the sequence sees no more, and costs hardly more",
        {
            "(before, T -": "(before, T +",
            "before, T - 1": ("before, T - 0", "before, T - (-1)"),
            "min(after, T -": "min(after, T +",
            "after, T - 1": ("after, T - 0", "after, T - (-1)"),
        },
    ),
    Equivalent(
        "chunks may be of any size, within the cost",
        {
            " + after + 1": " + after + 2",
        },
    ),
    Equivalent(
        "all tensors of the suite lie on the default device",
        {
            "C, device=key.device": "C",
            "W, device=key.device": "W",
            "N, dtype=torch.bool, device=key.device": "N, dtype=torch.bool",
        },
    ),
    Equivalent(
        "the order of two axes that are exchanged makes no difference",
        {
            ").transpose(2, 3": ").transpose(3, 2",
            "O.transpose(2, 3": "O.transpose(3, 2",
        },
    ),
]
