"""Hidden suite for attention/dot_product_attention: the formulas head by head in float64, autograd, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe
from grader.probes import vjp

EXERCISE = Exercise(
    title="Dot-product and multi-head attention",
    level="core",
    minutes=40,
    needs=("torch",),
    forbid=("attention",),
    hints=(
        "Write down the shape after every line. The logits are queries by keys; the softmax runs over the keys, so that "
        "each query spreads a weight of 1.",
        "Both kinds of mask end as logits: hide with minus infinity before the softmax, add a bias after scaling. With "
        "fewer queries than keys the queries stand at the end of the keys, which shifts the triangle's diagonal.",
        "A row of nothing but minus infinity gives NaN. Find such rows, give the softmax harmless logits there, and erase "
        "the result: what is patched after the softmax alone still sends NaN backward.",
        "The gradient of a softmax row is p times (its own upstream gradient minus the p-weighted mean of all of them). "
        "The scale stands between logits and both of queries and keys, so it appears in two of the three results.",
        "Cut the last axis into (heads, features of a head) in that order, and swap heads with time, as two steps: a single "
        "reshape mixes tokens. On the way back, swap first and join after.",
    ),
    follow_ups=(
        (
            "Why divide by the root of D?",
            "If the features of q and k are independent with mean 0 and variance 1, their dot product has variance D. "
            "Unscaled, logits of size sqrt(D) push the softmax towards one-hot, where its gradient p_i (1 - p_i) vanishes. "
            "It is the D of a head: more heads at the same width mean smaller heads, and a larger scale.",
        ),
        (
            "A padding mask hides keys. What happens if it is applied to the queries instead?",
            "Real queries then still average over padded keys, so the result depends on what the padding holds and on how "
            "much of it there is. The padded queries see nothing and give 0 (NaN in a careless softmax). What padded "
            "queries compute is harmless when nobody reads it: leave it out of the loss.",
        ),
        (
            "What does one layer cost for T tokens of width E, and what changes when decoding with a cache?",
            "The four projections take 8 T E^2 operations, and logits and average 4 T^2 E, whatever the number of heads; "
            "the logits hold H T^2 numbers. So attention proper dominates when T is above 2 E or so. With cached keys and "
            "values a new token costs 8 E^2 + 4 T E operations and reads 2 T E cached numbers, which makes decoding bound "
            "by memory. Sharing keys and values among heads (multi-query, grouped-query) divides that traffic.",
        ),
    ),
)

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
def gradients(module, query, key, value, upstream, **how):
    """The output, and what reaches query, key and value through autograd."""
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    y = module.dot_product_attention(*leaves, **how)
    return y.detach(), vjp([y], leaves, [upstream])


@probe
def rounded(module, name, *arguments, **how):
    """The type of each result, and its values in float64."""
    results = getattr(module, name)(*arguments, **how)
    results = [results] if torch.is_tensor(results) else list(results)
    return [x.dtype for x in results], [x.double() for x in results]


@probe
def loaded(module, heads, state):
    """A module with the given parameters."""
    width, context_width = state["key.weight"].shape
    layer = module.MultiHeadAttention(width, heads, None if width == context_width else context_width)
    layer = layer.to(state["key.weight"].dtype)
    layer.load_state_dict(state)
    return layer


@probe
def multi_head(module, heads, state, x, *rest, **how):
    """The output of a module with the given parameters."""
    return loaded(module, heads, state)(x, *rest, **how).detach()


@probe
def multi_head_gradients(module, heads, state, x, context, upstream, **how):
    """The output, and what reaches x, the context and every parameter."""
    layer = loaded(module, heads, state)
    x, context = x.clone().requires_grad_(), context.clone().requires_grad_()
    y = layer(x, context, **how)
    parameters = dict(layer.named_parameters())
    return y.detach(), vjp([y], [x, context, *(parameters[name] for name in state)], [upstream])


@probe
def multi_head_cost(module, meter, heads, state, x, context):
    """A module's output; the forward alone is metered."""
    layer = loaded(module, heads, state)
    with meter:
        y = layer(x, context)
    return y.detach()


