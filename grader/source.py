"""What is derived from a solution's text: the stub, the parts, the mistakes, the diff. Layer 1."""

from __future__ import annotations

import ast
import difflib
import doctest
import hashlib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from grader.errors import SubmissionError
from grader.verdict import Place

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MAX_BYTES = 1 << 20
REGION = re.compile(rf"^([ \t]*){BEGIN}\n.*?^[ \t]*{END}\n", re.MULTILINE | re.DOTALL)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class Part:
    """Something the learner writes: a public top-level function or class of the solution."""

    name: str
    signature: str  # `def f(a, b=1)` or `class C`
    stubs: dict[str, str]  # the functions to fill in, `f` or `C.method`, with their signatures


def stub(solution: str) -> str:
    """The solution's text with every solution region replaced by what the learner starts from."""
    return REGION.sub(lambda match: f"{match[1]}# YOUR CODE HERE\n{match[1]}raise NotImplementedError()\n", solution)


def parts(solution: str) -> tuple[Part, ...]:
    """The parts of a solution, in the order of its text."""
    empty = ast.parse(stub(solution))
    found = []
    for node in empty.body:
        if isinstance(node, Definition):
            stubs = {name: signature(function) for name, function in functions(node) if is_stub(function)}
            if stubs:
                found.append(Part(node.name, signature(node), stubs))
    return tuple(found)


def given(solution: str) -> tuple[str, ...]:
    """The signatures of what a learner finds complete: public top-level functions and classes that are no part."""
    own = {part.name for part in parts(solution)}
    return tuple(
        signature(node)
        for node in ast.parse(solution).body
        if isinstance(node, Definition) and node.name not in own and not node.name.startswith("_")
    )


def functions(node: Definition) -> list[tuple[str, Function]]:
    """The functions of a definition with their qualified names: itself, or its methods."""
    if isinstance(node, Function):
        return [(node.name, node)]
    return [(f"{node.name}.{child.name}", child) for child in node.body if isinstance(child, Function)]


