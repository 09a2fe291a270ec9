"""Hidden suite for transformers/transformer: formulas token by token in float64, autograd through them, counted costs."""

import math

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import (
    applied,
    applied_cost,
    gradients,
    loaded,
    loaded_method,
    method_cost,
    rounded,
    vjp,
)
from grader.properties import (
    EVERY_FUNCTION,
    EVERY_MODULE,
    any_layout,
    case,
    computes_in_the_inputs_type,
    empty_and_single,
    given,
    holds,
    is_differentiable,
    no_state_between_calls,
    on,
    parameters_are_read_each_time,
    result_is_new,
    rounds_once,
    type_follows,
)
from grader.suite import probe

# --- probes ---


@probe
def residual_of(module, x, inner, outer, pre_norm):
    """The residual connection around a linear map as the sublayer and another, with a tanh, as the norm."""
    return module.residual(x, lambda t: t @ inner, lambda t: torch.tanh(t @ outer), pre_norm)


@probe
def model_parts(module, settings, state, source, *targets):
    """The memory, and the logits from it for one target after another."""
    model = loaded(module, "Transformer", settings, state)
    memory = model.encode(source)
    return [memory.detach(), *(model.decode(target, memory, source).detach() for target in targets)]


@probe
def translated(module, settings, state, source, start, steps):
    """Tokens chosen greedily, and the logits that they were chosen by."""
    model = loaded(module, "Transformer", settings, state)
    tokens = model.translate(source, start, steps)
    target = torch.cat([torch.full_like(tokens[:, :1], start), tokens[:, :-1]], dim=1)
    return tokens.clone(), model.decode(target, model.encode(source), source).detach()


@probe
def embedded(module, settings, state, tokens):
    """Embeddings with positions."""
    return loaded(module, "Transformer", settings, state).embed(tokens).detach()


@probe
def hand_gradients_cost(module, meter, *arguments):
    """(dx, d_gamma, d_beta) for arguments that need gradients themselves."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    with meter:
        return module.layer_norm_gradients(*leaves)


# --- oracles ---

F64 = torch.float64
B, S, T, E, F, H, V = 3, 7, 5, 6, 10, 2, 13
LAYER = {"width": E, "heads": H, "hidden": F}
MODEL = {"vocabulary": V, "width": E, "heads": H, "hidden": F, "layers": 1, "padding": 4}

# padding behind, between and nowhere; first tokens are real, so that every query sees one
SOURCE = torch.tensor([[2, 5, 9, 1, 7, 4, 4], [3, 4, 8, 12, 4, 6, 4], [11, 10, 0, 6, 2, 9, 5]])
TARGET = torch.tensor([[1, 8, 6, 4, 4], [1, 4, 0, 7, 2], [1, 12, 3, 10, 9]])


def waves(length, width):
    """Positions, number by number."""
    rows = []
    for t in range(length):
        angles = [t / 10000 ** (j // 2 * 2 / width) for j in range(width)]
        rows.append([math.cos(a) if j % 2 else math.sin(a) for j, a in enumerate(angles)])
    return torch.tensor(rows, dtype=F64)


def normed(x, weight, bias, eps=1e-5):
    """Layer norm, in float64."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    centred = x - x.sum(dim=-1, keepdim=True) / x.shape[-1]
    variance = (centred * centred).sum(dim=-1, keepdim=True) / x.shape[-1]
    return centred * (variance + eps) ** -0.5 * weight + bias


def normed_gradients(upstream, x, weight, eps=1e-5):
    """What autograd makes of layer norm: gradients of x, gain and shift."""
    leaves = [y.double().clone().requires_grad_() for y in (x, weight, torch.zeros_like(weight))]
    return vjp([normed(*leaves, eps)], leaves, [upstream.double()])


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(x, state, name):
    return normed(x, state[f"{name}.weight"], state[f"{name}.bias"])


def attended(x, context, mask, state, name, heads):
    """Multi-head attention, head by head."""
    query, key, value = (
        linear(y, state, f"{name}.{part}") for part, y in (("query", x), ("key", context), ("value", context))
    )
    size, parts = x.shape[-1] // heads, []
    for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        logits = torch.einsum("bid,bjd->bij", query[..., own], key[..., own]) / size**0.5
        if mask is not None:
            logits = torch.where(mask[:, 0], logits, -torch.inf)
        parts.append(torch.exp(logits - torch.logsumexp(logits, dim=-1, keepdim=True)) @ value[..., own])
    return linear(torch.cat(parts, dim=-1), state, f"{name}.output")


