"""Hidden suite for optimizers/adamw: trajectories by the papers' formulas in float64."""

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.properties import (
    any_iterable,
    any_layout,
    case,
    computes_in_the_inputs_type,
    given,
    holds,
    settings_are_read_each_time,
)
from grader.suite import probe

SHAPES = ((3, 4), (5,), (2, 3, 2))


@probe
def trajectory(module, name, start, grads, hyper, later=None):
    """Every parameter after every step; `None` in `grads` means no gradient at that step, and `later` has the settings
    that change, by step.

    A gradient is written into the last one's memory, as a training loop does that keeps it.
    """
    params = [torch.nn.Parameter(p.clone()) for p in start]
    optimizer = getattr(module, name)(params, **hyper)
    kept = [torch.empty_like(p) for p in start]
    path = []
    for number, step in enumerate(grads):
        for group in optimizer.param_groups:
            group.update((later or {}).get(number, {}))
        for p, g, memory in zip(params, step, kept, strict=True):
            p.grad = None if g is None else memory.copy_(g)
        optimizer.step()
        path.append([p.detach().clone() for p in params])
    return path


@probe
def grouped(module, name, start, grads, settings, hyper):
    """Every parameter after the last step, with groups of parameters: the size of each, and its own settings."""
    params = [torch.nn.Parameter(p.clone()) for p in start]
    left = iter(params)
    groups = [{"params": [next(left) for _ in range(size)], **own} for size, own in settings]
    optimizer = getattr(module, name)(groups, **hyper)
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [p.detach().clone() for p in params]


@probe
def after_a_step(module, start):
    """Parameters, which come as they are given, after a step of SGD."""
    params = [torch.nn.Parameter(p.clone()) for p in start]
    optimizer = module.SGD(iter(params) if hasattr(start, "__next__") else type(start)(params), lr=0.5)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    return [p.detach().clone() for p in params]


@probe
def resumed(module, name, start, grads, hyper, stop):
    """Stop after `stop` steps, load the snapshot into a second optimizer with other settings, and go on with that.

    The first optimizer takes one more step after the snapshot, which must not change the snapshot.
    """
    params = [torch.nn.Parameter(p.clone()) for p in start]
    first = getattr(module, name)(params, **hyper)
    second, snapshot = None, None
    path = []
    for number, step in enumerate(grads):
        if number == stop:
            snapshot = first.state_dict()
            kept = [p.detach().clone() for p in params]
            for p, g in zip(params, step, strict=True):
                p.grad = g.clone()
            first.step()
            params = [torch.nn.Parameter(p) for p in kept]
            second = getattr(module, name)(params, lr=0.5)
            second.load_state_dict(snapshot)
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        (second or first).step()
        path.append([p.detach().clone() for p in params])
    return path


