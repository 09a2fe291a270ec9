"""Files that are made to trip the grader where it reads them; what `tests/test_bad_input.py` covers is not repeated."""

from __future__ import annotations

from .case import MAXIMUM_GAP, WRONG_COMBINATIONS, WRONG_GAP, Case, combinations, gap

READ = "the grader's own reading of the file survives any depth and size"
NESTED_IFS = "".join(f"{' ' * i}if x:\n" for i in range(95)) + " " * 95 + "x = 2\n"
ELIFS = "x = 1\nif x == 0:\n    pass\n" + "".join(f"elif x == {i}:\n    pass\n" for i in range(3000))

CASES = [
    Case(
        "long-attribute-chain",
        "`x.a.a.a...` with 900 links",
        READ,
        WRONG_GAP + "\n\ndef chain():\n    import os as x\n    return x" + ".a" * 900 + "\n",
        exercise="maximum_gap",
    ),
    Case(
        "longer-attribute-chain",
        "`x.a.a.a...` with 20 000 links",
        READ,
        WRONG_GAP + "\n\ndef chain():\n    import os as x\n    return x" + ".a" * 20_000 + "\n",
        exercise="maximum_gap",
        status=("error", "failed"),
    ),
    Case(
        "long-sum",
        "`1 + 1 + 1 + ...` with 50 000 terms",
        READ,
        WRONG_GAP + "\nX = " + "1 + " * 50_000 + "1\n",
        exercise="maximum_gap",
        status=("error", "failed", "crashed"),
    ),
    Case(
        "deep-expressions",
        "`f(f(f(...)))`, `not not not ...` and lambdas of lambdas, 85 to 900 deep",
        READ,
        WRONG_GAP
        + "\ndef f(x=1): return x\nX = "
        + "f(" * 85
        + ")" * 85
        + "\nY = "
        + "not " * 800
        + "1\nZ = "
        + "lambda: " * 150
        + "1\n",
        exercise="maximum_gap",
        status=("error", "failed"),
    ),
    Case(
        "deep-statements",
        "95 nested `if`, and 3000 branches of one `elif` chain",
        READ,
        WRONG_GAP + "\nx = 0\n" + NESTED_IFS + ELIFS,
        exercise="maximum_gap",
        status=("error", "failed", "crashed"),
    ),
    Case(
        "many-names",
        "20 000 functions with names like the one that is asked for",
        READ,
        "".join(f"def maximum_gap_{i}(nums): return 1\n" for i in range(20_000)),
        exercise="maximum_gap",
        status=("error",),
        message="found `maximum_gap_",
    ),
    Case(
        "wide-signature",
        "a signature of 1000 parameters with nested annotations and defaults",
        READ,
        MAXIMUM_GAP.format(name="honest", end=0)
        + "\ndef maximum_gap("
        + ", ".join(f"a{i}: 'list[{i}]'" for i in range(1000))
        + "): return 1\n",
        exercise="maximum_gap",
    ),
    Case(
        "endless-chain-of-causes",
        "an exception with 5000 causes, a text of 50 MB and a traceback of 900 frames",
        "text and frames are capped, and causes are not followed",
        combinations(
            inside="""
            def down(n):
                if n == 0:
                    error = ValueError("x" * 50_000_000)
                    top = error
                    for i in range(5000):
                        error.__cause__ = ValueError(i)
                        error = error.__cause__
                    raise top
                down(n - 1)
            down(900)
         """
        ),
        message="ValueError: xxx",
        terminal=True,
    ),
    Case(
        "hostile-notes",
        "an exception group with 10 000 members and notes",
        "an exception is its type and text",
        combinations(
            inside="""
            error = ExceptionGroup("many", [ValueError(i) for i in range(10_000)])
            error.add_note("note " * 1_000_000)
            raise error
         """
        ),
        message="ExceptionGroup: many",
    ),
    Case(
        "redefined-part",
        "the part is defined three times, as a class, a stub and by assignment",
        "the name that the module ends up with is graded",
        "class combination_sum: ...\n\ndef combination_sum(candidates, target):\n    raise NotImplementedError\n"
        + WRONG_COMBINATIONS
        + "\ncombination_sum = staticmethod(combination_sum).__func__\n",
    ),
    Case(
        "part-by-assignment",
        "the part exists only as an attribute that computes itself",
        "a module is asked for the name as anyone would",
        gap() + "\n\ndel maximum_gap\nmaximum_gap = None\ndel maximum_gap\ndef __getattr__(name):\n    return honest\n",
        exercise="maximum_gap",
        status=("failed", "error"),
    ),
    Case(
        "strange-module",
        "the module replaces itself, its dict and its file in `sys.modules`",
        "calls go to the module that was loaded",
        combinations("""
            import sys, types
            class Passing(types.ModuleType):
                def __getattr__(self, name): return lambda *args: []
            sys.modules["submission"] = sys.modules["__main__"] = Passing("submission")
            __file__ = "/etc/passwd"
            __name__ = "__main__"
         """),
    ),
    Case(
        "hidden-state",
        "a default argument and a class attribute that remember earlier calls",
        "a failing call is repeated in a child of its own, and the message says so",
        gap("SEEN = []", inside="SEEN.append(1)\nif len(SEEN) > 4: return len(SEEN)", returns="honest(nums)").replace(
            "bucket[0]}", "bucket[1]}"
        ),
        exercise="maximum_gap",
    ),
    Case(
        "form-feeds",
        "form feeds, vertical tabs, a coding cookie and Unicode line separators in the text",
        "the text is read as UTF-8, whatever it says",
        "# -*- coding: utf-7 -*-\n\x0c\n"
        + WRONG_COMBINATIONS
        + "\n\x0c# +AGEAYgBj-\nX = '\u2028\u2029\x85\x1c'\nraise_ = 1\n",
        terminal=True,
    ),
]
