"""Imports point one way, and the command line stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from grader.catalog import PACKAGE, content

TABLE = re.findall(r"^([0-5])  (.+)$", (content() / "docs" / "architecture.md").read_text(), flags=re.MULTILINE)
LEVEL = {name: int(level) for level, names in TABLE for name in names.split(", ")}
MODULES = [
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in ("suites", "demo", "content", "__init__.py")
]


def imported(path):
    """The first names below `grader` that a module imports, however deep in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "grader":
                yield from (alias.name for alias in node.names)
            elif node.module.startswith("grader."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("grader."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in LEVEL, f"name the layer of {own}"
    for name in imported(path):
        assert name == "__version__" or LEVEL[name] <= LEVEL[own], f"{own} imports {name}"


def test_the_table_names_what_there_is():
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert LEVEL.keys() == there


def test_inside_imports_nothing_of_the_kit():
    for path in (PACKAGE / "sandbox" / "inside").glob("*.py"):
        assert list(imported(path)) == [], path.name


def test_the_command_line_is_light():
    code = "import grader.cli, sys\nprint([m for m in ('torch', 'numpy', 'pytest', 'nbformat') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert said.stdout == "[]\n"
