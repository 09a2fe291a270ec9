"""What each layer of the sandbox denies, tried for real, and what must go on working under it.

Each attempt runs twice in a forked child: under one layer alone, where it must fail as the table says, and without it,
where it must end otherwise. So no attempt passes because this machine or this user could not do it anyway.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grader.sandbox import layers
from grader.sandbox.inside import lockdown, seccomp
from grader.sandbox.tier import Tier

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these layers"),
    pytest.mark.slow,
]

# Forks a child for each request it reads: takes the layers, runs the code, tells how it ended and what is left.
LOAD = "import runpy, sys\nrunpy.run_path(sys.argv[1] + '/__main__.py')['load']()\n"
DRIVER = r"""
import json, os, select, sys, time
from inside import lockdown, seccomp as filters
if "torch" in sys.argv: import torch
import ctypes, errno, fcntl, resource, signal, socket, struct, subprocess, tempfile, threading
libc = ctypes.CDLL(None, use_errno=True)
seccomp = None
try:
    seccomp = filters.libseccomp()
    lockdown.prepare(lockdown.LAYERS)
except OSError:
    pass

def call(name, *values):
    number = name if isinstance(name, int) else seccomp.resolve_syscall(0, name)
    if number < 0: raise LookupError(name)
    if libc.syscall(ctypes.c_long(number), *(ctypes.c_long(v) if isinstance(v, int) else v for v in values)) < 0:
        raise OSError(ctypes.get_errno(), "")

def child(request, write):
    try:
        os.chdir(request["scratch"])
        if request["layers"]: lockdown.apply(request["layers"], request["limits"], request["scratch"])
        exec(request["code"], globals() | request["names"])
        said = "done"
    except OSError as error: said = errno.errorcode[error.errno]
    except BaseException as error: said = type(error).__name__ + (f": {error}" if request["long"] else "")
    os.write(write, said.encode())
    os._exit(0)

def warden(request, write):
    os.setsid()
    for name, value in request["kit"].items(): setattr(lockdown, name, value); lockdown._paths = None
    if "prefix" in request: sys.prefix = request["prefix"]
    lockdown.enter(request["layers"], request["limits"])
    pid = os.fork()
    if pid == 0: child(request, write)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(write, b"|" + (signal.Signals(-status).name if status < 0 else str(status)).encode())
    os._exit(0)

for line in sys.stdin:
    read, write = os.pipe()
    if (pid := os.fork()) == 0: warden(json.loads(line), write)
    os.close(write)
    os.waitpid(pid, 0)
    said, left = b"", False
    while True:
        if not select.select([read], [], [], 0.5)[0]: left = True; break
        data = os.read(read, 4096)
        if not data: break
        said += data
    os.close(read)
    outcome, _, ending = said.decode().partition("|")
    print(json.dumps([outcome or ending, left]), flush=True)
