"""The sandbox denies what it says it denies: each attempt is made by code in a real child, on each tier that claims to stop it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from adversarial.processes import below

from grader.catalog import PACKAGE, content
from grader.sandbox import layers
from grader.sandbox.host import ChildGone, Zygote
from grader.sandbox.inside.lockdown import Limits

pytestmark = pytest.mark.slow

FOUND = layers.probe_layers()
BEST = layers.best_tier(FOUND)
TIERS = {"sandbox": ["sandbox", "restricted"], "restricted": ["restricted"], "process": []}[BEST]


@pytest.fixture(
    scope="module", params=TIERS or [pytest.param("none", marks=pytest.mark.skip(reason="no isolation here"))]
)
def zygote(request):
    started = Zygote((), request.param)
    started.wait()
    yield started
    started.close()


@pytest.fixture(scope="module")
def plain():
    """The control: a process without isolation."""
    started = Zygote((), "process")
    started.wait()
    yield started
    started.close()


def attempt(zygote, code, limits=None, seconds=10.0):
    """What code did in a child: `ok`, or the exception's name."""
    child = zygote.spawn(limits or Limits())
    request = dict(op="load", source=code, filename="x.py", seed=0, rules=[], stubs=[], device="cpu")
    try:
        message = child.ask(request, b"", seconds).message
        return "ok" if "ok" in message else f"{message['error']['type']}: {message['error']['text']}"
    except ChildGone as gone:
        return f"{gone.cause}: {gone}"
    finally:
        child.close()


HOME = Path.home()
DENIED = {
    "read the suites": f"open({str(PACKAGE / 'suites' / 'leetcode' / 'maximum_gap' / 'suite.py')!r}).read()",
    "read the solutions": f"open({str(content() / 'solutions' / 'leetcode' / 'maximum_gap.py')!r}).read()",
    "list the kit": f"import os\nassert os.listdir({str(PACKAGE)!r})",
    "list home": f"import os\nos.listdir({str(HOME)!r})",
    "list the root of the tests": f"import os\nos.listdir({str(Path(__file__).parent)!r})",
    "write into packages": f"open({str(Path(json.__file__))!r}, 'a')",
    "write to /tmp": "open('/tmp/left-behind-by-a-test', 'w')",
    "a TCP socket": "import socket\nsocket.socket()",
    "a UDP socket": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a local socket": "import socket\nsocket.socket(socket.AF_UNIX)",
    "a raw socket": "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "fork": "import os\nif os.fork() == 0: os._exit(0)",
    "a subprocess": "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    "exec": "import os\nos.execv('/bin/true', ['true'])",
    "kill the parent": "import os\nos.kill(os.getppid() or 3, 9)",
    "kill everything": "import os\nos.kill(-1, 15)",
    "signal another": "import os\nos.kill(2, 0)",
    "read another's memory": "import os\nopen(f'/proc/{os.getppid() or 1}/mem', 'rb').read(1)",
    "read another's environment": "import os\nopen(f'/proc/{os.getppid() or 1}/environ').read(1)",
    "chroot": "import os\nos.chroot('.')",
}
SYSTEM_CALLS = {
    "ptrace": "libc.ptrace(16, 1, 0, 0)",
    "mount": "libc.mount(b'none', b'.', b'tmpfs', 0, None)",
    "unshare": "libc.unshare(0x10000000)",
    "keyctl": "libc.syscall(250 if x86 else 219, 0, -3, 0)",
    "io_uring": "libc.syscall(425, 8, b'\\0' * 120)",
    "bpf": "libc.syscall(321 if x86 else 280, 0, 0, 0)",
    "process_vm_readv": "libc.syscall(310 if x86 else 270, os.getppid() or 1, 0, 0, 0, 0, 0)",
    "userfaultfd": "libc.syscall(323 if x86 else 282, 0)",
}
for _name, _code in SYSTEM_CALLS.items():
    DENIED[_name] = (
        "import ctypes, os, platform\nx86 = platform.machine() == 'x86_64'\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"if {_code} == -1 and ctypes.get_errno() == 1: raise PermissionError('refused')"
    )


@pytest.mark.parametrize("case", DENIED)
def test_denied(zygote, case):
    said = attempt(zygote, DENIED[case])
    assert said.startswith(("PermissionError", "FileNotFoundError", "OSError: [Errno 30]"))


CONTROLS = [
    "read the suites", "read the solutions", "list the kit", "list home", "list the root of the tests",
    "write into packages", "a TCP socket", "a UDP socket", "a local socket", "fork", "a subprocess", "signal another",
]  # fmt: skip


