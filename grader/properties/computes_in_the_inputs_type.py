"""float64 is computed in float64, and float32 gives float32: the types of results, and their digits."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from grader.compare import Mismatch, assert_close, assert_equal
from grader.properties.case import Drawn, Given
from grader.properties.property import Property, mapped

ROUGHLY = 1e-3  # of the largest value: float32 is here for its type, other tests look at its digits


def check(submission: Any, case: Any, draw: Any) -> None:
    drawn = case.draw(draw)
    expected = case.expected(drawn)
    names = ("float64", "float32")
    for name, results in zip(names, case.results(submission, *(cast(drawn, name) for name in names)), strict=True):
        for number, (got, exact) in enumerate(zip(results, expected, strict=True), 1):
            what, right = f"result of call {number} with {name}", in_type(exact, name)
            assert_equal(types(got), types(right), what=f"types of the {what}")
            if name == "float64":
                _assert_exact(got, right, what)
            else:
                assert_close(got, right, what=what, rtol=ROUGHLY, atol=ROUGHLY * largest(right), reason="float32")


def _assert_exact(got: Any, expected: Any, what: str) -> None:
    try:
        assert_close(got, expected, what=what)
    except Mismatch as wrong:
        try:
            assert_close(in_type(got, "float32"), in_type(expected, "float32"))
        except Mismatch:
            raise wrong from None
        hint = "it is right to float32 alone: look for `.float()`, or a tensor that is made without a `dtype`"
        raise Mismatch(replace(wrong.details, hint=hint)) from None


def largest(value: Any) -> float:
    """The largest size of a number in the tensors of a value, 1 at least."""
    found = [1.0]
    mapped(value, lambda x: found.append(float(x.abs().nan_to_num(0, 0, 0).max())) if x.numel() else None)
    return max(found)


def cast(drawn: Drawn, name: str) -> Drawn:
    """The calls with every floating tensor in one type, complex ones in the type of its pairs."""
    calls = tuple(Given(in_type(call.args, name), in_type(call.kwargs, name)) for call in drawn.calls)
    return Drawn(calls, in_type(drawn.settings, name))


def in_type(value: Any, name: str) -> Any:
    """A value with its floating tensors in one type."""
    import torch

    def change(x: Any) -> Any:
        if x.is_complex():
            return x.to(torch.complex128 if name == "float64" else torch.complex64)
        return x.to(getattr(torch, name)) if x.is_floating_point() else x

    return mapped(value, change)


def types(value: Any) -> list[Any]:
    """The type of every tensor in a value, in order."""
    found: list[Any] = []
    mapped(value, lambda x: found.append(x.dtype))
    return found


def computes_in_float32(original: Any) -> Any:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        seen = []

        def narrow(x: Any) -> Any:
            seen.append(str(x.dtype))
            names = {"torch.float64": x.float, "torch.complex128": x.cfloat}
            return names.get(str(x.dtype), lambda: x)()

        def widen(x: Any) -> Any:
            return x.double() if x.is_floating_point() else x.cdouble() if x.is_complex() else x

        if args and hasattr(args[0], "parameters"):  # float32 would not meet its parameters
            result = mapped(original(*args, **kwargs), narrow)
        else:
            result = original(*mapped(args, narrow), **mapped(kwargs, narrow))
        for group in getattr(args[0], "param_groups", []):
            for p in group["params"]:
                p.detach().copy_(p.float())
        return mapped(result, widen) if {"torch.float64", "torch.complex128"} & set(seen) else result

    return wrapped


computes_in_the_inputs_type = Property(
    "computes_in_the_inputs_type",
    "float64 is computed in float64, and float32 gives float32",
    "tensors",
    "computes-in-float32",
    "float64 is computed in float32 on the way; results must be right to the digits of the inputs' type.",
    computes_in_float32,
    check,
)