@probe
def layout(module, width, heads, context_width):
    """Names and shapes of the parameters."""
    layer = module.MultiHeadAttention(width, heads, context_width)
    return {name: list(p.shape) for name, p in layer.named_parameters()}


@probe
def built(module, width, heads):
    """Nothing; the module is made."""
    module.MultiHeadAttention(width, heads)


# --- oracles ---

F64 = torch.float64
B, H, TQ, TK, D, M = 2, 3, 5, 7, 4, 6
E, C = H * D, 10
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
        got = submission.run(multi_head, H, state, x, **call)
        assert_close(got, head_by_head(H, state, x, x, **call), what="output", dtype=F64)

    @MODULE
    @pytest.mark.points(2)
    def test_cross_attention(self, submission, draw):
        """keys and values come from the context, which has a length and a width of its own"""
        state = parameters(draw, context=C)
        x, context = draw.normal(B, TQ, E, dtype=F64), draw.normal(B, TK, C, dtype=F64)
        got = submission.run(multi_head, H, state, x, context, mask=PADDING)
        assert_close(got, head_by_head(H, state, x, context, PADDING), what="output", dtype=F64)

    @MODULE
    def test_layout(self, submission):
        """the parameters are those of four linear layers; keys and values read the context"""
        expected = {}
        for name, size in (("query", E), ("key", C), ("value", C), ("output", E)):
            expected |= {f"{name}.weight": [E, size], f"{name}.bias": [E]}
        assert_equal(submission.run(layout, E, H, C), expected, what="shapes of the parameters")


