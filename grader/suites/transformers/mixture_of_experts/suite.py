"""Hidden suite for transformers/mixture_of_experts: every expert on every token in float64, autograd, and counted costs."""

import pytest
import torch

from grader.compare import assert_close, assert_equal
from grader.cost import assert_cost, assert_growth
from grader.probes import built, gradients, layout, loaded
from grader.properties import (
    EVERY_FUNCTION,
    EVERY_MODULE,
    any_layout,
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
)
from grader.suite import probe

# --- probes ---


@probe
def mixed(module, x, weights, experts, matrices):
    """The mixture of `tanh(x M_i)`, whose functions are in a list or a tuple as the matrices are."""
    functions = [lambda group, M=M: torch.tanh(group @ M) for M in matrices]
    return module.mixture(x, weights, experts, type(matrices)(functions))


@probe
def scaled_mixture(module, x, weights, experts, factors):
    """The mixture of `factor_i * x`."""
    return module.mixture(x, weights, experts, [lambda group, factor=factor: factor * group for factor in factors])


@probe
def called(module, x, weights, experts, number):
    """How many tokens each call of each expert was given; calls without tokens are left out."""
    calls = [[] for _ in range(number)]

    def function(i):
        def call(group):
            if len(group):
                calls[i].append(len(group))
            return group

        return call

    module.mixture(x, weights, experts, [function(i) for i in range(number)])
    return calls


@probe
def loaded_layer(module, settings, state, bias):
    """A layer with the given parameters and bias."""
    return loaded(module, "MixtureOfExperts", settings, {**state, "bias": bias})


@probe
def layer_output(module, settings, state, bias, x):
    """Output, logits and experts of a layer with the given parameters, and its bias afterwards."""
    layer = loaded_layer(module, settings, state, bias)
    return *(y.detach() for y in layer(x)), layer.bias.detach()


@probe
def layer_cost(module, meter, settings, state, bias, x):
    """Output, logits and experts; the forward alone is metered."""
    layer = loaded_layer(module, settings, state, bias)
    with meter:
        return layer(x)


@probe
def buffers(module, settings):
    """The buffers in a layer's state dict."""
    layer = module.MixtureOfExperts(**settings)
    return {name: b for name, b in layer.named_buffers() if name in layer.state_dict()}


@probe
def mixture_of_doubles(module, meter, x, weights, experts, number):
    """The mixture of experts that double their tokens; the doubling is metered with it."""
    functions = [lambda group: 2 * group] * number
    with meter:
        return module.mixture(x, weights, experts, functions)


# --- oracles ---

F64 = torch.float64
T, E, K, D, H, L = 11, 5, 3, 6, 4, 2
SETTINGS = {"width": D, "hidden": H, "num_experts": E, "k": K, "num_shared": 2}
BIAS = torch.tensor([0.5, -0.375, 0.125, 0.0, -0.25], dtype=F64)


def gates(logits, k, bias=None, renormalise=True):
    """The weight of every expert for every token, `(T, E)`, 0 unless selected, and the selected in order; float64."""
    logits = logits.double()
    p = torch.exp(logits - torch.logsumexp(logits, dim=-1, keepdim=True))
    scores = (p if bias is None else p + bias.double()).detach()
    experts = scores.argsort(dim=-1, descending=True)[:, :k]
    selected = torch.zeros_like(scores).scatter(1, experts, 1)
    g = p * selected
    return (g / g.sum(dim=-1, keepdim=True) if renormalise else g), experts


def dense(x, weights, functions):
    """Every expert on every token, weighted with `(T, E)`."""
    total = torch.zeros_like(x)
    for i, function in enumerate(functions):
        total = total + weights[:, i : i + 1] * function(x)
    return total


def scattered(weights, experts, number):
    """Weights of choices, `(T, k)`, as weights of experts, `(T, number)`."""
    columns = [(weights * (experts == i)).sum(dim=-1) for i in range(number)]
    return torch.stack(columns, dim=-1)