def fed(x, state, name):
    hidden = linear(x, state, f"{name}up")
    return linear(torch.where(hidden > 0, hidden, 0), state, f"{name}down")


def block(x, memory, mask, memory_mask, state, pre_norm, heads=H, name=""):
    """A layer of the encoder, or with a memory one of the decoder."""
    sublayers = [
        lambda y: attended(y, y, mask, state, f"{name}attention", heads),
        lambda y: attended(y, memory, memory_mask, state, f"{name}cross_attention", heads),
        lambda y: fed(y, state, f"{name}feed_forward."),
    ]
    for i, sublayer in enumerate(sublayers if memory is not None else sublayers[::2]):
        if pre_norm:
            x = x + sublayer(norm(x, state, f"{name}norm_{i + 1}"))
        else:
            x = norm(x + sublayer(x), state, f"{name}norm_{i + 1}")
    return x


def connected(x, inner, outer, pre_norm):
    """The residual connection around `x @ inner`, with `tanh(x @ outer)` for the norm."""
    return x + torch.tanh(x @ outer) @ inner if pre_norm else torch.tanh((x + x @ inner) @ outer)


def embedding(tokens, state, width):
    return width**0.5 * state["embedding.weight"][tokens] + waves(tokens.shape[1], width)


def visible(tokens, queries, causal, padding):
    """What each query may see, one by one: `(B, 1, queries, keys)`."""
    return torch.tensor(
        [
            [[[t != padding and (j <= i or not causal) for j, t in enumerate(row)] for i in range(queries)]]
            for row in tokens.tolist()
        ]
    )


def encoding(source, state, settings):
    x, mask = embedding(source, state, settings["width"]), visible(source, 1, False, settings.get("padding", 0))
    for i in range(settings["layers"]):
        x = block(x, None, mask, None, state, settings["pre_norm"], settings["heads"], f"encoder.{i}.")
    return norm(x, state, "encoder_norm") if settings["pre_norm"] else x


def decoding(target, memory, source, state, settings):
    x, padding = embedding(target, state, settings["width"]), settings.get("padding", 0)
    masks = visible(target, target.shape[1], True, padding), visible(source, 1, False, padding)
    for i in range(settings["layers"]):
        x = block(x, memory, *masks, state, settings["pre_norm"], settings["heads"], f"decoder.{i}.")
    x = norm(x, state, "decoder_norm") if settings["pre_norm"] else x
    return x @ state["embedding.weight"].T


