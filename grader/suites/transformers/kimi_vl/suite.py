"""Hidden suite for transformers/kimi_vl: image by image and patch by patch in float64, autograd, and counted costs."""

import math

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import applied, loaded, rounded
from grader.properties import (
    EVERY_FUNCTION,
    EVERY_MODULE,
    any_sequence,
    case,
    empty_and_single,
    given,
    holds,
    is_differentiable,
    no_state_between_calls,
    on,
    result_is_new,
    rounds_once,
    type_follows,
)

# --- oracles ---

F64 = torch.float64
GRIDS = [(4, 6), (2, 2), (6, 2)]
LENGTHS = [24, 4, 12]
N, HEADS, D, M = 40, 3, 8, 5
VIT = {"patch": 2, "width": 16, "heads": 2, "blocks": 2, "hidden": 20, "table": (5, 7), "channels": 3}
PROJECTOR = {"width": 6, "hidden": 11, "text_width": 10}
FAR = "float32 logits near 1e5 are off by up to 0.01, and weights with them"


def cut(image, patch):
    """The patches of an image, one by one."""
    _, height, width = image.shape
    corners = [(i, j) for i in range(0, height, patch) for j in range(0, width, patch)]
    return torch.stack([image[:, i : i + patch, j : j + patch].flatten() for i, j in corners])


def cubic(size, target):
    """The matrix, `(target, size)`, that resizes one axis: cubic convolution with a = -0.75, pixel centres, clamped."""
    matrix = torch.zeros(target, size, dtype=F64)
    for i in range(target):
        source = (i + 0.5) * size / target - 0.5
        for j in range(math.floor(source) - 1, math.floor(source) + 3):
            d, a = abs(source - j), -0.75
            near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[i, min(max(j, 0), size - 1)] += near if d <= 1 else far
    return matrix


def resized(table, rows, columns):
    """A table on another grid, in float64."""
    vertical, horizontal = cubic(table.shape[0], rows), cubic(table.shape[1], columns)
    return torch.einsum("ih,jw,hwe->ije", vertical, horizontal, table.double()).flatten(0, 1)


