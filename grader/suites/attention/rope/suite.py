"""Hidden suite for attention/rope: complex multiplication in float64 beside the properties that a rotation has."""

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.properties import (
    EVERY_FUNCTION,
    any_layout,
    case,
    given,
    holds,
    is_differentiable,
    no_state_between_calls,
    on,
    rounds_once,
)
from grader.suite import probe

# --- probes ---


@probe
def embedding(module, settings, x):
    """A RotaryEmbedding whose tables live where `x` does."""
    with x.device:
        return module.RotaryEmbedding(**settings)


@probe
def rotated(module, settings, x, **call):
    """One call of a new RotaryEmbedding."""
    return embedding(module, settings, x)(x, **call)


@probe
def rotated_often(module, settings, calls):
    """Several calls, `(x, offset)`, of the same RotaryEmbedding, in order."""
    rope = embedding(module, settings, calls[0][0])
    return [rope(x, offset=offset) for x, offset in calls]


@probe
def decode_step(module, meter, settings, prompt, step, offset):
    """The cost of one step of decoding; a prompt and a step have gone before."""
    rope = embedding(module, settings, step)
    rope(prompt)
    rope(step, offset=offset - 1)
    with meter:
        return rope(step, offset=offset)


@probe
def placed_step(module, meter, settings, prompt, step, positions):
    """As `decode_step`, with explicit positions."""
    rope = embedding(module, settings, step)
    rope(prompt)
    rope(step, positions=positions - 1)
    with meter:
        return rope(step, positions=positions)


# --- oracles ---