def translation(source, start, steps, state, settings):
    """Tokens chosen greedily, start included, and the logits that they were chosen by."""
    memory, tokens = encoding(source, state, settings), torch.full((len(source), 1), start)
    for _ in range(steps):
        logits = decoding(tokens, memory, source, state, settings)
        tokens = torch.cat([tokens, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return tokens, logits


def smoothed(logits, targets, smoothing, padding):
    """The loss and the gradient of the logits, token by token, in float64."""
    rows, labels = logits.double().flatten(0, -2), targets.flatten().tolist()
    total, gradient, count = torch.zeros((), dtype=F64), torch.zeros_like(rows), sum(t != padding for t in labels)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        if label != padding:
            q = torch.full_like(row, smoothing / len(row))
            q[label] += 1 - smoothing
            log_p = row - torch.logsumexp(row, dim=0)
            total = total - (q * log_p).sum() / count
            gradient[i] = (log_p.exp() - q) / count
    return total, gradient.reshape(logits.shape)


def shapes(settings, kind):
    """Names and shapes of the parameters of a layer, or of the whole model."""
    width, hidden = settings["width"], settings["hidden"]
    found = {}
    prefixes = {"FeedForward": {"": 0}, "EncoderLayer": {"": 2}, "DecoderLayer": {"": 3}}.get(kind)
    if prefixes is None:
        found["embedding.weight"] = (settings["vocabulary"], width)
        prefixes = {f"encoder.{i}.": 2 for i in range(settings["layers"])}
        prefixes |= {f"decoder.{i}.": 3 for i in range(settings["layers"])}
    for prefix, sublayers in prefixes.items():
        attentions = ("attention", "cross_attention")[: max(sublayers - 1, 0)]
        sizes = {
            f"{name}.{part}": (width, width) for name in attentions for part in ("query", "key", "value", "output")
        }
        inner = "feed_forward." if sublayers else ""
        sizes |= {f"{inner}up": (hidden, width), f"{inner}down": (width, hidden)}
        for name, size in sizes.items():
            found |= {f"{prefix}{name}.weight": size, f"{prefix}{name}.bias": size[:1]}
        for i in range(sublayers):
            found |= {f"{prefix}norm_{i + 1}.{part}": (width,) for part in ("weight", "bias")}
    if kind == "Transformer" and settings["pre_norm"]:
        found |= {f"{stack}_norm.{part}": (width,) for stack in ("encoder", "decoder") for part in ("weight", "bias")}
    return found


def filled(draw, settings, kind, dtype=F64):
    """Random parameters; gains lie near 1 and biases are not 0."""
    state = {}
    for name, shape in shapes(settings, kind).items():
        p = draw.normal(*shape, dtype=F64)
        gain = "norm" in name and name.endswith("weight")
        fan_in = shape[-1] if len(shape) == 2 and "embedding" not in name else 4
        state[name] = (1 + p / 4 if gain else p / fan_in**0.5).to(dtype)
    return state


def talkative(state):
    """Parameters of a pre-norm model that avoids the token it has just read, so that it does not repeat itself."""
    return {name: -p.abs() if name == "decoder_norm.weight" else p for name, p in state.items()}


def model_flops(batch, sources, targets, settings, encode=1):
    """Operations of all matrix products, when the encoder runs `encode` times and the decoder once."""
    width, hidden = settings["width"], settings["hidden"]
    encoder = sources * (8 * width**2 + 4 * width * hidden) + 4 * sources**2 * width
    decoder = targets * (12 * width**2 + 4 * width * hidden) + 4 * targets**2 * width
    decoder += 4 * sources * width**2 + 4 * targets * sources * width
    output = 2 * targets * width * settings["vocabulary"]
    return batch * (settings["layers"] * (encode * encoder + decoder) + output)


POSITIONS = pytest.mark.part("sinusoidal_positions")
NORM = pytest.mark.part("layer_norm")
BACKWARD = pytest.mark.part("layer_norm_gradients")
FEED = pytest.mark.part("FeedForward")
RESIDUAL = pytest.mark.part("residual")
SOURCE_MASK = pytest.mark.part("source_mask")
TARGET_MASK = pytest.mark.part("target_mask")
ENCODER = pytest.mark.part("EncoderLayer")
DECODER = pytest.mark.part("DecoderLayer")
WHOLE = pytest.mark.part("Transformer")
LOSS = pytest.mark.part("label_smoothed_loss")
BOTH = pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])