def angles(grids, dim, base=10000.0):
    """The angle of every pair of every patch, in float64."""
    theta = [base ** (-4 * i / dim) for i in range(dim // 4)]
    rows = [[place * t for t in theta for place in (c, r)] for h, w in grids for r in range(h) for c in range(w)]
    return torch.tensor(rows, dtype=F64)


def turned(x, cos, sin):
    """Pairs of neighbours as complex numbers, turned by the angles of these; float64."""
    z = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(z * torch.complex(cos.double(), sin.double())[:, None]).flatten(-2)


def tables(grids, dim, base=10000.0, dtype=torch.float32):
    """Cosine and sine of the angles."""
    alpha = angles(grids, dim, base)
    return alpha.cos().to(dtype), alpha.sin().to(dtype)


def alone(q, k, v, lengths):
    """Attention image by image and head by head, in float64."""
    outputs, start = [], 0
    for n in lengths:
        own = slice(start, start + n)
        start += n
        heads = []
        for h in range(q.shape[1]):
            logits = q[own, h].double() @ k[own, h].double().T / q.shape[-1] ** 0.5
            weights = torch.exp(logits - torch.logsumexp(logits, dim=-1, keepdim=True))
            heads.append(weights @ v[own, h].double())
        outputs.append(torch.stack(heads, dim=1))
    return torch.cat(outputs)


def blocks(x, grids, factor=2):
    """Merged patches, one by one."""
    tokens, start = [], 0
    for h, w in grids:
        for i in range(0, h, factor):
            for j in range(0, w, factor):
                rows = [start + (i + a) * w + j + b for a in range(factor) for b in range(factor)]
                tokens.append(torch.cat([x[row] for row in rows]))
        start += h * w
    return torch.stack(tokens)


def filled_in(embeddings, token_ids, features, placeholder):
    """Features in place of placeholders, one by one."""
    left = list(features)
    rows = zip(embeddings.flatten(0, 1), token_ids.flatten().tolist(), strict=True)
    return torch.stack([left.pop(0) if t == placeholder else old for old, t in rows]).reshape(embeddings.shape)


def normed(x, state, name):
    centred = x - x.mean(dim=-1, keepdim=True)
    deviation = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def projection(state, x, grids, factor=2):
    hidden = linear(blocks(normed(x, state, "norm"), grids, factor), state, "linear_1")
    return linear(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2, state, "linear_2")


def encoding(settings, state, images):
    """Every image on its own through the encoder; float64."""
    state = {name: p.double() for name, p in state.items()}
    outputs = []
    for image in images:
        p, heads = settings["patch"], settings["heads"]
        grid = image.shape[1] // p, image.shape[2] // p
        x = linear(cut(image.double(), p), state, "embedding") + resized(state["positions"], *grid)
        cos_and_sin = tables([grid], x.shape[-1] // heads, dtype=F64)
        for b in range(settings["blocks"]):
            q, k, v = linear(normed(x, state, f"blocks.{b}.norm_1"), state, f"blocks.{b}.qkv").chunk(3, dim=-1)
            q, k, v = (y.reshape(len(x), heads, -1) for y in (q, k, v))
            attended = alone(turned(q, *cos_and_sin), turned(k, *cos_and_sin), v, [len(x)]).flatten(1)
            x = x + linear(attended, state, f"blocks.{b}.output")
            hidden = linear(normed(x, state, f"blocks.{b}.norm_2"), state, f"blocks.{b}.up")
            inner = (2 / math.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)
            x = x + linear(hidden * (1 + torch.tanh(inner)) / 2, state, f"blocks.{b}.down")
        outputs.append(normed(x, state, "norm"))
    return torch.cat(outputs)


def filled(draw, shapes, dtype=F64):
    """Random parameters; weights of norms lie near 1."""
    state = {}
    for name, shape in shapes.items():
        p = draw.normal(*shape, dtype=F64)
        fan_in = shape[-1] if len(shape) == 2 else 4
        state[name] = (1 + p / 4 if "norm" in name and name.endswith("weight") else p / fan_in**0.5).to(dtype)
    return state


def vit_state(draw, settings=VIT):
    E, F = settings["width"], settings["hidden"]
    shapes = {"positions": (*settings["table"], E)}
    sizes = {"embedding": (E, settings["channels"] * settings["patch"] ** 2)}
    norms = ["norm"]
    for b in range(settings["blocks"]):
        norms += [f"blocks.{b}.norm_1", f"blocks.{b}.norm_2"]
        inner = {"qkv": (3 * E, E), "output": (E, E), "up": (F, E), "down": (E, F)}
        sizes |= {f"blocks.{b}.{name}": size for name, size in inner.items()}
    shapes |= {f"{name}.{kind}": (E,) for name in norms for kind in ("weight", "bias")}
    for name, size in sizes.items():
        shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return filled(draw, shapes)


def projector_state(draw, settings=PROJECTOR):
    E, hidden, text, factor = (settings.get(name, 2) for name in ("width", "hidden", "text_width", "factor"))
    shapes = {"norm.weight": (E,), "norm.bias": (E,), "linear_1.weight": (hidden, factor**2 * E)}
    shapes |= {"linear_1.bias": (hidden,), "linear_2.weight": (text, hidden), "linear_2.bias": (text,)}
    return filled(draw, shapes)


def pictures(draw, grids=GRIDS, patch=2, channels=3, dtype=F64):
    return [draw.normal(channels, patch * h, patch * w, dtype=dtype) for h, w in grids]


def packed(draw, dtype=F64, n=N, values=M, heads=HEADS):
    """Queries, keys and values."""
    sizes = D, D, values
    return [draw.normal(n, heads, size, dtype=dtype) for size in sizes]


TOKENS = torch.tensor([[9, 1, 9, 9, 4, 9, 3], [5, 2, 9, 0, 1, 9, 9]])
PACK = pytest.mark.part("pack")
POSITIONS = pytest.mark.part("interpolate_positions")
TABLES = pytest.mark.part("rope_tables")
ROTATE = pytest.mark.part("rotate")
ATTENTION = pytest.mark.part("packed_attention")
MERGE = pytest.mark.part("merge_patches")
PROJECT = pytest.mark.part("Projector")
ENCODER = pytest.mark.part("MoonViT")
SPLICE = pytest.mark.part("splice")


class TestValues:
    @PACK
    @pytest.mark.points(2)
    def test_pack(self, submission, draw):
        """patches stand row by row and image by image, channels first"""
        images = pictures(draw, patch=5, channels=2)
        expected = torch.cat([cut(image, 5) for image in images]), GRIDS
        assert_close(submission.pack(images, 5), expected, what="(patches, grids)", dtype=F64)

    @POSITIONS
    @pytest.mark.points(2)
    def test_positions(self, submission, draw):
        """the table is resized bicubically, rows with rows and columns with columns"""
        table = draw.normal(5, 7, 3, dtype=F64)
        for rows, columns in ((8, 11), (2, 3), (5, 9)):
            got = submission.interpolate_positions(table, rows, columns)
            assert_close(got, resized(table, rows, columns), what=f"positions of {rows} x {columns}", dtype=F64)

    @TABLES
    @pytest.mark.points(2)
    def test_tables(self, submission):
        """columns and rows turn pairs in alternation, from 0 in every image"""
        for base in ((), (50.0,)):
            got = submission.rope_tables(GRIDS, 12, *base)
            assert_close(got, tables(GRIDS, 12, *base), what=f"(cos, sin) for the base {(*base, 1e4)[0]:g}")

    @ROTATE
    @pytest.mark.points(2)
    def test_rotate(self, submission, draw):
        """neighbouring features turn as pairs, in all heads alike"""
        x, alpha = draw.normal(N, HEADS, D, dtype=F64), draw.uniform(N, D // 2, low=-3, high=3, dtype=F64)
        got = submission.rotate(x, alpha.cos(), alpha.sin())
        assert_close(got, turned(x, alpha.cos(), alpha.sin()), what="rotated features", dtype=F64)

    @ATTENTION
    @pytest.mark.points(2)
    def test_attention(self, submission, draw):
        """every image comes out as it does alone"""
        q, k, v = packed(draw)
        got = submission.packed_attention(q, k, v, LENGTHS)
        assert_close(got, alone(q, k, v, LENGTHS), what="output", dtype=F64)

    @MERGE
    @pytest.mark.points(2)
    def test_merge(self, submission, draw):
        """blocks of neighbours become one token, in order"""
        x = draw.normal(N, 5, dtype=F64)
        assert_close(submission.merge_patches(x, GRIDS), blocks(x, GRIDS), what="tokens", dtype=F64)
        grids, x = [(6, 12), (6, 6)], draw.normal(108, 5, dtype=F64)
        got = submission.merge_patches(x, grids, 3)
        assert_close(got, blocks(x, grids, 3), what="tokens of 3 x 3 patches", dtype=F64)

    @PROJECT
    def test_projector(self, submission, draw):
        """norm, merge, linear, GELU, linear, in that order"""
        state, x = projector_state(draw), 2 * draw.normal(N, 6, dtype=F64) + 1
        got = submission.run(applied, "Projector", PROJECTOR, state, x, GRIDS)
        assert_close(got, projection(state, x, GRIDS), what="image tokens", dtype=F64)

    @ENCODER
    @pytest.mark.points(2)
    def test_encoder(self, submission, draw):
        """what comes out for packed images is what the statement gives for each of them"""
        state, images = vit_state(draw), pictures(draw)
        got = submission.run(applied, "MoonViT", VIT, state, images)
        assert_close(got, (encoding(VIT, state, images), GRIDS), what="(encoded patches, grids)", dtype=F64)

    @SPLICE
    @pytest.mark.points(2)
    def test_splice(self, submission, draw):
        """image tokens replace placeholders row by row, and other tokens stay"""
        embeddings, features = draw.normal(2, 7, 5, dtype=F64), draw.normal(7, 5, dtype=F64)
        got = submission.splice(embeddings, TOKENS, features, 9)
        assert_close(got, filled_in(embeddings, TOKENS, features, 9), what="embeddings", dtype=F64)


class TestStability:
    @ATTENTION
    def test_large_attention(self, submission, draw):
        """dot products above 65504 do not overflow in float16"""
        q, k, v = packed(draw, torch.float16)
        q, k = 300 * q, 300 * k
        dtype, got = submission.run(rounded, "packed_attention", q, k, v, LENGTHS)
        assert_equal(dtype, torch.float16, what="type of the output")
        assert_close(got, alone(q, k, v, LENGTHS), what="output", rtol=2.0**-10, atol=1e-2, reason=FAR)

    @ENCODER
    def test_half_encoder(self, submission, draw):
        """a half-precision encoder keeps the places of a wide image apart"""
        settings = {**VIT, "blocks": 1}
        state = vit_state(draw, settings)
        state["blocks.0.qkv.weight"][:32] = 0  # queries and keys are their biases, so RoPE alone tells patches apart
        state["blocks.0.qkv.bias"][:32] = torch.tensor([4.0, 0, 0, 0, 4, 0, 0, 0] * 4)
        state["blocks.0.output.weight"] *= 4
        state = {name: p.bfloat16() for name, p in state.items()}
        images = pictures(draw, [(1, 300)], dtype=torch.bfloat16)
        got, _ = submission.run(applied, "MoonViT", settings, state, images)
        assert_equal(got.dtype, torch.bfloat16, what="type of the encoded patches")
        reason = "roundings to half precision between layers are allowed"
        expected = encoding(settings, state, images)
        assert_close(got.double(), expected, what="encoded patches", rtol=0.1, atol=0.1, reason=reason)


class TestEdgeCases:
    @PACK
    def test_indivisible(self, submission):
        """sizes that patches do not fill are a ValueError"""
        for size in ((4, 7), (7, 4)):
            with submission.expect_raises(ValueError):
                submission.pack([torch.zeros(3, 4, 4), torch.zeros(3, *size)], 2)

    @POSITIONS
    def test_own_grid(self, submission, draw):
        """a grid of the table's own size gets the table, row by row"""
        table = draw.normal(5, 7, 3, dtype=F64)
        got = submission.interpolate_positions(table, 5, 7)
        assert_close(got, table.flatten(0, 1), what="positions", dtype=F64)

    @TABLES
    def test_odd_head(self, submission):
        """a head that cannot be shared between rows and columns is a ValueError"""
        with submission.expect_raises(ValueError):
            submission.rope_tables([(2, 3)], 6)

    @MERGE
    def test_odd_grid(self, submission):
        """grids that blocks do not fill are a ValueError"""
        for grid in ((2, 3), (3, 2)):
            with submission.expect_raises(ValueError):
                submission.merge_patches(torch.zeros(10, 4), [(2, 2), grid])

    @SPLICE
    def test_splice_count(self, submission):
        """too many image tokens, or too few, are a ValueError"""
        for count in (6, 8, 0, 1):
            with submission.expect_raises(ValueError):
                submission.splice(torch.zeros(2, 7, 5), TOKENS, torch.zeros(count, 5), 9)


SHAPES = (GRIDS, [(4, 6)], [(2, 2), (2, 8)])  # of one image and of several, of which each side is even


def pack_calls(draw):
    """Floats and integers, patches of several sizes, a single one, and one of a pixel."""
    whole = [draw.integers(0, 255, 3, 4, 6), draw.integers(0, 255, 3, 2, 2)]
    calls = [given(pictures(draw, patch=p, channels=c), p) for p, c in ((2, 3), (5, 2), (1, 1))]
    return [*calls, given(pictures(draw, [(1, 1)], patch=3), 3), given(whole, 2)]


def cut_all(images, patch):
    return torch.cat([cut(image, patch) for image in images]), [
        (x.shape[1] // patch, x.shape[2] // patch) for x in images
    ]


def position_calls(draw):
    sizes = (5, 7, 8, 11), (5, 7, 2, 3), (1, 4, 3, 1), (5, 7, 1, 1)
    return [given(draw.normal(h, w, 3, dtype=F64), rows, columns) for h, w, rows, columns in sizes]


def table_calls(draw):
    """Grids that come again, with other settings and without; all settings together."""
    calls = [given(grids, dim) for grids in SHAPES for dim in (12, 8)]
    calls += [given(GRIDS, 8, 50.0), given(GRIDS, 8, dtype=F64), given(GRIDS, 8, 50.0, F64), given([(1, 1)], 4)]
    return calls


def rotate_calls(draw):
    calls = []
    for n, heads, dim in ((N, HEADS, D), (7, 1, 4), (1, 2, 12)):
        alpha = draw.uniform(n, dim // 2, low=-3, high=3, dtype=F64)
        calls.append(given(draw.normal(n, heads, dim, dtype=F64), alpha.cos(), alpha.sin()))
    return calls


def attention_calls(draw):
    """Images of many patches, of one, and one alone."""
    lengths = [110, 40], [1, 5, 1], [7], [1]
    return [given(*packed(draw, n=sum(n), heads=1 + len(n)), n) for n in lengths]


def merge_calls(draw):
    calls = [given(draw.normal(sum(h * w for h, w in grids), 5, dtype=F64), grids) for grids in SHAPES]
    return [
        *calls,
        given(draw.normal(54, 2, dtype=F64), [(3, 6), (6, 6)], 3),
        given(draw.normal(6, 1, dtype=F64), [(2, 3)], factor=1),
    ]


def projector_calls(**settings):
    def drawn(draw):
        chosen = {**PROJECTOR, **settings}
        factor = chosen.get("factor", 2)
        shapes = [(2 * factor, 3 * factor), (factor, factor)], [(factor, 2 * factor)], [(factor, factor)]
        calls = [(draw.normal(sum(h * w for h, w in grids), chosen["width"], dtype=F64), grids) for grids in shapes]
        return on(("Projector", chosen, projector_state(draw, chosen)), *(given(*call) for call in calls))

    return drawn


def encoder_calls(settings):
    """Images in other numbers, orders and sizes, one of a single patch."""

    def drawn(draw):
        groups = [(4, 6), (2, 2)], [(2, 2), (6, 4), (1, 5)], [(1, 1)], [(4, 6)]
        images = [pictures(draw, grids, settings["patch"], settings["channels"]) for grids in groups]
        return on(("MoonViT", settings, vit_state(draw, settings)), *(given(each) for each in images))

    return drawn


def splice_calls(draw):
    """Some placeholders, no other token, and none."""
    calls = []
    for ids, placeholder in (
        (TOKENS, 9),
        (TOKENS[:1], 1),
        (torch.full((2, 3), 5), 5),
        (TOKENS, 77),
        (torch.tensor([[4]]), 4),
    ):
        embeddings = draw.normal(*ids.shape, 5, dtype=F64)
        calls.append(given(embeddings, ids, draw.normal(int((ids == placeholder).sum()), 5, dtype=F64), placeholder))
    return calls


SMALL = {"patch": 3, "width": 12, "heads": 3, "blocks": 1, "hidden": 7, "table": (2, 3), "channels": 1}
EDGES = (*EVERY_FUNCTION, empty_and_single)
TestProperties = holds(
    case("pack", pack_calls, *EDGES, any_sequence(0), expect=cut_all),
    case(
        "interpolate_positions",
        position_calls,
        *EVERY_FUNCTION,
        is_differentiable,
        empty_and_single,
        rounds_once,
        expect=resized,
    ),
    case(
        "rope_tables",
        table_calls,
        any_sequence(0),
        result_is_new,
        no_state_between_calls,
        empty_and_single,
        expect=tables,
    ),
    case("rotate", rotate_calls, *EDGES, is_differentiable(0), rounds_once(kept=(1, 2)), expect=turned),
    case(
        "packed_attention",
        attention_calls,
        *EDGES,
        is_differentiable,
        any_sequence(3),
        rounds_once,
        type_follows(2),
        expect=alone,
    ),
    case("merge_patches", merge_calls, *EDGES, is_differentiable, any_sequence(1), expect=blocks),
    *(
        case(
            "Projector",
            projector_calls(**settings),
            *EVERY_MODULE,
            is_differentiable,
            empty_and_single,
            any_sequence(1),
            made=loaded,
            expect=lambda name, settings, state, x, grids: projection(state, x, grids, settings.get("factor", 2)),
            name=name,
        )
        for name, settings in (("blocks of 2", {}), ("blocks of 3", {"factor": 3}), ("no blocks", {"factor": 1}))
    ),
    *(
        case(
            "MoonViT",
            encoder_calls(settings),
            *EVERY_MODULE,
            is_differentiable,
            empty_and_single,
            any_sequence(0),
            made=loaded,
            expect=lambda name, settings, state, images: (
                encoding(settings, state, images),
                cut_all(images, settings["patch"])[1],
            ),
            name=name,
        )
        for name, settings in (("colour", VIT), ("grey", SMALL))
    ),
    case("splice", splice_calls, *EDGES, is_differentiable, type_follows(0), expect=filled_in),
)


class TestPerformance:
    @ATTENTION
    @pytest.mark.points(2)
    def test_attention_cost(self, submission, draw):
        """attention costs the sum of the squares, in operations and in memory"""
        lengths = [32, 8, 16, 8]
        q, k, v = packed(draw, torch.float32, sum(lengths), D)
        got = submission.measure("packed_attention", q, k, v, lengths)
        assert_close(got.value, alone(q, k, v, lengths).float(), what="output")
        squares = sum(n * n for n in lengths)
        why = f"4 D operations for each of {squares} pairs and {HEADS} heads"
        assert_cost(got.cost, "flops", at_most=4 * D * HEADS * squares, why=why)
        why = "the logits of the largest image, for all heads"
        assert_cost(got.cost, "largest_bytes", at_most=4 * HEADS * max(lengths) ** 2, why=why)

    @ATTENTION
    @pytest.mark.parametrize("what", ["patches", "heads"])
    def test_attention_operators(self, submission, draw, what):
        """the number of operators depends neither on patches nor on heads"""
        costs = []
        for n, heads in ((8, 3), (16, 3) if what == "patches" else (8, 6)):
            q, k, v = packed(draw, torch.float32, 2 * n, heads=heads)
            got = submission.measure("packed_attention", q, k, v, [n, n])
            assert_close(got.value, alone(q, k, v, [n, n]).float(), what="output")
            costs.append(got.cost)
        assert_growth(*costs, "operators", at_most=1.0, when=f"the number of {what} doubles")

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.part(name), id=name)
            for name in ("pack", "rope_tables", "rotate", "merge_patches", "splice")
        ],
    )
    def test_operators(self, submission, draw, name):
        """the number of operators does not depend on patches, heads or tokens"""
        costs = []
        for n in (4, 8):
            x = draw.normal(n * n, n, 8)
            cos, sin = tables([(n, n)], 8)
            if name == "pack":
                image = x[:, 0].reshape(8, n, n)
                arguments, expected = ([image], 2), (cut(image, 2), [(n // 2, n // 2)])
            elif name == "rope_tables":
                arguments, expected = ([(n, n)], 8), (cos, sin)
            elif name == "rotate":
                arguments, expected = (x, cos, sin), turned(x, cos, sin).float()
            elif name == "merge_patches":
                arguments, expected = (x[:, 0], [(n, n)]), blocks(x[:, 0], [(n, n)])
            else:
                text, ids, features = (
                    x[:, :3].transpose(0, 1),
                    torch.arange(n * n) % 2,
                    x.flatten(0, 1)[: 3 * n * n // 2],
                )
                arguments, expected = (text, ids.expand(3, -1), features, 1), text.clone()
                expected[:, 1::2] = features.reshape(3, -1, 8)
            got = submission.measure(name, *arguments)
            assert_close(got.value, expected, what="result")
            costs.append(got.cost)
        assert_growth(*costs, "operators", at_most=1.5, when="there are four times as many patches or tokens")