def theta_of(dim, base=10000.0, linear=1.0, ntk=1.0):
    """Equation 15's frequencies, one by one, in Python's floats."""
    base = base * ntk ** (dim / (dim - 2)) if dim > 2 else base
    return torch.tensor([base ** (-2 * i / dim) / linear for i in range(dim // 2)], dtype=torch.float64)


def turn(x, angles, interleaved):
    """Multiply the pairs of `x` by exp(i angle), as complex numbers in float64."""
    x = x.double()
    half = angles.shape[-1]
    first = torch.arange(half) * 2 if interleaved else torch.arange(half)
    second = first + (1 if interleaved else half)
    z = torch.complex(x[..., first], x[..., second]) * torch.exp(1j * angles.double())
    y = x.clone()
    y[..., first], y[..., second] = z.real, z.imag
    return y


def embed(settings, x, positions):
    """What a RotaryEmbedding with these settings makes of `x` at `positions`."""
    scaling = {name: settings[name] for name in ("base", "linear", "ntk") if name in settings}
    theta = theta_of(settings.get("rotary_dim", settings["dim"]), **scaling)
    angles = positions.double()[..., None] * theta
    if positions.dim() == 2:
        angles = angles[:, None]
    return turn(x, angles, settings.get("interleaved", False))


def image(height, width, theta):
    """Tables of all patches, row by row."""
    places = torch.tensor([(row, column) for row in range(height) for column in range(width)])
    angles = torch.cat([places[:, :1] * theta, places[:, 1:] * theta], dim=-1)
    return angles.cos(), angles.sin()


def counted(mask):
    """Positions from the first real token of each row."""
    return torch.tensor([[max(0, sum(row[: t + 1]) - 1) for t in range(len(row))] for row in mask.tolist()])


def permutation(dim, rotary):
    """Even features, odd features, and the rest."""
    return [*range(0, rotary, 2), *range(1, rotary, 2), *range(rotary, dim)]


def tables(draw, *shape, dtype=torch.float64):
    """Cosines and sines of random angles, and the angles."""
    angles = draw.uniform(*shape, low=-3.0, high=3.0, dtype=torch.float64)
    return angles.cos().to(dtype), angles.sin().to(dtype), angles


TRIGONOMETRY = {"cos", "sin", "tan", "exp", "exp2", "polar"}


def trigonometry(cost):
    """How many trigonometric operators were dispatched, complex exponentials among them."""
    names = {name: name.split("::")[-1].split(".")[0].rstrip("_") for name in cost.by_name}
    return sum(count for name, count in cost.by_name.items() if names[name] in TRIGONOMETRY)


F64 = torch.float64
FREQUENCIES = {
    "plain": dict(dim=10),
    "base": dict(dim=6, base=500.0),
    "linear": dict(dim=8, linear=4.0),
    "ntk": dict(dim=12, ntk=3.0),
    "both": dict(dim=14, base=300.0, linear=2.5, ntk=1.7),
}
SETTINGS = {
    "half-split": dict(dim=10, max_positions=40, dtype=F64),
    "interleaved": dict(dim=10, max_positions=40, dtype=F64, interleaved=True),
    "partial": dict(dim=11, max_positions=40, dtype=F64, rotary_dim=6),
    "partial-interleaved": dict(dim=13, max_positions=40, dtype=F64, rotary_dim=8, interleaved=True),
    "scaled": dict(dim=8, max_positions=40, dtype=F64, base=700.0, linear=2.0, ntk=3.0),
}
HALVES = {  # half an ulp is 2^-9 and 2^-11 of the value; as much again is allowed
    "bfloat16": (torch.bfloat16, 2.0**-8),
    "float16": (torch.float16, 2.0**-10),
}
ROTATIONS = pytest.mark.parametrize(
    "name",
    [
        pytest.param("rotate_half_split", marks=pytest.mark.part("rotate_half_split")),
        pytest.param("rotate_interleaved", marks=pytest.mark.part("rotate_interleaved")),
    ],
)


class TestValues:
    @pytest.mark.part("frequencies")
    @pytest.mark.parametrize("case", FREQUENCIES)
    def test_frequencies(self, submission, case):
        """frequencies fall geometrically, and both scalings change them as stated"""
        got = submission.frequencies(**FREQUENCIES[case], dtype=F64)
        assert_close(got, theta_of(**FREQUENCIES[case]), what="frequencies", dtype=F64)

    @pytest.mark.part("cos_sin")
    def test_tables(self, submission, draw):
        """tables hold cosine and sine of position times frequency"""
        positions, theta = draw.integers(0, 50, 7), draw.uniform(5, low=0.01, high=1.0, dtype=F64)
        angles = positions.double()[:, None] * theta
        got = submission.cos_sin(positions, theta)
        assert_close(got, (angles.cos(), angles.sin()), what="(cos, sin)", dtype=F64)

    @pytest.mark.part("cos_sin")
    def test_tables_of_rows(self, submission, draw):
        """positions may be a table of their own, and fractions"""
        positions = draw.uniform(3, 7, low=-20.0, high=20.0, dtype=F64)
        theta = draw.uniform(5, low=0.01, high=1.0, dtype=F64)
        angles = positions[..., None] * theta
        got = submission.cos_sin(positions, theta)
        assert_close(got, (angles.cos(), angles.sin()), what="(cos, sin)", dtype=F64)

    @pytest.mark.points(2)
    @ROTATIONS
    def test_rotation(self, submission, draw, name):
        """every pair is rotated and stays where it was"""
        x = draw.normal(2, 3, 7, 10, dtype=F64)
        cos, sin, angles = tables(draw, 7, 5)
        got = getattr(submission, name)(x, cos, sin)
        assert_close(got, turn(x, angles, name == "rotate_interleaved"), what="rotated features", dtype=F64)

    @ROTATIONS
    def test_norms(self, submission, draw, name):
        """rotation changes no pair's length, and so no vector's"""
        x = draw.normal(3, 7, 10, dtype=F64)
        cos, sin, _ = tables(draw, 7, 5)
        got = getattr(submission, name)(x, cos, sin)
        assert_close(got.norm(dim=-1), x.norm(dim=-1), what="length of each rotated vector")

    @ROTATIONS
    def test_scores_are_relative(self, submission, draw, name):
        """scores stay the same when all positions move on by as much"""
        q, k = draw.normal(6, 10, dtype=F64), draw.normal(6, 10, dtype=F64)
        theta = theta_of(10)
        scores = []
        for start in (0, 17):
            angles = (torch.arange(6) + start).double()[:, None] * theta
            rotate = getattr(submission, name)
            scores.append(rotate(q, angles.cos(), angles.sin()) @ rotate(k, angles.cos(), angles.sin()).T)
        assert_close(scores[1], scores[0], what="scores at positions 17 to 22, against those at 0 to 5")

    @pytest.mark.part("layout_permutation")
    @pytest.mark.parametrize(("dim", "rotary"), [(6, None), (10, None), (11, 6), (12, 10)])
    def test_permutation(self, submission, dim, rotary):
        """the permutation leads from the interleaved to the half-split layout"""
        got = submission.layout_permutation(dim) if rotary is None else submission.layout_permutation(dim, rotary)
        assert_equal(got, torch.tensor(permutation(dim, rotary or dim)), what="permutation")

    @pytest.mark.part("to_half_split")
    @pytest.mark.parametrize("rotary", [None, 6])
    @pytest.mark.parametrize("columns", [(), (5,)], ids=["bias", "weight"])
    def test_converted_projection(self, submission, draw, rotary, columns):
        """a projection's rows are permuted within each head"""
        heads, dim = 3, 10
        weight = draw.normal(heads * dim, *columns, dtype=F64)
        rows = [head * dim + row for head in range(heads) for row in permutation(dim, rotary or dim)]
        got = submission.to_half_split(weight, heads, rotary)
        assert_close(got, weight[rows], what="converted projection", dtype=F64)

    @pytest.mark.part("to_half_split")
    def test_converted_scores(self, submission, draw):
        """converted queries and keys give, half-split, the scores that they gave interleaved"""
        heads, dim, width = 2, 6, 5
        x = draw.normal(7, width, dtype=F64)
        angles = torch.arange(7)[:, None] * theta_of(dim)
        weights = [draw.normal(heads * dim, width, dtype=F64) for _ in range(2)]
        converted = [submission.to_half_split(weight, heads) for weight in weights]
        scores = []
        for pair, interleaved in ((weights, True), (converted, False)):
            q, k = ((x @ weight.T).unflatten(-1, (heads, dim)).transpose(0, 1) for weight in pair)
            scores.append(turn(q, angles, interleaved) @ turn(k, angles, interleaved).mT)
        assert_close(scores[1], scores[0], what="scores of each head")

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", SETTINGS)
    def test_embedding(self, submission, draw, case):
        """a RotaryEmbedding rotates position 0, 1, ... by its settings"""
        x = draw.normal(2, 3, 7, SETTINGS[case]["dim"], dtype=F64)
        got = submission.run(rotated, SETTINGS[case], x)
        assert_close(got, embed(SETTINGS[case], x, torch.arange(7)), what="rotated features", dtype=F64)

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.parametrize("case", SETTINGS)
    def test_offset(self, submission, draw, case):
        """with an offset, the first token stands there"""
        x = draw.normal(2, 3, 7, SETTINGS[case]["dim"], dtype=F64)
        got = submission.run(rotated, SETTINGS[case], x, offset=19)
        assert_close(got, embed(SETTINGS[case], x, torch.arange(19, 26)), what="features rotated at offset 19")

    @pytest.mark.part("RotaryEmbedding")
    def test_explicit_positions(self, submission, draw):
        """explicit positions are taken as they are, in any order and with gaps"""
        x, positions = draw.normal(2, 3, 7, 10, dtype=F64), draw.permutation(40)[:7]
        got = submission.run(rotated, SETTINGS["half-split"], x, positions=positions)
        assert_close(got, embed(SETTINGS["half-split"], x, positions), what="features rotated at these positions")

    @pytest.mark.part("cos_sin_2d")
    @pytest.mark.points(2)
    @pytest.mark.parametrize(("height", "width"), [(3, 5), (4, 2)])
    def test_image(self, submission, height, width):
        """patches turn with their row in the first half of the pairs, with their column in the second"""
        theta = theta_of(6)
        got = submission.cos_sin_2d(height, width, theta)
        assert_close(got, image(height, width, theta), what="(cos, sin)", dtype=F64)


class TestStability:
    @pytest.mark.part("frequencies")
    def test_frequencies_by_default(self, submission):
        """frequencies are float32 unless asked otherwise"""
        got = submission.frequencies(18)
        assert_close(got, theta_of(18), what="frequencies", dtype=torch.float32)

    @pytest.mark.part("cos_sin")
    @pytest.mark.points(2)
    @pytest.mark.parametrize(
        ("dtype", "step"), [(torch.int64, 1), (torch.float64, 1), (torch.float16, 8), (torch.bfloat16, 64)], ids=str
    )
    def test_far_positions(self, submission, draw, dtype, step):
        """angles of positions in the thousands are float32, whatever the type of the positions"""
        positions = step * draw.integers(4097 // step, 8192 // step, 3, 7)  # each exact in its type
        theta = theta_of(64).float()
        angles = positions.double()[..., None] * theta.double()
        got = submission.cos_sin(positions.to(dtype), theta)
        reason = "a float32 angle of 8192 is off by up to 5e-4"
        expected = (angles.cos(), angles.sin())
        assert_close(got, expected, what="(cos, sin)", dtype=torch.float32, rtol=1e-6, atol=2e-3, reason=reason)

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("half", HALVES)
    def test_far_tokens(self, submission, draw, half):
        """tokens in the thousands are rotated right in half precision"""
        dtype, rtol = HALVES[half]
        settings = dict(dim=16, max_positions=6007)
        x = draw.normal(2, 3, 7, 16).to(dtype)
        got = submission.run(rotated, settings, x, offset=5999)
        expected = embed(settings, x, torch.arange(5999, 6006))
        reason = f"float32 angles of 6000 are off by up to 1e-3, and one rounding to {half} is allowed"
        assert_close(got, expected, what="rotated features", dtype=dtype, rtol=rtol, atol=1e-2, reason=reason)


class TestEdgeCases:
    @pytest.mark.part("frequencies")
    def test_one_pair(self, submission):
        """two features are one pair, of frequency 1"""
        assert_close(submission.frequencies(2), torch.ones(1), what="frequencies of 2 features")

    @pytest.mark.part("frequencies")
    @pytest.mark.parametrize("dim", [5, 9])
    def test_odd_dimension(self, submission, dim):
        """an odd number of features is a ValueError"""
        with submission.expect_raises(ValueError):
            submission.frequencies(dim)

    @pytest.mark.points(2)
    @ROTATIONS
    def test_partial_rotation(self, submission, draw, name):
        """tables for fewer features rotate the first ones and pass the others through"""
        x = draw.normal(2, 3, 7, 11, dtype=F64)
        cos, sin, angles = tables(draw, 7, 3)
        got = getattr(submission, name)(x, cos, sin)
        assert_close(got, turn(x, angles, name == "rotate_interleaved"), what="rotated features", dtype=F64)

    @ROTATIONS
    def test_tables_of_each_row(self, submission, draw, name):
        """tables may differ from row to row"""
        x = draw.normal(2, 3, 7, 10, dtype=F64)
        cos, sin, angles = tables(draw, 2, 1, 7, 4)
        got = getattr(submission, name)(x, cos, sin)
        assert_close(got, turn(x, angles, name == "rotate_interleaved"), what="rotated features", dtype=F64)

    @pytest.mark.part("token_positions")
    def test_left_padding(self, submission):
        """each row counts from its first real token"""
        mask = torch.arange(6) >= torch.tensor([2, 0, 5, 3, 6])[:, None]
        assert_equal(submission.token_positions(mask), counted(mask), what="positions")

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", ["half-split", "partial-interleaved"])
    def test_positions_of_each_row(self, submission, draw, case):
        """rows of a batch may have positions of their own, the same for all heads"""
        x = draw.normal(2, 3, 7, SETTINGS[case]["dim"], dtype=F64)
        positions = torch.tensor([[0, 0, 0, 0, 1, 2, 3], [9, 10, 11, 12, 13, 14, 15]])
        got = submission.run(rotated, SETTINGS[case], x, positions=positions)
        assert_close(got, embed(SETTINGS[case], x, positions), what="features rotated at each row's positions")

    @pytest.mark.part("RotaryEmbedding")
    def test_as_many_rows_as_heads(self, submission, draw):
        """positions belong to rows, not to heads, when there are as many of both"""
        x, positions = draw.normal(3, 3, 3, 10, dtype=F64), draw.permutation(40)[:9].reshape(3, 3)
        got = submission.run(rotated, SETTINGS["half-split"], x, positions=positions)
        assert_close(got, embed(SETTINGS["half-split"], x, positions), what="features rotated at each row's positions")

    @pytest.mark.part("RotaryEmbedding")
    def test_decoding(self, submission, draw):
        """a prompt and single steps after it give what one long call gives"""
        x = draw.normal(2, 3, 9, 10, dtype=F64)
        calls = [(x[:, :, :5], 0), *((x[:, :, t : t + 1], t) for t in range(5, 9))]
        got = submission.run(rotated_often, SETTINGS["interleaved"], calls)
        assert_equal([tuple(step.shape) for step in got], [tuple(step.shape) for step, _ in calls], what="shapes")
        expected = embed(SETTINGS["interleaved"], x, torch.arange(9))
        assert_close(torch.cat(got, dim=2), expected, what="prompt and steps together")

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.parametrize("shape", [(7, 10), (3, 7, 10), (2, 3, 2, 7, 10)], ids=str)
    def test_other_axes(self, submission, draw, shape):
        """without positions of rows, any axes may stand before (T, D)"""
        x = draw.normal(*shape, dtype=F64)
        got = submission.run(rotated, SETTINGS["half-split"], x, offset=2)
        assert_close(got, embed(SETTINGS["half-split"], x, torch.arange(2, 9)), what="rotated features")

    @pytest.mark.part("RotaryEmbedding")
    def test_full_tables(self, submission, draw):
        """the last token may stand at the last position of the tables"""
        x = draw.normal(2, 3, 7, 10, dtype=F64)
        got = submission.run(rotated, SETTINGS["half-split"], x, offset=33)
        assert_close(got, embed(SETTINGS["half-split"], x, torch.arange(33, 40)), what="features rotated at offset 33")

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.parametrize(("tokens", "offset"), [(2, 39), (7, 34), (1, 40)])
    def test_beyond_the_tables(self, submission, draw, tokens, offset):
        """positions beyond the tables are a ValueError, not rows that broadcast"""
        x = draw.normal(3, tokens, 10, dtype=F64)
        with submission.expect_raises(ValueError):
            submission.run(rotated, SETTINGS["half-split"], x, offset=offset)

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.parametrize("offset", [-1, -9])
    def test_before_the_tables(self, submission, draw, offset):
        """a negative offset is a ValueError, not a place counted from the end"""
        x = draw.normal(3, 7, 10, dtype=F64)
        with submission.expect_raises(ValueError):
            submission.run(rotated, SETTINGS["half-split"], x, offset=offset)


def rotations(draw):
    """All features and some, with tables for all rows and for each."""
    several = []
    for shape, rotary in (((2, 3, 7, 16), (7, 8)), ((2, 3, 9, 11), (2, 1, 9, 4))):
        cos, sin, _ = tables(draw, *rotary)
        several.append(given(draw.normal(*shape, dtype=F64), cos, sin))
    return several


def turned(interleaved):
    return lambda x, cos, sin: turn(x, torch.atan2(sin.double(), cos.double()), interleaved)


def tokens(kind):
    """At an offset, at positions whatever the offset, and fewer from the start."""

    def drawn(draw):
        dim = SETTINGS[kind]["dim"]
        x, few = draw.normal(2, 3, 7, dim, dtype=F64), draw.normal(3, 2, dim, dtype=F64)
        places = draw.integers(0, 40, 2, 7)
        settings = (SETTINGS[kind], torch.zeros(1))
        return on(settings, given(x, offset=19), given(x, offset=3, positions=places), given(few), given(few, 11))

    return drawn


def embedded(settings, _, x, offset=0, positions=None):
    return embed(settings, x, torch.arange(x.shape[-2]) + offset if positions is None else positions)


TestProperties = holds(
    case(
        "cos_sin",
        lambda draw: [given(50 * draw.uniform(*s, dtype=F64), draw.uniform(5, dtype=F64)) for s in ((7,), (3, 4))],
        *EVERY_FUNCTION,
        expect=lambda positions, theta: tuple(f(positions[..., None] * theta) for f in (torch.cos, torch.sin)),
    ),
    case(
        "rotate_half_split",
        rotations,
        *EVERY_FUNCTION,
        is_differentiable(0),
        rounds_once(kept=(1, 2)),
        expect=turned(False),
    ),
    case(
        "rotate_interleaved",
        rotations,
        *EVERY_FUNCTION,
        is_differentiable(0),
        rounds_once(kept=(1, 2)),
        expect=turned(True),
    ),
    case(
        "to_half_split",
        lambda draw: [given(draw.normal(30, 5, dtype=F64), 3, 6), given(draw.normal(8, dtype=F64), 2)],
        *EVERY_FUNCTION,
        expect=lambda weight, heads, rotary=None: weight[
            [d * len(weight) // heads + i for d in range(heads) for i in permutation(len(weight) // heads, rotary or 4)]
        ],
    ),
    case(
        "token_positions",
        lambda draw: [given(torch.arange(n) >= draw.integers(0, n, 5)[:, None]) for n in (6, 9)],
        any_layout,
        no_state_between_calls,
        expect=counted,
    ),
    *(
        case(
            "RotaryEmbedding",
            tokens(kind),
            *EVERY_FUNCTION,
            is_differentiable,
            rounds_once,
            made=embedding,
            expect=embedded,
            name=kind,
        )
        for kind in ("half-split", "partial-interleaved")
    ),
    case(
        "cos_sin_2d",
        lambda draw: [given(3, 5, draw.uniform(6, dtype=F64)), given(4, 2, draw.uniform(3, dtype=F64))],
        *EVERY_FUNCTION,
        expect=image,
    ),
)


class TestPerformance:
    @ROTATIONS
    def test_rotation_cost(self, submission, draw, name):
        """rotation costs as many operators at any size, and memory in proportion to T and D"""

        def cost(length, dim):
            x = draw.normal(2, 4, length, dim)
            cos, sin, _ = tables(draw, length, dim // 2, dtype=torch.float32)
            return submission.measure(name, x, cos, sin).cost

        base, longer, wider = cost(32, 24), cost(64, 24), cost(32, 48)
        for large, when in ((longer, "T doubles"), (wider, "D doubles")):
            assert_growth(base, large, "operators", at_most=1.0, when=when)
            assert_growth(base, large, "peak_bytes", at_most=2.2, when=when)
            assert_growth(base, large, "largest_bytes", at_most=2.2, when=when)
        assert_cost(base, "operators", at_most=40, why="a rotation is a handful of tensor operations")

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("how", ["offset", "positions"])
    def test_no_trigonometry(self, submission, draw, how):
        """a step of decoding reads the tables and calls no cosine or sine"""
        settings = dict(dim=16, max_positions=128)
        prompt, step = draw.normal(2, 3, 7, 16), draw.normal(2, 3, 1, 16)
        if how == "offset":
            cost = submission.measure(decode_step, settings, prompt, step, 99).cost
        else:
            cost = submission.measure(placed_step, settings, prompt, step, torch.tensor([[99], [42]])).cost
        count = trigonometry(cost)
        assert_that(count == 0, "a step of decoding calls no trigonometric operator", got=f"{count} of them")

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.points(2)
    def test_step_cost(self, submission, draw):
        """a step of decoding costs the same after 100 tokens as after 1600, whatever the size of the tables"""
        costs = []
        for offset in (100, 1600):
            prompt, step = draw.normal(2, 3, 7, 16), draw.normal(2, 3, 1, 16)
            settings = dict(dim=16, max_positions=offset + 28)
            costs.append(submission.measure(decode_step, settings, prompt, step, offset).cost)
        when = "16 times as many tokens went before"
        for metric in ("operators", "peak_bytes", "largest_bytes"):
            assert_growth(costs[0], costs[1], metric, at_most=1.1, when=when)
        assert_cost(costs[1], "operators", at_most=60, why="a step is a handful of tensor operations")