class TestValues:
    @POSITIONS
    @pytest.mark.points(2)
    def test_positions(self, submission):
        """neighbouring features are sine and cosine of one angle"""
        for length, width in ((9, 8), (5, 14)):
            got = submission.sinusoidal_positions(length, width, F64)
            assert_close(got, waves(length, width), what=f"positions of width {width}", dtype=F64)

    @NORM
    @pytest.mark.points(2)
    def test_norm(self, submission, draw):
        """each token is normalised over its features, then scaled and shifted"""
        x, weight, bias = 1 + 3 * draw.normal(B, T, E, dtype=F64), draw.normal(E, dtype=F64), draw.normal(E, dtype=F64)
        assert_close(submission.layer_norm(x, weight, bias), normed(x, weight, bias), what="output", dtype=F64)
        got, expected = submission.layer_norm(x, weight, bias, 0.7), normed(x, weight, bias, 0.7)
        assert_close(got, expected, what="output for eps = 0.7", dtype=F64)

    @FEED
    def test_feed_forward(self, submission, draw):
        """linear, ReLU, linear"""
        settings = {"width": E, "hidden": F}
        state, x = filled(draw, settings, "FeedForward"), draw.normal(B, T, E, dtype=F64)
        got = submission.run(applied, "FeedForward", settings, state, x)
        assert_close(got, fed(x, state, ""), what="output", dtype=F64)

    @RESIDUAL
    @pytest.mark.points(2)
    def test_residual(self, submission, draw):
        """post-norm norms the sum; pre-norm norms what the sublayer reads, and the sum starts from x"""
        for pre_norm in (False, True):
            arguments = *(draw.normal(E, E, dtype=F64) for _ in range(3)), pre_norm
            got = submission.run(residual_of, *arguments)
            assert_close(got, connected(*arguments), what=f"output of {'pre' if pre_norm else 'post'}-norm", dtype=F64)

    @SOURCE_MASK
    def test_source_mask(self, submission):
        """padding is hidden as a key, wherever it stands"""
        got = submission.source_mask(SOURCE, 4)
        assert_equal(got, visible(SOURCE, 1, False, 4), what="mask")

    @TARGET_MASK
    @pytest.mark.points(2)
    def test_target_mask(self, submission):
        """a token sees itself and what comes before, without padding"""
        for tokens, padding in ((TARGET, 4), (TARGET.flip(1), 4), (TARGET, 99)):
            got = submission.target_mask(tokens, padding)
            assert_equal(got, visible(tokens, T, True, padding), what="mask")

    @ENCODER
    @pytest.mark.points(3)
    def test_encoder_layer(self, submission, draw):
        """self attention, then feed-forward, each with its residual connection and its own norm"""
        mask, x = visible(SOURCE, 1, False, 4), draw.normal(B, S, E, dtype=F64)
        for pre_norm in (False, True):
            settings = {**LAYER, "pre_norm": pre_norm}
            state = filled(draw, settings, "EncoderLayer")
            got = submission.run(applied, "EncoderLayer", settings, state, x, mask)
            expected = block(x, None, mask, None, state, pre_norm)
            assert_close(got, expected, what=f"output of {'pre' if pre_norm else 'post'}-norm", dtype=F64)

    @DECODER
    @pytest.mark.points(3)
    def test_decoder_layer(self, submission, draw):
        """self attention, cross attention to the memory, feed-forward, in this order"""
        x, memory = draw.normal(B, T, E, dtype=F64), draw.normal(B, S, E, dtype=F64)
        masks = visible(TARGET, T, True, 4), visible(SOURCE, 1, False, 4)
        for pre_norm in (False, True):
            settings = {**LAYER, "pre_norm": pre_norm}
            state = filled(draw, settings, "DecoderLayer")
            got = submission.run(applied, "DecoderLayer", settings, state, x, memory, *masks)
            expected = block(x, memory, *masks, state, pre_norm)
            assert_close(got, expected, what=f"output of {'pre' if pre_norm else 'post'}-norm", dtype=F64)

    @WHOLE
    @pytest.mark.points(3)
    @BOTH
    def test_model(self, submission, draw, pre_norm):
        """the memory of a padded batch, and the logits for all target tokens"""
        settings = {**MODEL, "pre_norm": pre_norm, "layers": 1 + pre_norm}
        state = filled(draw, settings, "Transformer")
        memory = encoding(SOURCE, state, settings)
        expected = [memory, decoding(TARGET, memory, SOURCE, state, settings)]
        got = submission.run(model_parts, settings, state, SOURCE, TARGET)
        assert_close(got, expected, what="[memory, logits]", dtype=F64)

    @WHOLE
    @pytest.mark.points(2)
    def test_translate(self, submission, draw):
        """each step adds the most likely token, for each sentence its own"""
        settings = {**MODEL, "pre_norm": True}
        state = talkative(filled(draw, settings, "Transformer"))
        tokens, logits = translation(SOURCE, 7, 5, state, settings)
        got = submission.run(translated, settings, state, SOURCE, 7, 5)
        assert_equal(got[0], tokens[:, 1:], what="tokens after 7")
        assert_close(got[1], logits, what="logits for these tokens", dtype=F64)

    @LOSS
    @pytest.mark.points(2)
    def test_loss(self, submission, draw):
        """all classes share the smoothing's mass, and all real tokens the mean"""
        logits = 2 * draw.normal(B, T, V, dtype=F64)
        for smoothing in (0.3, 0.0):
            got = submission.label_smoothed_loss(logits, TARGET, smoothing, 4)
            expected = smoothed(logits, TARGET, smoothing, 4)[0]
            assert_close(got, expected, what=f"loss for a smoothing of {smoothing}", dtype=F64)


class TestGradients:
    @BACKWARD
    @pytest.mark.points(3)
    def test_norm_by_hand(self, submission, draw):
        """dx, d_gamma and d_beta by the formulas are the gradients of layer norm"""
        x, weight, upstream = (
            1 + 2 * draw.normal(B, T, E, dtype=F64),
            draw.normal(E, dtype=F64),
            draw.normal(B, T, E, dtype=F64),
        )
        got = submission.layer_norm_gradients(upstream, x, weight)
        assert_close(got, normed_gradients(upstream, x, weight), what="(dx, d_gamma, d_beta)", dtype=F64)
        got = submission.layer_norm_gradients(upstream, x, weight, 0.7)
        assert_close(
            got, normed_gradients(upstream, x, weight, 0.7), what="(dx, d_gamma, d_beta) for eps = 0.7", dtype=F64
        )


