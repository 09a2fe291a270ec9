"""Hidden suite for transformers/kimi_vl: image by image and patch by patch in float64, autograd, and counted costs."""

import math

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe
from grader.probes import vjp

EXERCISE = Exercise(
    title="Kimi-VL's vision path",
    level="stretch",
    minutes=60,
    needs=("torch",),
    after=("dot_product_attention", "rope"),
    forbid=("attention",),
    hints=(
        "Cutting and merging are the same three steps: split both spatial axes in two, bring the two outer ones to the "
        "front, flatten. Write the shape after each, and never let one reshape do the permutation's work.",
        "`interpolate` wants (batch, channels, rows, columns): move the features to the front, and back at the end. Passing "
        "only `mode` leaves the defaults that the statement asks for.",
        "One position has two coordinates. Stack (column, row) as a last axis, multiply by the frequencies on an axis "
        "before it, and flatten the two: the order column, row, column, row comes out by itself.",
        "Split queries, keys and values at the images' lengths, and let each image attend alone: that is the block diagonal, "
        "without the zeros around it. A mask over all patches gives the same numbers at the price of the square of the sum.",
        "For the splice, compare tokens with the placeholder; indexing with that mask goes row by row, from left to right. "
        "Count before you write, and write into a copy.",
    ),
    follow_ups=(
        (
            "Why pack patches instead of padding or resizing images?",
            "Resizing loses what is small (text in a screenshot) and distorts aspect ratios; cutting into fixed tiles "
            "breaks objects at tile borders and adds tokens. Padding to the largest image computes on nothing: I n_max "
            "rows for the linear layers and I n_max^2 for attention. Packing does the work of the real patches, N rows "
            "and sum n_i^2, and a batch is filled to a budget of tokens and not of images. Variable-length attention "
            "kernels take the packed rows with cumulative lengths as they are.",
        ),
        (
            "Both an interpolated table and 2D RoPE: what does each contribute?",
            "The table comes from the pretrained encoder (SigLIP), and keeps its features usable: absolute places at a "
            "fixed resolution. Interpolated to large grids it becomes smooth and loses fine detail: neighbours get nearly "
            "equal vectors. RoPE marks relative offsets in patches, exactly, at any size and in every block, so it carries "
            "fine position at high resolution.",
        ),
        (
            "What does merging 2 x 2 patches save, and what does it cost?",
            "The text model sees a quarter of the tokens: its attention over the image costs a sixteenth, the KV cache "
            "and everything linear a quarter. No information is thrown away by the merge itself, as the four vectors are "
            "concatenated; the first linear layer decides what survives, at 4 E x hidden weights. Fine detail then has to "
            "share one token: hence it matters for OCR how many pixels a token covers (28 x 28 here).",
        ),
        (
            "Which bugs in this path change no shape, and how are they found?",
            "Swapped rows and columns (in the table, in RoPE, in the merge), segmented in place of interleaved pairs, "
            "patches of channel-last order, features spliced in another order, attention across images. Square grids and "
            "single images hide most of them. Compare with a plain loop on grids with different sides, check that an image "
            "comes out the same whoever its neighbours are, and test the parts one by one.",
        ),
    ),
)

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

