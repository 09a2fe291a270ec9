"""Hidden suite for transformers/gpt: the whole model over all tokens in float64, stand-ins for what a part calls, counts."""

import math

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.probes import layout, several
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
def pairs_of(caches):
    """Caches as lists, whatever sequences they are."""
    return [[x.detach() for x in cache] for cache in caches]


@probe
def loaded(module, name, sizes, state):
    """A layer in evaluation mode with the given parameters; those it should not have get numbers of their own."""
    layer = getattr(module, name)(**sizes).to(next(iter(state.values())).dtype).eval()
    with torch.no_grad():
        mine = [layer.get_parameter(path) for path in state]
        for p in layer.parameters():
            p.copy_(torch.linspace(-2, 5, p.numel()).cos().reshape(p.shape))
        for p, value in zip(mine, state.values(), strict=True):
            p.copy_(value)
    return layer


@probe
def layer_output(module, name, sizes, state, x):
    """What a layer makes of x, without the cache."""
    y = loaded(module, name, sizes, state)(x)
    return (y if torch.is_tensor(y) else y[0]).detach()


@probe
def cached_output(module, name, sizes, state, x, cache=None):
    """The output and the longer cache of attention or a block."""
    y, longer = loaded(module, name, sizes, state)(x, cache)
    return y.detach(), [k.detach() for k in longer]


@probe
def with_dropout(module, name, sizes, state, x):
    """The outputs with a dropout of one half, in evaluation mode and twice in training."""
    layer = loaded(module, name, {**sizes, "dropout": 0.5}, state)
    results = [layer(x), layer.train()(x), layer(x)]  # each an output, or (output, cache)
    return [(y if torch.is_tensor(y) else y[0]).detach() for y in results]


@probe
def all_dropped(module, name, sizes, state, x):
    """The output in training with a dropout of 1."""
    return loaded(module, name, {**sizes, "dropout": 1.0}, state).train()(x)[0].detach()


@probe
def fresh_norm(module, width):
    """The parameters of a new layer norm."""
    return {path: p.detach() for path, p in module.LayerNorm(width).named_parameters()}


@probe
def with_plain_caches(module, name, sizes, state):
    """A layer, as `loaded`, that returns lists of lists, whatever its caches are."""
    layer = loaded(module, name, sizes, state)

    def listed(value):
        return value if torch.is_tensor(value) else [listed(item) for item in value]

    layer.register_forward_hook(lambda layer, given, result: listed(result))
    return layer


@probe
def extended(module, cache, key, value):
    """The longer cache, as a list."""
    return list(module.extend_cache(cache, key, value))


@probe
def generator(module, sizes, state):
    """`generate` with a model of the given parameters, to be called like a module."""

    class Generator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = loaded(module, "GPT", sizes, state)

        def forward(self, *arguments, **how):
            return module.generate(self.model, *arguments, **how)

    return Generator()


@probe
def in_pieces(module, sizes, state, tokens, lengths):
    """Logits of all tokens, fed piece by piece, and the last caches."""
    model, caches, logits = loaded(module, "GPT", sizes, state), None, []
    for piece in tokens.split(lengths, dim=1):
        y, caches = model(piece, caches)
        logits.append(y.detach())
    return torch.cat(logits, dim=1), pairs_of(caches)


@probe
def stand_in(number):
    """In place of the forward of block `number`: adds a running sum over the tokens so far, which it keeps as cache."""

    def forward(x, cache=None):
        old = x[:, None, :0] if cache is None else cache[0]
        keys = torch.cat([old, x[:, None]], dim=2)  # (B, 1, T, E)
        total = old.sum(dim=2) + x.cumsum(dim=1)
        return x + 0.3 * (number + 1) * total, (keys, -keys)

    return forward


@probe
def stood_in(module, sizes, state, tokens, lengths):
    """As `in_pieces`, but with stand-ins for the blocks, and the caches after every piece."""
    model, caches, results = loaded(module, "GPT", sizes, state), None, []
    blocks = [block for block in model.modules() if isinstance(block, module.Block)]
    for number, block in enumerate(blocks):
        block.forward = stand_in(number)
    for piece in tokens.split(lengths, dim=1):
        y, caches = model(piece, caches)
        results.append([y.detach(), pairs_of(caches)])
    return results


@probe
def embedded(module, sizes, state, tokens):
    """What enters the first block, with a dropout of one half: in evaluation mode, and in training."""
    model = loaded(module, "GPT", {**sizes, "dropout": 0.5}, state)
    seen = []

    def forward(x, cache=None):
        seen.append(x.detach())
        return x, (x[:, None], x[:, None])

    for block in model.modules():
        if isinstance(block, module.Block):
            block.forward = forward
    model(tokens)
    model.train()(tokens)
    return seen


@probe
def beginning(module, sizes, names):
    """Mean, standard deviation and largest size of parameters of a new model."""
    model = module.GPT(**sizes)
    chosen = {name: model.get_parameter(name).detach().double() for name in names}
    return {name: [p.mean().item(), p.std(correction=0).item(), p.abs().max().item()] for name, p in chosen.items()}


@probe
def begun(module, sizes, names):
    """Parameters of two new models."""
    models = [module.GPT(**sizes) for _ in range(2)]
    return [model.get_parameter(name).detach() for model in models for name in names]


@probe
def continued(module, sizes, state, tokens, steps, **how):
    """What `generate` makes of a prompt with a real model."""
    return generator(module, sizes, state)(tokens, steps, **how)


@probe
def counter(vocabulary):
    """In place of a model: the next token is the sum of all so far, plus twice their number; it logs its calls.

    In training mode, and at all places but the last, the logits say nothing.
    """

    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lengths = []

        def forward(self, tokens, caches=None):
            self.lengths.append(tokens.shape[1])
            old = tokens[:, None, :0, None] if caches is None else caches[0][0]
            keys = torch.cat([old, tokens[:, None, :, None]], dim=2)  # (B, 1, T, 1)
            logits = torch.zeros(*tokens.shape, vocabulary)
            following = (keys.sum(dim=(1, 2, 3)) + 2 * keys.shape[2]) % vocabulary
            if not self.training:
                logits[:, -1] = 60.0 * (torch.arange(vocabulary) == following[:, None])
            return logits, [(keys, keys)]

    return Counter()


