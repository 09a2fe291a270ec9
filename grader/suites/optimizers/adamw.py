"""Hidden suite for optimizers/adamw: trajectories by the papers' formulas in float64."""

import functools

import pytest
import torch

from grader.compare import assert_close, assert_equal, assert_that
from grader.cost import assert_cost, assert_growth
from grader.exercise import Equivalent, Exercise, Mistake, probe

EXERCISE = Exercise(
    title="SGD, Adam and AdamW",
    level="core",
    minutes=40,
    needs=("torch",),
    forbid=("torch.optim",),
    hints=(
        "Start with `Optimizer`: groups are dicts, so defaults and a group's own settings merge with `{**defaults, **group}`.",
        "SGD's buffer starts as the first gradient itself, not as zeros times anything. Adam's two moments start at zero, "
        "which is what the bias correction undoes.",
        "Each parameter counts its own steps, in its own state. Correct both moments with that count, take the root of the "
        "corrected second moment, and only then add epsilon.",
        "AdamW never touches the gradient: multiply the parameter by one minus learning rate times decay, then take the "
        "same step that Adam takes without decay.",
    ),
    follow_ups=(
        (
            "Why does Adam's first step have size `lr` whatever the gradient?",
            "At t = 1 the corrected moments are m_hat = g and v_hat = g^2, so the step is lr * g / (|g| + eps), which is "
            "lr * sign(g) unless |g| is as small as eps. The size of the loss cancels; only signs remain.",
        ),
        (
            "Why decouple weight decay from the gradient?",
            "An L2 term inside the gradient is divided by sqrt(v_hat) like everything else, so weights with large gradients "
            "decay less: the penalty is no longer the same for all. Decoupled, every weight shrinks by the same factor, and "
            "the best decay depends much less on the learning rate. For plain SGD the two are the same up to rescaling.",
        ),
        (
            "How much memory does training a model of P parameters in bf16 with AdamW need, activations aside?",
            "Typically 16 bytes a parameter: 2 for the bf16 weight, 2 for its gradient, 4 for the float32 master weight, and "
            "4 + 4 for m and v in float32. Sharding the optimizer state over workers (ZeRO stage 1) divides the last 12.",
        ),
    ),
)

SHAPES = ((3, 4), (5,), (2, 3, 2))


@probe
def trajectory(module, name, start, grads, hyper):
    """Every parameter after every step; `None` in `grads` means no gradient at that step."""
    params = [torch.nn.Parameter(p.clone()) for p in start]
    optimizer = getattr(module, name)(params, **hyper)
    path = []
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = None if g is None else g.clone()
        optimizer.step()
        path.append([p.detach().clone() for p in params])
    return path


@probe
def grouped(module, name, start, grads, settings, hyper):
    """As `trajectory`, with one parameter group for each parameter; its settings come from `settings`."""
    params = [torch.nn.Parameter(p.clone()) for p in start]
    groups = [{"params": [p], **own} for p, own in zip(params, settings, strict=True)]
    optimizer = getattr(module, name)(groups, **hyper)
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
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