@probe
def loaded_twice(module, name, start, grads, hyper):
    """Load one snapshot into two optimizers over their own parameters, step the first: does the second notice?"""
    params = [torch.nn.Parameter(p.clone()) for p in start]
    first = getattr(module, name)(params, **hyper)
    for p, g in zip(params, grads[0], strict=True):
        p.grad = g.clone()
    first.step()
    snapshot = first.state_dict()
    copies = [[torch.nn.Parameter(p.detach().clone()) for p in params] for _ in range(2)]
    optimizers = [getattr(module, name)(own, **hyper) for own in copies]
    for optimizer in optimizers:
        optimizer.load_state_dict(snapshot)
    for own, optimizer in zip(copies, optimizers, strict=True):
        for p, g in zip(own, grads[1], strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [[p.detach().clone() for p in own] for own in copies]


@probe
def snapshot_form(module, name, start, grads, hyper):
    """The snapshot's numbers and settings, which tensors the state of each parameter holds, what another optimizer
    restores from it, and what `zero_grad` leaves.
    """
    params = [torch.nn.Parameter(p.clone()) for p in start]
    optimizer = getattr(module, name)([{"params": params[:1]}, {"params": params[1:], "lr": 0.3}], **hyper)
    for p, g in zip(params, grads, strict=True):
        p.grad = None if g is None else g.clone()
    optimizer.step()
    snapshot = optimizer.state_dict()
    tensors = {}
    for number, values in snapshot["state"].items():
        tensors[number] = sum(1 for v in values.values() if torch.is_tensor(v) and v.shape == params[number].shape)
    groups = [(group["params"], group["lr"]) for group in snapshot["param_groups"]]
    other = getattr(module, name)([{"params": params[:1]}, {"params": params[1:]}], lr=7.0)
    other.load_state_dict(snapshot)
    other.zero_grad()
    return groups, tensors, [group["lr"] for group in other.param_groups], [p.grad for p in params]


@probe
def around_a_step(module, name, start, grads, hyper):
    """What a step must leave alone, and what `zero_grad` clears."""
    params = [torch.nn.Parameter(p.clone()) for p in start]
    given = [g.clone() for g in grads]
    optimizer = getattr(module, name)(iter(params), **hyper)
    empty = len(optimizer.state)
    for p, g in zip(params, given, strict=True):
        p.grad = g
    pointers = [p.data_ptr() for p in params]
    optimizer.step()
    return {
        "state entries before the first step": empty,
        "parameters changed in place": [p.data_ptr() for p in params] == pointers,
        "parameters are leaves that need gradients": all(p.is_leaf and p.requires_grad for p in params),
        "gradients left alone": all(p.grad is g for p, g in zip(params, given, strict=True))
        and all(torch.equal(a, b) for a, b in zip(given, grads, strict=True)),
        "gradients after zero_grad": [optimizer.zero_grad(), *[p.grad for p in params]][1:],
    }


@probe
def without_parameters(module, name):
    """An optimizer that is given no parameters."""
    return getattr(module, name)([], lr=0.1)


@probe
def one_step(module, meter, name, shape, hyper):
    """The cost of the third step; state is there by then."""
    p = torch.nn.Parameter(torch.ones(shape))
    optimizer = getattr(module, name)([p], **hyper)
    for _ in range(2):
        p.grad = torch.full(shape, 0.5)
        optimizer.step()
    with meter:
        optimizer.step()
    values = optimizer.state.get(p, {}).values()
    return sum(v.untyped_storage().nbytes() for v in values if torch.is_tensor(v) and v.numel() > 1)


def problem(draw, steps=6, dtype=torch.float64, size=1.0):
    start = [draw.normal(*shape, dtype=dtype) for shape in SHAPES]
    grads = [[size * draw.normal(*shape, dtype=dtype) for shape in SHAPES] for _ in range(steps)]
    return start, grads


def sgd(w, steps):
    """The path of one parameter under SGD with momentum, by Sutskever et al. as PyTorch writes it.

    `steps` has the gradient and the settings of each step.
    """
    buffer, path = None, []
    for g, now in steps:
        if g is not None:
            g, mu = g + now["weight_decay"] * w, now["momentum"]
            buffer = g if buffer is None else mu * buffer + g
            w = w - now["lr"] * (g + mu * buffer if now["nesterov"] else buffer if mu else g)
        path.append(w)
    return path


def adam(w, steps):
    """The path of one parameter under Adam (algorithm 1), or AdamW (algorithm 2 of Loshchilov & Hutter)."""
    t, path = 0, []
    m = v = largest = torch.zeros_like(w)
    for g, now in steps:
        if g is not None:
            t += 1
            beta1, beta2 = now["betas"]
            g = g if now["decoupled"] else g + now["weight_decay"] * w
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            largest = torch.maximum(largest, v)
            root = ((largest if now["amsgrad"] else v) / (1 - beta2**t)).sqrt()
            decay = now["weight_decay"] * w if now["decoupled"] else 0.0
            w = w - now["lr"] * (m / (1 - beta1**t) / (root + now["eps"]) + decay)
        path.append(w)
    return path


MOMENTS = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled=False)
RULES = {
    "SGD": (sgd, dict(momentum=0.0, weight_decay=0.0, nesterov=False)),
    "Adam": (adam, MOMENTS),
    "AdamW": (adam, {**MOMENTS, "weight_decay": 0.01, "decoupled": True}),
}


def oracle(name, start, grads, hyper, later=None, own=None):
    """The trajectory by the papers' formulas, each parameter by itself; `own` has settings of each.

    Not `torch.optim`, whose first optimizer imports the compiler (two seconds); `tests/oracles` compares the two.
    """
    rule, defaults = RULES[name]
    paths = []
    for number, w in enumerate(start):
        now, steps = {**defaults, **hyper, **(own[number] if own else {})}, []
        for step, each in enumerate(grads):
            now = {**now, **(later or {}).get(step, {})}
            steps.append((each[number], now))
        paths.append(rule(w, steps))
    return [list(step) for step in zip(*paths, strict=True)]


ADAM = dict(lr=0.02, betas=(0.8, 0.95), eps=1e-6)
SGD_CASES = {
    "plain": dict(lr=0.1),
    "momentum": dict(lr=0.1, momentum=0.9),
    "nesterov": dict(lr=0.1, momentum=0.8, nesterov=True),
    "decay": dict(lr=0.1, momentum=0.7, weight_decay=0.3),
}
ADAM_CASES = {
    "plain": ADAM,
    "defaults": {},
    "decay": {**ADAM, "weight_decay": 0.4},
    "amsgrad": {**ADAM, "amsgrad": True},
}
ADAMW_CASES = {**ADAM_CASES, "no-decay": {**ADAM, "weight_decay": 0.0}}