def swiglu(x, gate, up, down):
    hidden = x @ gate.T
    return (hidden / (1 + torch.exp(-hidden)) * (x @ up.T)) @ down.T


def dense_layer(settings, state, bias, x):
    """Output, logits and experts of the layer, each shared expert on its own."""
    flat = x.reshape(-1, x.shape[-1])
    logits = flat @ state["router.weight"].T
    weights, experts = gates(logits, settings["k"], bias, settings.get("renormalise", True))

    def expert(name, rows=slice(None)):
        gate, up, down = (state[f"{name}.{part}.weight"] for part in ("gate", "up", "down"))
        return lambda y: swiglu(y, gate[rows], up[rows], down[:, rows])

    y = dense(flat, weights, [expert(f"experts.{i}") for i in range(settings["num_experts"])])
    for s in range(settings.get("num_shared", 0)):
        y = y + expert("shared", slice(s * settings["hidden"], (s + 1) * settings["hidden"]))(flat)
    return y.reshape(x.shape), logits, experts


def balanced(logits, experts, mask=None):
    """The loss in float64, counting one by one."""
    losses = []
    for z, choices in zip(logits.double(), experts.tolist(), strict=True):
        real = [t for t in range(len(z)) if mask is None or mask[t]]
        counts = [sum(choices[t].count(i) for t in real) for i in range(z.shape[-1])]
        p = torch.exp(z - torch.logsumexp(z, dim=-1, keepdim=True))
        P = sum(p[t] for t in real) / len(real)
        f = torch.tensor(counts, dtype=F64) / (len(real) * len(choices[0]))
        losses.append(len(f) * (f * P).sum())
    return sum(losses) / len(losses)


def clear(draw, rows, bias=BIAS, router=None):
    """Logits, or inputs of a router, in digits of bfloat16, for which the scores of every token are clearly apart."""
    x = 2 * draw.normal(60 * rows, E if router is None else router.shape[1]).bfloat16().double()
    logits = x if router is None else x @ router.double().T
    scores = (logits.softmax(dim=-1) + (0 if bias is None else bias.double())).sort(dim=-1).values
    return x[scores.diff(dim=-1).min(dim=-1).values > 0.004][:rows].clone()


def parameters(draw, settings=SETTINGS):
    """Random parameters of a layer, and its bias."""
    width, hidden, shared = settings["width"], settings["hidden"], settings.get("num_shared", 0)
    sizes = {f"experts.{i}": hidden for i in range(settings["num_experts"])}
    sizes |= {"shared": shared * hidden} if shared else {}
    state = {"router.weight": draw.normal(settings["num_experts"], width, dtype=F64)}
    for name, size in sizes.items():
        for part, shape in (("gate", (size, width)), ("up", (size, width)), ("down", (width, size))):
            state[f"{name}.{part}.weight"] = draw.normal(*shape, dtype=F64) / shape[1] ** 0.5
    return state, BIAS if settings["num_experts"] == E else torch.zeros(settings["num_experts"], dtype=F64)


def moved(bias, load, rate=1e-3):
    """The next bias, expert by expert."""
    counts = load.tolist()
    signs = [(sum(counts) > len(counts) * n) - (sum(counts) < len(counts) * n) for n in counts]
    return bias + rate * torch.tensor(signs, dtype=F64)


def sorted_choices(experts, number):
    """The sorted choices and the loads, one by one."""
    flat = experts.flatten().tolist()
    slots = sorted(range(len(flat)), key=lambda s: (flat[s], s))
    return torch.tensor(slots), torch.tensor([flat.count(i) for i in range(number)])


def choices(draw, tokens=T, k=K, number=E):
    """Different experts for every token, `(tokens, k)`; the last of `number` has none."""
    return torch.stack([draw.permutation(number - 1)[:k] for _ in range(tokens)])


def spread(tokens, k, number):
    """Experts in turn: all of `number` have tokens."""
    return (torch.arange(tokens)[:, None] * k + torch.arange(k)) % number


