"""Hidden suite for attention/dot_product_attention: the formulas head by head in float64, autograd, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import applied, applied_cost, built, gradients, layout, loaded, rounded, vjp
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
def softmax_gradients(module, logits, mask, upstream):
    """The weights, and what reaches the logits, and the mask if it is of floats."""
    leaves = [logits.clone().requires_grad_()]
    if mask is not None and mask.is_floating_point():
        mask = mask.clone().requires_grad_()
        leaves.append(mask)
    y = module.masked_softmax(leaves[0], mask)
    return y.detach(), vjp([y], leaves, [upstream])


@probe
def multi_head(module, heads, state):
    """A module with the given parameters."""
    return loaded(module, "MultiHeadAttention", {"width": len(state["query.bias"]), "heads": heads}, state)


# --- oracles ---

F64 = torch.float64
B, H, TQ, TK, D, M = 2, 3, 5, 7, 4, 6
E, C = H * D, 10
SIZES, CROSS = {"width": E, "heads": H}, {"width": E, "heads": H, "context_width": C}
HALF = "one rounding to half precision is allowed, at the end"
FAR = "float32 logits near 1e5 are off by up to 0.01, and weights with them"

# which keys are real, and a pattern that leaves every query some key, whatever the order
PADDING = torch.tensor([[1, 1, 1, 1, 1, 0, 1], [1, 1, 0, 1, 1, 1, 0]], dtype=torch.bool)[:, None, None, :]
PATTERN = torch.tensor([[(3 * i + 2 * j) % 5 != 0 for j in range(TK)] for i in range(TQ)])


def normalised(logits, mask=None):
    """Softmax row by row of what is visible, in float64."""
    logits = logits.double()
    if mask is not None:
        logits = torch.where(mask, logits, -torch.inf) if mask.dtype == torch.bool else logits + mask
    seen = logits > -torch.inf
    logits = torch.where(seen, logits, -1e300)
    p = torch.exp(logits - torch.logsumexp(logits, dim=-1, keepdim=True))
    return torch.where(seen, p, 0)


def explicit(query, key, value, mask=None, causal=False, scale=None):
    """The weights and the output, in float64."""
    scale = 1 / query.shape[-1] ** 0.5 if scale is None else scale
    logits = torch.einsum("...id,...jd->...ij", query.double(), key.double()) * scale
    if causal:
        rows, columns = logits.shape[-2:]
        late = [[j - columns > i - rows for j in range(columns)] for i in range(rows)]
        logits = logits.masked_fill(torch.tensor(late), -torch.inf)
    p = normalised(logits, mask)
    return p, torch.einsum("...ij,...jm->...im", p, value.double())


def explicit_gradients(query, key, value, upstream, **how):
    """The output, and what autograd makes of the explicit formula."""
    leaves = [x.double().clone().requires_grad_() for x in (query, key, value)]
    y = explicit(*leaves, **how)[1]
    return y.detach(), vjp([y], leaves, [upstream.double()])


def head_by_head(heads, state, x, context, mask=None, causal=False):
    """Multi-head attention with rows of the projections cut out for each head, in float64."""
    total = state["output.bias"]
    size = x.shape[-1] // heads
    for h in range(heads):
        rows = slice(h * size, (h + 1) * size)
        query, key, value = (
            y @ state[f"{name}.weight"][rows].T + state[f"{name}.bias"][rows]
            for name, y in (("query", x), ("key", context), ("value", context))
        )
        own = mask if mask is None or mask.shape[1] == 1 else mask[:, h : h + 1]
        own = own if own is None else own.squeeze(1)
        total = total + explicit(query, key, value, own, causal)[1] @ state["output.weight"][:, rows].T
    return total


def tokens(draw, queries=TQ, keys=TK, dtype=F64, shape=(B, H), dim=D, values=M):
    """Query, key and value."""
    query, key = draw.normal(*shape, queries, dim, dtype=dtype), draw.normal(*shape, keys, dim, dtype=dtype)
    return query, key, draw.normal(*shape, keys, values, dtype=dtype)


def biased(draw):
    """A bias for each head that hides some keys and leaves every query some."""
    return draw.normal(H, TQ, TK, dtype=F64).masked_fill(~PATTERN, -torch.inf)


def parameters(draw, width=E, context=E, dtype=F64):
    """Random parameters of a module, none of them small."""
    sizes = {"query": width, "key": context, "value": context, "output": width}
    return {
        f"{name}.{kind}": draw.normal(*shape, dtype=dtype)
        for name, size in sizes.items()
        for kind, shape in (("weight", (width, size)), ("bias", (width,)))
    }


def how(draw, kind):
    """The keyword arguments of a kind of attention."""
    kinds = {
        "plain": {},
        "bias and scale": {"mask": biased(draw), "scale": 0.3},
        "mask and causal": {"mask": PADDING, "causal": True},
    }
    return kinds[kind]


KINDS = ("plain", "bias and scale", "mask and causal")
SOFTMAX = pytest.mark.part("masked_softmax")
WEIGHTS = pytest.mark.part("attention_weights")
OUTPUT = pytest.mark.part("dot_product_attention")
BACKWARD = pytest.mark.part("attention_gradients")
MODULE = pytest.mark.part("MultiHeadAttention")


class TestValues:
    @pytest.mark.part("causal_mask")
    def test_causal_mask(self, submission):
        """the last query sees all keys, the one before it all but one"""
        for queries, keys in ((3, 7), (7, 3), (4, 4)):
            expected = torch.tensor([[j - keys <= i - queries for j in range(keys)] for i in range(queries)])
            got = submission.causal_mask(queries, keys)
            assert_equal(got, expected, what=f"mask for {queries} queries, {keys} keys")

    @SOFTMAX
    @pytest.mark.parametrize("kind", ["bool", "bias"])
    def test_masked_softmax(self, submission, draw, kind):
        """visible keys share a weight of 1; hidden ones have 0"""
        logits = 2 * draw.normal(B, H, TQ, TK, dtype=F64)
        mask = {"bool": PADDING & PATTERN, "bias": biased(draw)}[kind]
        assert_close(submission.masked_softmax(logits, mask), normalised(logits, mask), what="weights", dtype=F64)

    @WEIGHTS
    @pytest.mark.parametrize("kind", KINDS[1:])
    def test_weights(self, submission, draw, kind):
        """dot products, scaled, then masked, then normalised"""
        query, key, value = tokens(draw)
        call = how(draw, kind)
        got = submission.attention_weights(query, key, **call)
        assert_close(got, explicit(query, key, value, **call)[0], what="weights", dtype=F64)

    @OUTPUT
    @pytest.mark.parametrize("kind", KINDS)
    def test_attention(self, submission, draw, kind):
        """every query averages the values it sees"""
        query, key, value = tokens(draw)
        call = how(draw, kind)
        got = submission.dot_product_attention(query, key, value, **call)
        assert_close(got, explicit(query, key, value, **call)[1], what="output", dtype=F64)

    @MODULE
    @pytest.mark.points(2)
    @pytest.mark.parametrize("kind", ["causal", "mask"])
    def test_self_attention(self, submission, draw, kind):
        """every head attends with its own rows of the projections"""
        state, x = parameters(draw), draw.normal(B, TK, E, dtype=F64)
        visible = torch.tensor([[[(i + 2 * j + h) % 3 != 0 for j in range(TK)] for i in range(TK)] for h in range(H)])
        call = {"causal": {"causal": True}, "mask": {"mask": visible[None] & PADDING}}[kind]
        got = submission.run(applied, "MultiHeadAttention", SIZES, state, x, **call)
        assert_close(got, head_by_head(H, state, x, x, **call), what="output", dtype=F64)

    @MODULE
    @pytest.mark.points(2)
    def test_cross_attention(self, submission, draw):
        """keys and values come from the context, which has a length and a width of its own"""
        state = parameters(draw, context=C)
        x, context = draw.normal(B, TQ, E, dtype=F64), draw.normal(B, TK, C, dtype=F64)
        got = submission.run(applied, "MultiHeadAttention", CROSS, state, x, context, mask=PADDING)
        assert_close(got, head_by_head(H, state, x, context, PADDING), what="output", dtype=F64)

    @MODULE
    def test_layout(self, submission):
        """the parameters are those of four linear layers; keys and values read the context"""
        expected = {}
        for name, size in (("query", E), ("key", C), ("value", C), ("output", E)):
            expected |= {f"{name}.weight": [E, size], f"{name}.bias": [E]}
        assert_equal(submission.run(layout, "MultiHeadAttention", CROSS), expected, what="shapes of the parameters")


class TestGradients:
    @BACKWARD
    @pytest.mark.points(2)
    @pytest.mark.parametrize("kind", KINDS)
    def test_formulas(self, submission, draw, kind):
        """dQ, dK and dV by hand are the gradients of the output"""
        arguments, upstream = tokens(draw), draw.normal(B, H, TQ, M, dtype=F64)
        call = how(draw, kind)
        got = submission.attention_gradients(upstream, *arguments, **call)
        expected = explicit_gradients(*arguments, upstream, **call)[1]
        assert_close(got, expected, what="(dQ, dK, dV)", dtype=F64)


class TestStability:
    @SOFTMAX
    @pytest.mark.parametrize("size", [1e3, -1e3], ids=["large", "small"])
    def test_large_logits(self, submission, draw, size):
        """logits near 1000 and -1000 neither overflow nor vanish"""
        logits = (size + 3 * draw.normal(B, H, TQ, TK)).float()
        got = submission.masked_softmax(logits, PATTERN)
        assert_close(got, normalised(logits, PATTERN).float(), what="weights", dtype=torch.float32)

    @SOFTMAX
    def test_far_below(self, submission, draw):
        """a hidden key has the weight 0, however small the visible logits are"""
        drawn = draw.normal(B, H, TQ, TK, dtype=F64)
        for depth in (1e9, 1e12):
            logits = drawn - depth
            got = submission.masked_softmax(logits, PATTERN)
            what, reason = f"weights for logits near -{depth:.0e}", "near 1e12 float64 has steps of 1e-4"
            assert_close(got, normalised(logits, PATTERN), what=what, rtol=1e-3, atol=1e-6, reason=reason)

    @OUTPUT
    def test_large_inputs(self, submission, draw):
        """dot products above 65504 do not overflow in float16"""
        query, key, value = tokens(draw, dtype=torch.float16)
        query, key = 300 * query, 300 * key
        got, values = submission.run(rounded, "dot_product_attention", query, key, value)
        assert_equal(got, torch.float16, what="type of the output")
        assert_close(values, explicit(query, key, value)[1], what="output", rtol=2.0**-10, atol=1e-2, reason=FAR)


class TestEdgeCases:
    @SOFTMAX
    @pytest.mark.points(2)
    @pytest.mark.parametrize("kind", ["bool", "bias"])
    def test_hidden_rows(self, submission, draw, kind):
        """a row that sees no key has weights of 0 and gradients of 0"""
        logits, upstream = draw.normal(B, H, TQ, TK, dtype=F64), draw.normal(B, H, TQ, TK, dtype=F64)
        visible = PATTERN.clone()
        visible[1], visible[3] = False, False
        mask = visible if kind == "bool" else torch.zeros(TQ, TK, dtype=F64).masked_fill(~visible, -torch.inf)
        p = normalised(logits, mask)
        expected = p * (upstream - (p * upstream).sum(dim=-1, keepdim=True))
        expected = [expected] if kind == "bool" else [expected, expected.sum(dim=(0, 1))]
        got = submission.run(softmax_gradients, logits, mask, upstream)
        assert_close(got, (p, expected), what="(weights, gradients of [logits, bias])")

    @OUTPUT
    def test_more_queries_than_keys(self, submission, draw):
        """causal with more queries than keys: the first see nothing and give 0, and gradients of 0"""
        arguments, upstream = tokens(draw, TK, TQ), draw.normal(B, H, TK, M, dtype=F64)
        got = submission.run(gradients, "dot_product_attention", arguments, upstream, causal=True)
        expected = explicit_gradients(*arguments, upstream, causal=True)
        assert_close(got, expected, what="(output, gradients of [query, key, value])")

    @BACKWARD
    def test_hidden_gradients(self, submission, draw):
        """the formulas give 0 for queries that see no key and for keys that no query sees"""
        arguments, upstream = tokens(draw, TK, TQ), draw.normal(B, H, TK, M, dtype=F64)
        mask = torch.tensor([True, False, True, True, True])
        got = submission.attention_gradients(upstream, *arguments, mask=mask, causal=True)
        expected = explicit_gradients(*arguments, upstream, mask=mask, causal=True)[1]
        assert_close(got, expected, what="(dQ, dK, dV)")

    @OUTPUT
    def test_one_query(self, submission, draw):
        """a single query, as in decoding, sees all keys, causal or not"""
        query, key, value = tokens(draw, queries=1)
        got = [submission.dot_product_attention(query, key, value, causal=causal) for causal in (True, False)]
        assert_close(got, [explicit(query, key, value)[1]] * 2, what="[causal output, output]")

    @OUTPUT
    def test_leading_axes(self, submission, draw):
        """there may be any number of axes before tokens and features"""
        for shape in ((2, 3, 4), (3,), ()):
            query, key, value = tokens(draw, shape=shape)
            got = submission.dot_product_attention(query, key, value, mask=PATTERN, causal=True)
            expected = explicit(query, key, value, mask=PATTERN, causal=True)[1]
            assert_close(got, expected, what=f"output with {len(shape)} leading axes")

    @MODULE
    def test_padding(self, submission, draw):
        """each row of a padded batch comes out as it does alone"""
        state, x = parameters(draw), draw.normal(B, TK, E, dtype=F64)
        lengths = (6, 4)
        mask = (torch.arange(TK) < torch.tensor(lengths)[:, None])[:, None, None, :]
        got = submission.run(applied, "MultiHeadAttention", SIZES, state, x, mask=mask)
        for i, n in enumerate(lengths):
            alone = x[i : i + 1, :n]
            expected = head_by_head(H, state, alone, alone)
            assert_close(got[i : i + 1, :n], expected, what=f"row {i}, with {n} real tokens of {TK}")

    @MODULE
    def test_indivisible(self, submission):
        """a width that does not divide into the heads is a ValueError"""
        with submission.expect_raises(ValueError):
            submission.run(built, "MultiHeadAttention", 10, 4)


def softmax_calls(draw):
    """A mask, a bias, and nothing, in three sizes."""
    return [
        given(2 * draw.normal(B, H, TQ, TK, dtype=F64), PADDING & PATTERN),
        given(draw.normal(H, TQ, TK, dtype=F64), biased(draw)),
        given(draw.normal(3, 2, dtype=F64)),
    ]


def calls(*names):
    """Those arguments, with everything beside them that there is; and many keys, causal alone."""

    def drawn(draw):
        several = []
        for how, sizes in (
            ({"mask": biased(draw), "causal": True, "scale": 0.3}, (TQ, TK)),
            ({"causal": True}, (9, 40)),
        ):
            query, key, value = tokens(draw, *sizes)
            upstream = draw.normal(*query.shape[:-1], M, dtype=F64)
            every = {"query": query, "key": key, "value": value, "upstream": upstream}
            several.append(given(*(every[name] for name in names), **how))
        return several

    return drawn


def module_calls(draw):
    """Across and with itself, in two sizes."""
    x, context = draw.normal(B, TQ, E, dtype=F64), draw.normal(B, TK, E, dtype=F64)
    return on((H, parameters(draw)), given(x, context, PADDING, causal=True), given(x[:, :3], x[:, :3]))


TestProperties = holds(
    case("masked_softmax", softmax_calls, *EVERY_FUNCTION, is_differentiable, expect=normalised),
    case(
        "attention_weights",
        calls("query", "key"),
        *EVERY_FUNCTION,
        rounds_once(wide=None),
        expect=lambda query, key, **how: explicit(query, key, key, **how)[0],
    ),
    case(
        "dot_product_attention",
        calls("query", "key", "value"),
        *EVERY_FUNCTION,
        is_differentiable,
        rounds_once,
        type_follows(2),
        expect=lambda *arguments, **how: explicit(*arguments, **how)[1],
    ),
    case(
        "attention_gradients",
        calls("upstream", "query", "key", "value"),
        *EVERY_FUNCTION,
        rounds_once,
        expect=lambda upstream, *rest, **how: explicit_gradients(*rest, upstream, **how)[1],
    ),
    case("MultiHeadAttention", module_calls, *EVERY_MODULE, is_differentiable, made=multi_head, expect=head_by_head),
)


class TestPerformance:
    @MODULE
    @pytest.mark.points(2)
    def test_heads(self, submission, draw):
        """operators are as many for 2 heads as for 8"""
        state = parameters(draw, 16, 20, torch.float32)
        x, context = draw.normal(B, 9, 16), draw.normal(B, 11, 20)
        sizes = ({"width": 16, "heads": heads, "context_width": 20} for heads in (2, 8))
        few, many = (
            submission.measure(applied_cost, "MultiHeadAttention", size, state, x, context).cost for size in sizes
        )
        for metric in ("operators", "flops"):
            assert_growth(few, many, metric, at_most=1.0, when="there are 8 heads and not 2")

    @OUTPUT
    def test_batches(self, submission, draw):
        """operators are as many for 2 x 3 sequences as for 4 x 5, and for longer ones"""
        few = submission.measure("dot_product_attention", *tokens(draw, 9, 11, torch.float32)).cost
        many = submission.measure("dot_product_attention", *tokens(draw, 17, 23, torch.float32, (4, 5))).cost
        assert_growth(few, many, "operators", at_most=1.0, when="there are more sequences, and longer ones")

    @OUTPUT
    def test_arithmetic(self, submission, draw):
        """the arithmetic of two products, and no tensor larger than the logits"""
        q, k = 40, 48
        cost = submission.measure("dot_product_attention", *tokens(draw, q, k, torch.float32, dim=24, values=32)).cost
        limit = 2 * B * H * q * k * (24 + 32)
        assert_cost(cost, "flops", at_most=limit, why="2 Tq Tk (D + M) a head, for Q K^T and P V")
        limit = 4 * B * H * q * k
        assert_cost(cost, "largest_bytes", at_most=limit, why="Tq x Tk floats a head")

    @BACKWARD
    @pytest.mark.points(2)
    def test_backward_arithmetic(self, submission, draw):
        """by the formulas: five products, and no graph, also for inputs that want gradients"""
        q, k = 40, 48
        arguments, upstream = tokens(draw, q, k, torch.float32, dim=24, values=32), draw.normal(B, H, q, 32)
        arguments = [x.requires_grad_() for x in arguments]
        cost = submission.measure("attention_gradients", upstream, *arguments).cost
        assert_cost(cost, "saved_bytes", at_most=0, why="the formulas need no graph")
        limit = 2.1 * B * H * q * k * (3 * 24 + 3 * 32)
        why = "five products, 2 Tq Tk (3 D + 2 M) a head, P V once more at most, and 5 % beside"
        assert_cost(cost, "flops", at_most=limit, why=why)
        limit = 4 * B * H * q * k
        assert_cost(cost, "largest_bytes", at_most=limit, why="Tq x Tk floats a head")