def fading(grads):
    """Gradients that shrink step by step, so that the largest second moment is not the last one."""
    return [[g * 0.3**number for g in step] for number, step in enumerate(grads)]


class TestValues:
    @pytest.mark.part("SGD")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", SGD_CASES)
    def test_sgd(self, submission, draw, case):
        """SGD follows PyTorch's for six steps"""
        start, grads = problem(draw)
        got = submission.run(trajectory, "SGD", start, grads, SGD_CASES[case])
        assert_close(got, oracle("SGD", start, grads, SGD_CASES[case]), what="parameters after each step")

    @pytest.mark.part("Adam")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", ADAM_CASES)
    def test_adam(self, submission, draw, case):
        """Adam follows PyTorch's for six steps"""
        start, grads = problem(draw)
        grads = fading(grads)
        got = submission.run(trajectory, "Adam", start, grads, ADAM_CASES[case])
        assert_close(got, oracle("Adam", start, grads, ADAM_CASES[case]), what="parameters after each step")

    @pytest.mark.part("AdamW")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("case", ADAMW_CASES)
    def test_adamw(self, submission, draw, case):
        """AdamW follows PyTorch's for six steps"""
        start, grads = problem(draw)
        grads = fading(grads)
        got = submission.run(trajectory, "AdamW", start, grads, ADAMW_CASES[case])
        assert_close(got, oracle("AdamW", start, grads, ADAMW_CASES[case]), what="parameters after each step")


class TestStability:
    @pytest.mark.part("Adam")
    @pytest.mark.parametrize("size", [1e-10, 1e-6])
    def test_tiny_gradients(self, submission, draw, size):
        """Adam's step is right where epsilon decides: gradients of 1e-10 and 1e-6"""
        start, grads = problem(draw, steps=3, size=size)
        got = submission.run(trajectory, "Adam", start, grads, dict(lr=0.01))
        assert_close(got, oracle("Adam", start, grads, dict(lr=0.01)), what="parameters after each step")

    @pytest.mark.part("AdamW")
    def test_many_steps(self, submission, draw):
        """AdamW still follows PyTorch's after 60 steps"""
        start, grads = problem(draw, steps=60)
        got = submission.run(trajectory, "AdamW", start, grads, ADAMW_CASES["decay"])
        expected = oracle("AdamW", start, grads, ADAMW_CASES["decay"])
        assert_close(got[-1], expected[-1], what="parameters after the last step")