class TestStability:
    @POSITIONS
    def test_late_positions(self, submission):
        """positions of thousands are right to the last digit of the type"""
        for dtype in (torch.float32, torch.float16):
            got, values = submission.run(rounded, "sinusoidal_positions", 3000, 6, dtype)
            assert_equal(got, dtype, what="type of the positions")
            eps, what, reason = torch.finfo(dtype).eps, f"positions in {dtype}", "one rounding is allowed, at the end"
            assert_close(values, waves(3000, 6), what=what, rtol=eps, atol=eps / 8, reason=reason)

    @NORM
    def test_large_mean(self, submission, draw):
        """a variance of 1 survives beside a mean of ten thousand"""
        x, weight, bias = (draw.normal(B, T, 32, dtype=F64) + 1e4).float(), draw.normal(32), draw.normal(32)
        reason = "the mean itself is rounded to float32"
        got = submission.layer_norm(x, weight, bias)
        assert_close(got, normed(x, weight, bias).float(), what="output", rtol=2e-2, atol=2e-2, reason=reason)

    @BACKWARD
    def test_large_mean_gradients(self, submission, draw):
        """a variance of 1 survives beside a mean of ten thousand, in the gradients too"""
        x, weight = (draw.normal(B, T, 32, dtype=F64) + 1e4).float(), draw.normal(32)
        upstream, reason = draw.normal(B, T, 32), "the mean itself is rounded to float32"
        got = submission.layer_norm_gradients(upstream, x, weight)
        expected = [y.float() for y in normed_gradients(upstream, x, weight)]
        assert_close(got, expected, what="(dx, d_gamma, d_beta)", rtol=2e-2, atol=5e-2, reason=reason)

    @BACKWARD
    def test_types_of_gradients(self, submission, draw):
        """dx has the type of x, and d_gamma and d_beta have that of the gain"""
        upstream, x, weight = draw.normal(B, T, E), draw.normal(B, T, E), draw.normal(E)
        for one, other in ((torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)):
            arguments = upstream, x.to(one), weight.to(other)
            got, values = submission.run(rounded, "layer_norm_gradients", *arguments)
            assert_equal(got, [one, other, other], what="types of (dx, d_gamma, d_beta)")
            for name, value, exact in zip(
                ("dx", "d_gamma", "d_beta"), values, normed_gradients(*arguments), strict=True
            ):
                rtol = 1e-5 if got[name != "dx"] == torch.float32 else 2.0**-8
                reason = "one rounding to the type of the result is allowed, at the end"
                assert_close(value, exact, what=name, rtol=rtol, atol=1e-5, reason=reason)

    @LOSS
    def test_large_logits(self, submission, draw):
        """logits of thousands do not overflow"""
        logits = 5e3 * draw.normal(B, T, V)
        loss, gradient = smoothed(logits, TARGET, 0.2, 4)
        got = submission.run(gradients, "label_smoothed_loss", [logits], torch.ones(1), TARGET, 0.2, 4)
        assert_close(got, (loss.float(), [gradient.float()]), what="(loss, [gradient of the logits])")

    @WHOLE
    def test_types_of_embeddings(self, submission, draw):
        """embeddings and positions have the type of the parameters"""
        settings = {**MODEL, "pre_norm": False}
        state = {name: p.bfloat16() for name, p in filled(draw, settings, "Transformer").items()}
        x = submission.run(embedded, settings, state, SOURCE)
        assert_equal(x.dtype, torch.bfloat16, what="type of the embeddings")
        expected = embedding(SOURCE, {name: p.double() for name, p in state.items()}, E)
        reason = "factor, product, positions and sum may each be rounded to half precision"
        assert_close(x.double(), expected, what="embeddings", rtol=2.0**-6, atol=2.0**-6, reason=reason)


class TestEdgeCases:
    @WHOLE
    def test_causality(self, submission, draw):
        """later target tokens leave earlier logits alone"""
        settings = {**MODEL, "pre_norm": False}
        state, changed = filled(draw, settings, "Transformer"), TARGET.clone()
        changed[:, 3:] = torch.tensor([[7, 2], [9, 9], [0, 4]])
        memory = encoding(SOURCE, state, settings)
        expected = [memory, *(decoding(y, memory, SOURCE, state, settings) for y in (TARGET, changed))]
        got = submission.run(model_parts, settings, state, SOURCE, TARGET, changed)
        assert_close(got, expected, what="[memory, logits, logits for other tokens at the end]", dtype=F64)
        assert_close(got[2][:, :3], got[1][:, :3], what="logits of the first 3 tokens, when the others change")

    @WHOLE
    def test_padding(self, submission, draw):
        """a padded sentence comes out as it does alone"""
        settings = {**MODEL, "pre_norm": True}
        state = filled(draw, settings, "Transformer")
        got = submission.run(model_parts, settings, state, SOURCE, TARGET)
        source, target = SOURCE[:1, :5], TARGET[:1, :3]
        memory = encoding(source, state, settings)
        expected = [memory, decoding(target, memory, source, state, settings)]
        got = [got[0][:1, :5], got[1][:1, :3]]
        assert_close(got, expected, what="[memory, logits] of the first sentence without its padding", dtype=F64)

    @LOSS
    def test_only_padding(self, submission, draw):
        """a batch of nothing but padding has the loss 0 and gradients of 0"""
        logits, targets = draw.normal(T, V, dtype=F64), torch.full((T,), 4)
        got = submission.run(gradients, "label_smoothed_loss", [logits], torch.ones(1, dtype=F64), targets, 0.2, 4)
        expected = torch.zeros((), dtype=F64), [torch.zeros(T, V, dtype=F64)]
        assert_close(got, expected, what="(loss, [gradient of the logits])")