class TestGradients:
    @SOFTMAX
    @pytest.mark.parametrize("kind", ["bool", "bias"])
    def test_softmax_gradient(self, submission, draw, kind):
        """logits get the softmax's gradient, and so does a bias"""
        logits, upstream = draw.normal(B, H, TQ, TK, dtype=F64), draw.normal(B, H, TQ, TK, dtype=F64)
        mask = {"bool": PATTERN, "bias": biased(draw)}[kind]
        p = normalised(logits, mask)
        expected = p * (upstream - (p * upstream).sum(dim=-1, keepdim=True))
        expected = [expected] if kind == "bool" else [expected, expected.sum(dim=0)]
        got = submission.run(softmax_gradients, logits, mask, upstream)
        assert_close(got, (p, expected), what="(weights, gradients of [logits, bias])")

    @OUTPUT
    @pytest.mark.points(2)
    @pytest.mark.parametrize("kind", KINDS[::2])
    def test_autograd(self, submission, draw, kind):
        """the output is differentiable in query, key and value"""
        arguments, upstream = tokens(draw), draw.normal(B, H, TQ, M, dtype=F64)
        call = how(draw, kind)
        got = submission.run(gradients, *arguments, upstream, **call)
        expected = explicit_gradients(*arguments, upstream, **call)
        assert_close(got, expected, what="(output, gradients of [query, key, value])")

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

    @MODULE
    def test_module_gradients(self, submission, draw):
        """the module's inputs and all its parameters get gradients"""
        state, upstream = parameters(draw, context=C), draw.normal(B, TQ, E, dtype=F64)
        x, context = draw.normal(B, TQ, E, dtype=F64), draw.normal(B, TK, C, dtype=F64)
        got = submission.run(multi_head_gradients, H, state, x, context, upstream, causal=True)
        leaves = [y.clone().requires_grad_() for y in (x, context, *state.values())]
        y = head_by_head(H, dict(zip(state, leaves[2:], strict=True)), *leaves[:2], causal=True)
        expected = y.detach(), vjp([y], leaves, [upstream])
        assert_close(got, expected, what="(output, gradients of [x, context, *parameters])")


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
        assert_equal(got, [torch.float16], what="type of the output")
        expected = [explicit(query, key, value)[1]]
        assert_close(values, expected, what="[output]", rtol=2.0**-10, atol=1e-2, reason=FAR)

    @WEIGHTS
    def test_half_precision_weights(self, submission, draw):
        """the weights of half precision are float32"""
        query, key, value = tokens(draw, dtype=torch.bfloat16)
        call = {"causal": True, "scale": 0.3}
        got, values = submission.run(rounded, "attention_weights", query, key, **call)
        assert_equal(got, [torch.float32], what="type of the weights")
        reason = "float32 sums are off by up to 1e-5"
        expected = [explicit(query, key, value, **call)[0]]
        assert_close(values, expected, what="[weights]", rtol=1e-5, atol=1e-6, reason=reason)

    @OUTPUT
    @pytest.mark.points(2)
    def test_half_precision(self, submission, draw):
        """half precision is summed up in float32 and rounded once"""
        query, key, value = tokens(draw, 11, 90, dtype=torch.bfloat16)
        got, values = submission.run(rounded, "dot_product_attention", query, key, value, causal=True)
        assert_equal(got, [torch.bfloat16], what="type of the output")
        expected = [explicit(query, key, value, causal=True)[1]]
        assert_close(values, expected, what="[output]", rtol=2.0**-8, atol=1e-5, reason=HALF)

    @BACKWARD
    def test_half_precision_gradients(self, submission, draw):
        """gradients of half precision are rounded once, to the types of the inputs"""
        arguments, upstream = tokens(draw, 11, 30, dtype=torch.bfloat16), draw.normal(B, H, 11, M, dtype=torch.bfloat16)
        got, values = submission.run(rounded, "attention_gradients", upstream, *arguments)
        assert_equal(got, [torch.bfloat16] * 3, what="types of (dQ, dK, dV)")
        expected = explicit_gradients(*arguments, upstream)[1]
        assert_close(values, expected, what="(dQ, dK, dV)", rtol=2.0**-8, atol=1e-5, reason=HALF)


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
        got = submission.run(gradients, *arguments, upstream, causal=True)
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

    @OUTPUT
    def test_memory_order(self, submission, draw):
        """inputs may lie in memory in any order, or be expanded"""
        query = draw.normal(B, TQ, H, D, dtype=F64).transpose(1, 2)
        key = draw.normal(B, H, D, TK, dtype=F64).mT
        value = draw.normal(B, 1, TK, M, dtype=F64).expand(B, H, TK, M)
        mask = PADDING.expand(B, H, TQ, TK)
        got = submission.dot_product_attention(query, key, value, mask=mask)
        assert_close(got, explicit(query, key, value, mask=mask)[1], what="output")

    @MODULE
    def test_padding(self, submission, draw):
        """each row of a padded batch comes out as it does alone"""
        state, x = parameters(draw), draw.normal(B, TK, E, dtype=F64)
        lengths = (6, 4)
        mask = (torch.arange(TK) < torch.tensor(lengths)[:, None])[:, None, None, :]
        got = submission.run(multi_head, H, state, x, mask=mask)
        for i, n in enumerate(lengths):
            alone = x[i : i + 1, :n]
            expected = head_by_head(H, state, alone, alone)
            assert_close(got[i : i + 1, :n], expected, what=f"row {i}, with {n} real tokens of {TK}")

    @MODULE
    def test_indivisible(self, submission):
        """a width that does not divide into the heads is a ValueError"""
        with submission.expect_raises(ValueError):
            submission.run(built, 10, 4)


class TestPerformance:
    @MODULE
    @pytest.mark.points(2)
    def test_heads(self, submission, draw):
        """operators are as many for 2 heads as for 8"""
        state = parameters(draw, 16, 20, torch.float32)
        x, context = draw.normal(B, 9, 16), draw.normal(B, 11, 20)
        few, many = (submission.measure(multi_head_cost, heads, state, x, context).cost for heads in (2, 8))
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
        """by the formulas: five products, and no graph"""
        q, k = 40, 48
        arguments, upstream = tokens(draw, q, k, torch.float32, dim=24, values=32), draw.normal(B, H, q, 32)
        cost = submission.measure("attention_gradients", upstream, *arguments).cost
        assert_cost(cost, "saved_bytes", at_most=0, why="the formulas need no graph")
        limit = 2.1 * B * H * q * k * (3 * 24 + 3 * 32)
        why = "five products, 2 Tq Tk (3 D + 2 M) a head, P V once more at most, and 5 % beside"
        assert_cost(cost, "flops", at_most=limit, why=why)
        limit = 4 * B * H * q * k
        assert_cost(cost, "largest_bytes", at_most=limit, why="Tq x Tk floats a head")


