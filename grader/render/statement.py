"""A statement as Markdown that a terminal shows well. Layer 4.

Statements hold TeX and doctests, and a Markdown renderer would take backslashes, underscores and `>>>` for its
own. Formulas become code with plain symbols, examples become fenced code.
"""

from __future__ import annotations

import re
import unicodedata
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown, MarkdownElement
from rich.syntax import Syntax

SYMBOLS = {
    "leftarrow": "←", "rightarrow": "→", "to": "→", "cdot": "·", "times": "×", "odot": "⊙", "otimes": "⊗", "le": "≤",
    "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "approx": "≈", "sim": "~", "in": "∈", "infty": "∞",
    "sum": "Σ", "prod": "Π", "int": "∫", "sqrt": "√", "partial": "∂", "nabla": "∇", "dots": "...", "ldots": "...",
    "cdots": "...", "quad": "  ", "qquad": "    ", "top": "T", "pm": "±", "propto": "∝", "ell": "ℓ", "mid": "|",
    "left": "", "right": "", "big": "", "Big": "", "bigl": "", "bigr": "", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈",
    "rceil": "⌉", "langle": "⟨", "rangle": "⟩", "varepsilon": "ε", "varphi": "φ", "forall": "∀", "exists": "∃",
    "bullet": "•",
}  # fmt: skip
ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "dot": "\u0307", "vec": "\u20d7"}
PLAIN = r"mathrm|mathbf|mathbb|mathcal|mathsf|text|operatorname|boldsymbol|textrm"
GROUP = r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}"  # braces, one more level of them inside
DEEPEST = 3  # roots and fractions inside each other
ARGUMENT = rf"(?:{GROUP}|\s*(\w))"  # braces, or one character
EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).*)*(?:\n\n>>> .*(?:\n(?!\n).*)*)*", re.MULTILINE)
MATRIX = re.compile(r"\\begin\{(\w?matrix|cases|array)\}(.*?)\\end\{\1\}")
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<![\\$`\w])\$([^$\n]+(?:\n[^$\n]+)?)\$(?![\w$])")


class Example(CodeBlock):
    """A fenced block; Python's lines are never broken, so that they can be pasted."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.lexer_name != "python":
            yield from super().__rich_console__(console, options)
            return
        text = Syntax("", "python", theme=self.theme).highlight(str(self.text).rstrip())
        text.no_wrap, text.overflow = True, "ignore"
        yield text


class Statement(Markdown):
    """A statement, to be printed by rich without cropping."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**Markdown.elements, "fence": Example}

    def __init__(self, statement: str) -> None:
        super().__init__(for_terminal(statement), code_theme="ansi_dark", hyperlinks=False)


def for_terminal(markdown: str) -> str:
    """The statement with formulas and examples as code."""
    pieces = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(piece if piece.startswith("```") else _plain(piece) for piece in pieces)


def _plain(markdown: str) -> str:
    text = EXAMPLE.sub(lambda match: f"```python\n{match[0].rstrip()}\n```", markdown)
    text = FORMULA.sub(lambda match: f"\n```text\n{_display(match[1])}\n```\n", text)
    return INLINE.sub(lambda match: f"`{formula(match[1])}`", text)


def _display(tex: str) -> str:
    tex = re.sub(r"\\(?:begin|end)\{(?:aligned?|split|gathered)\*?\}", "", MATRIX.sub(_matrix, tex.replace("\n", " ")))
    lines: list[str] = []
    for piece in re.split(r"\\\\|\\q?quad(?![A-Za-z])", tex):
        text = formula(piece)
        if lines and not re.search("[=←→≈]", text):  # a condition of what stands before it
            lines[-1] = f"{lines[-1]}   {text}".rstrip()
        else:
            lines.append(text)
    return "\n".join(line for line in lines if line)


def _matrix(match: re.Match[str]) -> str:
    """Rows end in a semicolon, as in MATLAB."""
    rows = [", ".join(cell.strip() for cell in row.split("&")) for row in match[2].split(r"\\")]
    return f"[{'; '.join(row for row in rows if row)}]"


def formula(tex: str) -> str:
    """TeX with its commonest commands as the characters they stand for; the rest stays as it is."""
    tex = re.sub(rf"\\(?:{PLAIN})\s*\{{([^{{}}]*)\}}(?=\\?[A-Za-z])", r"\1 ", tex)
    tex = re.sub(rf"\\(?:{PLAIN})\s*\{{([^{{}}]*)\}}", r"\1", tex)
    tex = re.sub(rf"\\(?:{PLAIN})\s+(\w)(?!\w)", r"\1", tex)
    tex = re.sub(rf"\\({'|'.join(ACCENTS)})(?![A-Za-z])\s*(?:\{{([A-Za-z])\}}|([A-Za-z]))", _accent, tex)
    tex = re.sub(r"\\([A-Za-z]+)", _symbol, tex)
    tex = re.sub(r"_\{(\w+)\}|\^\{(\w)\}", lambda match: f"_{match[1]}" if match[1] else f"^{match[2]}", tex)
    for _ in range(DEEPEST):
        tex = re.sub(rf"√{GROUP}", r"√(\1)", tex)
        tex = re.sub(rf"\\[dt]?frac{ARGUMENT}{ARGUMENT}", _fraction, tex)
    tex = re.sub(r"√\s+(?=\w)", "√", tex)
    tex = re.sub(r"\\[,;:! ]", " ", tex).replace("\\{", "{").replace("\\}", "}").replace("\\_", "_").replace("&", "")
    tex = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", tex)
    return re.sub(r"\( +", "(", re.sub(r"  +", " ", tex)).strip()


def _accent(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", (match[2] or match[3]) + ACCENTS[match[1]])


def _fraction(match: re.Match[str]) -> str:
    """In parentheses where something stands before or behind it that would be read into it."""
    parts = (group or token for group, token in (match.groups()[:2], match.groups()[2:]))
    over, under = (text if re.fullmatch(r"[^\s()+·/-]+", text) else f"({text})" for text in parts)
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :].lstrip()
    beside = re.search(r"[\w)}]$", before) or re.match(r"[\w(∫Σ√\\]", after)
    return f" ({over} / {under}) " if beside else f"{over} / {under}"


def _symbol(match: re.Match[str]) -> str:
    name = match[1]
    if name in SYMBOLS:
        return SYMBOLS[name]
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {case} LETTER {'LAMDA' if name.lower() == 'lambda' else name.upper()}")
    except KeyError:
        return name if name in ("exp", "log", "max", "min", "sin", "cos", "tanh", "det", "arg", "softmax") else match[0]
