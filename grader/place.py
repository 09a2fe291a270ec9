"""Where in a learner's file something lies. Layer 1.

Lines and columns count from 1, columns in characters, as editors show them; Python's trees count bytes from 0.
"""

from __future__ import annotations

import ast

from grader.source import Answer
from grader.verdict import Place

TOP = Place(1, 1, 1)


def of_node(lines: list[str], node: ast.stmt | ast.expr) -> Place:
    """A node of the tree of a text with these lines."""
    before = lines[node.lineno - 1].encode()[: node.col_offset] if node.lineno <= len(lines) else b""
    return Place(node.lineno, len(before.decode(errors="replace")) + 1, node.end_lineno or node.lineno)


def of_line(lines: list[str], line: int) -> Place | None:
    """A line as the sandbox named it, from its first character on; None for one that the text does not have."""
    if not 1 <= line <= len(lines):
        return None
    text = lines[line - 1]
    return Place(line, len(text) - len(text.lstrip()) + 1, line)


def of_part(answer: Answer, name: str) -> Place:
    """What binds a name at the top level: a def, a class, an assignment, an import. The file's top where nothing does.

    That is where the statement stands as well, to whose examples no part belongs.
    """
    found = [node for node in answer.tree.body if name in _bound(node)]
    return of_node(answer.text.split("\n"), found[-1]) if found else TOP


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}
