"""Written rules: the syntax tree names the line, and the run-time guard catches what the tree cannot see."""

from __future__ import annotations

import pytest

from grader import catalog
from grader.verdict import Cause, Status

GAP = catalog.find("maximum_gap").text
ADAMW = catalog.find("adamw").text

TREE = {
    "builtin": ("return sorted(nums)[0]", "sorting"),
    "method": ("nums.sort()", "sorting"),
    "alias": ("order = sorted\nreturn order(nums)", "sorting"),
    "module": ("import heapq\nreturn heapq.nsmallest(1, nums)", "sorting"),
    "from": ("from bisect import insort as put\nput([], 1)", "sorting"),
    "package": ("import numpy as np\nreturn np.sort(nums)", "sorting"),
}


def gap(body: str) -> str:
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"import importlib\nimport functools\n\n\ndef maximum_gap(nums):\n{lines}\n"


@pytest.mark.parametrize("case", TREE)
def test_tree_names_the_line(grade, case):
    body, rule = TREE[case]
    verdict = grade("maximum_gap", gap(body))
    assert verdict.status is Status.RULE_BROKEN
    assert {broken.rule for broken in verdict.rules} == {rule}
    assert verdict.rules[0].line == 6
    assert verdict.rules[0].source == body.splitlines()[0]
    assert (verdict.tests, verdict.points) == ([], 0)


HIDDEN = {
    "getattr": "return getattr(nums, 'so' + 'rt')()",
    "builtins": "import builtins\nreturn vars(builtins)['sor' + 'ted'](nums)",
    "globals": "return eval('sor' + 'ted(nums)')",
    "importlib": "return importlib.import_module('hea' + 'pq').nsmallest(1, nums)",
    "import": "return __import__('num' + 'py')",
    "caught": "try:\n    getattr(nums, 'so' + 'rt')()\nexcept BaseException:\n    pass\nreturn 0",
}


@pytest.mark.parametrize("case", HIDDEN)
def test_guard_sees_what_the_tree_does_not(grade, case):
    verdict = grade("maximum_gap", gap(HIDDEN[case]), performance=False)
    assert verdict.status is Status.RULE_BROKEN
    assert verdict.points == 0
    assert any(test.cause is Cause.RULE and "the rules exclude `sorting`" in test.message for test in verdict.tests)


def test_the_standard_library_may_sort(grade):
    text = GAP.replace(
        "from __future__ import annotations\n", "from __future__ import annotations\nimport unittest, dataclasses\n"
    )
    assert grade("maximum_gap", text).status is Status.PASSED


def test_own_names_are_ones_own(grade):
    text = GAP + "\n\ndef sorted(values):\n    return values\n\n\nsorted([1])\n"
    assert grade("maximum_gap", text).status is Status.PASSED


TORCH = {
    "getattr": "getattr(torch, 'op' + 'tim').SGD",
    "vars": "vars(torch)['op' + 'tim'].SGD",
    "importlib": "__import__('importlib').import_module('torch.op' + 'tim')",
    "from": "exec('from torch.op' + 'tim import SGD')",
}


@pytest.mark.parametrize("case", TORCH)
def test_guard_on_modules_of_torch(grade, case):
    text = ADAMW.replace(
        "        for group in self.param_groups:\n            lr, mu",
        f"        {TORCH[case]}\n        for group in self.param_groups:\n            lr, mu",
    )
    assert text != ADAMW
    verdict = grade("adamw", text, part="SGD", performance=False)
    assert verdict.status is Status.RULE_BROKEN
