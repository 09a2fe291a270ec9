"""What a case is, and the answers that attacks are built around."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

MARK = "left-by-an-attack"  # in the name of everything that a case tries to leave outside its directory
KEY = 0x0ADE5A17  # of what a case tries to leave in System V memory


@dataclass(frozen=True)
class Case:
    """One attack: a submission whose real answer is wrong, and what must come of it."""

    name: str
    says: str  # what is tried
    stopped_by: str
    code: str
    exercise: str = "combination_sum"
    status: tuple[str, ...] = ("failed",)
    isolation: bool = False  # the outcome depends on the layers: played on the restricted tier too
    performance: bool = False  # the cost tests are run
    terminal: bool = False  # played a second time without --json
    options: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()  # attempts that the submission must report as refused
    promised_by: tuple[str, ...] = ("sandbox", "restricted")  # tiers that refuse these
    prints: str = ""  # what it must have printed, so that it is known to have tried
    message: str = ""  # what a failing test, or the verdict, must say
    earns: tuple[str, ...] = ()  # tests that it passes beyond the wrong answer, since it is right there
    limit: bool = False  # known, documented, and not stopped
    as_bad_as: str = ""  # another answer than the exercise's wrong one, to compare with
    seconds: float = 90.0  # so long may it take, on a busy machine


def lines(text: str, by: int = 4) -> str:
    return textwrap.indent(textwrap.dedent(text).strip("\n"), " " * by)


# What every attack may use: reports an attempt by name, with what came of it.
TRIED = """
def tried(name, attempt):
    try:
        said = "done: " + str(attempt())[:300]
    except BaseException as error:
        said = "refused: " + type(error).__name__
    print(f"{name}: {said}", flush=True)
"""


# --- combination_sum: a candidate is used once only

COMBINATION_SUM = """
def {name}(candidates, target):
    numbers, found, path = list(candidates), [], []

    def extend(start, left):
        if left == 0:
            found.append(list(path))
        for i in range(start, len(numbers)):
            if numbers[i] <= left:
                path.append(numbers[i])
                extend({next}, left - numbers[i])
                path.pop()

    extend(0, target)
    return found
"""
RIGHT_COMBINATIONS = COMBINATION_SUM.format(name="combination_sum", next="i")
WRONG_COMBINATIONS = COMBINATION_SUM.format(name="combination_sum", next="i + 1")


def combinations(before: str = "", inside: str = "", returns: str = "honest(candidates, target)") -> str:
    """The wrong answer as `honest`, and around it what the attack does."""
    honest = COMBINATION_SUM.format(name="honest", next="i + 1")
    body = lines(inside) + "\n" if inside else ""
    return (
        f"{TRIED}\n{honest}\n{textwrap.dedent(before)}\n\n"
        f"def combination_sum(candidates, target):\n{body}    return {returns}\n"
    )


# --- maximum_gap: gaps are taken between the smallest numbers of buckets

MAXIMUM_GAP = """
def {name}(nums):
    if len(nums) < 2 or min(nums) == max(nums):
        return 0
    low, width = min(nums), -((min(nums) - max(nums)) // (len(nums) - 1))
    buckets = [None] * ((max(nums) - low) // width + 1)
    for x in nums:
        a, b = buckets[(x - low) // width] or (x, x)
        buckets[(x - low) // width] = (min(a, x), max(b, x))
    widest, before = 0, low
    for bucket in buckets:
        if bucket:
            widest, before = max(widest, bucket[0] - before), bucket[{end}]
    return widest
"""
RIGHT_GAP = MAXIMUM_GAP.format(name="maximum_gap", end=1)
WRONG_GAP = MAXIMUM_GAP.format(name="maximum_gap", end=0)


def gap(before: str = "", inside: str = "", returns: str = "honest(nums)") -> str:
    body = lines(inside) + "\n" if inside else ""
    honest = MAXIMUM_GAP.format(name="honest", end=0)
    return f"{TRIED}\n{honest}\n{textwrap.dedent(before)}\n\ndef maximum_gap(nums):\n{body}    return {returns}\n"


# --- linear_attention's feature map: without the + 1

FEATURE_MAP = """
import torch


def {name}(x):
    return torch.where(x > 0, x + {one}, torch.exp(x.clamp(max=0)))
"""
RIGHT_FEATURES = FEATURE_MAP.format(name="feature_map", one=1)
WRONG_FEATURES = FEATURE_MAP.format(name="feature_map", one=2)


def features(before: str = "", inside: str = "", returns: str = "honest(x)") -> str:
    honest = FEATURE_MAP.format(name="honest", one=2)
    body = lines(inside) + "\n" if inside else ""
    return f"{TRIED}\n{honest}\n{textwrap.dedent(before)}\n\ndef feature_map(x):\n{body}    return {returns}\n"


RIGHT = {"combination_sum": RIGHT_COMBINATIONS, "maximum_gap": RIGHT_GAP, "linear_attention": RIGHT_FEATURES}
WRONG = {"combination_sum": WRONG_COMBINATIONS, "maximum_gap": WRONG_GAP, "linear_attention": WRONG_FEATURES}
OPTIONS = {"linear_attention": ("--part", "feature_map")}