class TestEdgeCases:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("SGD", marks=pytest.mark.part("SGD")),
            pytest.param("Adam", marks=pytest.mark.part("Adam")),
            pytest.param("AdamW", marks=pytest.mark.part("AdamW")),
        ],
    )
    def test_missing_gradients(self, submission, draw, name):
        """a parameter without a gradient does not move, decay or age"""
        start, grads = problem(draw)
        for number in (0, 1, 3):
            grads[number][1] = None
        hyper = dict(lr=0.1, weight_decay=0.5) | ({"momentum": 0.9} if name == "SGD" else {})
        got = submission.run(trajectory, name, start, grads, hyper)
        assert_close(got, oracle(name, start, grads, hyper), what="parameters after each step")

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("SGD", marks=pytest.mark.part("SGD")),
            pytest.param("Adam", marks=pytest.mark.part("Adam")),
            pytest.param("AdamW", marks=pytest.mark.part("AdamW")),
        ],
    )
    def test_groups(self, submission, draw, name):
        """each parameter group uses its own settings, and the defaults for the rest"""
        start, grads = problem(draw, steps=3)
        hyper = dict(lr=0.05, weight_decay=0.1)
        for settings in ([(1, {"lr": 0.3}), (1, {"weight_decay": 0.7}), (1, {})], [(2, {"lr": 0.3}), (1, {})]):
            got = submission.run(grouped, name, start, grads, settings, hyper)
            own = [own for size, own in settings for _ in range(size)]
            expected = oracle(name, start, grads, hyper, own=own)[-1]
            assert_close(got, expected, what=f"parameters in {len(settings)} groups")

    @pytest.mark.part("Optimizer")
    @pytest.mark.points(2)
    @pytest.mark.parametrize("name", ["SGD", "Adam"])
    def test_resume(self, submission, draw, name):
        """a snapshot loaded into a new optimizer continues as if nothing had happened"""
        start, grads = problem(draw)
        hyper = dict(lr=0.1, momentum=0.9) if name == "SGD" else {**ADAM, "amsgrad": True}
        got = submission.run(resumed, name, start, grads, hyper, 3)
        assert_close(got, oracle(name, start, grads, hyper), what="parameters after each step")

    @pytest.mark.part("Optimizer")
    def test_snapshot_is_loaded_as_a_copy(self, submission, draw):
        """two optimizers that loaded one snapshot do not share their state"""
        start, grads = problem(draw, steps=2)
        first, second = submission.run(loaded_twice, "Adam", start, grads, ADAM)
        expected = oracle("Adam", start, grads, ADAM)[-1]
        assert_close(first, expected, what="parameters of the optimizer that stepped first")
        assert_close(second, expected, what="parameters of the optimizer that stepped second")

    @pytest.mark.part("Optimizer")
    @pytest.mark.parametrize("amsgrad", [False, True])
    def test_snapshot_form(self, submission, draw, amsgrad):
        """a snapshot numbers the parameters, holds every group's settings and the state there is, and restores them"""
        start, grads = problem(draw, steps=1)
        grads[0][1] = None
        hyper = {"lr": 0.1, "amsgrad": amsgrad}
        groups, tensors, restored, cleared = submission.run(snapshot_form, "Adam", start, grads[0], hyper)
        assert_equal(groups, [([0], 0.1), ([1, 2], 0.3)], what="parameter numbers and `lr` of each group")
        count = 3 if amsgrad else 2
        assert_equal(tensors, {0: count, 2: count}, what="state tensors of each parameter that had a gradient")
        assert_equal(restored, [0.1, 0.3], what="`lr` of each group of an optimizer that loaded it")
        assert_equal(cleared, [None] * len(SHAPES), what="gradients in both groups after zero_grad")

    @pytest.mark.part("Optimizer")
    @pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
    def test_around_a_step(self, submission, draw, name):
        """a step changes parameters in place and nothing else; zero_grad clears"""
        start, grads = problem(draw, steps=1)
        got = submission.run(around_a_step, name, start, grads[0], dict(lr=0.1, weight_decay=0.5))
        expected = {
            "state entries before the first step": 0,
            "parameters changed in place": True,
            "parameters are leaves that need gradients": True,
            "gradients left alone": True,
            "gradients after zero_grad": [None] * len(SHAPES),
        }
        assert_equal(got, expected, what="what surrounds a step")

    @pytest.mark.part("Optimizer")
    def test_no_parameters(self, submission):
        """an optimizer without parameters is a ValueError"""
        with submission.expect_raises(ValueError):
            submission.run(without_parameters, "SGD")


def runs(name, **hyper):
    """Four steps, before the last two of which settings change."""

    def drawn(draw):
        start, grads = problem(draw, steps=4)
        return [given(name, start, grads, {"lr": 0.1, **hyper}, {2: {"lr": 0.01, "weight_decay": 0.3}, 3: {"lr": 0.2}})]

    return drawn


RUNS = (any_layout, computes_in_the_inputs_type, settings_are_read_each_time)
TestProperties = holds(
    case(
        "Optimizer",
        lambda draw: [given(problem(draw)[0])],
        any_iterable(0),
        of=after_a_step,
        target="Optimizer.__init__",
    ),
    case("SGD", runs("SGD", momentum=0.9), *RUNS, of=trajectory, expect=oracle),
    case("Adam", runs("Adam", amsgrad=True), *RUNS, of=trajectory, expect=oracle),
    case("AdamW", runs("AdamW", weight_decay=0.2), *RUNS, of=trajectory, expect=oracle),
)


class TestPerformance:
    @pytest.mark.parametrize(
        ("name", "hyper", "tensors"),
        [
            pytest.param("SGD", {"lr": 0.1}, 0, marks=pytest.mark.part("SGD"), id="sgd"),
            pytest.param("SGD", {"lr": 0.1, "momentum": 0.9}, 1, marks=pytest.mark.part("SGD"), id="momentum"),
            pytest.param("Adam", {}, 2, marks=pytest.mark.part("Adam"), id="adam"),
            pytest.param("AdamW", {"amsgrad": True}, 3, marks=pytest.mark.part("AdamW"), id="amsgrad"),
        ],
    )
    def test_step_cost(self, submission, name, hyper, tensors):
        """a step costs the same few operators at any size, and keeps no more state than it needs"""
        size = 16
        small = submission.measure(one_step, name, (size, size), hyper)
        large = submission.measure(one_step, name, (size, 2 * size), hyper)
        assert_growth(small.cost, large.cost, "operators", at_most=1.0, when="the parameter's size doubles")
        assert_cost(large.cost, "operators", at_most=40, why="a step is a handful of tensor operations a parameter")
        assert_that(
            large.value <= tensors * 2 * size * size * 4,
            f"state of at most {tensors} tensors a parameter",
            got=f"{large.value / (2 * size * size * 4):g} tensors",
        )
