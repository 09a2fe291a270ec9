"""What a child gives up before it runs the learner's code. Standard library, ctypes and libseccomp.

Layers, each on its own:
  namespaces  a PID, network, IPC, mount and user namespace of its own, and a fresh scratch directory
  landlock    reads only the interpreter and its packages, writes only the scratch directory
  seccomp     no sockets, no new processes, no tracing, no mounts, no signals to others
  limits      memory, processor time, file sizes, descriptors

A layer that fails raises OSError: nothing runs with less than was asked for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any

BOX = "/box"  # the scratch directory in the sandbox tier
BOX_BYTES = 64 << 20

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_THREAD = 0x10000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # the same on every architecture
LANDLOCK_EXECUTE, LANDLOCK_READ_FILE, LANDLOCK_READ_DIR = 1 << 0, 1 << 2, 1 << 3
LANDLOCK_ON_FILES = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)

READABLE = (
    "/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/urandom",
    "/dev/random", "/proc/cpuinfo", "/proc/meminfo", "/proc/self", "/sys/devices/system/cpu", "/proc/sys/vm",
    "/sys/fs/cgroup",
)  # fmt: skip

# Refused with EPERM whatever the arguments.
REFUSED = (
    "socket", "connect", "bind", "listen", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
    "kexec_load", "kexec_file_load", "mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsconfig",
    "fsmount", "mount_setattr", "chroot", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key",
    "io_uring_setup", "io_uring_enter", "io_uring_register", "setns", "unshare", "init_module", "finit_module",
    "delete_module", "swapon", "swapoff", "reboot", "open_by_handle_at", "name_to_handle_at", "pidfd_getfd",
    "pidfd_open", "pidfd_send_signal",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tkill", "fork", "vfork", "execve", "execveat",
    "personality", "acct", "quotactl", "syslog", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime",
    "sethostname", "setdomainname", "iopl", "ioperm", "lookup_dcookie", "vhangup", "kcmp", "shmget", "msgget", "semget",
    "mq_open", "fanotify_init", "migrate_pages", "move_pages", "mbind", "set_mempolicy", "memfd_secret",
)  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)
_filter: Any = None
_mapped = 0  # bytes that the zygote maps; a child's limit comes on top


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prepare(layers: list[str]) -> None:
    """In the zygote, before any fork: what all children share."""
    global _filter, _mapped
    if "seccomp" in layers:
        _filter = _system_call_filter()
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _mapped = pages * resource.getpagesize()


def die_with_parent() -> None:
    """Be killed when the parent ends, on Linux."""
    if sys.platform == "linux":
        _checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")


def enter(layers: list[str], limits: dict[str, int]) -> str | None:
    """In the warden: enter new namespaces, so that the next fork is PID 1 of its own.

    Returns the scratch directory, fresh and empty; None where the caller must make one.
    """
    if "namespaces" not in layers:
        return None
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS
    _checked(libc.unshare(flags), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"65534 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"65534 {gid} 1")
    options = f"size={BOX_BYTES},nr_inodes=4096,mode=700".encode()
    _checked(libc.mount(b"box", BOX.encode(), b"tmpfs", 0x2 | 0x4, options), "mount the scratch directory")
    return BOX


def apply(layers: list[str], limits: dict[str, int], scratch: str) -> None:
    """In the child: give everything up, in the order in which the steps still work."""
    die_with_parent()
    if "limits" in layers:
        limit_resources(limits)
    if sys.platform == "linux":
        _checked(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE")
        _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    if "namespaces" in layers:
        _drop_capabilities()
    if "landlock" in layers:
        restrict_files(readable_paths(), [scratch, "/dev/null"])
    if "seccomp" in layers:
        filter_system_calls()


def limit_resources(limits: dict[str, int]) -> None:
    """Memory, processor time, file sizes, descriptors, no core dumps."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, limits["cpu_seconds"])
    _limit(resource.RLIMIT_FSIZE, limits["file_bytes"])
    _limit(resource.RLIMIT_NOFILE, limits["files"])
    if limits["memory"] and sys.platform == "linux":  # macOS ignores it
        _limit(resource.RLIMIT_AS, _mapped + limits["memory"])


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _drop_capabilities() -> None:
    header = struct.pack("<Ii", 0x20080522, 0)  # version 3, this process
    _checked(libc.capset(header, struct.pack("<6I", *[0] * 6)), "capset")