ROUTE = pytest.mark.part("route")
DISPATCH = pytest.mark.part("dispatch")
MIXTURE = pytest.mark.part("mixture")
LOSS = pytest.mark.part("load_balance_loss")
UPDATE = pytest.mark.part("update_bias")
LAYER = pytest.mark.part("MixtureOfExperts")


class TestValues:
    @ROUTE
    @pytest.mark.points(2)
    @pytest.mark.parametrize("renormalise", [True, False])
    def test_route(self, submission, draw, renormalise):
        """probability plus bias selects, and the probabilities alone weigh"""
        logits = 2 * draw.normal(4 * T, E, dtype=F64)
        g, experts = gates(logits, K, BIAS, renormalise)
        got = submission.route(logits, K, BIAS, renormalise)
        assert_close(got, (g.gather(1, experts), experts), what="(weights, experts)", dtype=None)

    @ROUTE
    def test_top_k_then_softmax(self, submission, draw):
        """without a bias, the weights are the softmax over the k largest logits"""
        logits = 2 * draw.normal(4 * T, E, dtype=F64)
        values, experts = logits.sort(dim=-1, descending=True)
        values = values[:, :K].exp()
        expected = values / values.sum(dim=-1, keepdim=True), experts[:, :K]
        assert_close(submission.route(logits, K), expected, what="(weights, experts)")

    @DISPATCH
    def test_dispatch(self, submission, draw):
        """choices are sorted by expert, in their own order within each, and counted"""
        experts = choices(draw)
        assert_equal(submission.dispatch(experts, E), sorted_choices(experts, E), what="(slots, load)")

    @MIXTURE
    @pytest.mark.points(2)
    def test_mixture(self, submission, draw):
        """calling each expert with its own tokens gives what all experts on all tokens give"""
        x, weights, matrices = (
            draw.normal(T, D, dtype=F64),
            draw.normal(T, K, dtype=F64),
            draw.normal(E, D, D, dtype=F64),
        )
        arguments = x, weights, choices(draw), list(matrices)
        assert_close(submission.run(mixed, *arguments), mixture_of(*arguments), what="output", dtype=F64)

    @LOSS
    @pytest.mark.points(2)
    def test_loss(self, submission, draw):
        """the mean over layers of E times the sum of load share times mean probability"""
        logits = 2 * draw.normal(L, T, E, dtype=F64)
        experts = torch.stack([gates(z, K)[1] for z in logits])
        got = submission.load_balance_loss(logits, experts)
        assert_close(got, balanced(logits, experts), what="loss", dtype=F64)

    @LOSS
    def test_loss_of_even_and_collapsed(self, submission):
        """the loss is 1 for an even load, whatever k is, and E where two layers collapse, each onto its own expert"""
        even = submission.load_balance_loss(torch.zeros(1, 8, 4, dtype=F64), spread(8, 2, 4)[None])
        expert = torch.tensor([[[1]] * 8, [[3]] * 8])
        collapsed = torch.full((2, 8, 4), -80.0, dtype=F64).scatter(2, expert, 80.0)
        got = [even, submission.load_balance_loss(collapsed, expert)]
        assert_close(got, [1.0, 4.0], what="loss [even, collapsed]")

    @UPDATE
    def test_update(self, submission, draw):
        """crowded experts go down by the rate, idle ones up, and those with the mean load stay"""
        for load in ([5, 2, 9, 4, 5], [2, 3, 3], [1, 1, 2], [0, 4], [7, 7, 7], [9]):
            bias = draw.normal(len(load), dtype=F64)
            got = [submission.update_bias(bias, torch.tensor(load), **how) for how in ({"rate": 0.25}, {})]
            expected = [moved(bias, torch.tensor(load), rate) for rate in (0.25, 1e-3)]
            assert_close(got, expected, what=f"bias for the load {load} and the rates [0.25, 1e-3]", dtype=F64)

    @LAYER
    @pytest.mark.points(2)
    def test_layer(self, submission, draw):
        """router, experts and shared experts add up to the formula, each shared expert on its own"""
        state, bias = parameters(draw)
        arguments = SETTINGS, state, bias, draw.normal(2, T, D, dtype=F64)
        got, expected = submission.run(layer_output, *arguments), (*dense_layer(*arguments), bias)
        assert_close(got, expected, what="(output, logits, experts, bias afterwards)")

    @LAYER
    @pytest.mark.parametrize("k", [1, 2])
    def test_layer_without_shared(self, submission, draw, k):
        """Switch's layer (k = 1, no renormalisation) and Mixtral's (k = 2) have no shared experts"""
        settings = {**SETTINGS, "k": k, "num_shared": 0, "renormalise": k > 1}
        state, bias = parameters(draw, settings)
        arguments = settings, state, bias, draw.normal(2, T, D, dtype=F64)
        got, expected = submission.run(layer_output, *arguments), (*dense_layer(*arguments), bias)
        assert_close(got, expected, what="(output, logits, experts, bias afterwards)")

    @LAYER
    def test_layout(self, submission):
        """the parameters are the router's and the experts', and the bias is a buffer"""
        for shared in (2, 0):
            sizes = {f"experts.{i}": H for i in range(E)} | ({"shared": shared * H} if shared else {})
            expected = {"router.weight": [E, D]}
            for name, size in sizes.items():
                expected |= {f"{name}.gate.weight": [size, D], f"{name}.up.weight": [size, D]}
                expected |= {f"{name}.down.weight": [D, size]}
            settings = {**SETTINGS, "num_shared": shared}
            got = submission.run(layout, "MixtureOfExperts", settings)
            assert_equal(got, expected, what=f"shapes of the parameters with {shared} shared experts")
            got = submission.run(buffers, settings)
            assert_equal(got, {"bias": torch.zeros(E)}, what="buffers in the state dict")


