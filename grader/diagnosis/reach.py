"""Which mistakes can matter to a call: those in the definitions that it comes to. Layer 3."""

from __future__ import annotations

import ast
import json
import re

from grader.exercise import Exercise
from grader.mistake import Mistake, spans
from grader.remote.calls import Call


class Reach:
    """The top-level definitions of a solution, what each leads to, and where mistakes are planted."""

    def __init__(self, exercise: Exercise) -> None:
        tree = ast.parse(exercise.text)
        nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        self.lines = {node.name: range(_first_line(node), (node.end_lineno or node.lineno) + 1) for node in nodes}
        uses = {node.name: _names(node) & self.lines.keys() for node in nodes}
        self.leads_to = {name: _closure(name, uses) for name in uses}
        self.places = [(mistake, self._places(mistake, exercise.text)) for mistake in exercise.mistakes]

    def mistakes(self, call: Call) -> list[Mistake]:
        """Those that are planted where the call comes to; all, where that cannot be told."""
        words = set(re.findall(r"\w+", f"{call.name} {json.dumps([call.probe, call.args, call.kwargs])}"))
        named = words & self.lines.keys()
        reached = set().union(*(self.leads_to[name] for name in named)) if named else set(self.lines)
        return [mistake for mistake, places in self.places if not places or places & reached]

    def _places(self, mistake: Mistake, solution: str) -> set[str]:
        """The definitions that a mistake edits; none where it edits something outside of them."""
        found = set()
        for start, stop, _ in spans(mistake, solution):
            first, last = (solution.count("\n", 0, place) + 1 for place in (start, max(start, stop - 1)))
            inside = {name for name, lines in self.lines.items() if first in lines or last in lines}
            if not inside:
                return set()
            found |= inside
        return found


def _first_line(node: ast.FunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _names(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _closure(name: str, uses: dict[str, set[str]]) -> set[str]:
    found, left = {name}, [name]
    while left:
        new = uses[left.pop()] - found
        found |= new
        left += new
    return found