MISTAKES = [
    # packing
    Mistake(
        "channels-last",
        "a patch's features have the channel last; channels stand one after the other, as in a convolution's weight",
        {CUT: CUT.replace("permute(1, 3, 0, 2, 4)", "permute(1, 3, 2, 4, 0)")},
    ),
    Mistake(
        "patches-by-column",
        "patches are numbered column by column; they stand row by row",
        {CUT: CUT.replace("permute(1, 3, 0, 2, 4)", "permute(3, 1, 0, 2, 4)")},
    ),
    Mistake(
        "cut-by-reshape",
        "one reshape cuts the image, which mixes rows and patches; split both axes and bring the outer ones to the front",
        {CUT: "        cut = image\n"},
    ),
    Mistake(
        "grid-swapped",
        "grids are (columns, rows); they are (rows, columns)",
        {"grids.append((h, w))": "grids.append((w, h))"},
    ),
    Mistake(
        "image-cropped",
        "an image that patches do not fill is cropped; it is a ValueError",
        {
            '            raise ValueError(f"{height} x {width} pixels do not divide into patches of {patch} x {patch}")\n'
            "        h, w": "            image = image[:, : height - height % patch, : width - width % patch]\n        h, w"
        },
    ),
    Mistake(
        "patch-by-patch",
        "a loop goes over the patches; a reshape and a permutation cut the whole image",
        {
            CUT: "        cut = torch.stack(\n"
            "            [image[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] for i in range(h) for j in range(w)]\n"
            "        )\n"
        },
    ),
    # positions
    Mistake(
        "bilinear",
        "the table is interpolated bilinearly; it is bicubic",
        {RESIZED: RESIZED.replace('mode="bicubic"', 'mode="bilinear"')},
    ),
    Mistake(
        "corners-aligned",
        "corners are aligned in the interpolation; the default maps pixel centres",
        {RESIZED: RESIZED.replace('mode="bicubic"', 'mode="bicubic", align_corners=True')},
    ),
    Mistake(
        "antialiased",
        "the interpolation is antialiased, which blurs smaller grids; the default is not",
        {RESIZED: RESIZED.replace('mode="bicubic"', 'mode="bicubic", antialias=True')},
    ),
    Mistake(
        "table-cropped",
        "the table's corner is taken instead of the whole table, resized",
        {
            RESIZED: "    own = nn.functional.interpolate(picture[None], size=(rows, columns))[0]\n"
            "    own[:, : picture.shape[1], : picture.shape[2]] = picture[:, :rows, :columns]\n"
            "    picture = own\n"
        },
    ),
    Mistake(
        "table-transposed",
        "the table's rows and columns are swapped before it is resized",
        {"wide(table.permute(2, 0, 1))": "wide(table.permute(2, 1, 0))"},
    ),
    Mistake(
        "positions-by-column",
        "resized positions are flattened column by column; they stand row by row",
        {"picture.flatten(1).T": "picture.mT.flatten(1).T"},
    ),
    Mistake(
        "table-detached",
        "the table is cut out of the graph, and never learns",
        {
            "(picture,) = wide(table.permute": "(picture,) = wide(table.detach().permute",
            "    return picture.flatten(1).T.to(table.dtype)": "    return (picture.flatten(1).T + 0 * table.sum()).to(table.dtype)",
        },
    ),
    Mistake(
        "interpolated-in-half",
        "a half-precision table gives positions in float32; they have the type of the table",
        {"picture.flatten(1).T.to(table.dtype)": "picture.flatten(1).T"},
    ),
    # 2D RoPE
    Mistake(
        "axes-swapped",
        "even pairs turn with the row and odd ones with the column; it is the other way round",
        {"torch.stack([column, row], dim=-1)": "torch.stack([row, column], dim=-1)"},
    ),
    Mistake(
        "axes-segmented",
        "the first half of the pairs turns with the column and the second with the row; they alternate",
        {ANGLES: "        angles.append((places * theta[:, None]).mT.flatten(1))\n"},
    ),
    Mistake(
        "frequencies-of-one-axis",
        "frequencies fall as in RoPE for text, b^(-2i/D), so that half of the range is missing; they are b^(-4i/D)",
        {THETA: "    theta = base ** (-torch.arange(0, dim, 4, dtype=dtype, device=device) / (2 * dim))\n"},
    ),
    Mistake(
        "places-go-on",
        "rows count on from image to image; they start at 0 in each",
        {
            PLACES: "        places = torch.stack([column, row + sum(h for h, _ in grids[: len(angles)])], dim=-1).reshape(-1, 1, 2)\n"
        },
    ),
    Mistake(
        "places-in-one-row",
        "both kinds of pairs turn with the number of the patch, as in a text; rows and columns are apart",
        {PLACES: "        places = torch.stack([row * columns + column] * 2, dim=-1).reshape(-1, 1, 2)\n"},
    ),
    Mistake(
        "base-ignored",
        "the base is always 10000, whatever is given",
        {"    theta = base **": "    theta = 10000.0 **"},
    ),
    Mistake(
        "odd-head-accepted",
        "a head whose size is no multiple of 4 is accepted; it is a ValueError",
        {"    if dim % 4:": "    if dim % 2:"},
    ),
    Mistake(
        "half-split-pairs",
        "pairs are features i and i + D/2; they are neighbours",
        {
            PAIRS: "    x1, x2 = wide(x)[0].chunk(2, dim=-1)\n",
            TURNED: "    return turned.mT.flatten(-2).to(x.dtype)\n",
        },
    ),
    Mistake(
        "pairs-not-put-back",
        "turned pairs are concatenated by halves; each stays in its place",
        {TURNED: "    return turned.mT.flatten(-2).to(x.dtype)\n"},
    ),
    Mistake(
        "turned-backwards",
        "pairs turn by the negative angle",
        {
            "torch.stack([x1 * cos - x2 * sin, x1 * sin + x2 * cos]": "torch.stack([x1 * cos + x2 * sin, x2 * cos - x1 * sin]"
        },
    ),
    Mistake(
        "rotated-in-half",
        "half precision is rotated in half precision; take features and tables to float32, and round once",
        {PAIRS: "    x1, x2 = x.unflatten(-1, (-1, 2)).unbind(-1)\n    cos, sin = cos.to(x.dtype), sin.to(x.dtype)\n"},
    ),
    # attention
    Mistake(
        "images-see-each-other",
        "patches attend to the patches of all images; attention is block-diagonal",
        {HEADS_FIRST: HEADS_FIRST + "    lengths = [sum(lengths)]\n"},
    ),
    Mistake(
        "masked-attention",
        "all N x N logits are computed and masked; attend image by image, at the sum of the squares",
        {
            "    outputs = []\n    for Q": "    own = torch.arange(len(lengths), device=q.device).repeat_interleave(torch.tensor(list(lengths), device=q.device))\n"
            "    logits = (scale * q @ k.mT).masked_fill(own[:, None] != own, -torch.inf)\n"
            "    return (logits.softmax(dim=-1) @ v).transpose(0, 1).to(dtype)\n"
            "    outputs = []\n    for Q"
        },
    ),
    Mistake(
        "padded-attention",
        "images are padded to the largest, which costs its square for every one; attend image by image",
        {
            "    outputs = []\n    for Q": "    padded = [nn.utils.rnn.pad_sequence(x.transpose(0, 1).split(list(lengths)), batch_first=True).transpose(1, 2) for x in (q, k, v)]\n"
            "    real = torch.arange(max(lengths), device=q.device) < torch.tensor(list(lengths), device=q.device)[:, None]\n"
            "    logits = (scale * padded[0] @ padded[1].mT).masked_fill(~real[:, None, None], -torch.inf)\n"
            "    return (logits.softmax(dim=-1) @ padded[2]).transpose(1, 2)[real].to(dtype)\n"
            "    outputs = []\n    for Q"
        },
    ),
    Mistake(
        "attention-head-by-head",
        "a loop goes over the heads; heads are an axis, and one product does all",
        {
            LOGITS: "        weights = torch.stack([(scale * Q[h] @ K[h].T).softmax(dim=-1) for h in range(len(Q))])\n",
        },
    ),
    Mistake(
        "logits-unscaled",
        "logits are not scaled; divide them by the root of a head's size",
        {"    scale = q.shape[-1] ** -0.5\n": "    scale = 1.0\n"},
    ),
    Mistake(
        "scaled-by-width",
        "logits are divided by the root of the whole width; take the size of a head",
        {"    scale = q.shape[-1] ** -0.5\n": "    scale = (q.shape[-1] * q.shape[1]) ** -0.5\n"},
    ),
    Mistake(
        "attention-in-half",
        "half precision is multiplied in half precision, overflows and rounds; take all three to float32 first",
        {HEADS_FIRST: HEADS_FIRST.replace("wide(q, k, v)", "(q, k, v)")},
    ),
    # merging and projecting
    Mistake(
        "neighbours-in-sequence-merged",
        "every four patches in sequence are merged, which lie in one row; merge blocks of 2 x 2",
        {MERGED: "        merged.append(image.reshape(h * w // factor**2, -1))\n"},
    ),
    Mistake(
        "block-by-column",
        "the patches of a block stand column by column; top right comes before bottom left",
        {".transpose(1, 2)  # (h/f, w/f, f, f, E)": ".permute(0, 2, 3, 1, 4)"},
    ),
    Mistake(
        "tokens-by-column",
        "merged tokens stand column by column; they stand row by row",
        {".transpose(1, 2)  # (h/f, w/f, f, f, E)": ".permute(2, 0, 1, 3, 4)"},
    ),
    Mistake(
        "features-interleaved",
        "a token's features alternate between its patches, as in pixel_unshuffle; patches stand one after the other",
        {MERGED: "        merged.append(blocks.permute(0, 1, 4, 2, 3).reshape(h * w // factor**2, -1))\n"},
    ),
    Mistake(
        "factor-ignored",
        "blocks are always 2 x 2, whatever `factor` is",
        {"    merged = []\n": "    factor, merged = 2, []\n"},
    ),
    Mistake(
        "odd-grid-cropped",
        "rows and columns left over from blocks are dropped; they are a ValueError",
        {
            '            raise ValueError(f"{h} x {w} patches do not divide into blocks of {factor} x {factor}")\n': "            image = image.reshape(h, w, -1)[: h - h % factor, : w - w % factor]\n"
            "            h, w = image.shape[:2]\n"
        },
    ),
    Mistake(
        "merged-patch-by-patch",
        "a loop goes over the tokens; a reshape and a permutation merge the whole image",
        {
            MERGED: "        merged.append(torch.stack([block.flatten() for row in blocks for block in row]))\n",
        },
    ),
    Mistake(
        "tanh-gelu",
        "the projector's GELU is the approximation with tanh; it is the exact one",
        {"nn.functional.gelu(self.linear_1(merged))": 'nn.functional.gelu(self.linear_1(merged), approximate="tanh")'},
    ),
    # the encoder
    Mistake(
        "grid-swapped-for-positions",
        "the table is resized to columns x rows; it is rows x columns",
        {POSITIONS: POSITIONS.replace("self.positions, h, w)", "self.positions, w, h)")},
    ),
    Mistake(
        "positions-not-added",
        "the patches go into the blocks without the table's positions; add them after the embedding",
        {
            "        x = x + torch.cat([interpolate_positions(self.positions, h, w) for h, w in grids])\n": "",
        },
    ),
    Mistake(
        "projector-without-norm",
        "the projector merges patches that were not normalised; the LayerNorm comes first",
        {"merge_patches(self.norm(x), grids, self.factor)": "merge_patches(x, grids, self.factor)"},
    ),
    Mistake(
        "tables-in-half",
        "RoPE's tables have the type of the patches, and in half precision distant columns coincide; take float32 or better",
        {"precise = torch.promote_types(x.dtype, torch.float32)": "precise = x.dtype"},
    ),
    Mistake(
        "tables-in-float32",
        "RoPE's tables are float32 whatever the type of the patches; float64 takes float64",
        {"self.head, dtype=precise, device": "self.head, device"},
    ),
    # the splice
    Mistake(
        "splice-by-column",
        "image tokens are laid out column by column of the batch; they go row by row, from left to right",
        {WRITTEN: "    spliced.transpose(0, 1)[places.T] = features.to(embeddings.dtype)\n"},
    ),
    Mistake(
        "splice-in-place",
        "the caller's embeddings are overwritten; write into a copy",
        {"    spliced = embeddings.clone()\n": "    spliced = embeddings.detach()\n"},
    ),
    Mistake(
        "surplus-accepted",
        "more image tokens than placeholders are cut off; another number is a ValueError",
        {
            "    if places.sum() != len(features):": "    features = features[: int(places.sum())]\n    if places.sum() != len(features):"
        },
    ),
    Mistake(
        "one-for-all",
        "a single image token fills all placeholders; another number than that of the placeholders is a ValueError",
        {"    if places.sum() != len(features):": "    if len(features) != 1 and places.sum() != len(features):"},
    ),
    Mistake(
        "type-of-features",
        "the result takes the wider type of both; it has the type of the embeddings",
        {
            "    spliced = embeddings.clone()\n    spliced[places] = features.to(embeddings.dtype)\n": "    dtype = torch.promote_types(embeddings.dtype, features.dtype)\n"
            "    spliced = embeddings.to(dtype).clone()\n    spliced[places] = features.to(dtype)\n"
        },
    ),
    Mistake(
        "features-detached",
        "image tokens are cut out of the graph: the encoder gets no gradient",
        {
            WRITTEN: "    spliced[places] = features.detach().to(embeddings.dtype)\n    spliced = spliced + 0 * features.sum().to(embeddings.dtype)\n"
        },
    ),
    Mistake(
        "token-by-token",
        "a loop goes over the tokens; one masked assignment does all",
        {
            WRITTEN: "    for place, token in zip(places.nonzero().tolist(), features.to(embeddings.dtype), strict=True):\n        spliced[place[0], place[1]] = token\n"
        },
    ),
]