"""


class Driver:
    """A process that forks a child for each attempt."""

    def __init__(self, *packages: str) -> None:
        command = [sys.executable, "-I", "-B", "-c", LOAD + DRIVER, str(layers.INSIDE), *packages]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=layers.environment())

    def run(self, taken: tuple[str, ...], code: str, scratch: Path, **more: Any) -> tuple[str, bool]:
        """How the code ended under these layers, and whether a process of it was left."""
        limits = {"memory": 1 << 30, "cpu_seconds": 60, "file_bytes": 1 << 20, "files": 64, "processes": 16}
        request = {"layers": taken, "code": code, "scratch": str(scratch), "names": {}, "kit": {}, "long": False}
        request |= {"limits": limits | more.pop("limits", {})} | more
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        outcome, left = json.loads(self.process.stdout.readline())
        return outcome, left


def _driver(*packages: str) -> Iterator[Driver]:
    driver = Driver(*packages)
    yield driver
    assert driver.process.stdin and driver.process.stdout
    driver.process.stdin.close()
    driver.process.wait()
    driver.process.stdout.close()


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    yield from _driver()


@pytest.fixture(scope="module")
def torch_driver() -> Iterator[Driver]:
    yield from _driver("torch")


@pytest.fixture
def names(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What attempts are made upon: a process, files outside the scratch directory, and listening sockets."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    abstract = f"\0lockdown-{os.getpid()}"
    libc, queue, create, remove = ctypes.CDLL(None), 0x10CD0000 | os.getpid() & 0xFFFF, 0o1600, 0
    queue_id = libc.msgget(queue, create)
    victim = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    tcp, named, unnamed = socket.create_server(("127.0.0.1", 0)), *(socket.socket(socket.AF_UNIX) for _ in range(2))
    named.bind(str(tmp_path / "listener"))
    unnamed.bind(abstract)
    for each in (named, unnamed):
        each.listen()
    yield {
        "victim": victim.pid, "outside": str(tmp_path / "outside"), "secret": str(tmp_path / "outside" / "secret"),
        "listener": str(tmp_path / "listener"), "abstract": abstract, "port": tcp.getsockname()[1],
        "package": json.__file__, "suites": str(Path(lockdown.KIT) / "suites"), "queue": queue,
    }  # fmt: skip
    for each in (tcp, named, unnamed):
        each.close()
    victim.communicate(b"\n")
    libc.msgctl(queue_id, remove, None)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "own").write_text("own")
    return tmp_path / "scratch"


@dataclass(frozen=True)
class Attempt:
    """What must not work under one layer, and how it must end there."""

    name: str
    layer: str
    code: str
    ends: str
    version: int = 1  # of Landlock's interface, from which on it is denied


TCP = "socket.create_connection(('127.0.0.1', port), 2)"
ABSTRACT = "socket.socket(socket.AF_UNIX).connect(abstract)"
FORK = "if os.fork() == 0: os._exit(0)\nos.wait()"
UPPER = " | 1 << 32"  # the kernel ignores the upper half of these arguments

ATTEMPTS = [
    Attempt("signal", "namespaces", "os.kill(victim, 0)", "ESRCH"),
    Attempt("parent", "namespaces", "if os.getppid() == 0: raise ProcessLookupError(errno.ESRCH, '')", "ESRCH"),
    Attempt("tcp", "namespaces", TCP, "ENETUNREACH"),
    Attempt("abstract socket", "namespaces", ABSTRACT, "ECONNREFUSED"),
    Attempt("message queue", "namespaces", "call('msgget', queue, 0)", "ENOENT"),
    Attempt("other users", "namespaces", f"os.setuid({os.getuid()})", "EINVAL" if os.getuid() != 65534 else "done"),
    #
    Attempt("read", "landlock", "open(secret).read()", "EACCES"),
    Attempt("read through a link", "landlock", "os.symlink(secret, 'link'); open('link').read()", "EACCES"),
    Attempt("link into the box", "landlock", "os.link(secret, 'hard')", "EXDEV"),
    Attempt("list", "landlock", "os.listdir(outside)", "EACCES"),
    Attempt("list the root", "landlock", "os.listdir('/')", "EACCES"),
    Attempt("users", "landlock", "open('/etc/passwd').read()", "EACCES"),
    Attempt("write", "landlock", "open(secret, 'a')", "EACCES"),
    Attempt("make a file", "landlock", "open(outside + '/new', 'w')", "EACCES"),
    Attempt("make a folder", "landlock", "os.mkdir(outside + '/folder')", "EACCES"),
    Attempt("remove", "landlock", "os.remove(secret)", "EACCES"),
    Attempt("move into the box", "landlock", "os.rename(secret, 'moved')", "EACCES"),
    Attempt("move out of the box", "landlock", "os.rename('own', outside + '/own')", "EACCES"),
    Attempt("truncate", "landlock", "os.truncate(secret, 0)", "EACCES", version=3),
    Attempt("change a package", "landlock", "open(package, 'a')", "EACCES"),
    Attempt("hidden suites", "landlock", "os.listdir(suites)", "EACCES"),
    Attempt("shared memory", "landlock", "tempfile.TemporaryFile(dir='/dev/shm')", "EACCES"),
    Attempt("another's environment", "landlock", "open(f'/proc/{victim}/environ').read()", "EACCES"),
    Attempt("another's memory", "landlock", "open(f'/proc/{os.getppid()}/mem', 'rb')", "EACCES"),
    Attempt("processes", "landlock", "os.listdir('/proc')", "EACCES"),
    Attempt("mounts", "landlock", "open('/proc/self/mounts').read()", "EACCES"),
    Attempt("tcp", "landlock", TCP, "EACCES", version=4),
    Attempt("listen", "landlock", "socket.create_server(('127.0.0.1', 0))", "EACCES", version=4),
    Attempt("signal", "landlock", "os.kill(victim, 0)", "EPERM", version=6),
    Attempt("abstract socket", "landlock", ABSTRACT, "EPERM", version=6),
    #
    Attempt("fork", "seccomp", FORK, "EPERM"),
    Attempt("subprocess", "seccomp", "subprocess.run(['/bin/true'])", "EPERM"),
    Attempt("shell", "seccomp", "if os.system('true'): raise PermissionError(errno.EPERM, '')", "EPERM"),
    Attempt("exec", "seccomp", "os.execv('/bin/true', ['true'])", "EPERM"),
    Attempt("clone, upper bits", "seccomp", f"call('clone', 17{UPPER}, 0, 0, 0, 0) or os._exit(0)", "EPERM"),
    Attempt("clone3", "seccomp", "call('clone3', 0, 0)", "ENOSYS"),
    Attempt("openat2", "seccomp", "call('openat2', -1, -1, -1, -1)", "ENOSYS"),
    Attempt("internet", "seccomp", "socket.socket()", "EPERM"),
    Attempt("local", "seccomp", "socket.socket(socket.AF_UNIX)", "EPERM"),
    Attempt("internet 6", "seccomp", "socket.socket(socket.AF_INET6)", "EPERM"),
    Attempt("netlink", "seccomp", "socket.socket(socket.AF_NETLINK)", "EPERM"),
    Attempt("virtual machine sockets", "seccomp", "socket.socket(40)", "EPERM"),
    Attempt("kernel crypto", "seccomp", "socket.socket(38, socket.SOCK_SEQPACKET)", "EPERM"),
    Attempt("socket, upper bits", "seccomp", f"call('socket', 1{UPPER}, 1, 0)", "EPERM"),
    Attempt("connect", "seccomp", "socket.socketpair()[0].connect(listener)", "EPERM"),
    Attempt("datagrams", "seccomp", "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", "EPERM"),
    Attempt("raw is datagrams", "seccomp", "socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)", "EPERM"),
    Attempt("signal", "seccomp", "os.kill(victim, 0)", "EPERM"),
    Attempt("signal all", "seccomp", "os.kill(-1, 0)", "EPERM"),
    Attempt("signal the group", "seccomp", "os.kill(0, 0)", "EPERM"),
    Attempt("signal a thread", "seccomp", "call('tgkill', victim, victim, 0)", "EPERM"),
    Attempt("signal any thread", "seccomp", "call('tkill', victim, 0)", "EPERM"),
    Attempt("signal with data", "seccomp", "call('rt_sigqueueinfo', victim, 0, -1)", "EPERM"),
    Attempt("signal by file", "seccomp", "fcntl.fcntl(0, fcntl.F_SETOWN, victim)", "EPERM"),
    Attempt("signal by file, which", "seccomp", f"call('fcntl', 0, 10{UPPER}, 9)", "EPERM"),
    Attempt("signal by file, extended", "seccomp", "fcntl.fcntl(0, 15, struct.pack('ii', 1, victim))", "EPERM"),
    Attempt("signal by ioctl", "seccomp", f"call('ioctl', socket.socketpair()[0].fileno(), 0x8901{UPPER}, 0)", "EPERM"),
    Attempt("type into the terminal", "seccomp", "call('ioctl', -1, 0x5412, -1)", "EPERM"),
    Attempt("type, upper bits", "seccomp", f"call('ioctl', -1, 0x5412{UPPER}, -1)", "EPERM"),
    Attempt("another's limits", "seccomp", "resource.prlimit(victim, resource.RLIMIT_NOFILE)", "EPERM"),
    Attempt("another's cores", "seccomp", "os.sched_setaffinity(victim, os.sched_getaffinity(victim))", "EPERM"),
    Attempt("another's priority", "seccomp", "os.setpriority(os.PRIO_PROCESS, victim, 19)", "EPERM"),
    Attempt("outlive the parent", "seccomp", f"call('prctl', 1{UPPER}, 0, 0, 0, 0)", "EPERM"),
    Attempt("become dumpable", "seccomp", "call('prctl', 4, 1, 0, 0, 0)", "EPERM"),
    Attempt("chmod outside", "seccomp", "os.chmod(secret, 0o600)", "EPERM"),
    Attempt("touch outside", "seccomp", "os.utime(secret)", "EPERM"),
    Attempt("truncate by name", "seccomp", "os.truncate(secret, 0)", "EPERM"),
    Attempt("truncate by reading", "seccomp", "os.open(secret, os.O_RDONLY | os.O_TRUNC)", "EPERM"),
    Attempt("truncate, the old call", "seccomp", "call('open', secret.encode(), os.O_TRUNC)", "EPERM"),
    Attempt("message queue", "seccomp", "call('msgget', queue, 0)", "EPERM"),
    #
    Attempt("memory", "limits", "bytearray(3 << 30)", "MemoryError"),
    Attempt("file size", "limits", "big = open('big', 'wb', 0); big.write(bytes(1 << 20)); big.write(b'x')", "EFBIG"),
    Attempt("descriptors", "limits", "kept = [os.pipe() for _ in range(100)]", "EMFILE"),
    Attempt("raise a limit", "limits", "resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))", "ValueError"),
    Attempt("capabilities", "limits", "os.setgroups([])", "EPERM"),
    Attempt("dumpable", "limits", "if not libc.prctl(3): raise PermissionError(errno.EPERM, '')", "EPERM"),
    Attempt("core dumps", "limits", "1 / resource.getrlimit(resource.RLIMIT_CORE)[1]", "ZeroDivisionError"),
]  # fmt: skip


@functools.cache
def offered(layer: str) -> bool:
    """Whether this system has a layer, found out without the code that takes it: a broken layer is no reason to skip."""
    programs = {
        "namespaces": ["unshare", "--user", "--pid", "--net", "--mount", "--fork", "true"],
        "bubblewrap": ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"],
    }
    if layer in programs:
        program = shutil.which(programs[layer][0])
        return bool(program) and subprocess.run(programs[layer], capture_output=True).returncode == 0
    try:
        if layer == "landlock":
            lockdown.landlock_version()
        if layer == "seccomp":
            ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    return True


def need(layer: str) -> None:
    if not offered(layer):
        pytest.skip(f"this system does not offer {layer}")


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: f"{attempt.layer}: {attempt.name}")
def test_a_layer_denies(attempt: Attempt, driver: Driver, names: dict[str, Any], scratch: Path) -> None:
    need(attempt.layer)
    if attempt.layer == "landlock" and lockdown.landlock_version() < attempt.version:
        pytest.skip(f"this kernel's Landlock is older than version {attempt.version}")
    under, _ = driver.run((attempt.layer,), attempt.code, scratch, names=names)
    (scratch / "link").unlink(missing_ok=True)
    without, _ = driver.run((), attempt.code, scratch, names=names)
    if under == without and under in (attempt.ends, "LookupError"):
        pytest.skip(f"without the layer it ends as {without} too: no such call here, or not for this user")
    assert under == attempt.ends, f"it ended as {under}, without the layer as {without}"


# Calls whose arguments are all wrong do nothing; these few have none to be wrong, or are tried above.
SPECIAL = {"fork", "vfork", "msgget", "vhangup"}
DANGEROUS = """ptrace process_vm_readv process_vm_writev mount umount2 bpf perf_event_open userfaultfd keyctl add_key
    request_key io_uring_setup setns unshare kexec_load init_module finit_module swapon reboot open_by_handle_at
    pidfd_getfd pidfd_send_signal personality connect chmod fchmodat setxattr utimensat truncate memfd_create shmget"""


def test_nothing_is_missing_from_the_refused() -> None:
    assert set(DANGEROUS.split()) <= set(seccomp.REFUSED.split())


@pytest.mark.parametrize("name", [*sorted(set(seccomp.REFUSED.split()) - SPECIAL), *seccomp.NEWER])
def test_seccomp_refuses(name: str | int, driver: Driver, scratch: Path) -> None:
    need("seccomp")
    code = f"call({name!r}, -1, -1, -1, -1, -1, -1)"
    under, without = (driver.run(taken, code, scratch)[0] for taken in (("seccomp",), ()))
    if under == without and under in ("EPERM", "LookupError"):
        pytest.skip(f"without the filter it ends as {without} too: no such call here, or not for this user")
    assert under == "EPERM", f"it ended as {under}, without the filter as {without}"


ALLOWED = {
    "own signal": "os.kill(os.getpid(), 0)",
    "own thread's signal": "signal.pthread_kill(threading.get_ident(), 0)",
    "threads": "t = threading.Thread(target=os.getpid); t.start(); t.join()",
    "socket pair": "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'",
    "own limits": "resource.getrlimit(resource.RLIMIT_NOFILE); os.sched_setaffinity(0, os.sched_getaffinity(0))",
    "files": "os.mkdir('new'); open('new/f', 'w').write('x'); os.rename('new/f', 'f'); os.remove('f'); os.rmdir('new')",
    "rewrite": "open('own', 'w').write('new'); assert open('own').read() == 'new'; os.ftruncate(os.open('own', 2), 1)",
    "temporary files": "tempfile.NamedTemporaryFile(dir='.').write(b'x')",
    "late imports": "import ctypes.util, decimal, sqlite3, xml.etree.ElementTree",
    "entropy": "os.urandom(8); open('/dev/urandom', 'rb').read(8)",
    "nowhere": "open('/dev/null', 'w').write('x')",
    "cores": "assert os.cpu_count() >= 1",
    "callbacks": "ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 3)()",
}


@pytest.mark.parametrize("name", ALLOWED)
def test_all_layers_allow(name: str, driver: Driver, scratch: Path) -> None:
    for layer in lockdown.LAYERS:
        need(layer)
    assert driver.run(lockdown.LAYERS, ALLOWED[name], scratch, long=True) == ("done", False)


@pytest.mark.parametrize(
    "taken", [(), *((layer,) for layer in lockdown.LAYERS), *(tuple(sorted(tier.layers)) for tier in Tier)]
)
def test_torch_works_under(taken: tuple[str, ...], torch_driver: Driver, scratch: Path) -> None:
    for layer in taken:
        need(layer)
    code = """