@probe
def counted_on(module, vocabulary, tokens, steps, training, **how):
    """What `generate` makes of the counting stand-in, how many tokens each call had, and the mode afterwards."""
    model = counter(vocabulary).train(training)
    return module.generate(model, tokens, steps, **how), model.lengths, model.training


@probe
def drawn(module, logits, tokens, **how):
    """Two tokens behind each prompt, in two calls, from a stand-in whose logits are the same everywhere."""

    class Constant(torch.nn.Module):
        def forward(self, tokens, caches=None):
            keys = tokens[:, None, :, None]
            return logits.expand(*tokens.shape, -1), [(keys, keys)]

    return torch.cat([module.generate(Constant(), tokens, 2, **how)[:, -2:] for _ in range(2)], dim=1)


@probe
def self_attention_cost(module, meter, sizes, state, x):
    """Multi-head attention without a cache; the forward alone is metered."""
    layer = loaded(module, "SelfAttention", sizes, state)
    with torch.no_grad(), meter:
        return layer(x)[0]


@probe
def model_cost(module, meter, sizes, state, tokens):
    """The logits of a prompt; the forward alone is metered."""
    model = loaded(module, "GPT", sizes, state)
    with torch.no_grad(), meter:
        return model(tokens)[0]


@probe
def step_cost(module, meter, sizes, state, tokens):
    """The last token's step; the tokens before it went in at once, unmetered."""
    model = loaded(module, "GPT", sizes, state)
    with torch.no_grad():
        _, caches = model(tokens[:, :-1])
        with meter:
            return model(tokens[:, -1:], caches)[0]


@probe
def generate_cost(module, meter, sizes, state, tokens, steps):
    """Generation from a prompt; building the model is not metered."""
    model = loaded(module, "GPT", sizes, state)
    with meter:
        return module.generate(model, tokens, steps)


# --- oracles ---

F64 = torch.float64
B, T, H, D, L, V = 2, 7, 3, 4, 2, 13
E, CONTEXT = H * D, 9
MODEL = dict(vocabulary=V, context=CONTEXT, width=E, heads=H, layers=L)


def linear(x, state, path):
    return torch.einsum("...i,oi->...o", x, state[f"{path}.weight"]) + state[f"{path}.bias"]


def normed(x, weight, bias, eps=1e-5):
    mean = x.sum(dim=-1, keepdim=True) / x.shape[-1]
    variance = ((x - mean) ** 2).sum(dim=-1, keepdim=True) / x.shape[-1]
    return (x - mean) * (variance + eps) ** -0.5 * weight + bias


def seen(queries, keys):
    """Which keys each query sees, one by one."""
    return torch.tensor([[j - keys <= i - queries for j in range(keys)] for i in range(queries)])


def attended(query, key, value):
    """Causal attention in float64; the queries are the last ones."""
    query, key, value = query.double(), key.double(), value.double()
    scores = torch.einsum("bhid,bhjd->bhij", query, key) / query.shape[-1] ** 0.5
    scores = torch.where(seen(query.shape[2], key.shape[2]), scores, -torch.inf)
    e = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return torch.einsum("bhij,bhjd->bhid", e / e.sum(dim=-1, keepdim=True), value)


def cut(x, heads):
    """Heads as a new axis, head by head."""
    size = x.shape[-1] // heads
    return torch.stack([x[..., h * size : (h + 1) * size] for h in range(heads)], dim=1)


def gathered(state, path, heads, x, past=None):
    """Self-attention over all of x, behind the keys and values of `past`: the output, and [keys, values]."""
    query, *new = (
        cut(x @ state[f"{path}project.weight"][rows].T + state[f"{path}project.bias"][rows], heads)
        for rows in (slice(i * x.shape[-1], (i + 1) * x.shape[-1]) for i in range(3))
    )
    key, value = new if past is None else (torch.cat(pair, dim=2) for pair in zip(past, new, strict=True))
    joined = torch.cat(attended(query, key, value).unbind(dim=1), dim=-1)
    return linear(joined, state, f"{path}output"), [key, value]


def thought(state, path, x):
    """The MLP, with the exact GELU."""
    hidden = linear(x, state, f"{path}expand")
    return linear(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2, state, f"{path}output")


def transformed(state, path, heads, x, past=None):
    """One block over all of x, behind `past`."""

    def norm(name, y):
        return normed(y, state[f"{path}{name}.weight"], state[f"{path}{name}.bias"])

    mixed, cache = gathered(state, f"{path}attention.", heads, norm("attention_norm", x), past)
    x = x + mixed
    return x + thought(state, f"{path}mlp.", norm("mlp_norm", x)), cache


def predicted(state, tokens, heads=H, caches=None):
    """Logits of all tokens at once, behind those in the caches, and the caches of all layers."""
    past = caches[0][0].shape[2] if caches else 0
    x = torch.stack([state["token.weight"][row] for row in tokens])
    x, longer = x + state["position.weight"][past : past + tokens.shape[1]], []
    for number in range(sum(path.endswith("attention_norm.weight") for path in state)):
        x, cache = transformed(state, f"blocks.{number}.", heads, x, caches[number] if caches else None)
        longer.append(cache)
    return normed(x, state["norm.weight"], state["norm.bias"]) @ state["token.weight"].T, longer


def continuation(state, tokens, steps, heads=H):
    """The prompt and greedy tokens, by the whole model over all tokens, step by step."""
    for _ in range(steps):
        following = predicted(state, tokens, heads)[0][:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, following], dim=1)
    return tokens


def predicted_by_stand_ins(state, tokens, layers=L):
    """The same with stand-ins for the blocks."""
    x, caches = state["token.weight"][tokens] + state["position.weight"][: tokens.shape[1]], []
    for number in range(layers):
        caches.append([x[:, None], -x[:, None]])
        x = x + 0.3 * (number + 1) * x.cumsum(dim=1)
    return normed(x, state["norm.weight"], state["norm.bias"]) @ state["token.weight"].T, caches