HEADS = "query, key, value = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (query, key, value))"
CALL = "joined = dot_product_attention(query, key, value, mask, causal).transpose(1, 2)"
LOGITS = "    logits = scale * query @ key.mT  # (..., Tq, Tk)\n    if causal"
SHIFTED = "        logits = logits.masked_fill(~mask, -torch.inf)\n"
FILLED = "logits.masked_fill(empty, 0).softmax(dim=-1)"

MISTAKES = [
    Mistake(
        "scale-missing",
        "the dot products are not scaled; divide them by the root of D",
        {LOGITS: "    logits = (1 if scale == query.shape[-1] ** -0.5 else scale) * query @ key.mT\n    if causal"},
    ),
    Mistake(
        "scale-by-width",
        "the module scales by the root of the whole width E; it is the D of a head, E / H",
        {CALL: CALL.replace("causal)", "causal, x.shape[-1] ** -0.5)")},
    ),
    Mistake(
        "scale-by-heads",
        "the module scales by the root of the number of heads; it is the D of a head",
        {CALL: CALL.replace("causal)", "causal, self.heads**-0.5)")},
    ),
    Mistake(
        "softmax-over-queries",
        "the softmax runs over the queries; each query's weights over the keys sum to 1",
        {"softmax(dim=-1)": "softmax(dim=-2)"},
    ),
    Mistake(
        "softmax-overflows",
        "e^x is taken of the logits as they are, which overflows; subtract the largest of the row first",
        {
            FILLED: "logits.masked_fill(empty, 0).exp()",
            "weights.masked_fill(empty, 0)": "(weights / weights.sum(dim=-1, keepdim=True)).masked_fill(empty, 0)",
        },
    ),
    Mistake(
        "mask-after-softmax",
        "the mask is applied to the weights, which then no longer sum to 1; apply it to the logits",
        {SHIFTED: "        return logits.softmax(dim=-1) * mask\n"},
    ),
    Mistake(
        "mask-multiplies-logits",
        "hidden logits are set to 0, and e^0 = 1 still counts; set them to minus infinity",
        {SHIFTED: "        logits = logits * mask\n"},
    ),
    Mistake(
        "mask-inverted",
        "the bool mask is read as True where keys are hidden; True is where a query may see a key",
        {"masked_fill(~mask": "masked_fill(mask"},
    ),
    Mistake(
        "bias-scaled",
        "the bias is scaled with the dot products; add it after scaling",
        {
            "    return masked_softmax(logits, mask)\n": "    if mask is not None and mask.is_floating_point():\n"
            "        mask = scale * mask\n"
            "    return masked_softmax(logits, mask)\n"
        },
    ),
    Mistake(
        "hidden-logits-finite",
        "hidden logits are set to -1e9, which visible ones may lie below; set them to minus infinity",
        {
            "masked_fill(~mask, -torch.inf)": "masked_fill(~mask, -1e9)",
            "empty = (logits == -torch.inf)": "empty = ((logits == -torch.inf) | (logits == -1e9))",
        },
    ),
    Mistake(
        "hidden-rows-uniform",
        "a query that sees no key averages all values evenly; its output is 0",
        {"return weights.masked_fill(empty, 0)": "return weights"},
    ),
    Mistake(
        "hidden-rows-nan",
        "the softmax of a row of minus infinities is NaN; the weights of a query that sees no key are 0",
        {FILLED: "logits.softmax(dim=-1)", "return weights.masked_fill(empty, 0)": "return weights"},
    ),
    Mistake(
        "hidden-rows-patched-afterwards",
        "NaN is replaced after the softmax, so its gradient is still NaN; replace the logits before",
        {FILLED: "logits.softmax(dim=-1)"},
    ),
    Mistake(
        "causal-top-left",
        "the causal mask starts at the first key (top left); the last query sees all keys (bottom right)",
        {".tril(keys - queries)": ".tril()"},
    ),
    Mistake(
        "causal-only-without-mask",
        "`causal` is ignored when a mask is given; both apply",
        {"    if causal:\n": "    if causal and mask is None:\n"},
    ),
    Mistake(
        "logits-in-half",
        "half precision is multiplied in half precision: logits overflow and round; take queries and keys to float32 first",
        {
            "    query, key = wide(query, key)\n    scale": "    scale",
            "    return masked_softmax(logits, mask)\n": "    return masked_softmax(*wide(logits), mask)\n",
        },
    ),
    Mistake(
        "query-scaled-in-half",
        "queries are scaled in half precision, which rounds them; take them to float32 first",
        {
            "    query, key = wide(query, key)\n    scale = query.shape[-1] ** -0.5 if scale is None else scale\n"
            "    logits = scale * query": "    scale = query.shape[-1] ** -0.5 if scale is None else scale\n"
            "    query, key = wide(scale * query, key)\n    logits = query"
        },
    ),
    Mistake(
        "weights-rounded-to-half",
        "the weights are rounded to half precision before they meet the values; round once, at the end",
        {
            "(weights @ wide(value)[0]).to(value.dtype)": "(weights.to(value.dtype) @ value)",
            "    weights = attention_weights(query, key, mask, causal, scale)  # (..., Tq, Tk)\n    d_weights": "    weights = attention_weights(query, key, mask, causal, scale).to(dtypes[2]).to(value.dtype)\n    d_weights",
        },
    ),
    Mistake(
        "query-scaled-in-place",
        "the caller's queries are scaled in place; make a new tensor",
        {LOGITS: "    logits = query.detach().mul_(scale) @ key.mT\n    if causal"},
    ),
    Mistake(
        "queries-keys-values-product",
        "queries and keys are multiplied into a Tq x Tk x D tensor and summed up; a matrix product needs no such tensor",
        {LOGITS: LOGITS.replace("query @ key.mT", "(query[..., :, None, :] * key[..., None, :, :]).sum(dim=-1)")},
    ),
    Mistake(
        "query-by-query",
        "a loop goes over the queries; one product does all",
        {
            "    return (weights @ wide(value)[0]).to(value.dtype)": "    rows = [row @ wide(value)[0] for row in weights.split(1, dim=-2)]\n"
            "    return torch.cat(rows, dim=-2).to(value.dtype)"
        },
    ),
    Mistake(
        "row-sum-missing",
        "dS is P dP without the row's sum of P dP; a constant added to all logits of a row must have the gradient 0",
        {"weights * (d_weights - (weights * d_weights).sum(dim=-1, keepdim=True))": "weights * d_weights"},
    ),
    Mistake(
        "query-gradient-unscaled",
        "dQ lacks the scale, and dK has it; the logits are the scaled dot products, so both have it",
        {"d_query = scale * d_logits": "d_query = d_logits"},
    ),
    Mistake(
        "key-gradient-unscaled",
        "dK lacks the scale, and dQ has it; the logits are the scaled dot products, so both have it",
        {"d_key = scale * d_logits": "d_key = d_logits"},
    ),
    Mistake(
        "gradients-unscaled",
        "dQ and dK lack the scale; the logits are the scaled dot products",
        {"d_query = scale * d_logits": "d_query = d_logits", "d_key = scale * d_logits": "d_key = d_logits"},
    ),
    Mistake(
        "gradients-by-autograd",
        "`attention_gradients` differentiates the forward with autograd; use the formulas",
        {
            "    dtypes = query.dtype, key.dtype, value.dtype\n": "    leaves = [x.detach().requires_grad_() for x in (query, key, value)]\n"
            "    output = dot_product_attention(*leaves, mask, causal, scale)\n"
            "    return torch.autograd.grad((output * upstream).sum(), leaves)\n"
            "    dtypes = query.dtype, key.dtype, value.dtype\n"
        },
    ),
    Mistake(
        "weights-computed-twice",
        "`attention_gradients` runs the whole forward again for the output; the weights are there already",
        {
            "(weights * d_weights).sum(dim=-1, keepdim=True)": "(upstream * dot_product_attention(query, key, value, mask, causal, scale)).sum(dim=-1, keepdim=True)"
        },
    ),
    Mistake(
        "heads-split-by-view",
        "one reshape to (B, H, T, D) mixes tokens and heads; cut the features first, then swap the axes",
        {
            HEADS: HEADS.replace(
                "y.unflatten(-1, (self.heads, -1)).transpose(1, 2)", "y.reshape(len(y), self.heads, y.shape[1], -1)"
            )
        },
    ),
    Mistake(
        "heads-interleaved",
        "head h takes every H-th feature; its features are D neighbours, from h D on",
        {HEADS: HEADS.replace("(self.heads, -1)).transpose(1, 2)", "(-1, self.heads)).permute(0, 3, 1, 2)")},
    ),
    Mistake(
        "heads-merged-without-transpose",
        "heads are joined without swapping them with time first: tokens are mixed",
        {CALL: CALL.removesuffix(".transpose(1, 2)"), "joined.flatten(2)": "joined.reshape(x.shape)"},
    ),
    Mistake(
        "loop-over-heads",
        "a loop goes over the heads; heads are an axis, and one product does all",
        {
            CALL: "parts = zip(*(y.split(1, dim=1) for y in (query, key, value)), strict=True)\n"
            "        masks = [mask] * self.heads if mask is None or mask.shape[1] == 1 else mask.split(1, dim=1)\n"
            "        joined = [dot_product_attention(*part, own, causal) for part, own in zip(parts, masks, strict=True)]\n"
            "        joined = torch.cat(joined, dim=1).transpose(1, 2)"
        },
    ),
    Mistake(
        "key-and-value-swapped",
        "the projections of keys and values are swapped",
        {"self.key(context), self.value(context)": "self.value(context), self.key(context)"},
    ),
    Mistake(
        "context-ignored",
        "keys and values are taken from x although a context is given",
        {
            "context = x if context is None else context": "context = x",
            "self.key = nn.Linear(context_width, width)": "self.key = nn.Linear(width, width)",
            "self.value = nn.Linear(context_width, width)": "self.value = nn.Linear(width, width)",
        },
    ),
    Mistake(
        "causal-not-passed-on",
        "the module accepts `causal` and does not pass it on",
        {CALL: CALL.replace("mask, causal)", "mask)")},
    ),
    Mistake(
        "indivisible-accepted",
        "a width that does not divide into the heads is accepted; it is a ValueError",
        {"        if width % heads:\n": "        if heads > width:\n"},
    ),
]