def words(draw, batch, length):
    """Tokens, some of them padding whether that is 0 or 4, but none of the first."""
    tokens = draw.integers(0, V, batch, length)
    tokens[:, 0] = 5
    return tokens


def tables(draw):
    """Positions of several lengths, widths and types, one after another."""
    return [given(5, 6), given(17, 6), given(17, 6, dtype=F64), given(6, 7, F64), given(1, 1), given(9, 14)]


def norm_calls(draw):
    """Any number of axes before the features, with a mean beside which deviations are small, and epsilons."""
    calls = []
    for shape, how in (((B, T, 40), {}), ((E,), {"eps": 0.7}), ((1, 3, 4, E), {"eps": 0.0}), ((1, 1), {})):
        x, weight, bias = 4 * draw.normal(*shape, dtype=F64) + 30, *draw.normal(2, shape[-1], dtype=F64)
        calls.append(given(x, weight, bias, **how))
    return calls


def norm_gradient_calls(*shapes):
    def drawn(draw):
        calls = []
        for shape, how in zip(shapes, ({}, {"eps": 0.7}, {"eps": 0.0}), strict=False):
            upstream, x = draw.normal(*shape, dtype=F64), 4 * draw.normal(*shape, dtype=F64) + 30
            calls.append(given(upstream, x, draw.normal(shape[-1], dtype=F64), **how))
        return calls

    return drawn


def by_hand(upstream, x, weight, eps=1e-5):
    return tuple(normed_gradients(upstream, x, weight, eps))


def residual_calls(draw):
    calls = []
    for shape in ((B, E), (1, T, E)):
        maps = draw.normal(2, E, E, dtype=F64)
        calls += [given(draw.normal(*shape, dtype=F64), *maps, pre_norm) for pre_norm in (False, True)]
    return calls


def feed_calls(draw):
    settings = {"width": E, "hidden": F}
    calls = [given(draw.normal(*shape, E, dtype=F64)) for shape in ((B, T), (1, 2, 3), (1,))]
    return on(("FeedForward", settings, filled(draw, settings, "FeedForward")), *calls)


def layer_calls(name, heads, pre_norm):
    """Layers with masks and without, one of them alone, in sentences of several lengths."""

    def drawn(draw):
        settings, calls = {**LAYER, "heads": heads, "pre_norm": pre_norm}, []
        for batch, sources, targets, padded, causal in (
            (B, 7, 5, 1, 1),
            (1, 3, 17, 0, 1),
            (2, 17, 4, 1, 0),
            (1, 1, 1, 0, 0),
        ):
            source, target = words(draw, batch, sources), words(draw, batch, targets)
            memory, x = (draw.normal(batch, n, E, dtype=F64) for n in (sources, targets))
            mask = visible(source, 1, False, 4) if padded else None
            causal_mask = visible(target, targets, True, 4) if causal else None
            calls.append(given(memory, mask) if name == "EncoderLayer" else given(x, memory, causal_mask, mask))
        return on((name, settings, filled(draw, settings, name)), *calls)

    return drawn


def layer(name, settings, state, x, *rest):
    """The oracle of both layers and of feed-forward."""
    if name == "FeedForward":
        return fed(x, state, "")
    memory, mask, memory_mask = (None, *rest, None) if name == "EncoderLayer" else rest
    return block(x, memory, mask, memory_mask, state, settings["pre_norm"], settings["heads"])


POST = {"vocabulary": V, "width": E, "heads": 3, "hidden": F, "layers": 2, "pre_norm": False}  # padding is 0
PRE = {**MODEL, "pre_norm": True}
LENGTHS = ((B, 7, 5), (1, 5, 17), (2, 17, 5), (1, 1, 1))  # of batches, sources and targets