torch.set_num_threads(2)
a = torch.randn(700, 700, requires_grad=True)
(a @ a).square().mean().backward()
assert a.grad.isfinite().all()
threads = len(os.listdir("/proc/self/task")) if "landlock" not in taken else 2
assert threads > 1, threads
torch.save({"a": a}, "a.pt")
assert torch.equal(torch.load("a.pt")["a"], a)
layer = torch.nn.Conv2d(3, 4, 3)
data = torch.utils.data.DataLoader(torch.randn(16, 3, 8, 8), batch_size=8, shuffle=True)
optimizer = torch.optim.AdamW(layer.parameters())
for batch in data:
    layer(batch).sum().backward()
    optimizer.step()
torch.linalg.svd(a.detach()[:50, :50])
"""
    limits = {"memory": 2 << 30, "file_bytes": 8 << 20}
    outcome = torch_driver.run(taken, code, scratch, limits=limits, names={"taken": taken}, long=True)
    assert outcome == ("done", False)


@pytest.mark.parametrize("taken", [("limits",), ("namespaces", "limits")])
def test_processor_time_is_limited(taken: tuple[str, ...], driver: Driver, scratch: Path) -> None:
    for layer in taken:
        need(layer)
    code = "end = time.process_time() + {}\nwhile time.process_time() < end: pass"
    outcome, _ = driver.run(taken, code.format(30), scratch, limits={"cpu_seconds": 1})
    # PID 1 of a namespace ignores the warning
    assert outcome == ("SIGKILL" if "namespaces" in taken else "SIGXCPU")


def test_threads_are_limited(driver: Driver, scratch: Path) -> None:
    need("namespaces")
    if os.getuid() == 0:
        pytest.skip("RLIMIT_NPROC does not bind root")
    code = "for _ in range(40): threading.Thread(target=time.sleep, args=(0.2,), daemon=True).start()"
    assert driver.run(("namespaces",), code, scratch)[0] == "done"
    assert driver.run(("namespaces", "limits"), code, scratch)[0] == "RuntimeError"


def test_nothing_outlives_a_pid_namespace(driver: Driver, scratch: Path) -> None:
    need("namespaces")
    code = "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(1.5)\n os._exit(0)\nos.wait()"
    assert driver.run(("namespaces",), code, scratch) == ("done", False)
    assert driver.run((), code, scratch) == ("done", True)


def test_landlock_refuses_to_leave_threads_free(driver: Driver, scratch: Path) -> None:
    need("landlock")
    code = "threading.Thread(target=time.sleep, args=(0.3,), daemon=True).start(); lockdown.restrict_files([], [])"
    assert driver.run((), code, scratch)[0] == "EBUSY"


def test_unknown_layers_are_an_error(scratch: Path) -> None:
    with pytest.raises(ValueError, match="selinux"):
        lockdown.apply(["selinux"], {}, str(scratch))


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Path, Path]:
    """(prefix, package) of a kit that is installed among the packages of a virtual environment."""
    packages = tmp_path / "venv" / "lib" / "python" / "site-packages"
    inside = packages / "grader" / "sandbox" / "inside"
    for folder in (packages / "torch", inside, packages / "grader" / "suites"):
        folder.mkdir(parents=True)
        (folder / "file.py").write_text("text")
    (packages / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file.py").write_text("text")
    return tmp_path / "venv", packages / "grader"


SEEN = {
    "torch/file.py": True,
    "grader/sandbox/inside/file.py": True,
    "grader/suites/file.py": False,
    "linked/file.py": False,
}


def test_landlock_leaves_out_an_installed_kit(installed: tuple[Path, Path], driver: Driver, scratch: Path) -> None:
    need("landlock")
    prefix, kit = installed
    more = {"kit": {"KIT": str(kit), "INSIDE": str(kit / "sandbox" / "inside")}, "prefix": str(prefix)}
    assert driver.run(("landlock",), f"os.listdir({str(kit.parent)!r})", scratch, **more)[0] == "done"
    for name, seen in SEEN.items():
        outcome, _ = driver.run(("landlock",), f"open({str(kit.parent / name)!r}).read()", scratch, **more)
        assert outcome == ("done" if seen else "EACCES"), name


def printed(before: list[str], code: str) -> str:
    """What a program prints, the end of its traceback included."""
    command = [*before, sys.executable, "-I", "-c", "import os, sys, socket\n" + code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"SECRET": "1"})
    return run.stdout.strip() + run.stderr.strip()[-300:]


BOXED = [
    ("suites", f"print(os.listdir({lockdown.KIT!r}))", "['sandbox']"),
    ("home", "print(os.path.exists('/home'), os.path.exists('/etc/passwd'))", "False False"),
    ("processes", "print(*[name for name in os.listdir('/proc') if name.isdigit()])", "1 2"),
    ("environment", "print('SECRET' in os.environ, os.environ['HOME'], os.getcwd())", "False /box /box"),
    ("network", "print([name for _, name in socket.if_nameindex()])", "['lo']"),
    ("user", "print(os.getuid(), os.getgroups()[:1] in ([], [65534]))", "65534 True"),
    ("capabilities", "print(*[x for x in open('/proc/self/status') if x[:6] == 'CapEff'])", f"CapEff:\t{0:016x}"),
    ("packages", "open(os.__file__, 'a')", "Read-only" if os.access(os.__file__, os.W_OK) else "Permission denied"),
    ("root", "open('/new', 'w')", "Read-only file system"),
    ("devices", "open('/dev/shm/new', 'w')", "Read-only file system"),
    ("the kit", f"open({lockdown.INSIDE!r} + '/new.py', 'w')", "Read-only file system"),
    ("full box", "file = open('big', 'wb', 0)\nfor _ in range(100): file.write(bytes(1 << 20))", "No space left"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "says"), BOXED, ids=[name for name, _, _ in BOXED])
def test_bubblewrap_shows_only(name: str, code: str, says: str) -> None:
    need("bubblewrap")
    output = printed(layers.bubblewrap_command(layers.INSIDE), code)
    assert says in output
    # what only looks can be tried outside too; an ordinary user has no capabilities there either
    if code.startswith("print") and (name != "capabilities" or os.getuid() == 0):
        assert output == says != printed([], code)


def test_bubblewrap_covers_an_installed_kit(installed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    need("bubblewrap")
    prefix, kit = installed
    (prefix.parent / "link").symlink_to(prefix)
    monkeypatch.setattr(lockdown, "KIT", str(kit))
    own = lockdown.roots()
    for name in (prefix, prefix.parent / "link"):
        monkeypatch.setattr(lockdown, "roots", lambda name=name: [f"{name}/lib", *own])
        inside = name / kit.relative_to(prefix) / "sandbox" / "inside"
        command = [*layers.bubblewrap_command(inside), sys.executable, "-I", "-c"]
        paths = [str(name / kit.parent.relative_to(prefix) / path) for path in SEEN]
        code = f"import os; print([os.path.exists(path) for path in {paths!r}])"
        run = subprocess.run([*command, code], capture_output=True, text=True, timeout=60)
        assert run.stdout.strip() == str([*SEEN.values()]), run.stderr


def test_tiers_follow_from_what_works() -> None:
    names = ["bubblewrap", *lockdown.LAYERS]
    tiers = {"": "sandbox", "bubblewrap": "restricted", "namespaces": "restricted", "seccomp": "process"}
    for missing, tier in tiers.items():
        assert layers.best_tier({name: layers.Layer(name, name != missing, "", "") for name in names}) == tier


@pytest.mark.parametrize("layer", ["bubblewrap", *lockdown.LAYERS])
def test_what_the_system_offers_works(layer: str) -> None:
    probed = layers.probe_layers()[layer]
    assert probed.available == offered(layer), probed.why


def test_probes_name_every_layer_and_a_remedy() -> None:
    probed = layers.probe_layers()
    assert set(probed) == {"bubblewrap", *lockdown.LAYERS}
    failed = layers._finish(None, list(probed))  # as where the probe does not even start
    assert all(not layer.available and layer.why and layer.remedy for layer in failed.values())
    assert {name: layer.remedy for name, layer in failed.items()} == layers.REMEDIES