def is_stub(function: Function) -> bool:
    """Whether a body, its docstring aside, only raises NotImplementedError, passes, or is `...`."""
    body = [node for node in function.body if not _is_constant(node)]
    if not body:
        return True
    if len(body) > 1:
        return False
    if isinstance(body[0], ast.Pass):
        return True
    raised = body[0].exc if isinstance(body[0], ast.Raise) else None
    raised = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def signature(node: Definition) -> str:
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}"
    arguments = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
    assert isinstance(arguments, ast.FunctionDef)
    for argument in ast.walk(arguments.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"def {node.name}({ast.unparse(arguments.args)})"


@dataclass(frozen=True)
class Answer:
    """A learner's file that parsed: its text, and what in it is still a stub or missing."""

    path: Path
    text: str
    tree: ast.Module

    def definitions(self) -> dict[str, Definition]:
        return {node.name: node for node in self.tree.body if isinstance(node, Definition)}

    def names(self) -> set[str]:
        """Everything bound at the top level, however: def, class, assignment, import."""
        bound = {
            node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        imported = {
            (alias.asname or alias.name).split(".")[0]
            for node in self.tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        return bound | imported | set(self.definitions())

    def stubs(self) -> dict[str, int]:
        """The functions that are still stubs, with the line of each."""
        return {
            name: function.lineno
            for node in self.definitions().values()
            for name, function in functions(node)
            if is_stub(function)
        }

    def signature(self, name: str) -> str:
        """The head of a function `f`, a class `C` or a method `C.method`; the name alone where there is none."""
        node = self.definitions().get(name.partition(".")[0])
        try:
            if "." in name:
                node = dict(functions(node)).get(name) if node else None
            return signature(node) if node else name
        except (RecursionError, ValueError, SyntaxError):  # what compiles may be too deep to be written out
            return name


def read(path: Path) -> Answer:
    """Read and parse a learner's file. Raises SubmissionError with the message the learner needs."""
    return parse(path, decode(path))


def decode(path: Path) -> str:
    if os.path.isdir(path):
        raise SubmissionError(f"`{path.name}` is a folder, not a Python file")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for, for ever
        raise SubmissionError(f"`{path.name}` is no regular file")
    if path.suffix == ".ipynb":
        raise SubmissionError(
            f"`{path.name}` is a notebook; grade a .py file\n\n"
            "hint: `jupyter nbconvert --to script` turns a notebook into one"
        )
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SubmissionError(f"there is no file `{path}`") from None
    except OSError as error:
        raise SubmissionError(f"`{path}` cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise SubmissionError(f"`{path.name}` is larger than {MAX_BYTES >> 20} MiB")
    if b"\0" in data:
        raise SubmissionError(f"`{path.name}` holds a NUL byte at byte {data.index(0)}: it is not a text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SubmissionError(
            f"`{path.name}` is not UTF-8 at byte {error.start} (0x{data[error.start]:02x})\n\n"
            "hint: save it as UTF-8 in your editor"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse(path: Path, text: str) -> Answer:
    if not text.strip():
        raise SubmissionError(f"`{path.name}` is empty\n\nhint: `grade reset {path.stem}` brings the stub back")
    try:
        # compile() finds more than ast.parse(): `return` outside a function, `await` outside async
        with warnings.catch_warnings(action="ignore"):  # with the line as it is, which a terminal might obey
            compile(text, path.name, "exec", dont_inherit=True)
            return Answer(path, text, ast.parse(text))
    except SyntaxError as error:
        line = error.lineno or 1
        place = Place(line, max(error.offset or 1, 1), max(error.end_lineno or line, line))
        raise SubmissionError(_syntax_message(path, error), place) from None
    except (RecursionError, MemoryError, ValueError, OverflowError) as error:
        raise SubmissionError(
            f"`{path.name}` is nested too deeply for Python's parser ({type(error).__name__})"
        ) from None


def _syntax_message(path: Path, error: SyntaxError) -> str:
    where = f"{path.name}, line {error.lineno}"
    if error.text is None or error.offset is None:
        return f"{type(error).__name__}: {error.msg} ({where})"
    line = error.text.rstrip("\n")
    indent = len(line) - len(line.lstrip())
    width = max(1, (error.end_offset or 0) - error.offset) if error.end_lineno == error.lineno else 1
    caret = " " * max(0, error.offset - 1 - indent) + "^" * min(width, 80)
    return f"{type(error).__name__}: {error.msg} ({where})\n\n    {line.strip()[:200]}\n    {caret[:200]}"


def answer(text: str) -> str:
    """A solution as it is shown: without the markers and the statement."""
    with warnings.catch_warnings(action="ignore"):
        body = ast.parse(text).body
    start = (body[0].end_lineno or 0) if body and _is_constant(body[0]) else 0
    lines = [line for line in text.split("\n")[start:] if line.strip() not in (BEGIN, END)]
    return "\n".join(lines).lstrip("\n")


def statement(text: str) -> str:
    """The module docstring of a solution or stub: Markdown."""
    return ast.get_docstring(ast.parse(text)) or ""


@dataclass(frozen=True)
class Examples:
    """The examples of one docstring; `part` is the definition that it belongs to, if any."""

    part: str
    examples: tuple[doctest.Example, ...]


def examples(solution: str) -> tuple[Examples, ...]:
    """The examples of a solution's docstrings: the statement's first, then each definition's."""
    parser = doctest.DocTestParser()
    tree = ast.parse(solution)
    nodes = [tree, *(node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))]
    found = []
    for node in nodes:
        found_here = tuple(parser.get_examples(ast.get_docstring(node, clean=True) or ""))
        if found_here:
            found.append(Examples(getattr(node, "name", ""), found_here))
    return tuple(found)


def diff(mine: str, solution: str) -> str:
    """A unified diff from the learner's answer to the kit's."""
    lines = difflib.unified_diff(
        answer(mine).splitlines(keepends=True), answer(solution).splitlines(keepends=True), "your answer", "solution"
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def fingerprint(*texts: str) -> str:
    """A short content hash."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(len(text).to_bytes(8, "big") + text.encode())
    return digest.hexdigest()[:32]
