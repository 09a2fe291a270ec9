"""Hidden suite for attention/rope: complex multiplication in float64 beside the properties that a rotation has."""

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe
from grader.probes import vjp

EXERCISE = Exercise(
    title="Rotary position embedding",
    level="core",
    minutes=45,
    needs=("torch",),
    forbid=("rotary_embedding_torch", "transformers"),
    hints=(
        "Everything is one 2 x 2 rotation, done for many pairs at once: name the two members of the pairs, rotate, "
        "and put both back where they came from. The layouts differ only in how you slice and how you put together.",
        "Make the tables half as wide as the rotated features, one cosine and one sine a pair. Then the size of the "
        "tables tells the rotation how many features it rotates, and the rest is passed through.",
        "Type promotion does the precision for you: a float32 table times a bfloat16 input is float32, so convert "
        "once, at the end. But make sure that positions are in the type of the frequencies before they are "
        "multiplied.",
        "Decoding is indexing: a slice of the tables from the offset on, or rows of the tables picked by explicit "
        "positions. Rows of positions for each sequence need an axis for the heads before they broadcast.",
        "For images the two coordinates of a patch are its number divided by the width and the remainder; each goes "
        "through the same frequencies, and the two results lie side by side.",
    ),
    follow_ups=(
        (
            "Prove that a score between positions m and n depends on m - n only.",
            "Rotations of one plane commute and add up: R(a)^T = R(-a) and R(a) R(b) = R(a + b). So (R(m t) q)^T "
            "(R(n t) k) = q^T R(-m t) R(n t) k = q^T R((n - m) t) k for each pair with its own t, and a score is the "
            "sum over the pairs. As complex numbers: Re(q e^{imt} conj(k e^{int})) = Re(q conj(k) e^{i(m-n)t}).",
        ),
        (
            "Why does the layout matter for a checkpoint, but not for training from scratch?",
            "The layouts differ by a permutation of a head's features. Scores are unchanged when queries and keys "
            "are permuted alike, and the permutation can be absorbed into the rows of the two projections, so "
            "training finds either. A trained projection has its layout built in: read with the other one, the wrong "
            "features form pairs, and only the token at position 0 comes out right. Permuting the rows once, head by "
            "head, converts it.",
        ),
        (
            "Linear, NTK-aware and YaRN: what does each do to the frequencies, and what does it cost?",
            "Linear scaling divides all by s: no position is outside the trained range, but neighbours are now s "
            "times closer in angle, so the fastest pairs blur and fine-tuning is needed. NTK-aware scaling raises "
            "the base, which leaves the fastest pair alone and slows the slowest by s, with the rest in between: it "
            "works without training, though some middle pairs are pushed slightly out of range. YaRN decides by the "
            "number of turns that a pair makes in the trained context: many turns are left alone, less than one is "
            "divided by s, with a ramp between, and it also tempers the softmax.",
        ),
        (
            "Keys in the cache: rotated or not?",
            "Rotated, usually: each key is rotated once, at its own position, and a step rotates one query and one "
            "key. Storing them unrotated costs a rotation of all T keys a step, and pays only when positions change "
            "later, as when tokens are dropped from the cache or the scaling depends on the length.",
        ),
    ),
)

# --- probes ---


@probe
def gradient(module, name, x, cos, sin, upstream):
    """What reaches `x` when `upstream` arrives at the output."""
    x = x.clone().requires_grad_()
    return vjp([getattr(module, name)(x, cos, sin)], [x], [upstream])[0]


@probe
def rounded(module, name, x, cos, sin):
    """The type of the result, and its values in float64, where roundings show."""
    y = getattr(module, name)(x, cos, sin)
    return y.dtype, y.double()


@probe
def rotated(module, settings, x, **call):
    """One call of a new RotaryEmbedding."""
    with x.device:  # tables live where they are made
        rope = module.RotaryEmbedding(**settings)
    return rope(x, **call)


@probe
def rotated_in_both_layouts(module, settings, x):
    """The same tokens in the half-split and in the interleaved layout, as `rounded` returns them."""
    with x.device:
        ropes = [module.RotaryEmbedding(**settings, interleaved=interleaved) for interleaved in (False, True)]
    results = [rope(x) for rope in ropes]
    return [y.dtype for y in results], [y.double() for y in results]


@probe
def rotated_often(module, settings, calls):
    """Several calls, `(x, offset)`, of the same RotaryEmbedding, in order."""
    with calls[0][0].device:
        rope = module.RotaryEmbedding(**settings)
    return [rope(x, offset=offset) for x, offset in calls]


@probe
def rotated_gradient(module, settings, x, upstream, offset):
    """As `gradient`, through a RotaryEmbedding."""
    with x.device:
        rope = module.RotaryEmbedding(**settings)
    x = x.clone().requires_grad_()
    return vjp([rope(x, offset=offset)], [x], [upstream])[0]


