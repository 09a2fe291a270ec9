"""Hidden suite for transformers/kimi_vl: image by image and patch by patch in float64, autograd, and counted costs."""

import math

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import vjp
from grader.suite import probe

# --- probes ---


@probe
def gradients(module, name, leaves, upstream, *rest):
    """A function's output, and what reaches its first arguments when `upstream` arrives there."""
    leaves = [x.clone().requires_grad_() for x in leaves]
    y = getattr(module, name)(*leaves, *rest)
    return y.detach(), vjp([y], leaves, [upstream])


@probe
def spliced(module, embeddings, token_ids, features, placeholder, upstream):
    """The text with image tokens, and what reaches embeddings and image tokens."""
    leaves = [embeddings.clone().requires_grad_(), features.clone().requires_grad_()]
    y = module.splice(leaves[0], token_ids, leaves[1], placeholder)
    return y.detach(), vjp([y], leaves, [upstream])


@probe
def rounded(module, name, *arguments):
    """The type of a result, and its values in float64."""
    y = getattr(module, name)(*arguments)
    return y.dtype, y.double()


@probe
def loaded(layer, state):
    """A module with the given parameters."""
    layer = layer.to(next(iter(state.values())).dtype)
    layer.load_state_dict(state)
    return layer


@probe
def projected(module, settings, state, x, grids, upstream):
    """Image tokens, and what reaches the patches and every parameter."""
    layer, x = loaded(module.Projector(**settings), state), x.clone().requires_grad_()
    y = layer(x, grids)
    parameters = dict(layer.named_parameters())
    return y.detach(), vjp([y], [x, *(parameters[name] for name in state)], [upstream])


@probe
def encoded(module, settings, state, images):
    """Encoded patches and grids."""
    y, grids = loaded(module.MoonViT(**settings), state)(images)
    return y.detach(), list(grids)


@probe
def encoded_gradients(module, settings, state, images, upstream):
    """Encoded patches, and what reaches images and parameters."""
    layer, images = loaded(module.MoonViT(**settings), state), [x.clone().requires_grad_() for x in images]
    y = layer(images)[0]
    parameters = dict(layer.named_parameters())
    return y.detach(), vjp([y], [*images, *(parameters[name] for name in state)], [upstream])


@probe
def rounded_encoded(module, settings, state, images):
    """The type of encoded patches, and their values in float64."""
    y = loaded(module.MoonViT(**settings), state)(images)[0].detach()
    return y.dtype, y.double()


# --- oracles ---

F64 = torch.float64
GRIDS = [(4, 6), (2, 2), (6, 2)]
LENGTHS = [24, 4, 12]
N, HEADS, D, M = 40, 3, 8, 5
VIT = {"patch": 2, "width": 16, "heads": 2, "blocks": 2, "hidden": 20, "table": (5, 7), "channels": 3}
PROJECTOR = {"width": 6, "hidden": 11, "text_width": 10}
HALF = "one rounding to half precision is allowed, at the end"
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


def turned(x, alpha):
    """Pairs of neighbours as complex numbers, turned by the angles; float64."""
    z = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(z * torch.polar(torch.ones_like(alpha), alpha)[:, None]).flatten(-2)


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


def normed(x, state, name):
    centred = x - x.mean(dim=-1, keepdim=True)
    deviation = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def projection(state, x, grids):
    hidden = linear(blocks(normed(x, state, "norm"), grids), state, "linear_1")
    return linear(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2, state, "linear_2")


