"""What is derived from a solution's text, and how exercises are found."""

from __future__ import annotations

import os
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from grader import catalog, source
from grader.errors import SubmissionError, UnknownExercise

FILE = Path("answer.py")

SOLUTION = '''"""# Squares

>>> square(2)
4
"""


def square(x: int, *, times: int = 1) -> int:
    """The square."""
    ### BEGIN SOLUTION
    return times * x * x
    ### END SOLUTION


class Box:
    """A box."""

    def put(self, x):
        ### BEGIN SOLUTION
        self.x = x
        ### END SOLUTION

    def given(self):
        return 1


def helper():
    return 2
'''


def test_the_stub():
    stub = source.stub(SOLUTION)
    assert "times * x" not in stub and "self.x" not in stub
    assert '    """The square."""\n    # YOUR CODE HERE\n    raise NotImplementedError()\n' in stub
    assert "        # YOUR CODE HERE\n        raise NotImplementedError()\n" in stub
    assert "return 2" in stub
    compile(stub, "stub", "exec")


def test_parts_are_what_the_learner_writes():
    square, box = source.parts(SOLUTION)
    assert (square.name, square.signature, square.stubs) == (
        "square", "def square(x, *, times=1)", {"square": "def square(x, *, times=1)"},
    )  # fmt: skip
    assert (box.name, box.signature, box.stubs) == ("Box", "class Box", {"Box.put": "def put(self, x)"})


@pytest.mark.parametrize("exercise", catalog.exercises(), ids=lambda exercise: exercise.slug)
def test_stubs_hold_no_answer(exercise):
    """That the handed-out files are these is the gate's to say, which lets a learner change them."""
    stub = exercise.stub_text
    assert stub == source.stub(exercise.text)
    assert source.BEGIN not in stub and source.END not in stub
    assert set(source.parse(exercise.stub, stub).stubs()) >= {name for part in exercise.parts for name in part.stubs}


def test_the_answer_is_shown_without_markers_and_statement():
    answer = source.answer(SOLUTION)
    assert answer.startswith("def square")
    assert "###" not in answer and "# Squares" not in answer
    assert "-    return times * x * x\n" in source.diff(SOLUTION, SOLUTION.replace("times * x * x", "0"))


def test_names_find_exercises():
    adamw = catalog.find("adamw")
    for name in ("optimizers/adamw", "adamw.py", "exercises/optimizers/adamw.py", str(adamw.stub)):
        assert catalog.find(name) == adamw
    assert catalog.find("leetcode/maximum_gap.py").slug == "maximum_gap"
    assert [e.slug for e in catalog.select("nlp")] == ["bpe", "ngram"]
    assert catalog.select("all") == catalog.exercises()
    assert len({e.slug for e in catalog.exercises()}) == len(catalog.exercises())


@pytest.mark.parametrize(
    ("name", "near"),
    [("adam", "adamw"), ("maximun_gap", "maximum_gap"), ("ropes", "rope"), ("LINEAR-attention", "linear_attention")],
)
def test_unknown_names_come_with_near_ones(name, near):
    with pytest.raises(UnknownExercise, match=f"did you mean `{near}`"):
        catalog.find(name)


# --- what is a stub, and what is a part ---

STUBS = {
    "raise NotImplementedError()": True,
    "raise NotImplementedError": True,
    "raise NotImplementedError('later')": True,
    "pass": True,
    "...": True,
    '"""Later."""': True,
    '"""Later."""\n    pass': True,
    '"""Later."""\n    ...\n    raise NotImplementedError()': True,
    "raise ValueError()": False,
    "raise": False,
    "return NotImplementedError()": False,
    "return": False,
    "x = 1\n    raise NotImplementedError()": False,
    "raise errors.NotImplementedError()": False,
}


@pytest.mark.parametrize("body", STUBS)
def test_what_is_a_stub(body):
    text = f"def f(x):\n    {body}\n\n\nclass C:\n    size = 3\n\n    async def g(self):\n        {body.replace(chr(10), chr(10) + '    ')}\n"
    stubs = source.parse(FILE, text).stubs()
    assert stubs == ({"f": 1, "C.g": text[: text.index("    async")].count("\n") + 1} if STUBS[body] else {})


SIGNATURES = {
    "def f(): ...": "def f()",
    "def f(x, /, y=1, *rest, z: int = 2, **more): ...": "def f(x, /, y=1, *rest, z=2, **more)",
    "async def f(x: 'int') -> str: ...": "def f(x)",
    "def f(x=[a.b for a in c]): ...": "def f(x=[a.b for a in c])",
    "class f(Base): ...": "class f",
}