class TestStability:
    @ROUTE
    def test_large_logits(self, submission, draw):
        """logits near 1000 and -1000 neither overflow nor vanish"""
        drawn = clear(draw, T).float()
        for shift in (1000, -1000):
            for renormalise in (True, False):
                logits = drawn + shift
                g, experts = gates(logits, K, BIAS, renormalise)
                got = submission.route(logits, K, BIAS.float(), renormalise)
                expected = g.gather(1, experts).float(), experts
                what = f"(weights, experts) near {shift}"
                assert_close(
                    got, expected, what=what, rtol=1e-3, atol=1e-6, reason="near 1000 float32 has steps of 6e-5"
                )

    @ROUTE
    @pytest.mark.points(2)
    def test_underflow(self, submission, draw):
        """experts that the bias selects share a weight of 1, even if their probabilities are 0 in float32"""
        logits = draw.normal(T, E)
        logits[:, 0] += 200
        bias = torch.tensor([-2.0, 0.0, 0.75, 0.5, 0.25])
        g, experts = gates(logits, K, bias)
        expected = g.gather(1, experts).float(), experts
        got = submission.route(logits, K, bias)
        assert_close(
            got, expected, what="(weights, experts)", rtol=1e-4, atol=1e-6, reason="float32 sums are off by 1e-6"
        )

    @UPDATE
    def test_large_loads(self, submission, draw):
        """loads are compared as integers, whatever the type of the bias holds"""
        load = torch.tensor([8001, 4000, 3999, 1000, 3000])
        for dtype in (torch.bfloat16, torch.float16):
            bias = draw.integers(-8, 8, 5).to(dtype)
            got = submission.update_bias(bias, load, 0.5)
            assert_equal(got, bias + torch.tensor([-0.5, 0, 0.5, 0.5, 0.5], dtype=dtype), what="bias")


