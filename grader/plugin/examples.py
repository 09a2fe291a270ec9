"""The worked examples of a statement, as tests. Their text is visible, so their expectations are too."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from grader.compare import fail
from grader.source import Examples
from grader.suite import probe

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@probe
def show(module: Any, sources: list[str], raising: list[bool]) -> list[str]:
    """What each example prints, run one after another in a copy of the module's names."""
    import contextlib
    import io

    names = dict(vars(module))
    printed = []
    for source, may_raise in zip(sources, raising, strict=True):
        stream = io.StringIO()
        try:
            with contextlib.redirect_stdout(stream):
                exec(compile(source, "<example>", "single", dont_inherit=True), names)
        except Exception as error:
            if not may_raise:
                raise
            stream.write(f"Traceback (most recent call last):\n    ...\n{type(error).__name__}: {error}\n")
        printed.append(stream.getvalue())
    return printed


class TestExamples:
    def test_examples(self, submission: Any, examples: Examples) -> None:
        """the worked examples print what the statement shows"""
        cases = examples.examples
        raising = [example.exc_msg is not None for example in cases]
        printed = submission.run(show, [example.source for example in cases], raising)
        checker = doctest.OutputChecker()
        for example, got in zip(cases, printed, strict=True):
            want = example.want
            if example.exc_msg is not None:
                want = f"Traceback (most recent call last):\n    ...\n{example.exc_msg}"
            if not checker.check_output(want, got, FLAGS):
                fail(
                    "a worked example prints something else",
                    example=">>> " + example.source.rstrip("\n").replace("\n", "\n... "),
                    expected=want.rstrip("\n") or "nothing",
                    got=got.rstrip("\n") or "nothing",
                )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = metafunc.config.stash[EXAMPLES]
    cases = [
        pytest.param(item, id=item.part or "statement", marks=[pytest.mark.part(item.part)] if item.part else [])
        for item in found
    ]
    metafunc.parametrize("examples", cases)


EXAMPLES = pytest.StashKey[tuple[Examples, ...]]()