@pytest.mark.parametrize("text", SIGNATURES)
def test_signatures(text):
    assert source.parse(FILE, text).signature("f") == SIGNATURES[text]
    (node,) = source.parse(FILE, text).definitions().values()
    assert source.signature(node) == SIGNATURES[text]


def test_the_signatures_of_an_answer():
    answer = source.parse(FILE, "class C:\n    def g(self, x): ...\n\nh = 1\n")
    assert answer.signature("C.g") == "def g(self, x)"
    for name in ("C.missing", "D.g", "D", "h"):
        assert answer.signature(name) == name
    deep = source.parse(FILE, f"def f(x={'-' * 900}1): ...\n")
    assert deep.signature("f").startswith(("def f(x=-", "f"))


def test_what_is_given():
    assert source.given(SOLUTION) == ("def helper()",)
    text = (
        SOLUTION
        + "\n\ndef _private():\n    return 1\n\n\nclass Given(Box):\n    pass\n\n\nasync def later(x=1):\n    return x\n\n\nVALUE = 1\n"
    )
    assert source.given(text) == ("def helper()", "class Given", "def later(x=1)")


def test_names_however_bound():
    text = (
        "import a.b, c as d\nfrom e import f, g as h\nimport i\nj = k = 1\n(l, [m, *n]) = o\nfor p in q: r: int = 1\n"
        "with s as t: u.v = w[x] = 1\nif (y := 1): pass\ndef z(): import inner\nclass C: pass\nasync def D(): pass\n"
    )
    wanted = {*"adfhijklmnprtyzCD"}
    assert source.parse(FILE, text).names() == wanted


def test_definitions_are_those_of_the_top():
    text = "def f():\n    def g(): ...\n\nclass C:\n    def h(self): ...\n\nif True:\n    def i(): ...\n"
    assert list(source.parse(FILE, text).definitions()) == ["f", "C"]


def test_regions_keep_their_indent_and_what_is_around_them():
    text = (
        "x = 1\n\n\nclass C:\n\tdef f(self):\n\t\t### BEGIN SOLUTION\n\t\treturn 1\n\n\t\t### END SOLUTION\n\n\ty = 2\n"
    )
    assert source.stub(text) == text.replace(
        "### BEGIN SOLUTION\n\t\treturn 1\n\n\t\t### END SOLUTION", "# YOUR CODE HERE\n\t\traise NotImplementedError()"
    )
    two = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n"
    assert source.stub(two + two).count("YOUR CODE") == 2


# --- reading an answer ---