class TestEdgeCases:
    @DISPATCH
    def test_idle_experts(self, submission):
        """experts without tokens have a load of 0, the last ones too; one may have all"""
        got = submission.dispatch(torch.tensor([[1], [3], [1]]), 6)
        expected = torch.tensor([0, 2, 1]), torch.tensor([0, 2, 0, 1, 0, 0])
        assert_equal(got, expected, what="(slots, load)")
        got = submission.dispatch(torch.full((40, 1), 2), 4)
        assert_equal(got, (torch.arange(40), torch.tensor([0, 0, 40, 0])), what="(slots, load), all to one")

    @MIXTURE
    def test_uneven_load(self, submission, draw):
        """no token is dropped when one expert has them all"""
        x, weights, matrices = (
            draw.normal(D, 23, dtype=F64).T,
            draw.normal(23, 2, dtype=F64),
            draw.normal(E, D, D, dtype=F64),
        )
        experts = torch.tensor([3, 1]).expand(23, 2)
        arguments = x, weights, experts, list(matrices)
        assert_close(submission.run(mixed, *arguments), mixture_of(*arguments), what="output", dtype=F64)

    @LOSS
    @pytest.mark.points(2)
    def test_padding(self, submission, draw):
        """padded tokens are neither counted nor averaged, wherever they stand and whatever they hold"""
        logits, mask = 2 * draw.normal(L, T, E, dtype=F64), torch.arange(T) % 3 > 0
        experts = torch.stack([gates(z, K)[1] for z in logits])
        expected = balanced(logits, experts, mask)
        for padding in (logits + 1, torch.nan, torch.inf, -torch.inf):
            padded = torch.where(mask[:, None], logits, padding)
            what = f"loss with a padding of {'numbers' if torch.is_tensor(padding) else padding}"
            assert_close(submission.load_balance_loss(padded, experts, mask), expected, what=what, dtype=F64)

    @LOSS
    def test_padding_alone(self, submission, draw):
        """without any real token the loss is 0, and so is its gradient"""
        logits, mask = draw.normal(L, T, E, dtype=F64), torch.zeros(T, dtype=torch.bool)
        experts = torch.stack([gates(z, K)[1] for z in logits])
        got = submission.run(gradients, "load_balance_loss", [logits], torch.ones(1, dtype=F64), experts, mask)
        expected = torch.zeros((), dtype=F64), [torch.zeros_like(logits)]
        assert_close(got, expected, what="(loss, [gradient of the logits])")

    @LAYER
    def test_too_many(self, submission):
        """more experts a token than there are is a ValueError"""
        submission.run(built, "MixtureOfExperts", **{**SETTINGS, "k": E})
        with submission.expect_raises(ValueError):
            submission.run(built, "MixtureOfExperts", **{**SETTINGS, "k": E + 1})


def route_calls(draw):
    """With a bias and without, renormalised and not, for one expert, some and all."""
    ways = ((T, K, BIAS, True), (4 * T, 1, BIAS, False), (1, 2, None, False), (T, E, None, True))
    ways += ((3, 1, None, True), (3, E, BIAS, False))
    return [given(clear(draw, rows, bias), k, bias, renormalise) for rows, k, bias, renormalise in ways]


def routed_to(logits, k, bias=None, renormalise=True):
    g, experts = gates(logits, k, bias, renormalise)
    return g.gather(1, experts), experts


def dispatch_calls(draw):
    """Idle experts, one choice a token, and a single one."""
    return [
        given(choices(draw), E),
        given(choices(draw, 17, 1), E + 2),
        given(choices(draw, 1, 1), E),
        given(choices(draw, 1, 3), E),
    ]


def mixture_calls(draw):
    calls = []
    for tokens, k in ((T, K), (17, 1), (1, 2)):
        x, weights = draw.normal(tokens, D, dtype=F64), draw.normal(tokens, k, dtype=F64)
        calls.append(given(x, weights, choices(draw, tokens, k), list(draw.normal(E, D, D, dtype=F64))))
    return calls


def scaled_calls(draw):
    """Experts that are exact in half precision."""
    x, weights = draw.normal(40, D, dtype=F64), draw.uniform(40, K, low=0.1, dtype=F64)
    return [given(x, weights, choices(draw, 40), [1.0, -2.0, 0.5, 4.0, -1.0])]


