"""What a measurement depends on, as a short hash: what has one key has one result.

Of the kit's modules, of a suite and of the mutator that is the syntax: comments and docstrings cost nothing. An answer
counts with its whole text, as what is executed is counted by lines and edits are placed by them; only the prose of its
statement is left out. Of the card everything but its words. Not in a key are the versions of Python and of the
packages: for those `make test-full` measures anew.
"""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

from grader.catalog import PACKAGE
from grader.errors import Fault
from grader.exercise import Exercise
from grader.source import Definition, fingerprint

WORDS = {"title", "level", "minutes", "hints", "follow_ups"}  # fields of the card that no measurement sees
GRADING = (PACKAGE / "engine.py", PACKAGE / "authoring" / "check.py")
INSIDE = PACKAGE / "sandbox" / "inside"  # mounted in the sandbox, where it is started by path


def finding(exercise: Exercise, score: object) -> str:
    """What `grade dev check` measures depends on: what grading imports, the exercise, and its mutation score.

    Raises Fault, as does `mutation`, where a file of the exercise cannot be read.
    """
    kit = modules(*GRADING, *sorted(INSIDE.glob("*.py")), exercise.suite)
    styles = {name: code(_text(file)) for name, file in exercise.styles.items()}
    planted = [(mistake.name, mistake.edits, mistake.alone) for mistake in exercise.mistakes]
    own = [code(exercise.text), *styles.items(), planted, _card(exercise), _equivalents(exercise), score]
    return fingerprint(*(syntax(_text(path)) for path in kit), *map(repr, own))


def mutation(exercise: Exercise, mutator: Path) -> dict[str, str]:
    """What a mutation score depends on, by name; the mutator is a module."""
    return {
        "suite": fingerprint(*(syntax(_text(path)) for path in modules(exercise.suite) if _asks(path))),
        "solution": fingerprint(code(exercise.text)),
        "equivalent": fingerprint(_equivalents(exercise)),
        "card": fingerprint(_card(exercise)),
        "mutator": syntax(_text(mutator)),
    }


def _asks(module: Path) -> bool:
    """Whether a module decides what is asked of an answer, and not how it is compared or run."""
    return module.name == "suite.py" or module.relative_to(PACKAGE).parts[0] in ("properties", "probes.py")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(f"{file} cannot be read: {error}") from error


def _card(exercise: Exercise) -> str:
    return repr({name: value for name, value in asdict(exercise.card).items() if name not in WORDS})


def _equivalents(exercise: Exercise) -> str:
    return repr([edit for item in exercise.equivalents for edit in item.edits])


# --- answers ---


def code(answer: str) -> str:
    """An answer's text with only the worked examples left of its statement; the text itself where it does not parse."""
    try:
        body = ast.parse(answer).body
        if (said := _docstring(body)) is None or (len(body) > 1 and body[1].lineno == body[0].end_lineno):
            return answer
        examples = [(e.source, e.want, e.exc_msg, e.options) for e in doctest.DocTestParser().get_examples(said)]
    except (SyntaxError, ValueError, RecursionError):
        return answer
    lines = answer.split("\n")
    first, last = body[0].lineno - 1, body[0].end_lineno
    return "\n".join([*lines[:first], repr(examples), *lines[last:]])


def _docstring(body: list[ast.stmt]) -> str | None:
    """The text that a body begins with; None where it begins with something else."""
    match body:
        case [ast.Expr(ast.Constant(str() as said)), *_]:
            return said
    return None


# --- modules ---


@cache
def syntax(module: str) -> str:
    """A hash of a module's text without comments and docstrings, the same under every version of Python."""
    try:
        tree = ast.parse(module)
    except SyntaxError:
        return fingerprint(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | Definition) and _docstring(node.body) is not None:
            del node.body[0]
    return fingerprint(repr(_shape(tree)))


def _shape(node: object) -> object:
    """What `ast.dump` says without the empty fields, of which each version of Python has others."""
    if isinstance(node, ast.AST):
        fields = [(name, _shape(value)) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return type(node).__name__, fields
    return [_shape(item) for item in node] if isinstance(node, list) else node


def modules(*roots: Path) -> list[Path]:
    """These modules and all of the kit's that they import, however deep and wherever in them."""
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in _imported(_text(path)) for file in _files(name)]
    return sorted(found)


@cache
def _imported(module: str) -> tuple[str, ...]:
    """The dotted names below `grader` that a module's text imports, those for the type checker aside."""
    try:
        return tuple(dict.fromkeys(_names(ast.parse(module))))
    except SyntaxError:
        return ()


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _names(child)


def _files(name: str) -> Iterator[Path]:
    """Where a dotted name may come from: its module and the packages around it, the version in `grader` aside."""
    top, *parts = name.split(".")
    for length in range(1, len(parts) + 1) if top == PACKAGE.name else ():
        place = PACKAGE.joinpath(*parts[:length])
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())