@probe
def decode_step(module, meter, settings, prompt, step, offset):
    """The cost of one step of decoding; a prompt and a step have gone before."""
    with step.device:
        rope = module.RotaryEmbedding(**settings)
    rope(prompt)
    rope(step, offset=offset - 1)
    with meter:
        return rope(step, offset=offset)


@probe
def placed_step(module, meter, settings, prompt, step, positions):
    """As `decode_step`, with explicit positions."""
    with step.device:
        rope = module.RotaryEmbedding(**settings)
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
        places = torch.tensor([(row, column) for row in range(height) for column in range(width)])
        angles = torch.cat([places[:, :1] * theta, places[:, 1:] * theta], dim=-1)
        got = submission.cos_sin_2d(height, width, theta)
        assert_close(got, (angles.cos(), angles.sin()), what="(cos, sin)", dtype=F64)


class TestGradients:
    @ROTATIONS
    def test_rotation_gradient(self, submission, draw, name):
        """the gradient is the upstream one, rotated back; features that pass through pass it through"""
        x, upstream = draw.normal(2, 3, 7, 11, dtype=F64), draw.normal(2, 3, 7, 11, dtype=F64)
        cos, sin, angles = tables(draw, 7, 4)
        got = submission.run(gradient, name, x, cos, sin, upstream)
        assert_close(got, turn(upstream, -angles, name == "rotate_interleaved"), what="gradient of x")

    @pytest.mark.part("RotaryEmbedding")
    def test_embedding_gradient(self, submission, draw):
        """gradients flow through a RotaryEmbedding"""
        x, upstream = draw.normal(2, 3, 7, 10, dtype=F64), draw.normal(2, 3, 7, 10, dtype=F64)
        got = submission.run(rotated_gradient, SETTINGS["half-split"], x, upstream, 4)
        expected = embed(SETTINGS["half-split"], upstream, -torch.arange(4, 11))
        assert_close(got, expected, what="gradient of x")


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

    @pytest.mark.parametrize("half", HALVES)
    @ROTATIONS
    def test_half_precision(self, submission, draw, name, half):
        """an input in half precision is rotated in float32 and rounded once"""
        dtype, rtol = HALVES[half]
        x = draw.normal(2, 3, 7, 16).to(dtype)
        cos, sin, _ = tables(draw, 7, 8, dtype=torch.float32)
        angles = torch.atan2(sin.double(), cos.double())
        got, values = submission.run(rounded, name, x, cos, sin)
        assert_equal(got, dtype, what="type of the result")
        expected = turn(x, angles, name == "rotate_interleaved")
        reason = f"one rounding to {half} is allowed, at the end"
        assert_close(values, expected, what="rotated features", rtol=rtol, atol=1e-5, reason=reason)

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

    @pytest.mark.part("RotaryEmbedding")
    @pytest.mark.parametrize("half", HALVES)
    def test_near_tokens(self, submission, draw, half):
        """the first tokens are rotated in float32 and rounded once"""
        dtype, rtol = HALVES[half]
        settings = dict(dim=16, max_positions=9)
        x = draw.normal(2, 3, 7, 16).to(dtype)
        got, values = submission.run(rotated_in_both_layouts, settings, x)
        assert_equal(got, [dtype, dtype], what="types of [half-split, interleaved]")
        expected = [embed({**settings, "interleaved": layout}, x, torch.arange(7)) for layout in (False, True)]
        reason = f"one rounding to {half} is allowed, at the end"
        assert_close(values, expected, what="[half-split, interleaved]", rtol=rtol, atol=2e-5, reason=reason)


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

    @pytest.mark.parametrize("kind", ["heads-after-time", "features-first", "expanded"])
    @ROTATIONS
    def test_memory_order(self, submission, draw, name, kind):
        """inputs may lie in memory in any order, or be expanded"""
        if kind == "heads-after-time":
            x = draw.normal(2, 7, 3, 9, dtype=F64).transpose(1, 2)
        elif kind == "features-first":
            x = draw.normal(2, 3, 9, 7, dtype=F64).transpose(2, 3)
        else:
            x = draw.normal(2, 1, 7, 9, dtype=F64).expand(2, 3, 7, 9)
        cos, sin, angles = tables(draw, 7, 4)
        got = getattr(submission, name)(x, cos, sin)
        assert_close(got, turn(x, angles, name == "rotate_interleaved"), what="rotated features")

    @pytest.mark.part("token_positions")
    def test_left_padding(self, submission):
        """each row counts from its first real token"""
        padding = torch.tensor([2, 0, 5, 3, 6])
        mask = torch.arange(6) >= padding[:, None]
        expected = [[max(0, t - start) for t in range(6)] for start in padding.tolist()]
        assert_equal(submission.token_positions(mask), torch.tensor(expected), what="positions")

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
    @pytest.mark.parametrize("offsets", [(0, 5), (11, 3)], ids=str)
    def test_offsets_in_turn(self, submission, draw, offsets):
        """one RotaryEmbedding serves one offset after another"""
        calls = [(draw.normal(2, 3, 7, 10, dtype=F64), offset) for offset in offsets]
        got = submission.run(rotated_often, SETTINGS["half-split"], calls)
        expected = [embed(SETTINGS["half-split"], x, torch.arange(7) + offset) for x, offset in calls]
        assert_close(got, expected, what="features rotated at each offset")

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