UNREADABLE = {
    "nothing": (b"", "`answer.py` is empty\n\nhint: `grade reset answer` brings the stub back"),
    "blank lines": (b"\n \n", "`answer.py` is empty\n\nhint: `grade reset answer` brings the stub back"),
    "a NUL byte": (b"x = 1\n\0", "`answer.py` holds a NUL byte at byte 6: it is not a text file"),
    "another encoding": (b"x = '\xe9'", "`answer.py` is not UTF-8 at byte 5 (0xe9)\n\nhint: save it as UTF-8 in your editor"),
    "too large": (b"#" * ((1 << 20) + 1), "`answer.py` is larger than 1 MiB"),
    "an unfinished line": (
        b"def f():\n    return (1 +\n",
        "SyntaxError: '(' was never closed (answer.py, line 2)\n\n    return (1 +\n           ^",
    ),
    "a word too many": (
        b"if True:\n    x = one two\n",
        "SyntaxError: invalid syntax (answer.py, line 2)\n\n    x = one two\n            ^^^",
    ),
    "no indent": (
        b"def f():\nreturn 1\n",
        "IndentationError: expected an indented block after function definition on line 1 (answer.py, line 2)\n\n    return 1\n    ^^^^^^",
    ),
    "a return outside": (b"x = 1\nreturn x\n", "SyntaxError: 'return' outside function (answer.py, line 2)"),
    "too deep": (b"x = " + b"(" * 500 + b")" * 500, "SyntaxError: too many nested parentheses (answer.py, line 1)"),
    "too deep to compile": (b"x = " + b"-" * 100_000 + b"1", "`answer.py` is nested too deeply for Python's parser ("),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read(tmp_path, case):
    data, message = UNREADABLE[case]
    file = tmp_path / "answer.py"
    file.write_bytes(data)
    with pytest.raises(SubmissionError) as caught:
        source.read(file)
    assert str(caught.value).startswith(message)
    if not case.startswith("too deep"):
        assert str(caught.value) == message


@pytest.mark.parametrize("text", [f"x = {'a' * 500} b\n", f"{'a ' * 300}\n"])
def test_long_lines_are_cut_in_messages(text):
    with pytest.raises(SubmissionError) as caught:
        source.parse(FILE, text)
    _, _, line, carets = str(caught.value).split("\n")
    assert line == f"    {text[:200]}"
    assert len(carets) <= 204


def test_a_mistake_of_several_lines_is_marked_where_it_begins():
    with pytest.raises(SubmissionError) as caught:
        source.parse(FILE, "f(1\n  2)\n")
    assert str(caught.value).split("\n")[2:] == ["    f(1", "      ^"]


def test_a_long_mistake_is_underlined_in_part():
    with pytest.raises(SubmissionError) as caught:
        source.parse(FILE, f"x = 1 {'a' * 150}\n")
    assert str(caught.value).endswith(f"\n    {' ' * 6}{'^' * 80}")


def test_what_may_stand_in_a_file(tmp_path):
    file = tmp_path / "answer.py"
    file.write_bytes(b"\xef\xbb\xbfx = 1\r\ny = 2\rz = '\xc3\xa9'\n")
    assert source.read(file).text == "x = 1\ny = 2\nz = 'é'\n"
    file.write_bytes(b"x = 1" + b"#" * ((1 << 20) - 5))  # just not too large
    assert len(source.read(file).text) == 1 << 20
    file.write_text("x = '\\d'\n")  # a warning to Python, and no concern of a learner's
    assert source.read(file).names() == {"x"}


def test_what_is_no_file(tmp_path):
    for name, message in (
        (".", "`{}` is a folder, not a Python file"),
        ("absent.py", "there is no file `"),
        ("page.ipynb", "`page.ipynb` is a notebook; grade a .py file\n\nhint: `jupyter nbconvert --to script` turns"),
    ):
        with pytest.raises(SubmissionError) as caught:
            source.read(tmp_path / name)
        assert str(caught.value).startswith(message.format(tmp_path.name))
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(SubmissionError, match=r"`pipe\.py` is no regular file"):
        source.read(tmp_path / "pipe.py")
    with pytest.raises(SubmissionError, match="cannot be read: File name too long"):
        source.read(tmp_path / ("a" * 400))


# --- the statement and its examples ---


def test_the_statement():
    assert source.statement(SOLUTION) == "# Squares\n\n>>> square(2)\n4"
    assert source.statement("x = 1\n") == ""


def test_examples_of_each_docstring():
    text = (
        '"""# F\n\n>>> f(1)\n2\n>>> f(2)\n3\n"""\n\n\ndef f(x):\n    """Next.\n\n    >>> f(3)\n    4\n    """\n'
        '    return x + 1\n\n\nclass C:\n    """None."""\n\n\ndef g():\n    ">>> g()"\n'
    )
    found = source.examples(text)
    assert [(item.part, [(e.source, e.want) for e in item.examples]) for item in found] == [
        ("", [("f(1)\n", "2\n"), ("f(2)\n", "3\n")]),
        ("f", [("f(3)\n", "4\n")]),
        ("g", [("g()\n", "")]),
    ]


def test_the_answer_and_the_diff():
    assert source.answer("### BEGIN SOLUTION\nx = 1\n  ### END SOLUTION\ny = 2") == "x = 1\ny = 2"
    assert source.answer("'said'\n\n\nx = 1") == "x = 1"
    assert source.answer("") == ""
    assert source.diff("x = 1", "x = 2") == "--- your answer\n+++ solution\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
    assert source.diff("x = 1\n", "x = 1\n") == ""


def test_fingerprints():
    """Of whole texts: where one ends and the next begins is part of it."""
    assert source.fingerprint("a", "b") == source.fingerprint("a", "b")
    prints = {source.fingerprint(*texts) for texts in (("a", "b"), ("ab",), ("b", "a"), ("ab", ""), (), ("",), ("é",))}
    assert len(prints) == 7
    assert all(re.fullmatch("[0-9a-f]{32}", text) for text in prints)


PLACES = {
    "x = 1\ny = (1 2)\n": (2, 6, 2),
    "f(1\n  2)\n": (1, 3, 2),
    "x = 1\nreturn x\n": (2, 1, 2),
    "def f():\n    x = 'a\n": (2, 9, 2),
    "x = " + "(" * 500: (1, 205, 1),
}


@pytest.mark.parametrize("text", PLACES)
def test_where_a_syntax_error_is(text):
    with pytest.raises(SubmissionError) as caught:
        source.parse(FILE, text)
    place = caught.value.place
    assert (place.line, place.column, place.end_line) == PLACES[text]


def test_what_has_no_place():
    for text in ("", "x = " + "-" * 100_000 + "1"):
        with pytest.raises(SubmissionError) as caught:
            source.parse(FILE, text)
        assert caught.value.place is None


def test_records_are_values():
    (part, _), (examples,) = source.parts(SOLUTION), source.examples(SOLUTION)
    for record in (part, examples, source.parse(FILE, "x = 1\n")):
        with pytest.raises(FrozenInstanceError):
            record.name = "other"