def surprise(logits, tokens, ignored=-100):
    """The loss, target by target."""
    terms = [
        torch.logsumexp(logits[b, t].double(), dim=-1) - logits[b, t, tokens[b, t + 1]].double()
        for b in range(len(tokens))
        for t in range(tokens.shape[1] - 1)
        if tokens[b, t + 1] != ignored
    ]
    return sum(terms) / len(terms) if terms else torch.zeros((), dtype=F64)


def kept(logits, temperature=1.0, top_k=None, top_p=None):
    """The probabilities of one row of logits, token by token, in float64."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i].item(), i))
    if temperature == 0:
        return torch.tensor([float(i == order[0]) for i in range(len(logits))], dtype=F64)
    order = order[:top_k]
    p = {i: math.exp((logits[i].item() - logits[order[0]].item()) / temperature) for i in order}
    total, mass, nucleus = sum(p.values()), 0.0, []
    for i in order:
        if top_p is None or mass < top_p:
            nucleus.append(i)
        mass += p[i] / total
    total = sum(p[i] for i in nucleus)
    return torch.tensor([p[i] / total if i in nucleus else 0.0 for i in range(len(logits))], dtype=F64)


def all_kept(logits, temperature=1.0, top_k=None, top_p=None):
    """The same for rows of logits."""
    rows = [kept(row, temperature, top_k, top_p) for row in logits.double().reshape(-1, logits.shape[-1])]
    return torch.stack(rows).reshape(logits.shape)


def shapes(name, width=E, context=CONTEXT, vocabulary=V, layers=L):
    """Names and shapes of a layer's parameters."""
    if name == "LayerNorm":
        return {"weight": (width,), "bias": (width,)}
    if name in ("SelfAttention", "MLP"):
        first, size, inner = ("project", 3, 1) if name == "SelfAttention" else ("expand", 4, 4)
        return {
            f"{first}.weight": (size * width, width),
            f"{first}.bias": (size * width,),
            "output.weight": (width, inner * width),
            "output.bias": (width,),
        }
    children = {"attention_norm": "LayerNorm", "attention": "SelfAttention", "mlp_norm": "LayerNorm", "mlp": "MLP"}
    own = {}
    if name == "GPT":
        own = {"token.weight": (vocabulary, width), "position.weight": (context, width)}
        children = {**{f"blocks.{number}": "Block" for number in range(layers)}, "norm": "LayerNorm"}
    inner = {f"{child}.{path}": s for child, kind in children.items() for path, s in shapes(kind, width).items()}
    return own | inner


def parameters(draw, name, dtype=F64, **sizes):
    """Random parameters, none of them small, none of them special."""
    drawn = {path: draw.normal(*shape, dtype=dtype) for path, shape in shapes(name, **sizes).items()}
    return {path: p if p.dim() == 1 else 2 * p / p.shape[1] ** 0.5 for path, p in drawn.items()}


def qkv(draw, queries=T, keys=T, dtype=F64, dim=D):
    return [draw.normal(B, H, n, dim, dtype=dtype) for n in (queries, keys, keys)]


NORM, ATTENTION, LOSS = (pytest.mark.part(name) for name in ("LayerNorm", "attention", "next_token_loss"))
CACHE, HEADS, MLP, BLOCK = (pytest.mark.part(name) for name in ("extend_cache", "SelfAttention", "MLP", "Block"))
GPT, SAMPLING, GENERATE = (pytest.mark.part(name) for name in ("GPT", "sampling_probabilities", "generate"))
SIZES = {"LayerNorm": dict(width=E), "MLP": dict(width=E)}
SIZES |= {name: dict(width=E, heads=H) for name in ("SelfAttention", "Block")}


def check_probabilities(submission, logits, cases, what):
    got = submission.run(several, "sampling_probabilities", [((logits,), how) for how in cases])
    assert_close(got, [all_kept(logits, **how) for how in cases], what=what, dtype=F64)