def scaled(x, weights, experts, factors):
    return dense(x, scattered(weights, experts, len(factors)), [lambda y, a=a: a * y for a in factors])


def mixture_of(x, weights, experts, matrices):
    functions = [lambda y, M=M: torch.tanh(y @ M) for M in matrices]
    return dense(x, scattered(weights, experts, len(matrices)), functions)


def loss_calls(draw):
    """One layer and several, one token and many, with a mask and without."""
    mask, calls = torch.arange(40) % 3 > 0, []
    for layers, tokens, k, how in (
        (L, 40, K, {"mask": mask}),
        (1, T, 1, {}),
        (3, 1, 2, {}),
        (1, 40, E, {"mask": ~mask}),
    ):
        logits = 4 * draw.normal(layers, tokens, E, dtype=F64)
        calls.append(given(logits, torch.stack([gates(z, k)[1] for z in logits]), **how))
    return calls


def update_calls(draw):
    loads = [2, 3, 3], [draw.integers(0, 9, 1).item() for _ in range(7)], [5, 5], [4]
    rates = {}, {"rate": 0.25}, {"rate": 0.0}, {}
    return [given(draw.normal(len(n), dtype=F64), torch.tensor(n), **how) for n, how in zip(loads, rates, strict=True)]


def layer_calls(**settings):
    """Sentences of several lengths, one alone, one of a token."""

    def drawn(draw):
        chosen = {**SETTINGS, **settings}
        state, bias = parameters(draw, chosen)
        shapes = (2, T), (1, 17), (3, 1)
        calls = [clear(draw, b * t, router=state["router.weight"]).view(b, t, D) for b, t in shapes]
        return on((chosen, state, bias), *(given(x) for x in calls))

    return drawn


def exact_calls(draw):
    """A layer whose experts, shared ones too, are exact in half precision: they double, halve or swap features."""
    state, bias = parameters(draw)
    state["router.weight"] = (8 * state["router.weight"]).round() / 8
    state["router.weight"][:, 0] = 0
    for name, p in state.items():
        if name.endswith("gate.weight"):
            p.zero_()[:, 0] = 1  # the first feature is 32, and silu(32) is 32 in every type
        elif name != "router.weight":
            rows, columns = p.shape
            p.zero_()[
                torch.arange(rows), draw.integers(1, columns, rows) if columns == D else draw.integers(0, columns, rows)
            ] = 0.25
    x = clear(draw, 60, router=state["router.weight"]).view(3, 20, D)
    x[..., 0] = 32
    return on((SETTINGS, state, bias), given(x))


TestProperties = holds(
    case(
        "route",
        route_calls,
        *EVERY_FUNCTION,
        is_differentiable(0),
        empty_and_single,
        rounds_once(None),
        expect=routed_to,
    ),
    case(
        "dispatch",
        dispatch_calls,
        any_layout,
        result_is_new,
        no_state_between_calls,
        empty_and_single,
        expect=sorted_choices,
    ),
    case(
        "mixture",
        mixture_calls,
        *EVERY_FUNCTION,
        is_differentiable,
        any_sequence(3),
        empty_and_single,
        of=mixed,
        expect=mixture_of,
    ),
    case("mixture", scaled_calls, rounds_once(None, kept=(1,)), of=scaled_mixture, expect=scaled),
    case("load_balance_loss", loss_calls, *EVERY_FUNCTION, is_differentiable, rounds_once(None), expect=balanced),
    case("update_bias", update_calls, *EVERY_FUNCTION, empty_and_single, expect=moved),
    *(
        case(
            "MixtureOfExperts",
            layer_calls(**settings),
            *EVERY_MODULE,
            is_differentiable,
            empty_and_single,
            made=loaded_layer,
            expect=dense_layer,
            name=name,
        )
        for name, settings in (
            ("DeepSeek", {}),
            ("Switch", {"k": 1, "num_shared": 0, "renormalise": False}),
            ("not renormalised", {"k": 2, "num_shared": 1, "renormalise": False}),
        )
    ),
    case("MixtureOfExperts", exact_calls, rounds_once((1,)), made=loaded_layer, expect=dense_layer, name="exact"),
)