def readable_paths() -> list[str]:
    """What the interpreter and the packages need; the kit itself is left out where it is installed among them."""
    paths = [*READABLE, sys.base_prefix, str(Path(__file__).resolve().parent)]
    kit = Path(__file__).resolve().parents[2]
    for place in {sys.prefix, sys.exec_prefix}:
        if kit.name != "grader" or not kit.is_relative_to(place):
            paths.append(place)
            continue
        for folder in [Path(place), *kit.relative_to(place).parents]:
            paths += _siblings(Path(place) / folder, kit)
    return paths


def _siblings(folder: Path, kit: Path) -> list[str]:
    """The entries of a folder on the way to the kit, but not the way itself."""
    return [str(entry) for entry in folder.iterdir() if entry != kit and not kit.is_relative_to(entry)]


def landlock_version() -> int:
    """The version of Landlock that the kernel offers; raises OSError where there is none."""
    return _checked(libc.syscall(LANDLOCK_CREATE, None, 0, 1), "landlock")


def restrict_files(readable: list[str], writable: list[str]) -> int:
    """Landlock: nothing but these paths, and, where the kernel can, no TCP and no signals outward."""
    version = landlock_version()
    files = (1 << 13) - 1
    for since, bit in ((2, 13), (3, 14), (5, 15)):
        files |= (version >= since) << bit
    attributes = struct.pack("<QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _checked(libc.syscall(LANDLOCK_CREATE, ctypes.c_char_p(attributes), size, 0), "landlock")
    try:
        for path in readable:
            _allow(rules, path, files & (LANDLOCK_EXECUTE | LANDLOCK_READ_FILE | LANDLOCK_READ_DIR))
        for path in writable:
            _allow(rules, path, files)
        _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
        _checked(libc.syscall(LANDLOCK_RESTRICT, rules, 0), "landlock")
    finally:
        os.close(rules)
    return version


def _allow(rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not on this system: nothing to allow
    try:
        if not os.path.isdir(path):
            access &= LANDLOCK_ON_FILES
        rule = ctypes.c_char_p(struct.pack("<Qi", access, place))
        _checked(libc.syscall(LANDLOCK_ADD, rules, 1, rule, 0), f"landlock {path}")
    finally:
        os.close(place)


def _libseccomp() -> Any:
    """pyseccomp, which asks ldconfig or a compiler where the library is: slow, and neither is in the sandbox."""
    import ctypes.util  # CDLL(None) is the C library of this process

    util: Any = ctypes.util
    find, util.find_library = ctypes.util.find_library, {"seccomp": "libseccomp.so.2"}.get
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        raise OSError(errno.ENOSYS, f"libseccomp: {error}") from None
    finally:
        util.find_library = find
    return pyseccomp


def _system_call_filter() -> Any:
    """The filter, built once; loading it is left to each child."""
    seccomp = _libseccomp()
    built = seccomp.SyscallFilter(seccomp.ALLOW)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in REFUSED:
        try:
            built.add_rule(refuse, name)
        except (OSError, ValueError, RuntimeError):
            continue  # a system call that this architecture or library does not know
    built.add_rule(refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD, 0))
    built.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")  # libc falls back to clone, whose flags can be read
    built.add_rule(refuse, "ioctl", seccomp.Arg(1, seccomp.EQ, 0x5412))  # TIOCSTI types into the terminal
    return built


def filter_system_calls() -> None:
    """seccomp: load the filter, with signals allowed to this process alone."""
    if _filter is None:
        raise OSError(errno.ENOSYS, "the system-call filter was not prepared")
    seccomp = _libseccomp()
    for name in ("kill", "tgkill"):
        _filter.add_rule(seccomp.ERRNO(errno.EPERM), name, seccomp.Arg(0, seccomp.NE, os.getpid()))
    _filter.load()
