"""The meter counts exactly, and alike every time."""

from __future__ import annotations

import pytest
import torch

from grader.sandbox.inside.counting import Tally
from grader.sandbox.inside.meter import PythonMeter, TorchMeter

FLOAT = 4


def cost(run, *args):
    meter = TorchMeter()
    with meter:
        run(*args)
    return meter.cost()


def softmax_attention(q, k, v):
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def linear_attention(q, k, v):
    return q @ (k.transpose(-1, -2) @ v)


def test_a_matrix_product_by_hand():
    found = cost(torch.matmul, torch.ones(3, 5), torch.ones(5, 7))
    assert found["flops"] == 2 * 3 * 5 * 7
    assert found["peak_bytes"] == found["largest_bytes"] == 3 * 7 * FLOAT
    assert found["by_name"] == {"aten::mm": 1}
    assert found["saved_bytes"] == 0


def test_freed_tensors_leave_the_peak():
    def chain():
        x = torch.ones(1000)
        for _ in range(10):
            x = x + 1
        return x

    found = cost(chain)
    assert found["peak_bytes"] == 2 * 1000 * FLOAT
    assert found["operators"] == 11


def test_inputs_and_views_cost_nothing():
    x = torch.ones(1000)
    found = cost(lambda: (x.view(10, 100).T[2:], x.mul_(2), x.expand(50, 1000)))
    assert found["peak_bytes"] == 0


def test_what_is_saved_for_backward():
    x = torch.ones(100, requires_grad=True)
    assert cost(lambda: x.exp().sum())["saved_bytes"] == 100 * FLOAT
    assert cost(lambda: x.detach().exp().sum())["saved_bytes"] == 0


def test_what_is_alive_at_the_end():
    kept = []

    def call(keep):
        x = torch.ones(1000).exp()
        if keep:
            kept.append(x)
        return x[:2].clone()

    assert cost(call, False)["held_bytes"] == 0  # `cost` drops the result before the meter ends
    assert cost(call, True)["held_bytes"] == 1000 * FLOAT
    meter, x = TorchMeter(), torch.ones(100, requires_grad=True)
    with meter:
        y = x.exp().exp().sum()
    assert meter.cost()["held_bytes"] == (2 * 100 + y.numel()) * FLOAT


def test_what_backward_frees_leaves_the_peak():
    x = torch.ones(1000, requires_grad=True)

    def steps(n):
        for _ in range(n):
            torch.autograd.grad(x.exp().exp().sum(), x)

    once, often = cost(steps, 1), cost(steps, 5)
    assert often["saved_bytes"] == 5 * once["saved_bytes"] == 5 * 2 * 1000 * FLOAT
    assert often["peak_bytes"] == once["peak_bytes"]


@pytest.mark.parametrize(("attention", "growth"), [(softmax_attention, 4.0), (linear_attention, 2.0)])
def test_growth_when_the_length_doubles(attention, growth):
    small, large = (cost(attention, *(torch.ones(1, 2, t, 16) for _ in range(3))) for t in (512, 1024))
    assert large["flops"] == growth * small["flops"]
    assert large["peak_bytes"] == pytest.approx(growth * small["peak_bytes"], rel=0.1)
    assert large["operators"] == small["operators"]


def test_entered_twice_it_adds_up():
    meter = TorchMeter()
    for _ in range(2):
        with meter:
            torch.ones(3, 5) @ torch.ones(5, 7)
    assert meter.cost()["flops"] == 2 * 2 * 3 * 5 * 7


SOURCE = """
def walk(n):
    total = 0
    for i in range(n):
        total += helper(i)
    return total


def helper(i):
    return i


def hold(n):
    kept = bytearray(n)
    return len(kept)
"""


def python_cost(name, *args, tally=None):
    names = {}
    exec(compile(SOURCE, "learner.py", "exec"), names)
    meter = PythonMeter("learner.py", tally or Tally())
    with meter:
        names[name](*args)
    return meter.cost()


def test_lines_and_calls_of_the_file():
    found = python_cost("walk", 10)
    assert found["calls"] == 1 + 10
    assert found["lines"] == 1 + 11 + 10 + 10 + 1  # total, the loop's head, its body, the helper, the return
    assert found == python_cost("walk", 10) | {"peak_bytes": found["peak_bytes"]}


def test_memory_at_the_peak():
    small, large = python_cost("hold", 10_000), python_cost("hold", 1_000_000)
    assert 10_000 <= small["peak_bytes"] < 20_000
    assert 1_000_000 <= large["peak_bytes"] < 1_010_000


def counted(run, values):
    tally = Tally()
    wrapped = tally.wrap(values)
    tally.counting = True
    result = run(wrapped)
    tally.counting = False
    return result, tally.counts()


def test_counting_lists():
    assert counted(max, [3, 1, 2]) == (3, {"comparisons": 2, "reads": 3, "writes": 0})
    assert counted(lambda x: x[0] + x[-1], [3, 1, 2])[1] == {"comparisons": 0, "reads": 2, "writes": 0}
    assert counted(lambda x: x[1:], [3, 1, 2])[1]["reads"] == 2

    def store(x):
        x[0] = 5
        x.append(6)

    assert counted(store, [3, 1, 2])[1]["writes"] == 2


def test_sorting_shows_in_the_comparisons():
    import random

    values = random.Random(0).sample(range(10**6), 4096)
    comparisons = counted(lambda x: sorted(x), values)[1]["comparisons"]
    assert 4096 * 9 < comparisons < 4096 * 12  # n log n


@pytest.mark.parametrize("value", ["text", [1.0], [True], (1, 2), None, [[1]]], ids=str)
def test_other_arguments_stay_as_they_are(value):
    tally = Tally()
    assert tally.wrap(value) is value
    assert not tally.used
