"""Results that claim to be right: through pytest, through the values that cross, through the frames that carry them."""

from __future__ import annotations

from .case import RIGHT_COMBINATIONS, RIGHT_GAP, Case, combinations, features, gap

NO_TESTS_THERE = "the tests run in another process, which never imports the file"
ONLY_DATA = "only plain data crosses, as the builtin type that it is; comparing happens on the other side"

# Ways to the process's own end of the connection, and to the parts that serve it.
CONNECTION = """
import gc, json, os, socket, struct, sys, threading, time
def connection():
    return next(o for o in gc.get_objects() if isinstance(o, socket.socket) and o.fileno() >= 0)
def frame(message, blob=b""):
    text = json.dumps(message).encode()
    return struct.pack("<QQ", len(text), len(blob)) + text + blob
def number():
    place = sys._getframe()
    while place:
        if "request" in place.f_locals and "id" in place.f_locals["request"]:
            return place.f_locals["request"]["id"]
        place = place.f_back
"""

# Right where it answers at all.
RAISING = RIGHT_COMBINATIONS.replace(
    "    numbers,", "    if len(candidates) > 2:\n        raise ValueError\n    numbers,"
).replace("def combination_sum", "def honest")
# Right, and far too dear: all orders are built, and repeats removed.
ALL_ORDERS = RIGHT_COMBINATIONS.replace("range(start,", "range(0,").replace(
    "return found", "return [list(c) for c in {tuple(sorted(c)) for c in found}]"
)
# Right, but for what it does to its argument.
SPOILING = RIGHT_GAP.replace("    if len", "    nums.append(nums[0]) if nums else None\n    if len")