class TestValues:
    @NORM
    def test_layer_norm(self, submission, draw):
        """each token is normalised over its own features, scaled and shifted"""
        state, x = parameters(draw, "LayerNorm"), 1e7 * (3 * draw.normal(B, T, E, dtype=F64) + 1)
        got = submission.run(layer_output, "LayerNorm", SIZES["LayerNorm"], state, x)
        assert_close(got, normed(x, **state), what="output", dtype=F64)
        begun = {"weight": torch.ones(E), "bias": torch.zeros(E)}
        assert_close(submission.run(fresh_norm, E), begun, what="parameters of a new layer norm", dtype=torch.float32)

    @pytest.mark.part("split_heads")
    def test_split_heads(self, submission, draw):
        """head h gets the features h D to (h + 1) D - 1 of every token"""
        x = draw.normal(B, T, E, dtype=F64)
        assert_equal(submission.split_heads(x, H), cut(x, H), what="heads")

    @pytest.mark.part("merge_heads")
    def test_merge_heads(self, submission, draw):
        """the features of all heads stand side by side again"""
        x = draw.normal(B, T, E, dtype=F64)
        assert_equal(submission.merge_heads(cut(x, H)), x, what="tokens")

    @pytest.mark.part("causal_mask")
    def test_causal_mask(self, submission):
        """the last query sees all keys, the one before it all but one"""
        sizes = [(3, 7), (5, 5), (1, 4), (6, 7)]
        got = submission.run(several, "causal_mask", [(size, {}) for size in sizes])
        assert_equal(got, [seen(*size) for size in sizes], what=f"masks for (queries, keys) of {sizes}")

    @ATTENTION
    @pytest.mark.parametrize("queries", [T, 3, 1], ids=["as many queries as keys", "fewer", "one"])
    def test_attention(self, submission, draw, queries):
        """each query averages the values up to its own place"""
        tensors = qkv(draw, queries)
        assert_close(submission.attention(*tensors), attended(*tensors), what="output", dtype=F64)

    @CACHE
    @pytest.mark.parametrize("new", [4, 2], ids=["as many", "fewer"])
    def test_extend_cache(self, submission, draw, new):
        """new keys and values stand behind the old ones"""
        old, (_, key, value) = qkv(draw, keys=4)[1:], qkv(draw, keys=new)
        got = submission.extend_cache(tuple(old), key, value)
        expected = tuple(torch.cat([a, b], dim=2) for a, b in zip(old, (key, value), strict=True))
        assert_equal(tuple(got) if isinstance(got, list) else got, expected, what="(keys, values)")

    @HEADS
    @pytest.mark.points(2)
    def test_self_attention(self, submission, draw):
        """every head attends with its own rows of `project`"""
        state, x = parameters(draw, "SelfAttention"), draw.normal(B, T, E, dtype=F64)
        got = submission.run(cached_output, "SelfAttention", SIZES["SelfAttention"], state, x)
        assert_close(got, gathered(state, "", H, x), what="(output, cache)", dtype=F64)

    @MLP
    def test_mlp(self, submission, draw):
        """expand, exact GELU, output"""
        state, x = parameters(draw, "MLP"), draw.normal(B, T, E, dtype=F64)
        got = submission.run(layer_output, "MLP", SIZES["MLP"], state, x)
        assert_close(got, thought(state, "", x), what="output", dtype=F64)

    @BLOCK
    @pytest.mark.parametrize("silent", ["attention", "attention and mlp"])
    def test_silent_branches(self, submission, draw, silent):
        """a branch whose output layer is 0 adds nothing to the stream"""
        state, x = parameters(draw, "Block"), normed(draw.normal(B, T, E, dtype=F64), 1, 0, 0)
        for name in ("attention_norm", "mlp_norm"):  # leaves what is normalised as it is
            state[f"{name}.weight"], state[f"{name}.bias"] = (
                torch.full((E,), 1.00001**0.5, dtype=F64),
                torch.zeros(E, dtype=F64),
            )
        for branch in silent.split(" and "):
            for path in (f"{branch}.output.weight", f"{branch}.output.bias"):
                state[path] = torch.zeros_like(state[path])
        got = submission.run(layer_output, "Block", SIZES["Block"], state, x)
        expected = x if "mlp" in silent else x + thought(state, "mlp.", x)
        assert_close(got, expected, what="output for normalised tokens")

    @BLOCK
    @pytest.mark.points(2)
    def test_block(self, submission, draw):
        """two branches, each normalised before and added to the stream as it was"""
        state, x = parameters(draw, "Block"), 2 * draw.normal(B, T, E, dtype=F64)
        got = submission.run(cached_output, "Block", SIZES["Block"], state, x)
        assert_close(got, transformed(state, "", H, x), what="(output, cache)", dtype=F64)

    @pytest.mark.points(2)
    @pytest.mark.parametrize(
        ("name", "whole"),
        [pytest.param("SelfAttention", gathered, marks=HEADS), pytest.param("Block", transformed, marks=BLOCK)],
    )
    def test_cached(self, submission, draw, name, whole):
        """three tokens behind four cached ones come out as in all seven at once"""
        state, x = parameters(draw, name), draw.normal(B, T, E, dtype=F64)
        cache = whole(state, "", H, x[:, :4])[1]
        expected, longer = whole(state, "", H, x)
        got = submission.run(cached_output, name, SIZES[name], state, x[:, 4:].clone(), tuple(cache))
        assert_close(got, (expected[:, 4:], longer), what="(output, cache)", dtype=F64)

    @GPT
    @pytest.mark.points(2)
    def test_around_the_blocks(self, submission, draw):
        """embeddings, positions, caches, last norm and output layer, with stand-ins for the blocks"""
        state, tokens = parameters(draw, "GPT"), draw.integers(0, V, B, T)
        got = submission.run(stood_in, MODEL, state, tokens, [4, 3])
        logits, caches = predicted_by_stand_ins(state, tokens)
        first = [[k[:, :, :4] for k in cache] for cache in caches]
        expected = [[logits[:, :4], first], [logits[:, 4:], caches]]
        assert_close(got, expected, what="[logits, caches] of tokens 0 to 3, and of 4 to 6 behind them", dtype=F64)

    @GPT
    @pytest.mark.points(2)
    def test_model(self, submission, draw):
        """the logits of all tokens, and the caches of all layers"""
        state, tokens = parameters(draw, "GPT"), draw.integers(0, V, B, T)
        got = submission.run(in_pieces, MODEL, state, tokens, [T])
        assert_close(got, predicted(state, tokens), what="(logits, caches)", dtype=F64)

    @GPT
    @pytest.mark.points(2)
    def test_prefill_and_decode(self, submission, draw):
        """a prompt of three, two tokens together and two one by one give what all seven give at once"""
        state, tokens = parameters(draw, "GPT"), draw.integers(0, V, B, T)
        got = submission.run(in_pieces, MODEL, state, tokens, [3, 2, 1, 1])
        assert_close(got, predicted(state, tokens), what="(logits, caches)", dtype=F64)

    @GPT
    def test_layout(self, submission):
        """the parameters have the names and shapes of the statement; the output layer adds none"""
        expected = {name: list(shape) for name, shape in shapes("GPT").items()}
        assert_equal(submission.run(layout, "GPT", MODEL), expected, what="shapes of the parameters")

    @pytest.mark.part("initialise")
    @pytest.mark.parametrize("which", ["output layers of the blocks", "all others"])
    def test_initialise(self, submission, which):
        """weights start at 0.02, output layers of the blocks smaller, biases at 0, layer norms at 1"""
        sizes = dict(vocabulary=100, context=40, width=64, heads=4, layers=3)
        drawn = shapes("GPT", 64, 40, 100, 3)
        small = which == "output layers of the blocks"
        names = [name for name in drawn if name.endswith("output.weight") == small]
        got = submission.run(beginning, sizes, names)
        for name in names:
            mean, std, largest = got[name]
            if len(drawn[name]) == 1:
                constant = float(name.endswith("norm.weight"))
                assert_equal([mean, std], [constant, 0.0], what=f"[mean, standard deviation] of {name}")
                continue
            size = 0.02 / 6**0.5 if small else 0.02
            near = abs(std / size - 1) < 0.12 and abs(mean) < size / 5
            said = f"mean {mean:.4g}, standard deviation {std:.4g}"
            assert_that(near, f"{name} starts with mean 0 and standard deviation {size:.4g}", got=said)
            said = f"none above {largest / std:.3g} standard deviations"
            assert_that(largest > 2.5 * std, f"{name} is normal, so some are above 2.5 standard deviations", got=said)

    @pytest.mark.part("initialise")
    def test_each_draws(self, submission):
        """every model and every layer draws weights of its own"""
        names = [f"blocks.{block}.mlp.expand.weight" for block in range(2)]
        got = submission.run(begun, MODEL, names)
        alike = [(a, b) for a in range(4) for b in range(a) if torch.equal(got[a], got[b])]
        assert_equal(alike, [], what="pairs that are alike of [layers 0 and 1 of two models]")

    @LOSS
    @pytest.mark.points(2)
    def test_loss(self, submission, draw):
        """the logits of each token are judged by the next one; ignored targets count nowhere"""
        logits, tokens = draw.normal(B, T, V, dtype=F64), draw.integers(0, V, B, T)
        padded = tokens.clone()
        padded[0, 5:], padded[1, 2] = -100, -100
        other = torch.where(padded == -100, V - 1, padded.clamp(max=V - 2))
        cases = [(logits, tokens), (logits, padded), (logits, other, V - 1)]
        expected = [surprise(*case) for case in cases]
        got = submission.run(several, "next_token_loss", [(case, {}) for case in cases])
        assert_close(got, expected, what="losses [all, padded, other index]", dtype=F64)

    @LOSS
    def test_loss_of_one_token(self, submission, draw):
        """where all tokens are alike, every place but the last counts once"""
        logits, tokens = draw.normal(B, T, V, dtype=F64), torch.full((B, T), 5)
        got = submission.next_token_loss(logits, tokens)
        assert_close(got, surprise(logits, tokens), what="loss of a token repeated", dtype=F64)

    @SAMPLING
    @pytest.mark.points(2)
    @pytest.mark.parametrize("kind", ["temperature", "top_k", "top_p", "together"])
    def test_probabilities(self, submission, draw, kind):
        """exactly the right tokens are kept, and share a probability of 1"""
        logits = 2 * draw.normal(B, V, dtype=F64)
        cases = {
            "temperature": [{}, dict(temperature=0.6), dict(temperature=2.5)],
            "top_k": [dict(top_k=4), dict(top_k=1), dict(top_k=V + 3)],
            "top_p": [dict(top_p=0.8), dict(top_p=0.5), dict(top_p=1e-6)],
            "together": [dict(temperature=1.7, top_k=6, top_p=p) for p in (0.9, 0.7, 0.55)],
        }[kind]
        what = f"probabilities for {', '.join(map(str, cases))}"
        check_probabilities(submission, logits, cases, what)

    @GENERATE
    @pytest.mark.points(2)
    @pytest.mark.parametrize("steps", [1, 4])
    def test_generate_loop(self, submission, draw, steps):
        """the prompt goes in at once, then each new token alone with the caches; seen through a stand-in for the model"""
        tokens = draw.integers(0, 50, 16, 5)
        got, lengths, _ = submission.run(counted_on, 50, tokens, steps, False)
        expected = tokens
        for _ in range(steps):
            following = (expected.sum(dim=1) + 2 * expected.shape[1]) % 50
            expected = torch.cat([expected, following[:, None]], dim=1)
        assert_equal(got, expected, what="tokens, where the next is certain")
        assert_equal(list(lengths), [5, 1, 1, 1][:steps], what="how many tokens each call of the model got")

    @GENERATE
    @pytest.mark.points(2)
    def test_generate(self, submission, draw):
        """greedy generation gives the tokens that the whole model over all tokens gives, step by step"""
        state, tokens = parameters(draw, "GPT"), draw.integers(0, V, B, 4)
        got = submission.run(continued, MODEL, state, tokens, 6, temperature=0.0)
        assert_equal(got, continuation(state, tokens, 6), what="tokens")

    @GENERATE
    def test_generate_samples(self, submission, draw):
        """tokens are drawn with the filtered probabilities, anew for each row, in each step and in each call"""
        logits = torch.tensor([0.0, 1.4, -1.0, 2.0, 0.4, 1.9, 0.5])
        how = dict(temperature=1.5, top_k=4, top_p=0.8)
        got = submission.run(drawn, logits, torch.zeros(900, 2, dtype=torch.long), **how)
        p = kept(logits, **how)
        reason = "900 draws are off by more than 0.12 less than once in 10^12 times"
        for column, name in enumerate(("first step", "second step", "first step of a second call")):
            shares = torch.stack([(got[:, column] == i).double().mean() for i in range(len(logits))])
            what = f"shares of the tokens in the {name}"
            assert_close(shares, p, what=what, rtol=0.0, atol=0.12, reason=reason)
            assert_equal(shares == 0, p == 0, what=f"tokens that are never drawn in the {name}")
        for name, a, b in (("steps of a call", 0, 1), ("calls", 0, 2)):
            alike = (got[:, a] == got[:, b]).double().mean()
            what = f"share of the rows in which two {name} drew the same token"
            assert_close(alike, (p**2).sum(), what=what, rtol=0.0, atol=0.12, reason=reason)


