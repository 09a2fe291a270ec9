"""The syntax-tree half of the written rules: names the line where one is broken."""

from __future__ import annotations

import ast

from grader import place
from grader.sandbox.inside import forbidden
from grader.verdict import BrokenRule

MOST_PARTS = 16  # of a dotted name: what a longer one starts with is looked at by itself


def check(text: str, tree: ast.Module, rules: tuple[str, ...]) -> list[BrokenRule]:
    """Every place where the text uses something that the rules exclude, by line."""
    excluded = forbidden.expand(rules)
    if not excluded:
        return []
    nodes = list(ast.walk(tree))
    aliases, bound = _aliases(nodes), _bound(nodes)
    lines = text.split("\n")  # as Python counts them
    found: dict[tuple[int, str], BrokenRule] = {}
    for node in nodes:
        for name in _used(node, aliases, bound):
            if rule := _excluded(name, excluded):
                assert isinstance(node, ast.stmt | ast.expr)  # what uses a name
                where = place.of_node(lines, node)
                source = lines[where.line - 1].strip()[:200] if where.line <= len(lines) else ""
                broken = BrokenRule(rule, where.line, source, where.column, where.end_line)
                found.setdefault((where.line, rule), broken)
    return sorted(found.values(), key=lambda broken: broken.line)


def _aliases(nodes: list[ast.AST]) -> dict[str, str]:
    """What imported names stand for: `F` -> `torch.nn.functional`."""
    aliases = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    aliases[alias.asname] = alias.name
                else:
                    aliases[alias.name.split(".")[0]] = alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return aliases


def _bound(nodes: list[ast.AST]) -> set[str]:
    """Names that the file itself defines: a function called `sorted` of one's own is no rule broken."""
    return {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)} | {
        n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }


def _used(node: ast.AST, aliases: dict[str, str], bound: set[str]) -> list[str]:
    """The dotted names that a node uses."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Attribute):
        dotted = _dotted(node, aliases)
        method = [] if node.attr in bound else [f".{node.attr}"]
        return [*method, *([dotted] if dotted else [])]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id in aliases:
            return [aliases[node.id]]
        return [] if node.id in bound else [node.id]
    return []


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """The name that a chain of attributes stands for; nothing for one that is longer than any excluded name.

    A loop: what compiles may be too deep for Python's recursion.
    """
    attributes: list[str] = []
    while isinstance(node, ast.Attribute) and len(attributes) < MOST_PARTS:
        attributes.append(node.attr)
        node = node.value
    origin = aliases.get(node.id, "") if isinstance(node, ast.Name) else ""
    return ".".join([origin, *reversed(attributes)]) if origin else ""


def _excluded(name: str, excluded: dict[str, str]) -> str | None:
    """The rule that excludes a name: itself, or a module that it lies in."""
    if name.startswith("."):
        return excluded.get(name)
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if rule := excluded.get(".".join(parts[:end])):
            return rule
    return None