@pytest.mark.parametrize("case", CONTROLS)
def test_the_same_works_without_isolation(plain, case):
    """The control: what is denied above is denied by the layers, not by a mistake in the attempt."""
    code = DENIED[case].replace("os.kill(2, 0)", "os.kill(os.getppid(), 0)")
    assert attempt(plain, code) == "ok"


def test_nobody_listens_to_it(zygote, plain):
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket\nsocket.create_connection({server.getsockname()!r}, 5)"
        assert attempt(plain, code) == "ok"
        assert attempt(zygote, code).startswith("PermissionError")


ALLOWED = {
    "write here": "open('x', 'w').write('hi')\nassert open('x').read() == 'hi'",
    "a temporary file": "import tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'hi')",
    "threads": "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
    "signal itself": "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *a: None)\nos.kill(os.getpid(), signal.SIGUSR1)",
    "the clock and randomness": "import os, time\ntime.sleep(0.01)\nassert len(os.urandom(8)) == 8",
    "the standard library": "import decimal, sqlite3, ssl, zoneinfo, multiprocessing.pool",
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(zygote, case):
    assert attempt(zygote, ALLOWED[case]) == "ok"


LIMITED = {
    "memory": ("bytearray(3 << 30)", "MemoryError"),
    "a large file": ("open('x', 'wb').write(b'x' * (100 << 20))", "OSError"),
    "many files": ("kept = [open('/dev/null') for _ in range(1000)]", "OSError: [Errno 24]"),
    "many threads": (
        "import threading, time\nfor _ in range(100000):\n    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        "RuntimeError: can't start new thread",
    ),
}


@pytest.mark.parametrize("case", LIMITED)
def test_limited(zygote, case):
    code, message = LIMITED[case]
    assert attempt(zygote, code, Limits(memory=1 << 30)).startswith(message)


def test_many_files_do_not_fill_the_disk(zygote):
    code = "for i in range(100):\n    open(f'x{i}', 'wb').write(b'x' * (10 << 20))"
    said = attempt(zygote, code, seconds=60.0)
    if zygote.tier == "sandbox":
        assert said.startswith("OSError: [Errno 28] No space left")


def test_each_child_starts_with_an_empty_directory(zygote):
    assert attempt(zygote, "open('left', 'w').write('x')") == "ok"
    assert attempt(zygote, "import os\nassert os.listdir('.') == []") == "ok"


@pytest.mark.parametrize("tier", ["process", *TIERS])
def test_the_environment_is_scrubbed(tier, monkeypatch):
    for name in ("GRADE_HOME", "API_TOKEN", "USER"):
        monkeypatch.setenv(name, "secret")
    started = Zygote((), tier)
    try:
        started.wait()
        said = attempt(
            started, "import os\nraise ValueError(sorted(k for k, v in os.environ.items() if 'secret' in v))"
        )
    finally:
        started.close()
    assert said == "ValueError: []"


def test_children_draw_their_own_random_numbers(plain):
    """Forked children share the parent's state; every child is reseeded, and alike with the same seed."""
    first = attempt(plain, "import random\nassert False, random.random()")
    assert first == attempt(plain, "import random\nassert False, random.random()")


def test_a_killed_child_leaves_no_process(zygote):
    before = below(zygote.process.pid)
    said = attempt(
        zygote,
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ntime.sleep(60)",
        seconds=0.3,
    )
    assert said.startswith("timeout")
    deadline = time.monotonic() + 5
    while below(zygote.process.pid) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert below(zygote.process.pid) - before == set()


def test_everything_ends_with_the_host():
    """kill -9 of the trusted process: the zygote and its children go too."""
    code = (
        "import sys, time\nfrom grader.sandbox.host import Zygote, Limits\n"
        f"z = Zygote((), {str(BEST)!r})\nz.wait()\nc = z.spawn(Limits())\nprint(z.process.pid, flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=content())
    zygote = int(process.stdout.readline())
    family = below(zygote) | {zygote}
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}") for pid in family) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in family if os.path.exists(f"/proc/{pid}")] == []


def test_forged_answers_are_no_answers(plain):
    """A child that writes to every descriptor it can find is a crash, never a result."""
    code = "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\0' * 64 + b'{\"ok\": 1}')\n    except OSError: pass\nimport time\ntime.sleep(5)"
    assert attempt(plain, code, seconds=2.0).startswith("crashed")


def test_tiers_and_layers():
    names = {"bubblewrap", "namespaces", "landlock", "seccomp", "limits"}
    assert set(FOUND) == names

    def tier(*missing):
        return layers.best_tier({n: layers.Layer(n, n not in missing, "", "") for n in names})

    assert [tier(), tier("bubblewrap"), tier("namespaces"), tier("landlock"), tier("limits")] == [
        "sandbox", "restricted", "restricted", "process", "process",
    ]  # fmt: skip