CASES = [
    # --- pytest, which is not there
    Case(
        "exit-zero",
        "`raise SystemExit(0)` in the call",
        "it is caught and is no pass",
        combinations(inside="raise SystemExit(0)"),
        status=("crashed",),
        message="your code called `sys.exit`",
    ),
    Case(
        "hard-exit-zero",
        "`os._exit(0)` in the call",
        "a child that ends gives no answer, and no answer is no pass",
        combinations(before="import os", inside="os._exit(0)"),
        status=("crashed",),
        message="exit code 0",
    ),
    Case(
        "conftest",
        "a `conftest.py` that makes every report a pass, and the same hooks in the file itself",
        NO_TESTS_THERE,
        combinations("""
            HOOK = '''
            import pytest
            @pytest.hookimpl(hookwrapper=True)
            def pytest_runtest_makereport(item, call):
                result = yield
                result.get_result().outcome = "passed"
            '''
            open("conftest.py", "w").write(HOOK)
            def pytest_runtest_call(item): ...
            def pytest_collection_modifyitems(items): items.clear()
            print("hooks written")
        """),
        prints="hooks written",
    ),
    Case(
        "pytest-options",
        "`addopts = --deselect` in every file that pytest reads, and in PYTEST_ADDOPTS",
        NO_TESTS_THERE,
        combinations("""
            import os
            for name in ("pytest.ini", "tox.ini", "setup.cfg"):
                open(name, "w").write("[pytest]\\n[tool:pytest]\\naddopts = --deselect TestValues --co\\n")
            os.environ["PYTEST_ADDOPTS"] = "--co"
            print("options written")
        """),
        prints="options written",
    ),
    Case(
        "sitecustomize",
        "`sitecustomize.py`, `usercustomize.py` and a `.pth` that end Python with success",
        "the packages are read-only, and the grader looks for none in the scratch directory",
        combinations("""
            import site, sys
            for name in ("sitecustomize.py", "usercustomize.py", "x.pth"):
                open(name, "w").write("import os; os._exit(0)\\n")
            for i, folder in enumerate(site.getsitepackages()):
                tried(f"pth {i}", lambda: open(f"{folder}/left-by-an-attack.pth", "w"))
        """),
        isolation=True,
        refused=("pth 0",),
    ),
    Case(
        "patched-pytest",
        "reports, runner and outcomes of pytest replaced by ones that pass",
        NO_TESTS_THERE,
        combinations("""
            import _pytest.python, _pytest.reports, _pytest.runner
            def passed(*args, **kwargs): ...
            _pytest.reports.TestReport.from_item_and_call = passed
            _pytest.reports.TestReport.outcome = "passed"
            _pytest.runner.CallInfo.excinfo = None
            _pytest.python.Function.runtest = passed
            print("patched")
        """),
        prints="patched",
    ),
    Case(
        "rebound-tests",
        "a thread gives every function called `test_*` an empty body",
        NO_TESTS_THERE,
        combinations("""
            import gc, threading, time, types
            def rebind():
                while True:
                    for found in gc.get_objects():
                        if isinstance(found, types.FunctionType) and found.__name__.startswith("test_"):
                            found.__code__ = (lambda *args: None).__code__
                    time.sleep(0.05)
            threading.Thread(target=rebind, daemon=True).start()
        """),
    ),
    Case(
        "patched-doctest",
        "`doctest` reports no failure, whatever is printed",
        "what the worked examples print is compared on the other side",
        combinations("""
            import doctest
            doctest.OutputChecker.check_output = lambda *args: True
            doctest.DocTestRunner.run = lambda *args, **kwargs: doctest.TestResults(0, 1)
        """),
    ),
    Case(
        "patched-builtins",
        "`abs`, `all`, `any` and torch's comparisons replaced in their modules",
        "they are those of the child alone",
        features(
            """
            import builtins
            import torch
            torch.allclose = torch.equal = lambda *args, **kwargs: True
            torch.testing.assert_close = lambda *args, **kwargs: None
        """,
            inside="import builtins; builtins.abs = lambda x: 0; builtins.all = builtins.any = lambda x: True",
        ),
        exercise="linear_attention",
    ),
    Case(
        "background-patcher",
        "a thread sets `builtins.sorted` and `builtins.abs` again every millisecond",
        "they are those of the child alone",
        combinations("""
            import builtins, threading, time
            def keep():
                while True:
                    builtins.abs = lambda x: 0
                    time.sleep(0.001)
            threading.Thread(target=keep, daemon=True).start()
        """),
    ),
    Case(
        "skip",
        "`pytest.skip` instead of an answer",
        "an exception crosses as a name and a text; only the kit skips",
        combinations(before="import pytest", inside="pytest.skip('not needed')"),
        message="Skipped: not needed",
    ),
    Case(
        "xfail",
        "`pytest.xfail` and `unittest`'s expected failure",
        "an exception crosses as a name and a text",
        combinations(before="import pytest", inside="pytest.xfail('known')"),
        message="XFailed: known",
    ),
    Case(
        "results-file",
        "`results.json`, `junit.xml` and a verdict written at exit, into every folder there is",
        "the verdict is made in the grader's memory and read from no file",
        combinations("""
            import atexit, json
            def forge():
                for folder in (".", "..", "/tmp", "/"):
                    for name in ("results.json", "junit.xml", "left-by-an-attack.json"):
                        try:
                            open(f"{folder}/{name}", "w").write(json.dumps({"status": "passed", "points": 99}))
                        except OSError:
                            pass
            atexit.register(forge)
            forge()
        """),
        isolation=True,
    ),
    Case(
        "printed-results",
        "`PASSED` lines and a verdict as JSON on stdout and stderr",
        "what is printed is shown and never read",
        combinations("""
            import json, os
            verdict = {"version": 1, "exercise": "leetcode/combination_sum", "status": "passed", "points": 26}
            for fd in (1, 2):
                os.write(fd, b"PASSED tests/x\\n===== 20 passed in 0.01s =====\\n" + json.dumps(verdict).encode() + b"\\n")
        """),
        prints="20 passed",
        terminal=True,
    ),
    Case(
        "examples-only",
        "the answers to the worked examples, hard-coded",
        "the hidden tests draw their own inputs",
        combinations(
            "KNOWN = {(2, 3, 6, 7): [[2, 2, 3], [7]], (5, 2, 3): [[2, 2, 2, 2], [2, 3, 3], [3, 5]], (2, 4): []}",
            returns="KNOWN[tuple(candidates)] if tuple(candidates) in KNOWN else honest(candidates, target)",
        ),
        earns=("TestExamples::test_examples[statement]",),
    ),
    Case(
        "memoised-calls",
        "every result is kept and given again when the next call looks alike",
        "inputs differ in every call, and a failing call is repeated in a child of its own",
        combinations(
            "KEPT = {}",
            returns="KEPT.setdefault(len(candidates), honest(candidates, target))",
        ),
    ),
    Case(
        "gradebook",
        "SQL that raises every grade, in every database that can be found",
        "the store is written by the grader, and no path leads to it",
        combinations("""
            import os, sqlite3
            def databases():
                for top in ("..", "../..", "/tmp", "/home", HOME_FOLDER):
                    for folder, _, names in os.walk(top):
                        yield from (f"{folder}/{n}" for n in names if n.endswith((".db", ".sqlite", ".sqlite3")))
            def write():
                found = list(databases())
                for name in found:
                    sqlite3.connect(name).execute("UPDATE attempts SET status = 'passed', points = 99")
                assert not found, found
                raise PermissionError
            tried("store", write)
        """),
        isolation=True,
        refused=("store",),
    ),
    # --- values
    Case(
        "equal-to-all",
        "a list whose `__eq__`, `__iter__` and `__len__` say what is wanted",
        ONLY_DATA,
        combinations(
            """
            class Right(list):
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __len__(self): return 0
                def __bool__(self): return False
                __hash__ = None
        """,
            returns="Right(honest(candidates, target))",
        ),
    ),
    Case(
        "equal-integer",
        "an `int` whose comparisons are all true",
        ONLY_DATA,
        gap(
            """
            class Right(int):
                def __eq__(self, other): return True
                __ne__ = __lt__ = __gt__ = __le__ = __ge__ = lambda self, other: False
                def __add__(self, other): return self
                def __index__(self): return 7
                def __hash__(self): return 0
        """,
            returns="Right(honest(nums))",
        ),
        exercise="maximum_gap",
    ),
    Case(
        "equal-text",
        "a `str`, a `float`, a `dict` and a `tuple` that equal everything",
        ONLY_DATA,
        gap(
            """
            def right(kind):
                return type(kind.__name__, (kind,), {"__eq__": lambda a, b: True, "__hash__": lambda a: 0})
            KINDS = [right(kind) for kind in (str, float, dict, tuple, bytes, complex, set)]
            TURN = []
        """,
            inside="TURN.append(1)",
            returns="KINDS[len(TURN) % 7]()",
        ),
        exercise="maximum_gap",
    ),
    Case(
        "not-a-number",
        "NaN as an answer, since it is neither too large nor too small",
        "NaN is close only to NaN",
        gap(returns="float('nan')"),
        exercise="maximum_gap",
        message="got       nan",
    ),
    Case(
        "not-a-number-tensors",
        "tensors of NaN",
        "NaN is close only to NaN",
        features(returns="honest(x) * float('nan')"),
        exercise="linear_attention",
        message="nan",
    ),
    Case(
        "infinite",
        "an integer of 400 digits and infinity, beyond all tolerances",
        "the distance to what is expected is then infinite",
        gap(inside="if len(nums) > 3: return 10 ** 400", returns="float('inf')"),
        exercise="maximum_gap",
    ),
    Case(
        "half-precision",
        "the result in bfloat16, whose tolerance is wider",
        "the type is checked as well",
        features(returns="(honest(x) - 0.995).bfloat16()"),
        exercise="linear_attention",
        as_bad_as=features(returns="honest(x) - 0.995"),
    ),
    Case(
        "torch-function",
        "a tensor subclass whose `__torch_function__` answers every comparison with True",
        "a result is its bytes, dtype and shape; the subclass does not cross",
        features(
            """
            import torch
            class Right(torch.Tensor):
                @classmethod
                def __torch_function__(cls, function, types, args=(), kwargs=None):
                    if getattr(function, "__name__", "") in ("eq", "allclose", "isclose", "equal", "__eq__"):
                        return torch.ones((), dtype=torch.bool)
                    return super().__torch_function__(function, types, args, kwargs or {})
        """,
            returns="honest(x).as_subclass(Right)",
        ),
        exercise="linear_attention",
    ),
    Case(
        "lazy-tensor",
        "a tensor that is computed only when it is compared",
        "its bytes must have arrived; what has none is no tensor",
        features(
            """
            import torch
            class Lazy(torch.Tensor):
                @staticmethod
                def __new__(cls, x):
                    return torch.Tensor._make_wrapper_subclass(cls, x.shape, dtype=x.dtype)
                @classmethod
                def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
                    return torch.zeros(())
        """,
            returns="Lazy(x)",
        ),
        exercise="linear_attention",
        status=("failed", "crashed"),
    ),
    Case(
        "tensors-without-values",
        "meta, sparse and quantised tensors in turn",
        "they do not cross as tensors",
        features(
            """
            import torch
            TURN = []
            def quantised(x):
                return torch.quantize_per_tensor(x.float(), 0.1, 0, torch.quint8)
        """,
            inside="TURN.append(1)",
            returns="[lambda t: t.to('meta'), lambda t: t.to_sparse(), quantised][len(TURN) % 3](honest(x))",
        ),
        exercise="linear_attention",
    ),
    Case(
        "freed-memory",
        "`torch.empty_like`, in the hope of the reference's freed result",
        "the reference is computed in another process",
        features(returns="torch.empty_like(x).clone()"),
        exercise="linear_attention",
    ),
    Case(
        "class-lies",
        "an object whose `__class__` says list, and one that says tensor",
        "what is not plain data crosses as a name and a short description",
        gap(
            """
            class Liar:
                def __init__(self, kind): self.kind = kind
                @property
                def __class__(self): return self.kind
                def __repr__(self): return "[[2, 2, 3], [7]]"
            TURN = []
        """,
            inside="TURN.append(1)",
            returns="Liar([list, dict, int, float, str, tuple][len(TURN) % 6])",
        ),
        exercise="maximum_gap",
        status=("failed", "crashed"),
    ),
    Case(
        "pickle",
        "an object whose `__reduce__` starts a command, and a patched `pickle.dumps`",
        "nothing that crosses is unpickled",
        combinations(
            """
            import os, pickle
            class Payload:
                def __reduce__(self): return os.system, ("touch /tmp/left-by-an-attack",)
                __reduce_ex__ = lambda self, version: self.__reduce__()
            pickle.dumps = lambda *args, **kwargs: b"cos\\nsystem\\n(S'touch /tmp/left-by-an-attack'\\ntR."
        """,
            returns="Payload()",
        ),
        message="a Payload",
    ),
    Case(
        "repr-exits",
        "a result whose `__repr__`, `__del__` or `__hash__` ends the process, or prints a verdict",
        "they run in the child, before its answer",
        gap(
            """
            import os
            class Result:
                def __repr__(self):
                    print("status: passed")
                    os._exit(0)
                def __del__(self): print("bye")
                def __hash__(self): raise SystemExit(0)
        """,
            returns="Result()",
        ),
        exercise="maximum_gap",
        status=("crashed",),
    ),
    Case(
        "exception-lies",
        "an exception whose name, bases and text are computed, and fail",
        "a child that cannot say what happened has crashed",
        gap(
            """
            class Meta(type):
                @property
                def __name__(cls): raise SystemExit(0)
            class Strange(Exception, metaclass=Meta):
                def __str__(self): raise KeyboardInterrupt
        """,
            inside="raise Strange()",
        ),
        exercise="maximum_gap",
        status=("crashed",),
    ),
    Case(
        "borrowed-name",
        "an exception of one's own that is called NotImplementedError, to count as not started",
        "only what the grader itself saw to be a stub can wait",
        combinations("Stub = type('NotImplementedError', (NotImplementedError,), {})", inside="raise Stub()"),
    ),
    # --- the frames that carry results
    Case(
        "inherited-descriptors",
        "a passing result written to every file descriptor",
        "there is one connection, and what it carries says nothing of passing",
        combinations("""
            import os
            for fd in range(3, 256):
                try:
                    os.write(fd, b"check: pass\\n" * 4)
                except OSError:
                    pass
        """),
        status=("crashed",),
        message="cannot be read",
    ),
    Case(
        "frames-of-the-caller",
        "the request and answer in the frames above are rewritten",
        "they hold inputs and results, and no expectation",
        combinations(
            inside="""
            import sys
            place = sys._getframe()
            while place:
                for name, value in list(place.f_locals.items()):
                    if isinstance(value, dict) and name in ("request", "answer", "message", "verdict", "result"):
                        value.update(outcome="passed", status="passed", points=99)
                place = place.f_back
        """
        ),
    ),
    Case(
        "patched-json",
        "`json.dumps` and `json.loads` replaced by ones that say passed",
        "an answer that is not one ends the child",
        combinations("""
            import json
            json.dumps = lambda *args, **kwargs: '{"ok": null, "id": 2, "status": "passed", "outcome": "passed"}'
        """),
        status=("failed", "crashed", "error"),
    ),
    Case(
        "patched-lengths",
        "`struct` and the header of the wire give frames another length",
        "lengths are bounded, and more than one frame is no answer",
        combinations("""
            import struct, sys
            wire = sys.modules["inside.wire"]
            class Header:
                size = 16
                def pack(self, text, blob): return struct.pack("<QQ", text, (1 << 64) - 1)
                def unpack(self, data): return struct.unpack("<QQ", data)
            wire.HEADER = Header()
        """),
        status=("error", "crashed"),
    ),
    Case(
        "two-answers",
        "a second answer sent right behind the first",
        "more than one answer is none",
        combinations(
            CONNECTION,
            inside="""
            connection().sendall(frame({"ok": [], "changed": [], "cost": None, "broken": [], "id": number()}) * 2)
        """,
        ),
        status=("crashed",),
    ),
    Case(
        "early-answer",
        "a thread answers the next calls before they were asked, with the numbers to come",
        "the number of a call cannot be foreseen",
        combinations(
            CONNECTION,
            inside="""
            here, link = number(), connection()
            def ahead():
                time.sleep(0.01)
                for n in range(1, 4):
                    link.sendall(frame({"ok": 0, "changed": [], "cost": None, "broken": [], "id": here + n}))
                print("sent ahead", flush=True)
            threading.Thread(target=ahead).start()
        """,
        ),
        status=("failed", "crashed"),
        prints="sent ahead",
    ),
    Case(
        "claims-a-stub",
        "the child's own report of an exception says that the part is still a stub, to be `partial`",
        "only what the grader itself saw to be a stub can wait",
        combinations("""
            import sys
            inside = sys.modules["inside.child"]
            inside._kind = lambda error: "stub"
            inside.Child._failure = lambda self, error: {"error": {
                "kind": "stub", "type": "NotImplementedError", "bases": ["NotImplementedError"], "text": "",
                "frames": [], "function": "combination_sum", "broken": [],
            }}
        """)
        + RAISING.replace("def honest", "def combination_sum"),
        as_bad_as=RAISING.replace("def honest", "def combination_sum"),
    ),
    Case(
        "malformed-report",
        "a report of an exception at import whose line number is infinite",
        "what cannot be read counts as a crash",
        combinations(
            CONNECTION
            + """
error = {"kind": "raised", "type": "E", "bases": [], "text": "", "frames": [[float("inf"), "f", "x"]], "function": "f"}
connection().sendall(frame({"error": error, "id": number()}))
time.sleep(1)
"""
        ),
        status=("crashed",),
        message="cannot be read",
    ),
    Case(
        "malformed-answers",
        "answers of every wrong form: numbers for lists, lists for names, unknown kinds",
        "decoding builds plain values from a fixed list of kinds, and refuses the rest",
        combinations("""
            import sys
            child = sys.modules["inside.child"]
            FORMS = [
                {"ok": {"tuple": 7}}, {"ok": {"dict": [[[], 1]]}}, {"ok": {"set": [{"dict": []}]}}, {"ok": {"eval": "1"}},
                {"ok": {"opaque": 3}}, {"ok": {"__class__": []}}, {"ok": {"tensor": ["float32", [1 << 39], 0, 4, {}]}},
                {"error": 7}, {"error": {"frames": 7}}, {"ok": 1, "cost": {"lines": -1}}, {"ok": 1, "cost": [1]},
                {"ok": 1, "changed": 7}, {"ok": 1, "broken": 7}, {}, {"ok": {"bytes": 3}}, {"ok": {"complex": ["x", 1]}},
            ]
            CALLS = []
            def call(self, request, blob):
                import random
                return dict(random.SystemRandom().choice(FORMS)), b""
            child.Child.call = call
        """),
        status=("crashed", "failed"),
    ),
    Case(
        "stretched-tensor",
        "a tensor of 64 GiB made of four bytes, by a stride of zero",
        "a result lies densely: strides belong to arguments",
        features("""
            import sys
            wire = sys.modules["inside.wire"]
            def encode(self, value, depth=0):
                self.chunks.append(bytes(4))
                return {"tensor": ["float32", [1 << 17, 1 << 17], 0, 4, {"stride": [0, 0]}]}
            wire.Encoder.encode = encode
        """),
        exercise="linear_attention",
        status=("crashed",),
    ),
    Case(
        "classes-and-imports",
        "`__build_class__`, an import hook and a module table without the kit's own modules",
        "they are those of the child alone",
        combinations("""
            import builtins, sys
            class Finder:
                def find_spec(self, name, path=None, target=None): raise ImportError("nothing is to be imported")
            sys.meta_path.insert(0, Finder())
            builtins.__build_class__ = lambda function, name, *bases, **more: None
            for name in [name for name in sys.modules if name.startswith("inside")]:
                del sys.modules[name]
        """),
        status=("failed", "crashed", "error"),
    ),
    Case(
        "closed-connection",
        "the connection to the grader is closed in the middle of a call",
        "no answer is no pass",
        combinations(CONNECTION, inside="if target == 29: connection().shutdown(2); time.sleep(9)"),
        message="it closed its connection",
    ),
    Case(
        "replaced-connection",
        "`os.dup2` puts a file over the connection",
        "no answer is no pass",
        combinations(
            CONNECTION,
            inside="""
            if target == 29:
                os.dup2(os.open("forged", os.O_RDWR | os.O_CREAT), connection().fileno())
        """,
        ),
        status=("failed", "crashed"),
    ),
    # --- what is counted or watched in the learner's process
    Case(
        "forged-costs",
        "tracing is turned off for a search through all orders, and its lines are not counted",
        "nothing: counts are made beside the learner's code; the wall clock is not",
        ALL_ORDERS.replace("    numbers,", "    import sys\n    sys.settrace(None)\n    numbers,"),
        performance=True,
        limit=True,
        status=("passed",),
        as_bad_as=ALL_ORDERS,
    ),
    Case(
        "disarmed-guard",
        "the profiler that watches for sorting is turned off, and `list.sort` reached by another name",
        "nothing for who means it: the rule's run-time half watches from beside the learner's code",
        gap(
            inside="""
            import sys
            sys.setprofile(None)
            nums = [int(x) for x in nums]
            getattr(nums, "so" + "rt")()
        """,
            returns="max((b - a for a, b in zip(nums, nums[1:])), default=0)",
        ),
        exercise="maximum_gap",
        limit=True,
        status=("passed",),
        as_bad_as=gap(inside="nums = list(nums); getattr(nums, 'so' + 'rt')()"),
    ),
    Case(
        "hidden-change",
        "arguments are changed in place, and the child's own look at them finds nothing",
        "nothing: what became of an argument is known in the learner's process alone",
        SPOILING + "\n\nimport sys\n\nsys.modules['inside.child']._changed = lambda before, after: []\n",
        exercise="maximum_gap",
        limit=True,
        status=("failed",),
        as_bad_as=SPOILING,
    ),
]
