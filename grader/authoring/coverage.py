"""Which part holds which property: the table, what is missing in it, and the generic mistakes that prove it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from grader import source
from grader.exercise import Exercise
from grader.plugin import collect
from grader.properties import ALL, Case, Property, keeps_arguments
from grader.report import Report
from grader.verdict import Outcome

TAKES = {"tensors": "Tensor", "iterables": "Iterable", "sequences": "Sequence"}
METHODS = ("forward", "__call__", "step")  # of a class, where the generic mistakes go
ALSO = {"tensors": ("tensors", "anything"), "sequences": ("sequences", "iterables")}  # what else will do
MEND = "declare it in TestProperties, see grader/properties"


def cases(exercise: Exercise) -> tuple[Case, ...]:
    """What its suite declares."""
    return getattr(getattr(collect.load(exercise), "TestProperties", None), "cases", ())


def table(exercise: Exercise) -> dict[str, list[str]]:
    """The properties that each part holds."""
    held: dict[str, list[str]] = {part.name: [] for part in exercise.parts}
    for case in cases(exercise):
        held[case.part] += [held_by.name for held_by in case.properties if held_by.name not in held[case.part]]
    return held


def lines(exercise: Exercise) -> Iterator[str]:
    """The table to be read: a row for each part, what it takes and what it holds."""
    takes = _takes(exercise)
    for part, held in table(exercise).items():
        yield f"  {part:<26}{', '.join(takes[part]) or '-':<24}{', '.join(held) or '-'}"


def holes(exercise: Exercise) -> Iterator[tuple[str, str]]:
    """Parts that take tensors or iterables and hold nothing that fits, and what mends it."""
    held = table(exercise)
    for part, takes in _takes(exercise).items():
        for kind in takes:
            fitting = [one.name for one in ALL if one.check and one.fits in ALSO.get(kind, (kind,))]
            if not set(fitting) & set(held[part]):
                yield f"part `{part}` takes {kind} and holds none of {', '.join(fitting)}", MEND


def planted(exercise: Exercise, grade: Callable[..., Report]) -> Iterator[tuple[str, Property, bool]]:
    """Each test of a property, the property, and whether the test rejects its generic mistake.

    `grade(text, **options)` grades a text.
    """
    functions = _functions(exercise)
    for case in cases(exercise):
        target = case.target or _target(case.part, functions)
        for held in case.properties:
            name = f"TestProperties::test_{held.name}[{case.name}]"
            yield name, held, _rejects(grade, held.plant(exercise.text, target), name)
        if case.of is None and _takes_something(functions.get(target)):  # a probe may make arguments of its own
            some = f"TestProperties::test_{case.properties[0].name}[{case.name}]"
            text = keeps_arguments.plant(exercise.text, target)
            yield some, keeps_arguments, _rejects(grade, text, *_tests_of(case))


def complaints(
    exercise: Exercise, grade: Callable[..., Report], proven: Callable[[str, str], Any]
) -> Iterator[tuple[str, str]]:
    """Tests that let their property's generic mistake pass, and what mends them.

    `proven(test, mistake)` hears of each test that rejects the mistake it is there for.
    """
    for test, held, rejected in planted(exercise, grade):
        if rejected:
            proven(test, held.mistake)
        else:
            what = f"{test} lets the generic mistake `{held.mistake}` of `{held.name}` pass"
            yield what, "draw inputs that show it, or name the function that gets it with `target`"


def _tests_of(case: Case) -> list[str]:
    return [f"TestProperties::test_{held.name}[{case.name}]" for held in case.properties]


def _rejects(grade: Callable[..., Report], text: str, *names: str) -> bool:
    """Whether one of the tests fails."""
    tests = grade(text, diagnose=False, stop=True, first=names).verdict.tests
    return any(test.outcome is Outcome.FAILED and test.name in names for test in tests)


def _functions(exercise: Exercise) -> dict[str, source.Function]:
    """Every function and method of the solution, by its qualified name."""
    tree = ast.parse(exercise.text)
    return dict(pair for node in tree.body if isinstance(node, source.Definition) for pair in source.functions(node))


def _target(part: str, functions: dict[str, source.Function]) -> str:
    """Where the generic mistakes of a part go: itself, or the method that does a class's work."""
    return next((f"{part}.{method}" for method in METHODS if f"{part}.{method}" in functions), part)


def _annotations(function: source.Function) -> str:
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return " ".join(ast.unparse(arg.annotation) for arg in every if arg.annotation)


def _takes_something(function: source.Function | None) -> bool:
    """Whether one of its arguments can be changed in place."""
    words = _annotations(function) if function else ""
    return any(word in words for word in ("Tensor", "list[", "Sequence", "dict["))


def _takes(exercise: Exercise) -> dict[str, list[str]]:
    """What each part takes, as the annotations say of the functions that a learner fills in."""
    functions, found = _functions(exercise), {}
    for part in exercise.parts:
        text = " ".join(_annotations(functions[name]) for name in part.stubs)
        found[part.name] = [kind for kind, word in TAKES.items() if word in text]
    return found