class TestStability:
    @ATTENTION
    @pytest.mark.parametrize("size", [30, 1e6])
    def test_large_scores(self, submission, draw, size):
        """scores far from 0 neither overflow nor let hidden keys through, however small those seen are"""
        query, key, value = qkv(draw)
        key[:, :, 0] = -query[:, :, 0]  # what the first query sees is far below 0
        got = submission.attention(size * query, size * key, value)
        assert_close(got, attended(size * query, size * key, value), what="output", dtype=F64)


class TestEdgeCases:
    @GPT
    def test_full_context(self, submission, draw):
        """the context can be filled to its last place"""
        sizes, tokens = {**MODEL, "context": 6, "layers": 1}, draw.integers(0, V, B, 6)
        state = parameters(draw, "GPT", context=6, layers=1)
        got = submission.run(stood_in, sizes, state, tokens, [4, 2])
        expected = predicted_by_stand_ins(state, tokens, layers=1)[0]
        what = "logits of tokens 0 to 3 and 4 to 5"
        assert_close([y for y, _ in got], list(expected.split([4, 2], dim=1)), what=what)

    @GPT
    def test_beyond_the_context(self, submission, draw):
        """one token more than the context is a ValueError, with caches too"""
        sizes, tokens = {**MODEL, "context": 6, "layers": 1}, draw.integers(0, V, B, 7)
        state = parameters(draw, "GPT", context=6, layers=1)
        for lengths in ([7], [4, 3]):
            with submission.expect_raises(ValueError):
                submission.run(stood_in, sizes, state, tokens, lengths)

    @LOSS
    def test_nothing_counted(self, submission, draw):
        """where no target counts the loss is 0, all ignored or a single token; one target is a mean too"""
        logits, tokens = draw.normal(B, T, V, dtype=F64), torch.full((B, T), -100)
        one = tokens.clone()
        one[1, 3] = 5
        cases = [(logits, tokens), (logits[:, :1].clone(), tokens[:, :1].clone() + 100), (logits, one)]
        expected = [surprise(*case) for case in cases]
        got = submission.run(several, "next_token_loss", [(case, {}) for case in cases])
        assert_close(got, expected, what="losses [all ignored, one token, one target]")

    @SAMPLING
    def test_greedy(self, submission, draw):
        """temperature 0 gives the largest logit the probability 1, whatever the filters"""
        logits = draw.normal(B, 3, V, dtype=F64)
        cases = [dict(temperature=0), dict(temperature=0.0, top_k=5, top_p=0.9)]
        check_probabilities(submission, logits, cases, "probabilities")

    @SAMPLING
    def test_equal_logits(self, submission):
        """among equal logits the lower token is kept; half of four equal ones are two"""
        cases = [dict(top_k=3), dict(top_k=1), dict(top_p=0.75), dict(top_p=0.5), dict(temperature=0)]
        for logits in ([1.0, 3.0, 2.0, 2.0, 3.0, 2.0], [2.0] * 4):
            check_probabilities(submission, torch.tensor(logits, dtype=F64), cases, f"probabilities for {cases}")

    @pytest.mark.parametrize("name", [pytest.param("MLP", marks=MLP), pytest.param("SelfAttention", marks=HEADS)])
    def test_dropout(self, submission, draw, name):
        """a dropout of one half does nothing in evaluation; in training outputs are zeroed or doubled"""
        state, x = parameters(draw, name), draw.normal(B, T, E, dtype=F64)
        evaluated, trained, again = submission.run(with_dropout, name, SIZES[name], state, x)
        expected = thought(state, "", x) if name == "MLP" else gathered(state, "", H, x)[0]
        assert_close(evaluated, expected, what="output in evaluation mode")
        dropped = trained == 0
        share = dropped.double().mean().item()
        assert_that(0.2 < share < 0.8, "a dropout of one half zeroes about half of the output in training", got=share)
        assert_close(trained, torch.where(dropped, 0, 2 * expected), what="output in training, where it is not 0")
        assert_that(not torch.equal(again == 0, dropped), "each call in training drops other numbers")

    @pytest.mark.parametrize("name", [pytest.param("Block", marks=BLOCK), pytest.param("GPT", marks=GPT)])
    def test_dropout_passed_on(self, submission, draw, name):
        """with a dropout of 1 nothing is added in training: the stream stays what it is in a block, and 0 in a model"""
        state = parameters(draw, name)
        if name == "Block":
            x = draw.normal(B, T, E, dtype=F64)
            expected, sizes = x, SIZES["Block"]
        else:
            x, sizes = draw.integers(0, V, B, T), MODEL
            expected = (state["norm.bias"] @ state["token.weight"].T).expand(B, T, V)
        got = submission.run(all_dropped, name, sizes, state, x)
        assert_close(got, expected, what="output in training, with a dropout of 1", dtype=F64)

    @GPT
    def test_embedding_dropout(self, submission, draw):
        """what enters the first block is zeroed or doubled in training, and the sum of the embeddings in evaluation"""
        state, tokens = parameters(draw, "GPT", layers=1), draw.integers(0, V, B, T)
        seen = submission.run(embedded, {**MODEL, "layers": 1}, state, tokens)
        expected = state["token.weight"][tokens] + state["position.weight"][:T]
        assert_close(seen[0], expected, what="input of the first block in evaluation mode")
        dropped = seen[1] == 0
        share = dropped.double().mean().item()
        assert_that(0.2 < share < 0.8, "a dropout of one half zeroes about half of the sum in training", got=share)
        assert_close(seen[1], torch.where(dropped, 0, 2 * expected), what="input in training, where it is not 0")

    @GENERATE
    @pytest.mark.parametrize("came", [True, False], ids=["training", "evaluation"])
    def test_mode(self, submission, draw, came):
        """a model generates in evaluation mode, and is in the mode again in which it came"""
        tokens = draw.integers(0, 50, 16, 1)
        got, _, training = submission.run(counted_on, 50, tokens, 1, came)
        assert_equal(got, torch.cat([tokens, (tokens + 2) % 50], dim=1), what="tokens, where the next is certain")
        assert_equal(training, came, what="`model.training` afterwards")

    @GENERATE
    def test_short_context(self, submission, draw):
        """the last token drawn needs no place in the context; 0 steps return the prompt"""
        sizes, state, tokens = {**MODEL, "context": 6}, parameters(draw, "GPT", context=6), draw.integers(0, V, B, 4)
        got = submission.run(continued, sizes, state, tokens, 3, top_k=1)
        assert_equal(got, continuation(state, tokens, 3), what="tokens")
        assert_equal(submission.run(continued, sizes, state, tokens, 0), tokens, what="tokens after 0 steps")