def model_calls(settings, method):
    """Longer sentences after shorter ones, and single tokens."""

    def drawn(draw):
        calls = []
        for batch, sources, targets in LENGTHS:
            source, target = words(draw, batch, sources), words(draw, batch, targets)
            memory = draw.normal(batch, sources, settings["width"], dtype=F64)
            calls.append(
                {
                    "embed": given(source),
                    "encode": given(source),
                    "decode": given(target, memory, source),
                    "forward": given(source, target),
                    "translate": given(source, 1, 4),
                }[method]
            )
        return on(("Transformer", settings, talkative(filled(draw, settings, "Transformer")), method), *calls)

    return drawn


def model(name, settings, state, method, *arguments):
    """The oracle of the model's methods."""
    if method == "embed":
        return embedding(*arguments, state, settings["width"])
    if method == "encode":
        return encoding(*arguments, state, settings)
    if method == "decode":
        return decoding(*arguments, state, settings)
    if method == "translate":
        return translation(*arguments, state, settings)[0][:, 1:]
    source, target = arguments
    return decoding(target, encoding(source, state, settings), source, state, settings)


def loss_calls(draw):
    """Smoothing and padding given and not, together and alone."""
    real = draw.integers(1, V, B, T)
    return [
        given(2 * draw.normal(B, T, V, dtype=F64), TARGET, 0.2, 4),
        given(2 * draw.normal(B, T, V, dtype=F64), TARGET),
        given(2 * draw.normal(1, T, V, dtype=F64), real[:1].masked_fill(real[:1] == 4, -100), padding=-100),
        given(2 * draw.normal(2, 2, 3, V, dtype=F64), draw.integers(1, V, 2, 2, 3), smoothing=0.7),
        given(2 * draw.normal(1, 2, dtype=F64), torch.tensor([1])),
    ]


def loss_of(logits, targets, smoothing=0.1, padding=0):
    return smoothed(logits, targets, smoothing, padding)[0]


def mask_calls(draw):
    sizes = (B, 7), (1, 17), (1, 1), (2, 7)
    return [given(words(draw, *size), padding) for size in sizes for padding in (4, 99)]


def seen_by(causal):
    return lambda tokens, padding: visible(tokens, tokens.shape[1] if causal else 1, causal, padding)


TOKENS = (any_layout, result_is_new, no_state_between_calls, parameters_are_read_each_time)
MASKS = (any_layout, result_is_new, no_state_between_calls, empty_and_single)
TestProperties = holds(
    case(
        "sinusoidal_positions",
        tables,
        result_is_new,
        no_state_between_calls,
        empty_and_single,
        expect=lambda length, width, dtype=torch.float32: waves(length, width).to(dtype),
    ),
    case(
        "layer_norm",
        norm_calls,
        *EVERY_FUNCTION,
        is_differentiable,
        empty_and_single,
        rounds_once,
        type_follows(0),
        expect=normed,
    ),
    case(
        "layer_norm_gradients",
        norm_gradient_calls((B, T, 40), (1, 3, 4, E), (2, 1, E)),
        *EVERY_FUNCTION,
        rounds_once,
        type_follows(1, 2),
        expect=by_hand,
    ),
    case(
        "layer_norm_gradients",
        norm_gradient_calls((E,), (E,)),  # where d_beta may be dy itself
        no_state_between_calls,
        computes_in_the_inputs_type,
        expect=by_hand,
        name="gradients of one token",
    ),
    case("FeedForward", feed_calls, *EVERY_MODULE, is_differentiable, empty_and_single, made=loaded, expect=layer),
    case(
        "residual",
        residual_calls,
        *EVERY_FUNCTION,
        is_differentiable,
        empty_and_single,
        of=residual_of,
        expect=connected,
    ),
    case("source_mask", mask_calls, *MASKS, expect=seen_by(False)),
    case("target_mask", mask_calls, *MASKS, expect=seen_by(True)),
    *(
        case(
            name,
            layer_calls(name, heads, pre_norm),
            *EVERY_MODULE,
            is_differentiable,
            empty_and_single,
            made=loaded,
            expect=layer,
            name=f"{name} {kind}",
        )
        for name in ("EncoderLayer", "DecoderLayer")
        for heads, pre_norm, kind in ((3, False, "post-norm"), (H, True, "pre-norm"))
    ),
    *(
        case(
            "Transformer",
            model_calls(settings, method),
            *((*EVERY_MODULE, is_differentiable) if method != "translate" else TOKENS),
            empty_and_single,
            made=loaded_method,
            expect=model,
            target=f"Transformer.{method}",
            name=name,
        )
        for name, settings, method in (
            ("odd width", {**POST, "width": 7, "heads": 1}, "embed"),
            ("encode", POST, "encode"),
            ("decode", POST, "decode"),
            ("post-norm", POST, "forward"),
            ("pre-norm", PRE, "forward"),
            ("translate", PRE, "translate"),
        )
    ),
    case("label_smoothed_loss", loss_calls, *EVERY_FUNCTION, is_differentiable, rounds_once(None), expect=loss_of),
)