class TestPerformance:
    @MIXTURE
    @pytest.mark.points(2)
    def test_called_once(self, submission, draw):
        """every expert is called once, with its own tokens and no others"""
        x, weights, experts = draw.normal(T, D), draw.normal(T, K), choices(draw)
        got = submission.run(called, x, weights, experts, E)
        counts = [int((experts == i).sum()) for i in range(E)]
        expected = [[n] if n else [] for n in counts]
        assert_equal(got, expected, what="tokens in each call of each expert")

    @MIXTURE
    @pytest.mark.parametrize("what", ["tokens", "choices"])
    def test_operators(self, submission, draw, what):
        """the number of operators depends neither on tokens nor on choices"""
        costs = []
        for tokens, k in ((16, 2), (32, 2) if what == "tokens" else (16, 4)):
            x, weights = draw.normal(tokens, D), draw.normal(tokens, k)
            got = submission.measure(mixture_of_doubles, x, weights, spread(tokens, k, 8), 8)
            assert_close(got.value, 2 * weights.sum(dim=-1, keepdim=True) * x, what="mixture of equal experts")
            costs.append(got.cost)
        assert_growth(*costs, "operators", at_most=1.0, when=f"the number of {what} doubles")

    @pytest.mark.parametrize(
        "name", [pytest.param(name, marks=pytest.mark.part(name)) for name in ("route", "load_balance_loss")]
    )
    def test_operators_around(self, submission, draw, name):
        """the number of operators depends neither on tokens nor on choices"""
        costs = []
        for tokens, k in ((16, 2), (33, 4)):
            logits = clear(draw, tokens)
            weights, experts = routed_to(logits, k, BIAS)
            if name == "route":
                arguments, expected = (logits, k, BIAS), (weights, experts)
            else:
                arguments, expected = (logits[None], experts[None]), balanced(logits[None], experts[None])
            got = submission.measure(name, *arguments)
            assert_close(got.value, expected, what="result")
            costs.append(got.cost)
        assert_growth(*costs, "operators", at_most=1.0, when="there are 33 tokens and not 16, with 4 experts and not 2")

    @DISPATCH
    def test_dispatch_memory(self, submission):
        """sorting makes nothing that grows with tokens times experts"""
        tokens, k, number = 64, 4, 32
        got = submission.measure("dispatch", spread(tokens, k, number), number)
        assert_equal(got.value[1], torch.full((number,), tokens * k // number), what="load")
        why = "a few vectors of T * k numbers of int64"
        assert_cost(got.cost, "largest_bytes", at_most=3 * 8 * tokens * k, why=why)
        assert_cost(got.cost, "operators", at_most=20 + 10 * number, why="no loop over tokens")

    @LAYER
    @pytest.mark.points(2)
    @pytest.mark.parametrize(("number", "k", "shared"), [(16, 2, 0), (4, 3, 1)], ids=["many experts", "shared"])
    def test_arithmetic(self, submission, draw, number, k, shared):
        """the arithmetic is that of k experts a token and the shared ones, and nothing larger is made"""
        tokens, width, hidden = 24, 20, 12
        settings = {"width": width, "hidden": hidden, "num_experts": number, "k": k, "num_shared": shared}
        arguments = settings, *parameters(draw, settings), draw.normal(2, tokens // 2, width, dtype=F64)
        got = submission.measure(layer_cost, *arguments)
        assert_close(got.value, dense_layer(*arguments), what="(output, logits, experts)")
        flops = 2 * tokens * width * number + 6 * tokens * width * hidden * (k + shared)
        why = "the router, k experts a token, the shared ones, and weighing and adding up"
        assert_cost(got.cost, "flops", at_most=flops + 4 * tokens * k * width, why=why)
        why = "T * k rows of the width"
        assert_cost(got.cost, "largest_bytes", at_most=8 * tokens * k * width, why=why)