EQUIVALENT = [
    Equivalent(
        "the first of one is the last",
        {'"bicubic")[0': '"bicubic")[(-1)', " = wide(x)[0": " = wide(x)[(-1)"},
    ),
    Equivalent("a multiple of 4 is one of -4", {"if dim % 4:\n": "if dim % (-4):\n"}),
    Equivalent(
        "the tables depend on nothing that has a gradient",
        {
            "base ** (-torch.arange(0, dim, 4, dtype=dtype, device=device) / dim)": "(base ** (-torch.arange(0, dim, 4, dtype=dtype, device=device) / dim)).detach()",
            "torch.stack([column, row], dim=-1).reshape(-1, 1, 2)": "(torch.stack([column, row], dim=-1).reshape(-1, 1, 2)).detach()",
            "torch.cat(angles)": "(torch.cat(angles)).detach()",
        },
    ),
    Equivalent(
        "all tensors of the suite lie on the default device",
        {
            "dtype=dtype, device=device": "dtype=dtype",
            "rows, device=device": "rows",
            "columns, device=device": "columns",
            ", device=x.device": "",
        },
    ),
    Equivalent("it is meshgrid's default still", {', indexing="ij"': ""}),
    Equivalent("axis 2 of four is axis -2", {"turned.flatten(-2": "turned.flatten(-(-2)"}),
    Equivalent(
        "the same two axes are swapped",
        {
            "x.transpose(0, 1": "x.transpose(1, 0",
            ").transpose(0, 1": ").transpose(1, 0",
            "transpose(1, 2": "transpose(2, 1",
        },
    ),
    Equivalent(
        "the last two axes are flattened together, so only the product of their sizes counts",
        {", factor, -1": ", -1, factor"},
    ),
    Equivalent(
        "promotion is symmetric",
        {" torch.promote_types(x.dtype, torch.float32": " torch.promote_types(torch.float32, x.dtype"},
    ),
]