def norm_calls(eps):
    """Features whose squares overflow in float16; a token alone, and a feature alone."""

    def drawn(draw):
        state = parameters(draw, "LayerNorm")
        calls = [
            given(size * draw.normal(*shape, E, dtype=F64))
            for size, shape in ((400, (B, T)), (1, (1, 3, 2)), (1, (1,)))
        ]
        return on(("LayerNorm", {"width": E, **eps}, state), *calls)

    return drawn


def split_calls(draw):
    return [given(draw.normal(b, t, E, dtype=F64), heads) for b, t, heads in ((B, T, H), (1, 17, 2), (1, 1, 1))]


def merge_calls(draw):
    return [given(draw.normal(*shape, dtype=F64)) for shape in ((B, H, T, D), (1, 2, 17, 3), (1, 1, 1, 1))]


def mask_calls(draw):
    return [given(*sizes) for sizes in ((3, 7), (7, 7), (17, 17), (1, 7), (1, 1))]


def attention_calls(draw):
    """As many queries as keys, fewer, and one alone, behind others after fewer keys."""
    sizes = (T, T), (5, 40), (1, 17), (1, 1)
    return [given(*(3 * x for x in qkv(draw, *size))) for size in sizes]


def cache_calls(*lengths):
    """New keys behind so many old ones."""

    def drawn(draw):
        calls = []
        for number, old in enumerate(lengths, 1):
            (key, value), cache = qkv(draw, keys=number)[1:], qkv(draw, keys=old)[1:]
            calls.append(given(tuple(cache) if old else None, key, value))
        return calls

    return drawn