def encoding(settings, state, images):
    """Every image on its own through the encoder; float64."""
    state = {name: p.double() for name, p in state.items()}
    outputs = []
    for image in images:
        p, heads = settings["patch"], settings["heads"]
        grid = image.shape[1] // p, image.shape[2] // p
        x = linear(cut(image.double(), p), state, "embedding") + resized(state["positions"], *grid)
        alpha = angles([grid], x.shape[-1] // heads)
        for b in range(settings["blocks"]):
            q, k, v = linear(normed(x, state, f"blocks.{b}.norm_1"), state, f"blocks.{b}.qkv").chunk(3, dim=-1)
            q, k, v = (y.reshape(len(x), heads, -1) for y in (q, k, v))
            attended = alone(turned(q, alpha), turned(k, alpha), v, [len(x)]).flatten(1)
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


def projector_state(draw):
    E, hidden, text = PROJECTOR.values()
    shapes = {"norm.weight": (E,), "norm.bias": (E,), "linear_1.weight": (hidden, 4 * E), "linear_1.bias": (hidden,)}
    return filled(draw, shapes | {"linear_2.weight": (text, hidden), "linear_2.bias": (text,)})


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
        for base, given in ((10000.0, ()), (50.0, (50.0,))):
            alpha = angles(GRIDS, 12, base)
            expected = alpha.cos().float(), alpha.sin().float()
            got = submission.rope_tables(GRIDS, 12, *given)
            assert_close(got, expected, what=f"(cos, sin) for the base {base:g}", dtype=torch.float32)

    @TABLES
    def test_double_tables(self, submission):
        """tables in float64 are right to float64"""
        alpha = angles(GRIDS, 8)
        got = submission.rope_tables(GRIDS, 8, 10000.0, F64)
        assert_close(got, (alpha.cos(), alpha.sin()), what="(cos, sin)", dtype=F64)

    @ROTATE
    @pytest.mark.points(2)
    def test_rotate(self, submission, draw):
        """neighbouring features turn as pairs, in all heads alike"""
        x, alpha = draw.normal(N, HEADS, D, dtype=F64), draw.uniform(N, D // 2, low=-3, high=3, dtype=F64)
        got = submission.rotate(x, alpha.cos(), alpha.sin())
        assert_close(got, turned(x, alpha), what="rotated features", dtype=F64)

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
        state, x, upstream = projector_state(draw), 2 * draw.normal(N, 6, dtype=F64) + 1, torch.ones(10, 10, dtype=F64)
        got = submission.run(projected, PROJECTOR, state, x, GRIDS, upstream)
        assert_close(got[0], projection(state, x, GRIDS), what="image tokens", dtype=F64)

    @ENCODER
    @pytest.mark.points(2)
    def test_encoder(self, submission, draw):
        """what comes out for packed images is what the statement gives for each of them"""
        state, images = vit_state(draw), pictures(draw)
        got = submission.run(encoded, VIT, state, images)
        assert_close(got, (encoding(VIT, state, images), GRIDS), what="(encoded patches, grids)", dtype=F64)

    @SPLICE
    @pytest.mark.points(2)
    def test_splice(self, submission, draw):
        """image tokens replace placeholders row by row, and other tokens stay"""
        embeddings, features = draw.normal(2, 7, 5, dtype=F64), draw.normal(7, 5, dtype=F64)
        expected, number = embeddings.clone(), 0
        for b in range(2):
            for t in range(7):
                if TOKENS[b, t] == 9:
                    expected[b, t] = features[number]
                    number += 1
        got = submission.splice(embeddings, TOKENS, features, 9)
        assert_close(got, expected, what="embeddings", dtype=F64)


class TestGradients:
    @POSITIONS
    def test_positions_gradient(self, submission, draw):
        """the table learns from every grid"""
        table, upstream = draw.normal(5, 7, 3, dtype=F64), draw.normal(24, 3, dtype=F64)
        leaf = table.clone().requires_grad_()
        y = resized(leaf, 8, 3)
        expected = y.detach(), vjp([y], [leaf], [upstream])
        got = submission.run(gradients, "interpolate_positions", [table], upstream, 8, 3)
        assert_close(got, expected, what="(positions, [gradient of the table])")

    @ROTATE
    def test_rotate_gradient(self, submission, draw):
        """gradients turn back"""
        x, upstream = draw.normal(N, HEADS, D, dtype=F64), draw.normal(N, HEADS, D, dtype=F64)
        alpha = draw.uniform(N, D // 2, low=-3, high=3, dtype=F64)
        expected = turned(x, alpha), [turned(upstream, -alpha)]
        got = submission.run(gradients, "rotate", [x], upstream, alpha.cos(), alpha.sin())
        assert_close(got, expected, what="(rotated features, [gradient])")

    @ATTENTION
    @pytest.mark.points(2)
    def test_attention_gradients(self, submission, draw):
        """queries, keys and values get the gradients that they get alone"""
        leaves, upstream = [x.requires_grad_() for x in packed(draw)], draw.normal(N, HEADS, M, dtype=F64)
        y = alone(*leaves, LENGTHS)
        expected = y.detach(), vjp([y], leaves, [upstream])
        got = submission.run(gradients, "packed_attention", [x.detach() for x in leaves], upstream, LENGTHS)
        assert_close(got, expected, what="(output, gradients of [q, k, v])")

    @PROJECT
    def test_projector_gradients(self, submission, draw):
        """patches and parameters get gradients"""
        state, x, upstream = projector_state(draw), draw.normal(N, 6, dtype=F64), draw.normal(10, 10, dtype=F64)
        leaves = [y.clone().requires_grad_() for y in (x, *state.values())]
        y = projection(dict(zip(state, leaves[1:], strict=True)), leaves[0], GRIDS)
        expected = y.detach(), vjp([y], leaves, [upstream])
        got = submission.run(projected, PROJECTOR, state, x, GRIDS, upstream)
        assert_close(got, expected, what=f"(image tokens, gradients of [x, {', '.join(state)}])")

    @ENCODER
    @pytest.mark.points(2)
    def test_encoder_gradients(self, submission, draw):
        """pixels and all parameters get gradients, the table of positions from all images"""
        state, images, upstream = vit_state(draw), pictures(draw), draw.normal(N, 16, dtype=F64)
        leaves = [y.clone().requires_grad_() for y in (*images, *state.values())]
        y = encoding(VIT, dict(zip(state, leaves[3:], strict=True)), leaves[:3])
        expected = y.detach(), vjp([y], leaves, [upstream])
        got = submission.run(encoded_gradients, VIT, state, images, upstream)
        what = f"(encoded patches, gradients of [3 images, {', '.join(list(state)[:3])}, ...])"
        assert_close(got, expected, what=what)

    @SPLICE
    def test_splice_gradients(self, submission, draw):
        """gradients reach the image tokens, and the embeddings only where they stayed"""
        embeddings, features = draw.normal(2, 7, 5, dtype=F64), draw.normal(7, 5, dtype=F64)
        upstream, places = draw.normal(2, 7, 5, dtype=F64), TOKENS == 9
        y = embeddings.clone()
        y[places] = features
        expected = y, [upstream * ~places[..., None], upstream[places]]
        got = submission.run(spliced, embeddings, TOKENS, features, 9, upstream)
        assert_close(got, expected, what="(embeddings, gradients of [embeddings, features])")


class TestStability:
    @POSITIONS
    def test_half_positions(self, submission, draw):
        """a half-precision table is interpolated in float32"""
        table = draw.normal(5, 7, 3, dtype=torch.bfloat16)
        dtype, got = submission.run(rounded, "interpolate_positions", table, 8, 11)
        assert_equal(dtype, torch.bfloat16, what="type of the positions")
        assert_close(got, resized(table, 8, 11), what="positions", rtol=2.0**-8, atol=1e-5, reason=HALF)

    @ROTATE
    def test_half_rotate(self, submission, draw):
        """half precision is rotated in float32"""
        x = draw.normal(N, HEADS, D, dtype=torch.bfloat16)
        alpha = draw.uniform(N, D // 2, low=-3, high=3).float()
        dtype, got = submission.run(rounded, "rotate", x, alpha.cos(), alpha.sin())
        assert_equal(dtype, torch.bfloat16, what="type of the features")
        assert_close(got, turned(x, alpha.double()), what="features", rtol=2.0**-8, atol=1e-5, reason=HALF)

    @ATTENTION
    @pytest.mark.points(2)
    def test_half_attention(self, submission, draw):
        """half precision is summed up in float32 and rounded once"""
        q, k, v = packed(draw, torch.bfloat16, 150)
        dtype, got = submission.run(rounded, "packed_attention", q, k, v, [110, 40])
        assert_equal(dtype, torch.bfloat16, what="type of the output")
        assert_close(got, alone(q, k, v, [110, 40]), what="output", rtol=2.0**-8, atol=1e-5, reason=HALF)

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
        dtype, got = submission.run(rounded_encoded, settings, state, images)
        assert_equal(dtype, torch.bfloat16, what="type of the encoded patches")
        reason = "roundings to half precision between layers are allowed"
        assert_close(got, encoding(settings, state, images), what="encoded patches", rtol=0.1, atol=0.1, reason=reason)


class TestEdgeCases:
    @PACK
    def test_indivisible(self, submission):
        """sizes that patches do not fill are a ValueError"""
        for size in ((4, 7), (7, 4)):
            with submission.expect_raises(ValueError):
                submission.pack([torch.zeros(3, 4, 4), torch.zeros(3, *size)], 2)

    @PACK
    def test_strided_images(self, submission, draw):
        """images may have any strides, and any type"""
        images = [draw.integers(0, 255, 4, 6, 3).permute(2, 0, 1), draw.integers(0, 255, 1, 2, 2).expand(3, 2, 2)]
        expected = torch.cat([cut(image, 2) for image in images]), [(2, 3), (1, 1)]
        assert_equal(submission.pack(images, 2), expected, what="(patches, grids)")

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

    @ATTENTION
    def test_single_patches(self, submission, draw):
        """an image of one patch sees itself alone; inputs may have any strides"""
        q, k, v = draw.normal(HEADS, D, 3, 7, dtype=F64).permute(2, 3, 0, 1)
        got = submission.packed_attention(q, k, v, [1, 5, 1])
        assert_close(got, alone(q, k, v, [1, 5, 1]), what="output")

    @MERGE
    def test_odd_grid(self, submission):
        """grids that blocks do not fill are a ValueError"""
        for grid in ((2, 3), (3, 2)):
            with submission.expect_raises(ValueError):
                submission.merge_patches(torch.zeros(10, 4), [(2, 2), grid])

    @MERGE
    def test_strided_patches(self, submission, draw):
        """patches may have any strides"""
        x = draw.normal(5, N, dtype=F64).T
        assert_close(submission.merge_patches(x, GRIDS), blocks(x, GRIDS), what="tokens", dtype=F64)

    @ENCODER
    def test_one_image(self, submission, draw):
        """a single image, of a single row of patches"""
        state, images = vit_state(draw), pictures(draw, [(1, 5)])
        got = submission.run(encoded, VIT, state, images)
        assert_close(got, (encoding(VIT, state, images), [(1, 5)]), what="(encoded patches, grids)", dtype=F64)

    @SPLICE
    def test_splice_count(self, submission):
        """too many image tokens, or too few, are a ValueError"""
        for count in (6, 8, 0, 1):
            with submission.expect_raises(ValueError):
                submission.splice(torch.zeros(2, 7, 5), TOKENS, torch.zeros(count, 5), 9)

    @SPLICE
    def test_splice_types(self, submission, draw):
        """the result has the embeddings' type, and without placeholders their values"""
        embeddings, features = draw.normal(2, 7, 5, dtype=torch.bfloat16), draw.normal(7, 5)
        expected = embeddings.clone()
        expected[TOKENS == 9] = features.bfloat16()
        assert_equal(submission.splice(embeddings, TOKENS, features, 9), expected, what="embeddings")
        got = submission.splice(embeddings, TOKENS, features[:0], 100)
        assert_equal(got, embeddings, what="embeddings without placeholders")


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
            alpha = angles([(n, n)], 8)
            if name == "pack":
                image = x[:, 0].reshape(8, n, n)
                arguments, expected = ([image], 2), (cut(image, 2), [(n // 2, n // 2)])
            elif name == "rope_tables":
                arguments, expected = ([(n, n)], 8), (alpha.cos().float(), alpha.sin().float())
            elif name == "rotate":
                arguments, expected = (x, alpha.cos().float(), alpha.sin().float()), turned(x, alpha).float()
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


CUT = "        cut = image.reshape(channels, h, patch, w, patch).permute(1, 3, 0, 2, 4)  # (h, w, C, p, p)\n"
RESIZED = (
    '    picture = nn.functional.interpolate(picture[None], size=(rows, columns), mode="bicubic")[0]  # (E, h, w)\n'
)
PLACES = "        places = torch.stack([column, row], dim=-1).reshape(-1, 1, 2)  # (n, 1, 2)\n"
ANGLES = "        angles.append((places * theta[:, None]).flatten(1))  # (n, D/4, 2), flattened to (n, D/2)\n"
THETA = "    theta = base ** (-torch.arange(0, dim, 4, dtype=dtype, device=device) / dim)  # (D/4)\n"
PAIRS = "    x1, x2 = wide(x)[0].unflatten(-1, (-1, 2)).unbind(-1)  # (N, heads, D/2)\n"
TURNED = "    return turned.flatten(-2).to(x.dtype)\n"
LOGITS = "        weights = (scale * Q @ K.mT).softmax(dim=-1)  # (heads, n, n)\n"
HEADS_FIRST = "    q, k, v = (x.transpose(0, 1) for x in wide(q, k, v))  # (heads, N, D)\n"
MERGED = "        merged.append(blocks.reshape(h * w // factor**2, -1))\n"
POSITIONS = "        x = x + torch.cat([interpolate_positions(self.positions, h, w) for h, w in grids])\n"
BLOCKS = "            x = block(x, cos, sin, [h * w for h, w in grids])\n"
WRITTEN = "    spliced[places] = features.to(embeddings.dtype)\n"