def sgd(w, grads, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """The path of one parameter under SGD with momentum, by Sutskever et al. as PyTorch writes it."""
    buffer, path = None, []
    for g in grads:
        if g is not None:
            g = g + weight_decay * w
            buffer = g if buffer is None else momentum * buffer + g
            w = w - lr * (g + momentum * buffer if nesterov else buffer if momentum else g)
        path.append(w)
    return path


def adam(w, grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled=False):
    """The path of one parameter under Adam (algorithm 1), or AdamW (algorithm 2 of Loshchilov & Hutter)."""
    (beta1, beta2), t, path = betas, 0, []
    m = v = largest = torch.zeros_like(w)
    for g in grads:
        if g is not None:
            t += 1
            g = g if decoupled else g + weight_decay * w
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            largest = torch.maximum(largest, v)
            root = ((largest if amsgrad else v) / (1 - beta2**t)).sqrt()
            decay = weight_decay * w if decoupled else 0.0
            w = w - lr * (m / (1 - beta1**t) / (root + eps) + decay)
        path.append(w)
    return path


def oracle(name, start, grads, hyper, settings=None):
    """The trajectory by the papers' formulas, each parameter by itself.

    Not `torch.optim`, whose first optimizer imports the compiler (two seconds); `tests/oracles` compares the two.
    """
    rule = {"SGD": sgd, "Adam": adam, "AdamW": functools.partial(adam, decoupled=True)}[name]
    defaults = {"weight_decay": 0.01} if name == "AdamW" else {}
    own = settings or [{}] * len(start)
    columns = [[step[number] for step in grads] for number in range(len(start))]
    paths = [rule(w, c, **{**defaults, **hyper, **extra}) for w, c, extra in zip(start, columns, own, strict=True)]
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
        settings = [{"lr": 0.3}, {"weight_decay": 0.7}, {}]
        hyper = dict(lr=0.05, weight_decay=0.1)
        got = submission.run(grouped, name, start, grads, settings, hyper)
        assert_close(got, oracle(name, start, grads, hyper, settings)[-1], what="parameters")

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


MISTAKES = [
    Mistake(
        "coupled-decay",
        "weight decay is added to the gradient: that is Adam with L2, not AdamW, which shrinks the parameter itself",
        {
            '                    p.mul_(1 - group["lr"] * group["weight_decay"])\n'
            '                    p.sub_(group["lr"] * self.direction(p, p.grad, group))': '                    p.sub_(group["lr"] * self.direction(p, p.grad + group["weight_decay"] * p, group))'
        },
    ),
    Mistake(
        "decay-without-lr",
        "AdamW's decay is not multiplied by the learning rate",
        {'p.mul_(1 - group["lr"] * group["weight_decay"])': 'p.mul_(1 - group["weight_decay"])'},
    ),
    Mistake(
        "decay-after-step",
        "AdamW decays the parameter after Adam's step; the decay comes first",
        {
            '                    p.mul_(1 - group["lr"] * group["weight_decay"])\n'
            '                    p.sub_(group["lr"] * self.direction(p, p.grad, group))': '                    p.sub_(group["lr"] * self.direction(p, p.grad, group))\n'
            '                    p.mul_(1 - group["lr"] * group["weight_decay"])'
        },
    ),
    Mistake(
        "decay-without-gradient",
        "AdamW decays parameters that have no gradient; they are skipped altogether",
        {
            "                if p.grad is not None:\n"
            '                    p.mul_(1 - group["lr"] * group["weight_decay"])': '                p.mul_(1 - group["lr"] * group["weight_decay"])\n'
            "                if p.grad is not None:"
        },
    ),
    Mistake(
        "no-bias-correction",
        "the moments are used without bias correction: early steps are far too small or large",
        {
            'm_hat = m / (1 - beta1 ** state["step"])': "m_hat = m",
            'v_hat = v / (1 - beta2 ** state["step"])': "v_hat = v",
        },
    ),
    Mistake(
        "second-moment-uncorrected",
        "only the first moment is corrected for its bias; the second one needs it too",
        {'v_hat = v / (1 - beta2 ** state["step"])': "v_hat = v"},
    ),
    Mistake(
        "first-moment-uncorrected",
        "only the second moment is corrected for its bias; the first one needs it too",
        {'m_hat = m / (1 - beta1 ** state["step"])': "m_hat = m"},
    ),
    Mistake(
        "eps-inside-root",
        "epsilon is added under the root; it belongs outside, after the root",
        {'(v_hat.sqrt() + group["eps"])': '(v_hat + group["eps"]).sqrt()'},
    ),
    Mistake(
        "eps-before-correction",
        "epsilon is added before the second moment's bias correction (the paper's epsilon-hat); add it after",
        {
            'return m_hat / (v_hat.sqrt() + group["eps"])': 'return m_hat * (1 - beta2 ** state["step"]) ** 0.5 / (v.sqrt() + group["eps"])'
        },
    ),
    Mistake(
        "step-counted-from-zero",
        "the step is counted after the update: at the first step the correction divides by zero",
        {
            '        state["step"] += 1\n': "",
            "        m_hat = m /": '        state["step"] += 1\n        m_hat = m /',
            '(1 - beta1 ** state["step"])': '(1 - beta1 ** (state["step"] - 1))',
        },
    ),
    Mistake(
        "step-shared",
        "one step counter serves all parameters and advances with each of them; every parameter counts its own steps",
        {
            '        state["step"] += 1\n': '        self.steps = getattr(self, "steps", 0) + 1\n        state["step"] = self.steps\n'
        },
    ),
    Mistake(
        "beta2-factor-missing",
        "the squared gradient enters the second moment without the factor 1 - beta2",
        {"add_((1 - beta2) * g * g)": "add_(g * g)"},
    ),
    Mistake(
        "betas-swapped",
        "beta1 and beta2 are swapped: beta1 belongs to the mean, beta2 to the squares",
        {'beta1, beta2 = group["betas"]': 'beta2, beta1 = group["betas"]'},
    ),
    Mistake(
        "gradient-not-squared",
        "the second moment averages gradients, not squared gradients",
        {"add_((1 - beta2) * g * g)": "add_((1 - beta2) * g.abs())"},
    ),
    Mistake(
        "amsgrad-of-corrected",
        "amsgrad takes the maximum after bias correction; take it of the uncorrected moment, then correct",
        {
            '            v = state["v_max"].copy_(torch.maximum(state["v_max"], v))\n': '            unbiased = v / (1 - beta2 ** state["step"])\n'
            '            v = state["v_max"].copy_(torch.maximum(state["v_max"], unbiased))'
            ' * (1 - beta2 ** state["step"])\n'
        },
    ),
    Mistake(
        "amsgrad-forgets",
        "amsgrad writes the maximum back into the moving average itself; keep the two apart",
        {
            'v = state["v_max"].copy_(torch.maximum(state["v_max"], v))': 'v = state["v"].copy_(torch.maximum(state["v_max"], v))\n            state["v_max"].copy_(v)'
        },
    ),
    Mistake(
        "amsgrad-ignored",
        "`amsgrad` is accepted but does nothing to the denominator",
        {'v = state["v_max"].copy_(torch.maximum(state["v_max"], v))': 'state["v_max"].copy_(v)'},
    ),
    Mistake(
        "l2-ignored-in-adam",
        "Adam ignores `weight_decay`; it is an L2 penalty added to the gradient",
        {
            '                    g = p.grad + group["weight_decay"] * p\n'
            '                    p.sub_(group["lr"] * self.direction(p, g, group))': '                    p.sub_(group["lr"] * self.direction(p, p.grad, group))'
        },
    ),
    Mistake(
        "ascent",
        "SGD adds the step to the parameter: that climbs; subtract it",
        {"                p.sub_(lr * g)": "                p.add_(lr * g)"},
    ),
    Mistake(
        "previous-step-kept",
        "SGD keeps a second tensor for each parameter; momentum needs the buffer alone",
        {
            "                p.sub_(lr * g)\n": "                p.sub_(lr * g)\n"
            '                if mu:\n                    self.state[p]["previous"] = lr * g\n'
        },
    ),
    Mistake(
        "momentum-dampened",
        "SGD's buffer is an average, (1 - mu) times the gradient; in PyTorch's form the gradient enters whole",
        {'["momentum"].mul_(mu).add_(g)': '["momentum"].mul_(mu).add_((1 - mu) * g)'},
    ),
    Mistake(
        "momentum-starts-at-zero-average",
        "SGD's buffer starts as (1 - mu) times the first gradient; it starts as the first gradient itself",
        {'self.state[p] = {"momentum": g.clone()}': 'self.state[p] = {"momentum": (1 - mu) * g}'},
    ),
    Mistake(
        "nesterov-ignored",
        "`nesterov` is accepted but the step is plain momentum's",
        {'g = g + mu * b if group["nesterov"] else b': "g = b"},
    ),
    Mistake(
        "nesterov-without-gradient",
        "Nesterov's step is mu times the buffer; the gradient itself is added to that",
        {'g = g + mu * b if group["nesterov"] else b': 'g = mu * b if group["nesterov"] else b'},
    ),
    Mistake(
        "sgd-decay-ignored",
        "SGD ignores `weight_decay`; it is an L2 penalty added to the gradient before momentum",
        {
            '                g = p.grad + group["weight_decay"] * p\n                if mu': "                g = p.grad.clone()\n                if mu"
        },
    ),
    Mistake(
        "gradient-changed",
        "the decay is added to `p.grad` in place; the caller's gradient must stay as it is",
        {
            '                g = p.grad + group["weight_decay"] * p\n                if mu': '                g = p.grad.add_(group["weight_decay"] * p)\n                if mu'
        },
    ),
    Mistake(
        "zero-grad-keeps",
        "`zero_grad` leaves gradients in place; set them to None",
        {"                p.grad = None\n": "                p.grad = p.grad\n"},
    ),
    Mistake(
        "groups-share-defaults",
        "every group gets the defaults; a group's own settings must override them",
        {'{**defaults, **group, "params"': '{**group, **defaults, "params"'},
    ),
    Mistake(
        "snapshot-aliases-state",
        "`state_dict` returns the live state: later steps change the snapshot; copy the tensors",
        {"state = {number[p]: copy_state(values) for": "state = {number[p]: values for"},
    ),
    Mistake(
        "load-aliases-snapshot",
        "`load_state_dict` keeps the snapshot's own tensors: optimizers that load it share their state; copy them",
        {"self.state = {parameters[i]: copy_state(values) for": "self.state = {parameters[i]: values for"},
    ),
    Mistake(
        "settings-not-restored",
        "`load_state_dict` restores the state but not the settings of the groups",
        {
            '            group.update({name: value for name, value in saved.items() if name != "params"})\n': "            pass\n"
        },
    ),
    Mistake(
        "step-not-restored",
        "the step counter is lost on resume: bias correction starts again from one",
        {
            'self.state = {parameters[i]: copy_state(values) for i, values in snapshot["state"].items()}': 'self.state = {parameters[i]: copy_state(values) for i, values in snapshot["state"].items()}\n'
            "        for values in self.state.values():\n"
            '            values.update({"step": 0} if "step" in values else {})'
        },
    ),
    Mistake(
        "empty-accepted",
        "an optimizer over no parameters is accepted silently; it is a ValueError",
        {
            '        if not groups:\n            raise ValueError("an optimizer needs at least one parameter")\n        if not isinstance(groups[0], dict)': "        if not groups or not isinstance(groups[0], dict)"
        },
    ),
    Mistake(
        "numbers-restart-in-groups",
        "the snapshot numbers each group's parameters from zero; numbers go through all groups",
        {'"params": [number[p] for p in group["params"]]}': '"params": list(range(len(group["params"])))}'},
    ),
    Mistake(
        "state-for-all",
        "amsgrad's third tensor is kept without `amsgrad`",
        {
            '            if group["amsgrad"]:\n                self.state[p]["v_max"]': '            if True:\n                self.state[p]["v_max"]'
        },
    ),
    Mistake(
        "element-loop",
        "the moments are updated element by element in Python; one tensor operation does all",
        {
            '        m = state["m"].mul_(beta1).add_((1 - beta1) * g)\n': '        m = state["m"]\n'
            "        for i in range(m.numel()):\n"
            "            m.view(-1)[i] = beta1 * m.view(-1)[i] + (1 - beta1) * g.reshape(-1)[i]\n"
        },
    ),
    Mistake(
        "buffer-without-momentum",
        "SGD keeps a buffer although momentum is zero",
        {"                if mu:\n": "                if True:\n"},
    ),
]

EQUIVALENT = [
    Equivalent("all groups are dicts or none is", {"isinstance(groups[0": "isinstance(groups[(-1)"}),
    Equivalent(
        "`step` runs without gradients",
        {
            "= torch.zeros_like(p": "= (torch.zeros_like(p)).detach(",
            'state["m"].mul_(beta1).add_((1 - beta1) * g': '(state["m"].mul_(beta1).add_((1 - beta1) * g)).detach(',
            'state["v"].mul_(beta2).add_((1 - beta2) * g * g': '(state["v"].mul_(beta2).add_((1 - beta2) * g * g)).detach(',
            'state["v_max"].copy_(torch.maximum(state["v_max"], v)': '(state["v_max"].copy_(torch.maximum(state["v_max"], v))).detach(',
            'm / (1 - beta1 ** state["step"]': '(m / (1 - beta1 ** state["step"])).detach(',
            'v / (1 - beta2 ** state["step"]': '(v / (1 - beta2 ** state["step"])).detach(',
            'm_hat / (v_hat.sqrt() + group["eps"]': '(m_hat / (v_hat.sqrt() + group["eps"])).detach(',
        },
    ),
]