MISTAKES = [
    # frequencies
    Mistake(
        "exponent-not-doubled",
        "the exponent of pair i is i / D; it is 2i / D, so that the pairs span the whole range from 1 to nearly 1 / b",
        {"torch.arange(0, dim, 2, dtype=dtype) / dim": "torch.arange(0, dim // 2, dtype=dtype) / dim"},
    ),
    Mistake(
        "exponent-reaches-one",
        "the exponent is spread so that the last pair has frequency 1 / b; it is 2i / D, and stops short of that",
        {"torch.arange(0, dim, 2, dtype=dtype) / dim": "torch.linspace(0, 1, dim // 2, dtype=dtype)"},
    ),
    Mistake(
        "frequencies-inverted",
        "the base is raised to a positive power: these are wavelengths; frequencies have the negative exponent",
        {"return base**-exponent / linear": "return base**exponent / linear"},
    ),
    Mistake(
        "base-ignored",
        "`base` is accepted but the frequencies are those of 10000",
        {"exponent = torch": "base = base / base * 10000.0\n    exponent = torch"},
    ),
    Mistake(
        "linear-multiplied",
        "linear scaling multiplies the frequencies; positions are divided by the factor, and so are frequencies",
        {"return base**-exponent / linear": "return base**-exponent * linear"},
    ),
    Mistake(
        "linear-ignored",
        "`linear` is accepted but changes nothing; it divides all frequencies",
        {"return base**-exponent / linear": "return base**-exponent"},
    ),
    Mistake(
        "linear-on-base",
        "linear scaling multiplies the base, as NTK-aware scaling does; it divides every frequency alike",
        {"return base**-exponent / linear": "return (base * linear) ** -exponent"},
    ),
    Mistake(
        "ntk-without-exponent",
        "NTK-aware scaling multiplies the base by the factor itself; it is the factor to the power D / (D - 2)",
        {"base = base * ntk ** (dim / (dim - 2))": "base = base * ntk"},
    ),
    Mistake(
        "ntk-exponent-inverted",
        "NTK-aware scaling has the exponent (D - 2) / D; it is D / (D - 2), which slows the slowest pair by the factor",
        {"base = base * ntk ** (dim / (dim - 2))": "base = base * ntk ** ((dim - 2) / dim)"},
    ),
    Mistake(
        "ntk-as-linear",
        "NTK-aware scaling divides every frequency; that is linear scaling, while NTK-aware scaling raises the base",
        {"base = base * ntk ** (dim / (dim - 2))": "linear = linear * ntk"},
    ),
    Mistake(
        "ntk-ignored",
        "`ntk` is accepted but changes nothing; it raises the base",
        {"base = base * ntk ** (dim / (dim - 2))": "pass"},
    ),
    Mistake(
        "ntk-divides-by-zero",
        "two features divide by zero in the exponent of NTK-aware scaling, which nobody asked for",
        {"    if ntk != 1:\n        base = base": "    base = base"},
    ),
    Mistake(
        "frequencies-through-float32",
        "frequencies are computed in float32 and then converted; compute them in the type that is asked for",
        {
            "dtype=dtype) / dim": "dtype=torch.float32) / dim",
            "return base**-exponent / linear": "return (base**-exponent / linear).to(dtype)",
        },
    ),
    Mistake(
        "frequencies-in-float64",
        "frequencies are float64 even by default; their type is the one that is asked for, float32 by default",
        {"dtype=dtype) / dim": "dtype=torch.float64) / dim"},
    ),
    Mistake(
        "odd-accepted",
        "an odd number of features is accepted: one of them has no partner, which is a ValueError",
        {'    if dim % 2:\n        raise ValueError(f"{dim} features cannot form pairs")\n': ""},
    ),
    # tables
    Mistake(
        "positions-in-bfloat16",
        "positions pass through bfloat16, where 257 is 256; make them float32 or better before they are multiplied",
        {"positions.to(theta.dtype)[..., None]": "positions.to(torch.bfloat16).to(theta.dtype)[..., None]"},
    ),
    Mistake(
        "angles-in-half",
        "angles are rounded to float16 before the cosine; they need float32 or better, above all far from the start",
        {
            "theta  # (T, D/2)\n    return angles.cos()": (
                "theta\n    angles = angles.half().to(theta.dtype)\n    return angles.cos()"
            ),
        },
    ),
    Mistake(
        "angles-in-type-of-positions",
        "frequencies are converted to the type of the positions; convert positions to the type of the frequencies",
        {
            "positions.to(theta.dtype)[..., None] * theta": (
                "positions[..., None] * (theta.to(positions.dtype) if positions.is_floating_point() else theta)"
            )
        },
    ),
    Mistake(
        "tables-in-float32",
        "tables are float32 whatever the type of the frequencies; they have the type of the frequencies",
        {"positions.to(theta.dtype)[..., None] * theta": "positions.float()[..., None] * theta.float()"},
    ),
    Mistake(
        "cos-sin-swapped",
        "the tables come back as (sine, cosine); the cosine comes first",
        {"return angles.cos(), angles.sin()": "return angles.sin(), angles.cos()"},
    ),
    Mistake(
        "tables-doubled",
        "tables repeat each angle for both members of a pair; they hold one cosine and one sine a pair",
        {
            "theta  # (T, D/2)\n    return angles.cos()": (
                "theta\n    angles = torch.cat((angles, angles), -1)\n    return angles.cos()"
            ),
        },
    ),
    # half-split
    Mistake(
        "half-split-is-interleaved",
        "the pairs are neighbours, (2i, 2i + 1): that is the interleaved layout; half-split pairs are i and i + R/2",
        {"    half = cos.shape[-1]\n": "    return rotate_interleaved(x, cos, sin)\n    half = cos.shape[-1]\n"},
    ),
    Mistake(
        "half-split-takes-neighbours",
        "the pairs are neighbours and come out in halves; take the halves of the input, as the output has them",
        {
            "x1, x2, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]": (
                "x1, x2, rest = x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2], x[..., 2 * half :]"
            )
        },
    ),
    Mistake(
        "half-split-mixes-layouts",
        "pairs are halves, but the angles are laid out for neighbours, so both members of a pair turn by different "
        "angles",
        {
            "    y1 = x1 * cos - x2 * sin": (
                "    cos, cos2 = cos.repeat_interleave(2, -1).chunk(2, -1)\n"
                "    sin, sin2 = sin.repeat_interleave(2, -1).chunk(2, -1)\n"
                "    y1 = x1 * cos - x2 * sin"
            ),
            "y2 = x1 * sin + x2 * cos": "y2 = x1 * sin2 + x2 * cos2",
        },
    ),
    Mistake(
        "half-split-backwards",
        "half-split pairs turn backwards; the first member is x1 cos - x2 sin, the second x1 sin + x2 cos",
        {
            "y1 = x1 * cos - x2 * sin": "y1 = x1 * cos + x2 * sin",
            "y2 = x1 * sin + x2 * cos": "y2 = x2 * cos - x1 * sin",
        },
    ),
    Mistake(
        "half-split-without-minus",
        "the minus of the rotation is missing in the half-split layout: the result is no rotation and changes lengths",
        {"y1 = x1 * cos - x2 * sin": "y1 = x1 * cos + x2 * sin"},
    ),
    Mistake(
        "half-split-overwrites-early",
        "the second half is computed from the first one after that was rotated; both need the values from before",
        {"y2 = x1 * sin + x2 * cos": "y2 = y1 * sin + x2 * cos"},
    ),
    Mistake(
        "half-split-of-whole-head",
        "with partial rotary, pairs are i and i + D/2; they are i and i + R/2, both among the first R features",
        {
            "x1, x2, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]": (
                "far = x.shape[-1] // 2\n"
                "    x1, x2 = x[..., :half], x[..., far : far + half]\n"
                "    gap, rest = x[..., half:far], x[..., far + half :]"
            ),
            "torch.cat((y1, y2, rest), dim=-1)": "torch.cat((y1, gap, y2, rest), dim=-1)",
        },
    ),
    Mistake(
        "half-split-rotates-the-end",
        "with partial rotary, the last features are rotated; the first R are, and the others pass through",
        {
            "x1, x2, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]": (
                "start = x.shape[-1] - 2 * half\n"
                "    rest, x1, x2 = x[..., :start], x[..., start : start + half], x[..., start + half :]"
            ),
            "torch.cat((y1, y2, rest), dim=-1)": "torch.cat((rest, y1, y2), dim=-1)",
        },
    ),
    Mistake(
        "half-split-drops-the-rest",
        "with partial rotary, the features that are not rotated are lost; they pass through unchanged",
        {"torch.cat((y1, y2, rest), dim=-1)": "torch.cat((y1, y2), dim=-1)"},
    ),
    Mistake(
        "half-split-in-half-precision",
        "half-split rotation converts the tables to the type of the input; rotate in float32 and round once, at the "
        "end",
        {"    half = cos.shape[-1]\n": "    half = cos.shape[-1]\n    cos, sin = cos.to(x.dtype), sin.to(x.dtype)\n"},
    ),
    Mistake(
        "half-split-keeps-float32",
        "half-split rotation returns the type of the tables; the result has the type of the input",
        {"torch.cat((y1, y2, rest), dim=-1).to(x.dtype)": "torch.cat((y1, y2, rest), dim=-1)"},
    ),
    Mistake(
        "half-split-changes-input",
        "half-split rotation writes into its input: `contiguous` copies only what is not contiguous yet",
        {
            "return torch.cat((y1, y2, rest), dim=-1).to(x.dtype)": (
                "y = x.contiguous()\n    y[..., : 2 * half] = torch.cat((y1, y2), dim=-1)\n    return y"
            )
        },
    ),
    Mistake(
        "half-split-detached",
        "half-split rotation detaches its sine terms: the values are right, but the gradient lacks a part",
        {
            "y1 = x1 * cos - x2 * sin": "y1 = x1 * cos - x2.detach() * sin",
            "y2 = x1 * sin + x2 * cos": "y2 = x1.detach() * sin + x2 * cos",
        },
    ),
    Mistake(
        "half-split-loops-over-time",
        "half-split rotation loops over positions in Python; one operation rotates them all",
        {
            "    y1 = x1 * cos - x2 * sin": (
                "    cos, sin = cos.expand_as(x1), sin.expand_as(x1)\n"
                "    x1 = torch.stack([x1[..., t, :] for t in range(x1.shape[-2])], dim=-2)\n"
                "    y1 = x1 * cos - x2 * sin"
            )
        },
    ),
    # interleaved
    Mistake(
        "interleaved-is-half-split",
        "the pairs are halves, (i, i + R/2): that is the half-split layout; interleaved pairs are neighbours",
        {
            "    rotary = 2 * cos.shape[-1]\n": (
                "    return rotate_half_split(x, cos, sin)\n    rotary = 2 * cos.shape[-1]\n"
            ),
        },
    ),
    Mistake(
        "interleaved-comes-out-in-halves",
        "neighbours are rotated, but come out as halves: scores are the same, values are not; each pair stays in its "
        "place",
        {"torch.stack(turned, dim=-1).flatten(-2)": "torch.cat(turned, dim=-1)"},
    ),
    Mistake(
        "interleaved-mixes-layouts",
        "pairs are neighbours, but the angles are laid out in halves, so both members of a pair turn by different "
        "angles",
        {
            "    turned = (even * cos - odd * sin, even * sin + odd * cos)": (
                "    cos, sin = torch.cat((cos, cos), -1), torch.cat((sin, sin), -1)\n"
                "    cos, cos2, sin, sin2 = cos[..., ::2], cos[..., 1::2], sin[..., ::2], sin[..., 1::2]\n"
                "    turned = (even * cos - odd * sin, even * sin2 + odd * cos2)"
            )
        },
    ),
    Mistake(
        "interleaved-backwards",
        "interleaved pairs turn backwards; the first member is x1 cos - x2 sin, the second x1 sin + x2 cos",
        {"(even * cos - odd * sin, even * sin + odd * cos)": "(even * cos + odd * sin, odd * cos - even * sin)"},
    ),
    Mistake(
        "interleaved-without-minus",
        "the minus of the rotation is missing in the interleaved layout: the result is no rotation and changes lengths",
        {"(even * cos - odd * sin, even * sin + odd * cos)": "(even * cos + odd * sin, even * sin + odd * cos)"},
    ),
    Mistake(
        "interleaved-overwrites-early",
        "odd features are computed from even ones that are rotated already; both need the values from before",
        {
            "    turned = (even * cos - odd * sin, even * sin + odd * cos)": (
                "    even = even * cos - odd * sin\n    turned = (even, even * sin + odd * cos)"
            )
        },
    ),
    Mistake(
        "interleaved-drops-the-rest",
        "with partial rotary, the features after the rotated neighbours are lost; they pass through unchanged",
        {"torch.cat((pairs, rest), dim=-1)": "pairs"},
    ),
    Mistake(
        "interleaved-zeroes-the-rest",
        "with partial rotary, the features after the rotated neighbours become zero; they pass through unchanged",
        {"torch.cat((pairs, rest), dim=-1)": "torch.cat((pairs, 0 * rest), dim=-1)"},
    ),
    Mistake(
        "interleaved-in-half-precision",
        "interleaved rotation converts the tables to the type of the input; rotate in float32 and round once, at the "
        "end",
        {
            "    rotary = 2 * cos.shape[-1]\n": (
                "    rotary = 2 * cos.shape[-1]\n    cos, sin = cos.to(x.dtype), sin.to(x.dtype)\n"
            ),
        },
    ),
    Mistake(
        "interleaved-keeps-float32",
        "interleaved rotation returns the type of the tables; the result has the type of the input",
        {"torch.cat((pairs, rest), dim=-1).to(x.dtype)": "torch.cat((pairs, rest), dim=-1)"},
    ),
    Mistake(
        "interleaved-views-as-complex",
        "the input's memory is viewed as complex numbers, which odd strides and half precision do not allow; copy "
        "first",
        {
            "    turned = (even * cos - odd * sin, even * sin + odd * cos)": (
                "    z = torch.view_as_complex(x[..., :rotary].unflatten(-1, (-1, 2))) * torch.complex(cos, sin)\n"
                "    turned = (z.real, z.imag)"
            )
        },
    ),
    Mistake(
        "interleaved-detached",
        "interleaved rotation detaches its sine terms: the values are right, but the gradient lacks a part",
        {
            "(even * cos - odd * sin, even * sin + odd * cos)": (
                "(even * cos - odd.detach() * sin, even.detach() * sin + odd * cos)"
            ),
        },
    ),
    Mistake(
        "interleaved-by-full-matrix",
        "every position gets a D x D rotation matrix: work and memory grow with D squared; two products a feature "
        "will do",
        {
            "    turned = (even * cos - odd * sin, even * sin + odd * cos)": (
                "    matrix = torch.zeros(*cos.shape[:-1], rotary, rotary, dtype=cos.dtype, device=cos.device)\n"
                "    matrix[..., 0::2, 0::2], matrix[..., 0::2, 1::2] = torch.diag_embed(cos), torch.diag_embed(-sin)\n"
                "    matrix[..., 1::2, 0::2], matrix[..., 1::2, 1::2] = torch.diag_embed(sin), torch.diag_embed(cos)\n"
                "    turned = (matrix @ x[..., :rotary, None].to(cos.dtype)).squeeze(-1)\n"
                "    turned = turned.unflatten(-1, (-1, 2)).unbind(-1)"
            )
        },
    ),
    # permutation
    Mistake(
        "permutation-inverted",
        "the permutation leads from half-split to interleaved; asked for is the way from interleaved to half-split",
        {
            "return torch.cat((index[0:rotary:2], index[1:rotary:2], index[rotary:]))": (
                "return torch.cat((index[0:rotary:2], index[1:rotary:2], index[rotary:])).argsort()"
            )
        },
    ),
    Mistake(
        "permutation-of-whole-head",
        "with partial rotary, all features are permuted; those from `rotary_dim` on keep their places",
        {"rotary = dim if rotary_dim is None else rotary_dim": "rotary = dim"},
    ),
    Mistake(
        "projection-across-heads",
        "the rows of all heads are permuted as one; each head is permuted within itself",
        {
            "    per_head = weight.unflatten(0, (heads, -1))": (
                "    heads = 1\n    per_head = weight.unflatten(0, (heads, -1))"
            )
        },
    ),
    Mistake(
        "projection-heads-inside",
        "rows are read as if heads were the inner axis; a projection's rows go head by head",
        {
            "per_head = weight.unflatten(0, (heads, -1))  # (H, D, ...)": (
                "per_head = weight.unflatten(0, (-1, heads)).transpose(0, 1)"
            ),
            "return per_head[:, order].flatten(0, 1)": "return per_head[:, order].transpose(0, 1).flatten(0, 1)",
        },
    ),
    # positions
    Mistake(
        "padding-counted",
        "rows padded on the left count their padding; each row counts from its first real token",
        {
            "return (mask.cumsum(dim=-1) - 1).clamp(min=0)": (
                "return torch.arange(mask.shape[-1], device=mask.device).expand(mask.shape)"
            )
        },
    ),
    Mistake(
        "positions-from-one",
        "the first real token is counted as 1; it stands at position 0",
        {"(mask.cumsum(dim=-1) - 1).clamp(min=0)": "mask.cumsum(dim=-1)"},
    ),
    Mistake(
        "padding-at-minus-one",
        "padding stands at position -1, which reads the end of the tables; it stands at 0",
        {"(mask.cumsum(dim=-1) - 1).clamp(min=0)": "mask.cumsum(dim=-1) - 1"},
    ),
    # RotaryEmbedding
    Mistake(
        "offset-ignored",
        "`offset` is accepted but every call starts at position 0",
        {
            "cos, sin = self.cos[offset:end], self.sin[offset:end]": (
                "cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]"
            ),
        },
    ),
    Mistake(
        "offset-one-late",
        "tokens stand one position after the offset; the first one stands at the offset itself",
        {
            "self.cos[offset:end], self.sin[offset:end]": (
                "self.cos[offset + 1 : end + 1], self.sin[offset + 1 : end + 1]"
            ),
        },
    ),
    Mistake(
        "rows-remembered-by-length",
        "rows of the tables are remembered by the number of tokens alone; the offset changes them as well",
        {
            "            cos, sin = self.cos[offset:end], self.sin[offset:end]": (
                '            self.rows = getattr(self, "rows", {})\n'
                "            rows = self.rows.setdefault(x.shape[-2], (self.cos[offset:end], self.sin[offset:end]))\n"
                "            cos, sin = rows"
            )
        },
    ),
    Mistake(
        "tables-start-at-one",
        "the tables begin with position 1; they begin with position 0, which turns nothing",
        {"cos_sin(torch.arange(max_positions), theta)": "cos_sin(torch.arange(1, max_positions + 1), theta)"},
    ),
    Mistake(
        "frequencies-of-whole-head",
        "with partial rotary, the frequencies are the first ones of a whole head; they are those of a head of size R",
        {
            "theta = frequencies(rotary_dim or dim, base, linear=linear, ntk=ntk, dtype=dtype)": (
                "theta = frequencies(dim + dim % 2, base, linear=linear, ntk=ntk, dtype=dtype)\n"
                "        theta = theta[: (rotary_dim or dim) // 2]"
            )
        },
    ),
    Mistake(
        "rotary-dim-ignored",
        "`rotary_dim` is accepted but every feature that has a partner is rotated; only the first `rotary_dim` are",
        {"frequencies(rotary_dim or dim, base": "frequencies(dim - dim % 2, base"},
    ),
    Mistake(
        "settings-dropped",
        "base and scaling are accepted but do not reach the frequencies",
        {
            "frequencies(rotary_dim or dim, base, linear=linear, ntk=ntk, dtype=dtype)": (
                "frequencies(rotary_dim or dim, dtype=dtype)"
            ),
        },
    ),
    Mistake(
        "scalings-swapped",
        "the factors of linear and NTK-aware scaling are swapped on their way to the frequencies",
        {"base, linear=linear, ntk=ntk, dtype=dtype)": "base, linear=ntk, ntk=linear, dtype=dtype)"},
    ),
    Mistake(
        "layouts-swapped",
        "`interleaved=True` rotates half-split, and False interleaved; it is the other way round",
        {
            "rotate = rotate_interleaved if self.interleaved else rotate_half_split": (
                "rotate = rotate_half_split if self.interleaved else rotate_interleaved"
            )
        },
    ),
    Mistake(
        "positions-ignored",
        "explicit positions are ignored, and tokens stand at 0, 1, ...; rows padded on the left then start too late",
        {"        if positions is None:\n": "        positions = None\n        if positions is None:\n"},
    ),
    Mistake(
        "positions-of-first-row",
        "all rows get the positions of the first one; each row has its own",
        {"cos, sin = cos[:, None], sin[:, None]": "cos, sin = cos[0], sin[0]"},
    ),
    Mistake(
        "positions-without-head-axis",
        "positions of rows are broadcast without an axis for the heads: they fail, or go to heads in place of rows",
        {"                cos, sin = cos[:, None], sin[:, None]": "                pass"},
    ),
    Mistake(
        "head-axis-after-time",
        "the axis for the heads is put after time, as for (B, T, H, D); here heads come before time",
        {"cos, sin = cos[:, None], sin[:, None]": "cos, sin = cos[:, :, None], sin[:, :, None]"},
    ),
    Mistake(
        "time-on-third-axis-from-last",
        "tokens are counted on axis -3, as for (B, T, H, D); time is axis -2",
        {"end = offset + x.shape[-2]": "end = offset + x.shape[max(-3, -x.dim())]"},
    ),
    Mistake(
        "end-unchecked",
        "positions beyond the tables are not refused: a slice comes back short, and a row of one broadcasts silently",
        {"if offset < 0 or end > len(self.cos):": "if offset < 0:"},
    ),
    Mistake(
        "end-refused",
        "the last position of the tables is refused; positions up to `max_positions - 1` are there",
        {"if offset < 0 or end > len(self.cos):": "if offset < 0 or end >= len(self.cos):"},
    ),
    Mistake(
        "start-unchecked",
        "negative offsets are not refused: a slice counts them from the end of the tables",
        {"if offset < 0 or end > len(self.cos):": "if end > len(self.cos):"},
    ),
    Mistake(
        "embedding-in-half-precision",
        "a RotaryEmbedding converts its rows to the type of the input; rotate in float32 and round once, at the end",
        {"return rotate(x, cos, sin)": "return rotate(x, cos.to(x.dtype), sin.to(x.dtype))"},
    ),
    Mistake(
        "embedding-without-gradient",
        "a RotaryEmbedding cuts the graph; the tables need no gradient, but queries and keys do",
        {"return rotate(x, cos, sin)": "return rotate(x.detach(), cos, sin)"},
    ),
    Mistake(
        "trigonometry-at-every-call",
        "every call computes cosines and sines again; compute the tables once and read them",
        {
            "        rotate = rotate_interleaved if self": (
                "        angles = torch.atan2(sin, cos)\n"
                "        cos, sin = angles.cos(), angles.sin()\n"
                "        rotate = rotate_interleaved if self"
            )
        },
    ),
    Mistake(
        "tables-copied-at-every-call",
        "every call copies the whole tables to read a few rows: its cost grows with them; slice first",
        {
            "cos, sin = self.cos[offset:end], self.sin[offset:end]": (
                "cos, sin = torch.stack((self.cos, self.sin))[:, offset:end]"
            )
        },
    ),
    Mistake(
        "whole-sequence-at-every-step",
        "every step rotates all positions up to the last one and keeps the end; rotate the new tokens only",
        {
            "        rotate = rotate_interleaved if self": (
                "        if positions is None:\n"
                "            before = torch.zeros_like(x[..., :1, :]).repeat_interleave(offset, dim=-2)\n"
                "            x, cos, sin = torch.cat((before, x), dim=-2), self.cos[:end], self.sin[:end]\n"
                "        rotate = rotate_interleaved if self"
            ),
            "return rotate(x, cos, sin)": "return rotate(x, cos, sin)[..., offset if positions is None else 0 :, :]",
        },
    ),
    # images
    Mistake(
        "row-and-column-swapped",
        "the first pairs turn with the column; they turn with the row, and the others with the column",
        {"torch.stack((row, column), dim=-1)": "torch.stack((column, row), dim=-1)"},
    ),
    Mistake(
        "patches-column-by-column",
        "patches are numbered down the columns; they go row by row",
        {"row, column = patch // width, patch % width": "row, column = patch % height, patch // height"},
    ),
    Mistake(
        "axes-alternate",
        "pairs turn with row and column in alternation; the first half turns with the row, the second with the column",
        {"return cos.flatten(-2), sin.flatten(-2)": "return cos.mT.flatten(-2), sin.mT.flatten(-2)"},
    ),
    Mistake(
        "image-as-sequence",
        "both halves turn with the patch's number in the sequence; a patch has a row and a column",
        {"row, column = patch // width, patch % width": "row, column = patch, patch"},
    ),
    Mistake(
        "divided-by-height",
        "row and column are found with the height; with patches row by row, they come from the width",
        {"row, column = patch // width, patch % width": "row, column = patch // height, patch % height"},
    ),
]