class TestPerformance:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.part(name), id=name)
            for name in ("sinusoidal_positions", "layer_norm", "layer_norm_gradients", "label_smoothed_loss")
        ],
    )
    def test_operators(self, submission, draw, name):
        """the number of operators depends neither on batch nor on lengths nor on widths"""
        costs = []
        for n in (4, 9):
            x, weight, tokens = draw.normal(n, n + 2, 2 * n), draw.normal(2 * n), draw.integers(0, n, n, n + 2)
            tokens[0] = n
            if name == "sinusoidal_positions":
                arguments, expected = (n, 2 * n), waves(n, 2 * n).float()
            elif name == "layer_norm":
                arguments, expected = (x, weight, weight), normed(x, weight, weight).float()
            elif name == "layer_norm_gradients":
                arguments = x, x + 1, weight
                expected = [y.float() for y in normed_gradients(*arguments)]
            else:
                arguments, expected = (x, tokens, 0.2, n), smoothed(x, tokens, 0.2, n)[0].float()
            got = submission.measure(name, *arguments)
            assert_close(got.value, expected, what="result")
            costs.append(got.cost)
        assert_growth(*costs, "operators", at_most=1.0, when="batch, length and width double")

    @BACKWARD
    def test_no_graph(self, submission, draw):
        """the gradients come from the formulas and build no graph, even for arguments that need gradients"""
        arguments = draw.normal(8, 16), draw.normal(8, 16), draw.normal(16)
        cost = submission.measure(hand_gradients_cost, *arguments).cost
        assert_cost(cost, "saved_bytes", at_most=0, why="the formulas need no graph")

    @LOSS
    def test_loss_memory(self, submission, draw):
        """the loss makes no tensor larger than the logits"""
        logits, targets = draw.normal(8, 16, 64), draw.integers(0, 64, 8, 16)
        cost = submission.measure("label_smoothed_loss", logits, targets).cost
        assert_cost(cost, "largest_bytes", at_most=4 * logits.numel(), why="the logits in float32")

    @FEED
    def test_feed_forward_cost(self, submission, draw):
        """feed-forward takes all tokens at once"""
        settings, costs = {"width": 8, "hidden": 12}, []
        state = filled(draw, settings, "FeedForward", torch.float32)
        for batch, length in ((2, 5), (3, 11)):
            cost = submission.measure(applied_cost, "FeedForward", settings, state, draw.normal(batch, length, 8)).cost
            assert_cost(cost, "flops", at_most=4 * batch * length * 8 * 12, why="two products, 4 E F a token")
            costs.append(cost)
        assert_growth(*costs, "operators", at_most=1.0, when="there are more sentences, and longer ones")

    @WHOLE
    @pytest.mark.points(2)
    def test_model_cost(self, submission, draw):
        """one pass through both stacks, for all sentences and tokens at once"""
        settings = {**MODEL, "pre_norm": True, "width": 8}
        state, costs = filled(draw, settings, "Transformer", torch.float32), []
        for source, target in ((SOURCE, TARGET), (SOURCE[:2, :4], TARGET[:2, :3])):
            cost = submission.measure(applied_cost, "Transformer", settings, state, source, target).cost
            limit = 1.1 * model_flops(len(source), source.shape[1], target.shape[1], settings)
            assert_cost(cost, "flops", at_most=limit, why="every layer once for all tokens, and 10 % beside")
            costs.append(cost)
        assert_growth(*reversed(costs), "operators", at_most=1.0, when="there are more sentences, and longer ones")

    @WHOLE
    @pytest.mark.points(2)
    def test_translate_cost(self, submission, draw):
        """translation runs the encoder once, however many steps there are"""
        settings = {**MODEL, "pre_norm": True, "width": 8}
        state = filled(draw, settings, "Transformer", torch.float32)
        cost = submission.measure(method_cost, "Transformer", settings, state, "translate", SOURCE, 1, 6).cost
        limit = 1.1 * sum(model_flops(B, S, t, settings, encode=t == 1) for t in range(1, 7))
        assert_cost(
            cost, "flops", at_most=limit, why="the encoder once, the decoder over 1, 2, ... 6 tokens, and 10 % beside"
        )