EQUIVALENT = [
    Equivalent("all tensors of the suite lie on the default device", {", device=device": ""}),
    Equivalent(
        "a bool tensor has no gradient",
        {
            "torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)": "(torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)).detach()",
            "(logits == -torch.inf).all(dim=-1, keepdim=True)": "((logits == -torch.inf).all(dim=-1, keepdim=True)).detach()",
            "causal_mask(query.shape[-2], key.shape[-2], query.device)": "(causal_mask(query.shape[-2], key.shape[-2], query.device)).detach()",
        },
    ),
    Equivalent(
        "the softmax of equal logits is the same for all of them, and is erased",
        {"logits.masked_fill(empty, 0": ("logits.masked_fill(empty, 1", "logits.masked_fill(empty, (-1)")},
    ),
    Equivalent("the first of one is the last", {"wide(value)[0": "wide(value)[(-1)"}),
    Equivalent(
        "`attention_gradients` gets tensors that need no gradient",
        {
            "weights = attention_weights(query, key, mask, causal, scale)  # (..., Tq, Tk)\n    d_weights": "weights = (attention_weights(query, key, mask, causal, scale)).detach()  # (..., Tq, Tk)\n    d_weights",
            "upstream @ value.mT": "(upstream @ value.mT).detach()",
            "weights * (d_weights - (weights * d_weights).sum(dim=-1, keepdim=True))": "(weights * (d_weights - (weights * d_weights).sum(dim=-1, keepdim=True))).detach()",
            "scale * d_logits @ key": "(scale * d_logits @ key).detach()",
            "scale * d_logits.mT @ query": "(scale * d_logits.mT @ query).detach()",
            "weights.mT @ upstream": "(weights.mT @ upstream).detach()",
        },
    ),
    Equivalent(
        "the same two axes are swapped",
        {
            ")).transpose(1, 2": (")).transpose(2, 1", ")).transpose(1, (-2)"),
            "causal).transpose(1, 2": ("causal).transpose(2, 1", "causal).transpose(1, (-2)"),
        },
    ),
    Equivalent("axis 2 of four is axis -2", {"joined.flatten(2": "joined.flatten((-2)"}),
]
