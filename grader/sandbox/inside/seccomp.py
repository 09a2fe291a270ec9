"""The system calls that a learner's code is refused, as a filter for the kernel. Built by libseccomp."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from typing import Any

from .kernel import prctl

# Refused with EPERM whatever the arguments. Landlock knows nothing of metadata (chmod to utimensat), nor before its
# version 3 of truncation, nor of named Unix sockets, behind which a session bus starts programs for whoever asks.
REFUSED = """
    fork vfork execve execveat socket connect bind listen
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_open pidfd_getfd
    pidfd_send_signal setpriority ioprio_set migrate_pages move_pages
    chmod fchmod fchmodat chown fchown lchown fchownat setxattr lsetxattr fsetxattr removexattr lremovexattr
    fremovexattr utime utimes futimesat utimensat truncate inotify_init inotify_init1 fanotify_init
    mount umount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
    setns unshare open_by_handle_at name_to_handle_at quotactl quotactl_fd swapon swapoff
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl
    shmget msgget semget mq_open memfd_create memfd_secret
    kexec_load kexec_file_load init_module finit_module delete_module reboot acct syslog personality modify_ldt
    iopl ioperm vm86 vhangup settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname
"""
NEWER = (452, 463, 466, 467, 469)  # fchmodat2, setxattrat, removexattrat, open_tree_attr, file_setattr; everywhere
ABSENT = ("clone3", "openat2")  # their flags lie in memory; libc falls back to calls whose flags can be checked
OWN_PID = 0x5EE1F00D  # stands for the child's PID in the prepared filter
ANY = 0xFFFFFFFF  # the kernel reads these arguments as 32 bits: comparing 64 could be evaded by setting upper ones

# Refused when an argument: is not equal to (calls, which argument, value) ...
UNLESS = (
    ("prlimit64 sched_setaffinity sched_setscheduler sched_setparam sched_setattr", 0, 0),  # itself
    ("kill tgkill tkill rt_sigqueueinfo rt_tgsigqueueinfo", 0, OWN_PID),
)
# ... or, under a mask, is equal to (calls, which argument, mask, values)
IF = (
    ("clone", 0, 0x10000, (0,)),  # CLONE_THREAD: threads only
    ("socketpair", 1, 0xF, (2, 3)),  # datagrams, which may be sent to any named socket
    ("open", 1, os.O_TRUNC | os.O_ACCMODE, (os.O_TRUNC,)),  # truncates what Landlock lets it read
    ("openat", 2, os.O_TRUNC | os.O_ACCMODE, (os.O_TRUNC,)),
    ("fcntl", 1, ANY, (8, 10, 15)),  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals to others by way of a file
    ("ioctl", 1, ANY, (0x5412, 0x541C, 0x8901, 0x8902)),  # TIOCSTI, TIOCLINUX; FIOSETOWN, SIOCSPGRP
    ("prctl", 0, ANY, (1, 4)),  # PR_SET_PDEATHSIG, PR_SET_DUMPABLE
)


def libseccomp() -> Any:
    """pyseccomp asks ldconfig or a compiler where its library is; here the loader finds it, in a tenth of the time."""
    import ctypes.util

    find = ctypes.util.find_library
    ctypes.util.find_library = lambda name: "libseccomp.so.2" if name == "seccomp" else None  # None: the C library
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise OSError(errno.ENOSYS, f"libseccomp: {error}") from None
    finally:
        ctypes.util.find_library = find
    return pyseccomp


def build() -> bytes:
    """The filter as a program for the kernel, where OWN_PID stands for the PID. Raises OSError without libseccomp."""
    library = libseccomp()
    built = library.SyscallFilter(library.ALLOW)
    built.set_attr(library.Attr.ACT_BADARCH, library.KILL_PROCESS)

    def refuse(names: Iterable[str | int], *conditions: Any, code: int = errno.EPERM) -> None:
        for name in names:
            number = library.resolve_syscall(library.Arch.NATIVE, name) if isinstance(name, str) else name
            if number != -1:  # -1: a call that this library does not know
                built.add_rule(library.ERRNO(code), number, *conditions)

    refuse([*REFUSED.split(), *NEWER])
    refuse(ABSENT, code=errno.ENOSYS)
    for names, argument, value in UNLESS:
        refuse(names.split(), library.Arg(argument, library.NE, value))
    for names, argument, mask, values in IF:
        for value in values:
            refuse(names.split(), library.Arg(argument, library.MASKED_EQ, mask, value))
    with open(os.memfd_create("filter"), "w+b") as file:
        built.export_bpf(file)
        file.seek(0)
        return file.read()


def load(program: bytes) -> None:
    """Load a built filter, with this process as the only one it may signal."""
    steps = struct.Struct("=HBBI")
    jump_if_equal = 0x15
    program = b"".join(
        steps.pack(code, yes, no, os.getpid() if (code, value) == (jump_if_equal, OWN_PID) else value)
        for code, yes, no, value in steps.iter_unpack(program)
    )
    memory = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // steps.size, ctypes.addressof(memory)))
    prctl("PR_SET_NO_NEW_PRIVS", 38, 1)
    prctl("seccomp", 22, 2, ctypes.addressof(header))