EQUIVALENT = [
    Equivalent("a remainder is 0 or not, whatever the sign of the divisor", {"if dim % 2:\n": "if dim % (-2):\n"}),
    Equivalent(
        "indices and positions have no gradient",
        {
            "torch.arange(0, dim, 2, dtype=dtype) / dim": "(torch.arange(0, dim, 2, dtype=dtype) / dim).detach()",
            "torch.arange(dim": "(torch.arange(dim)).detach(",
            "torch.cat((index[0:rotary:2], index[1:rotary:2], index[rotary:])": "(torch.cat((index[0:rotary:2], index[1:rotary:2], index[rotary:]))).detach(",
            "layout_permutation(per_head.shape[1], rotary_dim": "(layout_permutation(per_head.shape[1], rotary_dim)).detach(",
            "mask.cumsum(dim=-1) - 1).clamp(min=0": "(mask.cumsum(dim=-1) - 1).clamp(min=0)).detach(",
            "torch.arange(height * width, device=theta.device": "(torch.arange(height * width, device=theta.device)).detach(",
        },
    ),
    Equivalent(
        "frequencies and angles are fixed, so nothing needs a gradient through them",
        {
            "base**-exponent / linear": "(base**-exponent / linear).detach()",
            "positions.to(theta.dtype)[..., None] * theta": "(positions.to(theta.dtype)[..., None] * theta).detach()",
            "frequencies(rotary_dim or dim, base, linear=linear, ntk=ntk, dtype=dtype": "(frequencies(rotary_dim or dim, base, linear=linear, ntk=ntk, dtype=dtype)).detach(",
        },
    ),
    Equivalent(
        "weights are converted before training; no gradient is promised through the conversion",
        {
            "weight.unflatten(0, (heads, -1)": "(weight.unflatten(0, (heads, -1))).detach(",
            "per_head[:, order].flatten(0, 1": "(per_head[:, order].flatten(0, 1)).detach(",
        },
    ),
    Equivalent(
        "cosines and sines have one shape",
        {
            "half = cos.shape": "half = sin.shape",
            "rotary = 2 * cos": "rotary = 2 * sin",
            " len(self.cos": " len(self.sin",
        },
    ),
    Equivalent(
        "in steps of two from an even or odd start, the bound beside an even one ends at the same feature",
        {
            ".., 0:rotary": ".., 0:(rotary) - 1",
            ".., 1:rotary": ".., 1:(rotary) + 1",
            "index[0:rotary": "index[0:(rotary) - 1",
            "index[1:rotary": "index[1:(rotary) + 1",
        },
    ),
    Equivalent("axis 1 of two is the last", {"cumsum(dim=-1": "cumsum(dim=-(-1)"}),
    Equivalent("axis 1 of two is the last", {"column), dim=-1": "column), dim=-(-1)"}),
    Equivalent("differs on a GPU only", {", device=theta.device": ""}),
]
