"""Mechanical edits of a solution's answer, or of a whole module, each a small way to be wrong. Text only: nothing is
run here.

An edit replaces a span of the text, so that a mutant reads as a one-line diff. Given code, docstrings and
annotations are left alone.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from grader.authoring.keys import code
from grader.source import REGION, fingerprint

OPERATORS = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"), ast.Pow: ("**", "*"), ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.BitXor: ("^", "|"),
}  # fmt: skip
COMPARISONS = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"), ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}  # fmt: skip
NAMES = {
    "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "amin": "amax", "amax": "amin",
    "argmin": "argmax", "argmax": "argmin", "sin": "cos", "cos": "sin", "tril": "triu", "triu": "tril", "any": "all",
    "all": "any", "sum": "mean", "mean": "sum", "floor": "ceil", "ceil": "floor", "append": "extend",
    "zeros_like": "ones_like", "zeros": "ones", "ones": "zeros", "exp": "expm1", "log": "log1p", "logical_and":
    "logical_or", "logical_or": "logical_and", "float64": "float32", "float32": "bfloat16", "double": "float",
    "float": "bfloat16", "cumsum": "cumprod", "sorted": "list", "reversed": "list",
}  # fmt: skip
SYMMETRIC = {"min", "max", "minimum", "maximum", "gcd", "logical_and", "logical_or", "equal"}  # in their arguments
DROPPED = ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Raise | ast.Break | ast.Continue
Edits = Iterator[tuple[int, int, str]]  # start and end of a span of the text, and what to put there
Kind = Callable[["_Finder", ast.AST], Edits]


def key(text: str) -> str:
    """What a mutant is called where it is recorded, whatever its statement says."""
    return fingerprint(code(text))[:12]


@dataclass(frozen=True)
class Mutant:
    """An edited solution: its text, and the span of the solution that was replaced."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def key(self) -> str:
        return key(self.text)

    def line(self, solution: str) -> int:
        return solution.count("\n", 0, self.start) + 1

    def diff(self, solution: str) -> str:
        """The edit as a unified diff, headers left out."""
        lines = difflib.unified_diff(solution.splitlines(), self.text.splitlines(), lineterm="", n=1)
        return "\n".join(list(lines)[2:])


def mutants(solution: str) -> list[Mutant]:
    """Every mutant of an answer that compiles and differs from the solution and from the others."""
    return _mutants(solution, [match.span() for match in REGION.finditer(solution)], (*KINDS, gradients))


def of_module(text: str) -> list[Mutant]:
    """The same of a whole module, whose values have no gradients."""
    return _mutants(text, [(0, len(text))], KINDS)


