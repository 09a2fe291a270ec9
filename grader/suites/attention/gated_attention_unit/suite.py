"""Hidden suite for attention/gated_attention_unit: every pair of tokens written out in float64, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import layout, loaded, rounded, several
from grader.properties import (
    EVERY_FUNCTION,
    EVERY_MODULE,
    any_layout,
    case,
    computes_in_the_inputs_type,
    given,
    holds,
    is_differentiable,
    no_state_between_calls,
    on,
    rounds_once,
    type_follows,
)
from grader.suite import probe

# --- probes ---


@probe
def loaded_unit(module, state, chunk_size):
    """A unit with the given parameters."""
    expanded, width = state["gate.weight"].shape
    sizes = {"width": width, "expanded": expanded, "shared": len(state["base.bias"]), "chunk_size": chunk_size}
    return loaded(module, "GatedAttentionUnit", sizes, state)


@probe
def unit_outputs(module, state, chunk_size, x, ways):
    """The output of a unit with the given parameters, in several ways."""
    unit = loaded_unit(module, state, chunk_size)
    return [unit(x, **how) for how in ways]


# --- oracles ---

F64 = torch.float64
B, T, S, E, C, D = 2, 11, 5, 7, 4, 6
SIZES = {"width": D, "expanded": E, "shared": S}
HOLES = torch.tensor([[1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0], [1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1]], dtype=torch.bool)
SPARSE = torch.tensor([[0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 1], [0] * T], dtype=torch.bool)  # no key early, and none at all


def places(length):
    """The places of queries i, down, and of keys j, across, counted from 0."""
    return torch.arange(length)[:, None], torch.arange(length)[None, :]


def mean_over(weights, v, keep, mask):
    """Weighted values over the number of keys that are seen and real."""
    if mask is not None:
        keep = keep & mask[..., None, :]
    count = keep.double().sum(dim=-1, keepdim=True)
    total = torch.einsum("...ij,...je->...ie", torch.where(keep, weights, 0), v.double())
    return total / torch.where(count > 0, count, 1)


def scores_of(q, k):
    return torch.einsum("...is,...js->...ij", q.double(), k.double())


def quadratic(q, k, v, mask=None, causal=False, chunk=None):
    """The quadratic form, within chunks if they have a size."""
    i, j = places(q.shape[-2])
    chunk = chunk or q.shape[-2]
    keep = (i // chunk == j // chunk) & ((j <= i) | (not causal))
    return mean_over(scores_of(q, k).clamp(min=0) ** 2, v, keep, mask)


def across(q, k, v, chunk, mask=None, causal=False):
    """The linear attention across chunks."""
    i, j = places(q.shape[-2])
    keep = (j // chunk < i // chunk) | (not causal)
    return mean_over(scores_of(q, k), v, keep, mask)


def mixed(q, k, linear_q, linear_k, v, chunk=256, mask=None, causal=False):
    """Both together."""
    return quadratic(q, k, v, mask, causal, chunk) + across(linear_q, linear_k, v, chunk, mask, causal)


def chunked(x, size):
    """Token by token."""
    size = min(size, x.shape[-2])
    y = x.new_zeros(*x.shape[:-2], -(-x.shape[-2] // size), size, x.shape[-1])
    for t in range(x.shape[-2]):
        y[..., t // size, t % size, :] = x[..., t, :]
    return y


def sums_before(x):
    """Chunk by chunk."""
    return torch.stack([x[..., :g, :, :].sum(dim=-3) for g in range(x.shape[-3])], dim=-3)


def unit(state, chunk, x, mask=None, causal=False):
    """The whole layer, from its parameters."""

    def projected(name, y):
        return torch.einsum("...i,oi->...o", y, state[f"{name}.weight"]) + state[f"{name}.bias"]

    u, v, z = (y / (1 + torch.exp(-y)) for y in (projected(name, x) for name in ("gate", "value", "base")))
    heads = [z * g + b for g, b in zip(state["gamma"], state["beta"], strict=True)]
    values = mixed(*heads, v, chunk, mask, causal) if chunk else quadratic(*heads, v, mask, causal)
    return projected("output", u * values)


def parameters(draw, heads, dtype=F64):
    """Random parameters of a unit, none of them small."""
    sizes = {"gate": (E, D), "value": (E, D), "base": (S, D), "output": (D, E)}
    state = {"gamma": draw.normal(heads, S, dtype=dtype), "beta": draw.normal(heads, S, dtype=dtype)}
    for name, shape in sizes.items():
        state |= {
            f"{name}.weight": draw.normal(*shape, dtype=dtype),
            f"{name}.bias": draw.normal(shape[0], dtype=dtype),
        }
    return state


class Form:
    """One of the three attentions: its name, how many queries and keys it takes, its chunks and its oracle."""

    def __init__(self, name, heads, oracle, chunked):
        self.name, self.heads, self.oracle, self.chunked = name, heads, oracle, chunked

    def tokens(self, draw, length=T, dtype=F64, shape=(B,), shared=S, expanded=E):
        """Queries, keys and values."""
        parts = [draw.normal(*shape, length, shared, dtype=dtype) for _ in range(self.heads)]
        return [*parts, draw.normal(*shape, length, expanded, dtype=dtype)]

    def rest(self, chunk=C):
        """The positional argument after the values, if there is one."""
        return (chunk,) if self.chunked else ()


QUADRATIC = Form("quadratic_attention", 2, quadratic, False)
GLOBAL = Form("global_attention", 2, across, True)
MIXED = Form("mixed_chunk_attention", 4, mixed, True)


def forms(*chosen):
    """Runs a test for each form."""
    return pytest.mark.parametrize(
        "form", [pytest.param(form, marks=pytest.mark.part(form.name), id=form.name) for form in chosen]
    )


FORMS = forms(QUADRATIC, GLOBAL, MIXED)
CHUNKED = forms(GLOBAL, MIXED)
UNIT = pytest.mark.part("GatedAttentionUnit")


class TestValues:
    @pytest.mark.part("affine_heads")
    def test_affine_heads(self, submission, draw):
        """every head scales and shifts each feature of the base by its own numbers"""
        calls = []
        for heads, shape in ((2, (B, T, S)), (4, (T, S)), (3, (B, 3, T, S))):
            z, gamma, beta = (draw.normal(*size, dtype=F64) for size in (shape, (heads, S), (heads, S)))
            calls.append(((z, gamma, beta), {}))
        got = submission.run(several, "affine_heads", calls)
        expected = [torch.stack([z * g + b for g, b in zip(*gb, strict=True)]) for (z, *gb), _ in calls]
        assert_close(got, expected, what="[2, 4 and 3 heads]", dtype=F64)

    @pytest.mark.part("into_chunks")
    def test_into_chunks(self, submission, draw):
        """neighbours form a chunk; zeros stand at the end of the last one"""
        calls = []
        for length, size, shape in ((8, 4, (B,)), (11, 4, (B, 3)), (3, 5, ()), (7, 1, (B,))):
            calls.append(((draw.normal(*shape, length, S, dtype=F64), size), {}))
        calls.append(((HOLES[..., None], 4), {}))
        what = "chunks of [8 tokens by 4, 11 by 4, 3 by 5, 7 by 1, 11 bools by 4]"
        assert_equal(submission.run(several, "into_chunks", calls), [chunked(*call) for call, _ in calls], what=what)

    @pytest.mark.part("earlier_sums")
    def test_earlier_sums(self, submission, draw):
        """every chunk gets the sum of those before it, and the first one 0"""
        x, counts = draw.normal(B, 3, 5, S, E, dtype=F64), draw.integers(0, 9, 5, 1, 2)
        one = draw.normal(1, S, E, dtype=F64)
        got = submission.run(several, "earlier_sums", [((y,), {}) for y in (x, counts, one)])
        expected = [sums_before(y) for y in (x, counts, one)]
        assert_close(got, expected, what="sums over earlier chunks of [floats, integers, one chunk]")

    @FORMS
    @pytest.mark.points(2)
    def test_attention(self, submission, draw, form):
        """values are weighed pair by pair, and divided by the number of keys seen; one token sees itself at most"""
        calls = []
        for arguments in (form.tokens(draw), form.tokens(draw, 1)):
            calls += [((*arguments, *form.rest()), {"causal": causal}) for causal in (False, True)]
        calls += [(calls[0][0], {"causal": causal, "mask": HOLES}) for causal in (False, True)]
        got = submission.run(several, form.name, calls)
        expected = [form.oracle(*call, **how) for call, how in calls]
        what = "outputs for [11 tokens, causal, 1 token, causal, 11 tokens with padding, causal]"
        assert_close(got, expected, what=what, dtype=F64)

    @CHUNKED
    def test_chunk_sizes(self, submission, draw, form):
        """chunks may be even, ragged, of one token, or longer than the sequence"""
        arguments, sizes = form.tokens(draw, 8), (4, 3, 1, 8, 20)
        calls = [((*arguments, size), {"causal": causal}) for size in sizes for causal in (False, True)]
        got = submission.run(several, form.name, calls)
        expected = [form.oracle(*call, **how) for call, how in calls]
        assert_close(got, expected, what=f"outputs for chunks of {sizes}, each without and with causal", dtype=F64)

    @pytest.mark.part("mixed_chunk_attention")
    def test_default(self, submission, draw):
        """chunks have 256 tokens where nothing else is said"""
        arguments = MIXED.tokens(draw, 300, shape=())
        got = submission.mixed_chunk_attention(*arguments, causal=True)
        assert_close(got, mixed(*arguments, causal=True), what="output for 300 tokens", dtype=F64)

    @pytest.mark.part("mixed_chunk_attention")
    def test_one_chunk(self, submission, draw):
        """causal in a single chunk is the quadratic form, whatever the linear queries and keys are"""
        arguments = MIXED.tokens(draw)
        got = submission.mixed_chunk_attention(*arguments, T, causal=True)
        expected = quadratic(*arguments[:2], arguments[-1], causal=True)
        assert_close(got, expected, what="output", dtype=F64)

    @UNIT
    @pytest.mark.points(2)
    @pytest.mark.parametrize("chunk", [None, C], ids=["quadratic", "mixed"])
    def test_unit(self, submission, draw, chunk):
        """projections, heads, mixed values, gate, projection"""
        state, x = parameters(draw, 4 if chunk else 2), draw.normal(B, T, D, dtype=F64)
        ways = [{}, {"causal": True}, {"mask": HOLES}, {"mask": HOLES, "causal": True}]
        got = submission.run(unit_outputs, state, chunk, x, ways)
        what = "outputs [plain, causal, with a mask, with both]"
        assert_close(got, [unit(state, chunk, x, **how) for how in ways], what=what, dtype=F64)

    @UNIT
    def test_layout(self, submission):
        """four linear layers with bias, and gamma and beta with 2 rows, or 4 with chunks"""
        expected = []
        for heads in (2, 4):
            shapes = {"gamma": [heads, S], "beta": [heads, S]}
            for name, (inner, outer) in {"gate": (D, E), "value": (D, E), "base": (D, S), "output": (E, D)}.items():
                shapes |= {f"{name}.weight": [outer, inner], f"{name}.bias": [outer]}
            expected.append(shapes)
        got = [submission.run(layout, "GatedAttentionUnit", {**SIZES, "chunk_size": size}) for size in (None, C)]
        assert_equal(got, expected, what="shapes of the parameters, [quadratic, mixed]")


class TestStability:
    @pytest.mark.part("earlier_sums")
    def test_large_chunk(self, submission, draw):
        """a chunk of huge numbers leaves no noise in the sum before it"""
        x = draw.normal(B, 5, S, E)
        x[:, 3] *= 1e10
        got = submission.earlier_sums(x)[:, :4]
        expected = (x.double().cumsum(dim=1) - x.double())[:, :4]
        expected[:, 3] = x[:, :3].double().sum(dim=1)
        assert_close(got, expected.float(), what="sums for chunks 0 to 3, when chunk 3 is huge", dtype=torch.float32)

    @pytest.mark.part("mixed_chunk_attention")
    def test_large_future(self, submission, draw):
        """earlier outputs are as precise as ever beside a chunk of huge numbers"""
        arguments = MIXED.tokens(draw, 14, torch.float32)
        arguments[-2][:, 8:12] *= 1e8  # the keys of the linear form, in chunk 2 of 4
        got = submission.mixed_chunk_attention(*arguments, C, causal=True)[:, :12]
        expected = mixed(*arguments, C, causal=True)[:, :12].float()
        assert_close(got, expected, what="outputs of chunks 0 to 2, when chunk 2 has huge keys", dtype=torch.float32)

    @forms(QUADRATIC, MIXED)
    def test_large_squares(self, submission, draw, form):
        """squares above 65504 do not overflow in float16"""
        arguments = [40 * x for x in form.tokens(draw, dtype=torch.float16)]
        arguments[-1] = arguments[-1] / 1e5
        kind, got = submission.run(rounded, form.name, *arguments, *form.rest(), causal=True)
        assert_equal(kind, torch.float16, what="type of the output")
        expected = form.oracle(*arguments, *form.rest(), causal=True)
        reason = "one rounding to float16 is allowed, at the end"
        assert_close(got, expected, what="output", rtol=2.0**-10, atol=1e-3, reason=reason)


class TestEdgeCases:
    @FORMS
    def test_no_key(self, submission, draw, form):
        """a query that sees no key gets 0"""
        calls = [((*form.tokens(draw), *form.rest()), {"mask": SPARSE, "causal": causal}) for causal in (False, True)]
        got = submission.run(several, form.name, calls)
        assert_close(got, [form.oracle(*call, **how) for call, how in calls], what="[output, causal output]")

    @FORMS
    @pytest.mark.points(2)
    def test_padding(self, submission, draw, form):
        """each row of a padded batch comes out as it does alone, whatever the padding holds"""
        drawn, lengths = form.tokens(draw), (9, 6)
        mask = torch.arange(T) < torch.tensor(lengths)[:, None]
        large = [torch.where(mask[..., None], x, 1e30).float() for x in drawn]
        ways = [(x, causal) for x in (drawn, large) for causal in (False, True)]
        calls = [((*x, *form.rest()), {"mask": mask, "causal": causal}) for x, causal in ways]
        got = submission.run(several, form.name, calls)
        for outputs, (arguments, causal) in zip(got, ways, strict=True):
            for i, n in enumerate(lengths):
                alone = [x[i : i + 1, :n] for x in arguments]
                expected = form.oracle(*alone, *form.rest(), causal=causal).to(arguments[0].dtype)
                what = f"row {i}, with {n} real tokens of {T}, {causal = }, padding {'of 1e30' * (arguments is large)}"
                assert_close(outputs[i : i + 1, :n], expected, what=what.removesuffix(", padding "))

    @forms(QUADRATIC, MIXED)
    def test_prefix(self, submission, draw, form):
        """under causal the first tokens come out alike, whether others follow or not"""
        arguments = form.tokens(draw)
        calls = [((*(x[:, :n] for x in arguments), *form.rest()), {"causal": True}) for n in (T, 7)]
        long, short = submission.run(several, form.name, calls)
        assert_close(long[:, :7], short, what=f"outputs of the first 7 of {T} tokens, beside those of the 7 alone")


def form_calls(form):
    """Two axes before the tokens, with a mask; rows without a key; many tokens; and one, with no axis before it."""

    def drawn(draw):
        mask = torch.stack([HOLES, ~HOLES, HOLES.flip(-1)], dim=1)
        return [
            given(*form.tokens(draw, shape=(B, 3)), *form.rest(), mask=mask, causal=True),
            given(*form.tokens(draw), *form.rest(), mask=SPARSE, causal=True),
            given(*form.tokens(draw, 60), *form.rest(20)),
            given(*form.tokens(draw, 1, shape=()), *form.rest(), causal=True),
        ]

    return drawn


def heads_of(draw):
    """A base, gains and shifts, for two heads and for four."""
    shapes = ((B, T, S), (2, S), (2, S)), ((T, S), (4, S), (4, S))
    return [given(*(draw.normal(*shape, dtype=F64) for shape in sizes)) for sizes in shapes]


def unit_calls(heads, chunk):
    """With a mask and causal, and fewer tokens without."""

    def drawn(draw):
        x, few = draw.normal(B, T, D, dtype=F64), draw.normal(B, 3, D, dtype=F64)
        return on((parameters(draw, heads), chunk), given(x, HOLES, causal=True), given(few))

    return drawn


TestProperties = holds(
    case(
        "affine_heads",
        heads_of,
        *EVERY_FUNCTION,
        expect=lambda z, *rows: torch.stack([z * g + b for g, b in zip(*rows, strict=True)]),
    ),
    case(
        "into_chunks",  # may give a view
        lambda draw: [given(draw.normal(B, 3, 11, S, dtype=F64), 4), given(draw.normal(3, S, dtype=F64), 5)],
        any_layout,
        no_state_between_calls,
        computes_in_the_inputs_type,
        expect=chunked,
    ),
    case(
        "earlier_sums",
        lambda draw: [given(draw.normal(B, 5, S, E, dtype=F64)), given(draw.normal(3, 1, 2, dtype=F64))],
        *EVERY_FUNCTION,
        expect=sums_before,
    ),
    *(
        case(
            form.name,
            form_calls(form),
            *EVERY_FUNCTION,
            is_differentiable,
            rounds_once,
            type_follows(form.heads),
            expect=form.oracle,
        )
        for form in (QUADRATIC, GLOBAL, MIXED)
    ),
    case(
        "GatedAttentionUnit",
        unit_calls(2, None),
        *EVERY_MODULE,
        is_differentiable,
        made=loaded_unit,
        expect=unit,
        name="quadratic unit",
    ),
    case(
        "GatedAttentionUnit",
        unit_calls(4, C),
        *EVERY_MODULE,
        is_differentiable,
        made=loaded_unit,
        expect=unit,
        name="mixed unit",
    ),
)


class TestPerformance:
    @CHUNKED
    @pytest.mark.points(2)
    def test_growth(self, submission, draw, form):
        """time and memory grow with T, operators do not; nothing is T x T or T x s x e"""
        # in numbers a token: T x T has 256, T x s x e 240, T x C 16, T / C x s x e 15, and the values 20
        limit = 80 * B * 256 * 4
        for causal in (False, True):
            costs = []
            for length in (128, 256):
                arguments = form.tokens(draw, length, torch.float32, shared=12, expanded=20)
                costs.append(submission.measure(form.name, *arguments, 16, causal=causal).cost)
            for metric in ("flops", "peak_bytes"):
                assert_growth(*costs, metric, at_most=2.2, when="T doubles")
            assert_growth(*costs, "operators", at_most=1.2, when="T doubles")
            assert_cost(costs[1], "largest_bytes", at_most=limit, why="80 floats a token, for C = 16, s = 12, e = 20")

    @pytest.mark.part("mixed_chunk_attention")
    def test_long_chunk(self, submission, draw):
        """a chunk longer than the sequence costs no more than one of its length"""
        arguments = MIXED.tokens(draw, 8, torch.float32)
        costs = [submission.measure("mixed_chunk_attention", *arguments, size, causal=True).cost for size in (8, 512)]
        for metric in ("flops", "peak_bytes"):
            assert_growth(*costs, metric, at_most=1.2, when="8 tokens go into a chunk of 512 and not of 8")

    @pytest.mark.part("quadratic_attention")
    def test_quadratic_cost(self, submission, draw):
        """two products, and no tensor of T x T x s or T x T x e"""
        arguments = QUADRATIC.tokens(draw, 96, torch.float32)
        cost = submission.measure("quadratic_attention", *arguments, causal=True).cost
        products = 2 * B * 96 * 96 * (S + E)
        assert_cost(cost, "flops", at_most=1.2 * products, why="the products of Q K^T and A V, and a fifth beside")
        assert_cost(cost, "largest_bytes", at_most=2 * B * 96 * 96 * 4, why="two floats a pair of tokens")