def behind(cache, key, value):
    return [key, value] if cache is None else [torch.cat(pair, dim=2) for pair in zip(cache, (key, value), strict=True)]


def thinking_calls(draw):
    calls = [given(draw.normal(b, t, E, dtype=F64)) for b, t in ((B, T), (1, 17), (1, 1))]
    return on(("MLP", SIZES["MLP"], parameters(draw, "MLP")), *calls)


def layer_calls(name, heads):
    """Without a cache, and with caches of several lengths; one sentence, one token."""

    def drawn(draw):
        calls = []
        for batch, past, new in ((B, 0, T), (1, 0, 17), (B, 3, 4), (1, 12, 1), (1, 0, 1)):
            cache = [draw.normal(batch, heads, past, E // heads, dtype=F64) for _ in range(2)]
            calls.append(given(draw.normal(batch, new, E, dtype=F64), *([tuple(cache)] if past else [])))
        return on((name, {"width": E, "heads": heads}, parameters(draw, name)), *calls)

    return drawn


def layer(name, sizes, state, x, cache=None):
    """The oracle of attention, block and model."""
    if name == "GPT":
        return list(predicted(state, x, sizes["heads"], cache))
    return list((gathered if name == "SelfAttention" else transformed)(state, "", sizes["heads"], x, cache))


LONG = {**MODEL, "context": 20, "heads": 2, "layers": 3}


def model_calls(*lengths):
    """Tokens behind so many that are cached, in a list that is the caller's."""

    def drawn(draw):
        calls = []
        for batch, past, new in lengths:
            shape = 2, batch, LONG["heads"], past, E // LONG["heads"]
            caches = [tuple(draw.normal(*shape, dtype=F64)) for _ in range(LONG["layers"])]
            calls.append(given(draw.integers(0, V, batch, new), *([caches] if past else [])))
        return on(("GPT", LONG, parameters(draw, "GPT", context=20, layers=3)), *calls)

    return drawn


def prompts(draw):
    calls = [
        given(draw.integers(0, V, b, t), steps, temperature=0.0) for b, t, steps in ((B, 4, 5), (1, 12, 3), (1, 1, 1))
    ]
    return on((LONG, parameters(draw, "GPT", context=20, layers=3)), *calls)


def loss_calls(draw):
    """Any index may be the ignored one, 0 too; logits of hundreds; two tokens, and one sentence."""
    calls = []
    for batch, length, size, how in (
        (B, T, 1, {}),
        (B, T, 1, {"ignore_index": 0}),
        (1, 17, 100, {"ignore_index": 3}),
        (1, 2, 1, {}),
    ):
        tokens = draw.integers(0, V, batch, length)
        tokens[0, -1] = 5
        calls.append(given(size * draw.normal(batch, length, V, dtype=F64), tokens, **how))
    calls[0].args[1][1, 2:] = -100
    return calls


def settled(draw, shape, top_p=0.5, **how):
    """Logits in digits of bfloat16, some of them -inf, of which `top_p` keeps as many if it is a little more or less."""
    rows = []
    while len(rows) < math.prod(shape):
        row = (2 * draw.normal(V) - 6).bfloat16().double()
        row[draw.integers(0, V, 3)] = -torch.inf
        if torch.equal(*(kept(row, top_p=top_p + e, **how) > 0 for e in (-1e-3, 1e-3))):
            rows.append(row)
    return torch.stack(rows).reshape(*shape, V)


def sampling_calls(draw):
    """Every filter alone and all pairs; a temperature so low that logits are below any number put in for -inf."""
    ways = [{}, dict(temperature=0.7), dict(top_k=4), dict(top_p=0.7), dict(top_p=1.0)]
    ways += [dict(temperature=2.0, top_k=5), dict(temperature=0.6, top_p=0.8), dict(top_k=3, top_p=0.5)]
    ways += [
        dict(temperature=1.7, top_k=6, top_p=0.9),
        dict(temperature=1e-12, top_k=2),
        dict(temperature=0.0, top_k=3),
    ]
    shapes = (B,), (), (1, 2), (3,)
    return [given(settled(draw, shapes[i % 4], **how), **how) for i, how in enumerate(ways)]


VIEWS = (any_layout, no_state_between_calls, computes_in_the_inputs_type, empty_and_single)
TOKENS = (any_layout, result_is_new, no_state_between_calls, parameters_are_read_each_time, empty_and_single)
TestProperties = holds(
    *(
        case(
            "LayerNorm",
            norm_calls(eps),
            *EVERY_MODULE,
            is_differentiable,
            empty_and_single,
            rounds_once,
            type_follows(0),
            made=loaded,
            expect=lambda name, sizes, state, x: normed(x, **state, eps=sizes.get("eps", 1e-5)),
            name=name,
        )
        for name, eps in (("default epsilon", {}), ("large epsilon", {"eps": 1.0}), ("no epsilon", {"eps": 0.0}))
    ),
    case("split_heads", split_calls, *VIEWS, expect=cut),
    case("merge_heads", merge_calls, *VIEWS, expect=lambda x: torch.cat(x.unbind(dim=1), dim=-1)),
    case("causal_mask", mask_calls, result_is_new, no_state_between_calls, empty_and_single, expect=seen),
    case(
        "attention",
        attention_calls,
        *EVERY_FUNCTION,
        is_differentiable,
        empty_and_single,
        rounds_once,
        type_follows(2),
        expect=attended,
    ),
    case("extend_cache", cache_calls(4, 1, 17), *EVERY_FUNCTION, is_differentiable, of=extended, expect=behind),
    case("extend_cache", cache_calls(0, 4), *VIEWS[:3], of=extended, expect=behind, name="no cache yet"),
    case(
        "MLP",
        thinking_calls,
        *EVERY_MODULE,
        is_differentiable,
        empty_and_single,
        made=loaded,
        expect=lambda name, sizes, state, x: thought(state, "", x),
    ),
    *(
        case(
            name,
            layer_calls(name, heads),
            *EVERY_MODULE,
            is_differentiable,
            empty_and_single,
            made=with_plain_caches,
            expect=layer,
        )
        for name, heads in (("SelfAttention", 2), ("Block", H))
    ),
    case(
        "GPT",
        model_calls((B, 0, T), (1, 0, 17), (B, 0, 9), (1, 0, 1)),
        *EVERY_MODULE,
        is_differentiable,
        empty_and_single,
        made=with_plain_caches,
        expect=layer,
        name="without caches",
    ),
    case(
        "GPT",
        model_calls((B, 3, 4), (1, 16, 1), (B, 5, 4), (1, 1, 1)),
        *EVERY_MODULE,
        is_differentiable,
        empty_and_single,
        made=with_plain_caches,
        expect=layer,
        name="with caches",
    ),
    case(
        "next_token_loss",
        loss_calls,
        *EVERY_FUNCTION,
        is_differentiable,
        rounds_once(None),
        expect=lambda logits, tokens, ignore_index=-100: surprise(logits, tokens, ignore_index),
    ),
    case(
        "sampling_probabilities", sampling_calls, *EVERY_FUNCTION, empty_and_single, rounds_once(None), expect=all_kept
    ),
    case(
        "generate",
        prompts,
        *TOKENS,
        made=generator,
        expect=lambda sizes, state, tokens, steps, temperature: continuation(state, tokens, steps, sizes["heads"]),
    ),
)


class TestPerformance:
    @ATTENTION
    def test_attention_cost(self, submission, draw):
        """one query costs what its own row of scores costs"""
        keys = 96
        cost = submission.measure("attention", *qkv(draw, 1, keys, torch.float32)).cost
        assert_cost(cost, "flops", at_most=4 * B * H * keys * D, why="4 Tq Tk D a head, for Q K^T and P V, with Tq = 1")

    @HEADS
    def test_heads(self, submission, draw):
        """operators are as many for 2 heads and 5 tokens as for 8 and 17"""
        state = parameters(draw, "SelfAttention", torch.float32, width=16)
        few, many = (
            submission.measure(self_attention_cost, dict(width=16, heads=h), state, draw.normal(B, t, 16)).cost
            for h, t in ((2, 5), (8, 17))
        )
        assert_growth(few, many, "operators", at_most=1.0, when="there are 8 heads and not 2, and 17 tokens and not 5")

    @GPT
    def test_model_operators(self, submission, draw):
        """operators of the whole model are as many for two prompts of 5 tokens as for four of 17"""
        state = parameters(draw, "GPT", torch.float32, context=20)
        sizes = {**MODEL, "context": 20}
        few, many = (
            submission.measure(model_cost, sizes, state, draw.integers(0, V, *shape)).cost
            for shape in ((2, 5), (4, 17))
        )
        assert_growth(few, many, "operators", at_most=1.0, when="there are 4 prompts of 17 tokens and not 2 of 5")

    @LOSS
    def test_loss_operators(self, submission, draw):
        """the loss takes all tokens at once"""
        few, many = (
            submission.measure("next_token_loss", draw.normal(b, t, V), draw.integers(0, V, b, t)).cost
            for b, t in ((2, 5), (4, 17))
        )
        assert_growth(few, many, "operators", at_most=1.0, when="there are 4 prompts of 17 tokens and not 2 of 5")

    @GPT
    @pytest.mark.points(2)
    def test_step(self, submission, draw):
        """a step projects one token, whatever stands in the cache"""
        sizes = dict(vocabulary=V, context=160, width=E, heads=H, layers=L)
        state = parameters(draw, "GPT", torch.float32, context=160)
        for length in (40, 160):
            cost = submission.measure(step_cost, sizes, state, draw.integers(0, V, B, length)).cost
            limit = step_flops(length)
            assert_cost(
                cost, "flops", at_most=limit, why="2 for each weight, and 4 T E a layer for attention over T keys"
            )

    @GENERATE
    @pytest.mark.points(2)
    def test_generate_cost(self, submission, draw):
        """eight steps more cost eight steps of one token each"""
        sizes = dict(vocabulary=V, context=48, width=E, heads=H, layers=L)
        state, tokens = parameters(draw, "GPT", torch.float32, context=48), draw.integers(0, V, B, 32)
        one, nine = (submission.measure(generate_cost, sizes, state, tokens, steps).cost for steps in (1, 9))
        limit = one.flops + sum(step_flops(33 + step) for step in range(8))
        why = "the prompt once, then 2 for each weight and token, and 4 T E a layer for attention over T keys"
        assert_cost(nine, "flops", at_most=limit, why=why)


def step_flops(length):
    """Products of a step of one token, which is the `length`-th."""
    return 2 * B * (L * 12 * E**2 + V * E) + 4 * B * L * E * length