def _mutants(original: str, places: list[tuple[int, int]], kinds: tuple[Kind, ...]) -> list[Mutant]:
    same = ast.dump(ast.parse(original))
    found: dict[str, Mutant] = {}
    for kind, start, end, new in _Finder(original).edits(kinds):
        if not any(low <= start and end <= high for low, high in places):
            continue
        text = original[:start] + new + original[end:]
        try:
            tree = ast.parse(text)
            compile(tree, "mutant", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        if (shape := ast.dump(tree)) != same:
            found.setdefault(shape, Mutant(kind, text, start, end))
    return sorted(found.values(), key=lambda mutant: mutant.start)


class _Finder:
    """Walks the syntax tree of a solution and proposes edits of its text."""

    def __init__(self, solution: str) -> None:
        self.text = solution
        self.tree = ast.parse(solution)
        self.offsets = [0]
        for line in solution.splitlines(keepends=True):
            self.offsets.append(self.offsets[-1] + len(line))
        self.lines = solution.splitlines(keepends=True)
        imported = [alias.name for node in self.tree.body if isinstance(node, ast.Import) for alias in node.names]
        self.torch = "torch" in imported

    def edits(self, kinds: tuple[Kind, ...]) -> Iterator[tuple[str, int, int, str]]:
        silent = {id(part) for node in ast.walk(self.tree) for quiet in _silent(node) for part in ast.walk(quiet)}
        for node in ast.walk(self.tree):
            if id(node) in silent:
                continue
            for kind in kinds:
                for start, end, new in kind(self, node):
                    yield kind.__name__, start, end, new

    def place(self, line: int, column: int) -> int:
        """The offset in the text of a place that `ast` counts in bytes of a line."""
        return self.offsets[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.place(node.lineno, node.col_offset), self.place(node.end_lineno, node.end_col_offset)

    def source(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> Edits:
        """Replace the operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        pattern = re.escape(old).replace(r"\ ", r"\s+")
        if match := re.search(rf"\b{pattern}\b" if old[0].isalpha() else pattern, self.text[start:end]):
            yield start + match.start(), start + match.end(), new


def _silent(node: ast.AST) -> list[ast.AST]:
    """What below a node is left alone: annotations, and the words of an error, which are not graded."""
    if isinstance(node, ast.Raise):
        return [*ast.iter_child_nodes(node)]
    found = [getattr(node, name, None) for name in ("annotation", "returns")]
    return [part for part in found if isinstance(part, ast.AST)]


def operators(at: _Finder, node: ast.AST) -> Edits:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield from at.between(node.left, node.right, *OPERATORS[type(node.op)])
    elif isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        old, new = OPERATORS[type(node.op)]
        yield from at.between(node.target, node.value, f"{old}=", f"{new}=")
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield *at.span(node), f"({at.source(node.operand)})"


def comparisons(at: _Finder, node: ast.AST) -> Edits:
    if isinstance(node, ast.Compare):
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            yield from at.between(left, right, *COMPARISONS[type(op)])


def conditions(at: _Finder, node: ast.AST) -> Edits:
    if isinstance(node, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from at.between(left, right, old, new)
    tests = [node.test] if isinstance(node, ast.If | ast.While | ast.IfExp) else getattr(node, "ifs", [])
    for test in tests:
        yield *at.span(test), f"(not ({at.source(test)}))"


def constants(at: _Finder, node: ast.AST) -> Edits:
    if not isinstance(node, ast.Constant) or at.text[: at.span(node)[0]].endswith("strict="):
        return
    value = node.value
    if isinstance(value, bool):
        yield *at.span(node), str(not value)
    elif isinstance(value, int):
        for other in dict.fromkeys((value + 1, value - 1, -value)):
            yield *at.span(node), f"({other})" if other < 0 else str(other)
    elif isinstance(value, float):
        for changed in dict.fromkeys((value + 1, -value, value * 2)):
            yield *at.span(node), f"({changed!r})" if changed < 0 else repr(changed)


def bounds(at: _Finder, node: ast.AST) -> Edits:
    """Ranges and slices that begin or end one too early or too late."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        for argument in node.args[:2]:
            for step in ("+ 1", "- 1"):
                yield *at.span(argument), f"({at.source(argument)}) {step}"
    if isinstance(node, ast.Slice):
        for bound in (node.lower, node.upper):
            if bound is not None:
                for step in ("+ 1", "- 1"):
                    yield *at.span(bound), f"({at.source(bound)}) {step}"
        start, end = at.span(node)
        if node.upper is None and node.step is None:
            yield end, end, "-1"
        if node.lower is None:
            yield start, start, "1"


def statements(at: _Finder, node: ast.AST) -> Edits:
    """Dropped statements, loops that end after the first round, functions that return early."""
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if isinstance(node, DROPPED) and not docstring:
        yield *at.span(node), "pass"
    if isinstance(node, ast.Break):
        yield *at.span(node), "continue"
    if isinstance(node, ast.Continue):
        yield *at.span(node), "break"
    if isinstance(node, ast.For | ast.While):
        last = node.body[-1]
        end, column = at.span(last)[1], last.col_offset
        yield end, end, f"\n{' ' * column}break"
    if isinstance(node, ast.FunctionDef) and not _returns(node):
        for child in node.body[1:]:
            start = at.span(child)[0]
            yield start, start, f"return\n{' ' * child.col_offset}"
    if isinstance(node, ast.If) and not node.orelse:
        start = at.span(node)[0]
        if at.text[start:].startswith("if"):
            yield *at.span(node), "pass"


def _returns(node: ast.FunctionDef) -> bool:
    return any(isinstance(child, ast.Return | ast.Yield | ast.YieldFrom) for child in ast.walk(node))


def arguments(at: _Finder, node: ast.AST) -> Edits:
    """Swapped neighbours, and keywords left out (`keepdim`, `dim`, `dtype`, ...; not the `strict` of a zip)."""
    if not isinstance(node, ast.Call):
        return
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    for left, right in zip(node.args, node.args[1:], strict=False) if name not in SYMMETRIC else ():
        if not isinstance(left, ast.Starred) and not isinstance(right, ast.Starred):
            start, end = at.span(left)[0], at.span(right)[1]
            middle = at.text[at.span(left)[1] : at.span(right)[0]]
            yield start, end, at.source(right) + middle + at.source(left)
    for keyword in node.keywords:
        if keyword.arg not in (None, "strict"):
            start, end = at.span(keyword)
            after = re.match(r"\s*,\s*", at.text[end:])
            before = re.search(r",\s*$", at.text[:start])
            if after:
                yield start, end + after.end(), ""
            else:
                yield (before.start() if before else start), end, ""


def names(at: _Finder, node: ast.AST) -> Edits:
    """The other function of a pair: min and max, sin and cos, float64 and float32."""
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        end = at.span(node)[1]
        yield end - len(node.attr), end, NAMES[node.attr]
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield *at.span(node), NAMES[node.id]


def branches(at: _Finder, node: ast.AST) -> Edits:
    """One side of a conditional expression, whatever its condition."""
    if isinstance(node, ast.IfExp):
        for side in (node.body, node.orelse):
            yield *at.span(node), f"({at.source(side)})"


def gradients(at: _Finder, node: ast.AST) -> Edits:
    """A value cut from the graph, where there is one."""
    if not isinstance(node, ast.FunctionDef) or not at.torch:
        return
    if any("no_grad" in at.source(decorator) for decorator in node.decorator_list):
        return
    for child in ast.walk(node):
        if isinstance(child, ast.Assign | ast.Return) and isinstance(child.value, ast.BinOp | ast.Call):
            yield *at.span(child.value), f"({at.source(child.value)}).detach()"


KINDS: tuple[Kind, ...] = (
    operators, comparisons, conditions, branches, constants, bounds, statements, arguments, names,
)  # fmt: skip
