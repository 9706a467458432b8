"""The filter of system calls that every sandbox loads (seccomp, classic BPF).

Refused with EPERM: memory that no limit counts (memfd, anonymous shared mappings, whose pages
stay when all but one of them is unmapped, System V shared memory and messages),
sockets that no network namespace holds (vsock, the kernel's ciphers), new namespaces and mounts,
tracing of other processes, kernel keys, kernel programs and modules, and what has brought most
holes (io_uring, userfaultfd). A wish for larger buffers of a socket, which no limit counts either,
is heard and not fulfilled. A system call of another architecture ends the process. Numbers: the
kernel's tables for x86-64 and for arm64.
"""

import platform
import struct

EPERM, ENOSYS = 1, 38
LOAD, AND, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT, ARGUMENT_BYTES = 0, 4, 16, 8
# AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: those that network namespaces keep apart.
SOCKETS = (1, 2, 10, 16)
# CLONE_NEW*: cgroup, uts, ipc, user, pid, net and mount namespaces (time: clone3 only).
NAMESPACES = 0x7E020000
# MAP_SHARED or MAP_SHARED_VALIDATE with MAP_ANONYMOUS; the mask has MAP_TYPE and MAP_ANONYMOUS.
MAPPING_MASK, SHARED_MEMORY = 0x2F, (0x21, 0x23)
SOL_SOCKET = 1
# SO_SNDBUF, SO_RCVBUF, and both with FORCE.
BUFFER_OPTIONS = (7, 8, 32, 33)
X32_BIT = 0x40000000
CLONE3 = 435
# io_uring_setup to mount_setattr, memfd_secret: the same on every architecture.
NEWER = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 447)

X86_64 = {
    "architecture": 0xC000003E,
    "clone": 56,
    "socket": 41,
    "mmap": 9,
    "setsockopt": 54,
    # ptrace syslog pivot_root chroot acct settimeofday mount umount2 swapon swapoff reboot
    # init_module delete_module quotactl kexec_load add_key request_key keyctl unshare
    # perf_event_open open_by_handle_at setns process_vm_readv process_vm_writev finit_module
    # kexec_file_load bpf userfaultfd memfd_create shmget msgget semget
    "refused": (
        *(101, 103, 155, 161, 163, 164, 165, 166, 167, 168, 169, 175, 176, 179, 246, 248, 249),
        *(250, 272, 298, 304, 308, 310, 311, 313, 320, 321, 323, 319, 29, 68, 64),
    ),
}
ARM64 = {
    "architecture": 0xC00000B7,
    "clone": 220,
    "socket": 198,
    "mmap": 222,
    "setsockopt": 208,
    "refused": (
        *(117, 116, 41, 51, 89, 170, 40, 39, 224, 225, 142, 105, 106, 60, 104, 217, 218),
        *(219, 97, 241, 265, 268, 270, 271, 273, 294, 280, 282, 279, 194, 186, 190),
    ),
}
MACHINES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": ARM64, "arm64": ARM64}


def program(machine: str = "") -> bytes:
    """Return the filter for a machine (default: this one); empty where its numbers are unknown."""
    table = MACHINES.get((machine or platform.machine()).lower())
    if table is None or platform.system() != "Linux":
        return b""
    refused = (*table["refused"], *NEWER)  # type: ignore[misc]
    steps = [
        _step(LOAD, 0, 0, ARCHITECTURE_AT),
        _step(EQUAL, 1, 0, table["architecture"]),  # type: ignore[arg-type]
        _step(RETURN, 0, 0, KILL),
        _step(LOAD, 0, 0, NUMBER_AT),
        _step(AT_LEAST, 0, 1, X32_BIT),
        _step(RETURN, 0, 0, ERRNO | ENOSYS),
        # glibc falls back to clone, whose flags a filter can read.
        _step(EQUAL, 0, 1, CLONE3),
        _step(RETURN, 0, 0, ERRNO | ENOSYS),
    ]
    for one in refused:
        steps += _answer_if(one, ERRNO | EPERM)
    for name, rule in (
        ("socket", _sockets()),
        ("mmap", _mappings()),
        ("setsockopt", _buffers()),
        ("clone", _clones()),
    ):
        number: int = table[name]  # type: ignore[assignment]
        # Each rule ends in an answer, so the number is still loaded where it does not apply.
        steps += [_step(EQUAL, 0, len(rule), number), *rule]
    return b"".join([*steps, _step(RETURN, 0, 0, ALLOW)])


def _sockets() -> list[bytes]:
    families = [step for one in SOCKETS for step in _answer_if(one, ALLOW)]
    return [_argument(0), *families, _step(RETURN, 0, 0, ERRNO | EPERM)]


def _mappings() -> list[bytes]:
    kinds = [step for one in SHARED_MEMORY for step in _answer_if(one, ERRNO | EPERM)]
    return [_argument(3), _step(AND, 0, 0, MAPPING_MASK), *kinds, _step(RETURN, 0, 0, ALLOW)]


def _buffers() -> list[bytes]:
    options = [step for one in BUFFER_OPTIONS for step in _answer_if(one, ERRNO)]
    return [
        _argument(1),
        _step(EQUAL, 1, 0, SOL_SOCKET),
        _step(RETURN, 0, 0, ALLOW),
        _argument(2),
        *options,
        _step(RETURN, 0, 0, ALLOW),
    ]


def _clones() -> list[bytes]:
    return [
        _argument(0),
        _step(ANY_BIT, 0, 1, NAMESPACES),
        _step(RETURN, 0, 0, ERRNO | EPERM),
        _step(RETURN, 0, 0, ALLOW),
    ]


def _argument(number: int) -> bytes:
    """Load the lower half of an argument; both machines keep it first."""
    return _step(LOAD, 0, 0, FIRST_ARGUMENT_AT + number * ARGUMENT_BYTES)


def _answer_if(value: int, answer: int) -> list[bytes]:
    return [_step(EQUAL, 0, 1, value), _step(RETURN, 0, 0, answer)]


def _step(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    """Return one instruction: its code, two jumps and an operand."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)
