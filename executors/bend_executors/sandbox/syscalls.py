"""The filter of system calls that every sandbox loads (seccomp, classic BPF).

Refused with EPERM: memory that no limit counts (memfd, System V shared memory and messages),
sockets that no network namespace holds (vsock, the kernel's ciphers), new namespaces and mounts,
tracing of other processes, kernel keys, kernel programs and modules, and what has brought most
holes (io_uring, userfaultfd). A system call of another architecture ends the process. Numbers:
the kernel's tables for x86-64 and for arm64.
"""

import platform
import struct

EPERM, ENOSYS = 1, 38
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
# AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: those that network namespaces keep apart.
SOCKETS = (1, 2, 10, 16)
# CLONE_NEW*: cgroup, uts, ipc, user, pid, net and mount namespaces (time: clone3 only).
NAMESPACES = 0x7E020000
X32_BIT = 0x40000000
CLONE3 = 435
# io_uring_setup to mount_setattr, memfd_secret: the same on every architecture.
NEWER = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 447)

X86_64 = {
    "architecture": 0xC000003E,
    "clone": 56,
    "socket": 41,
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
    for number in refused:
        steps += [_step(EQUAL, 0, 1, number), _step(RETURN, 0, 0, ERRNO | EPERM)]
    families = [_step(LOAD, 0, 0, FIRST_ARGUMENT_AT)]
    for family in SOCKETS:
        families += [_step(EQUAL, 0, 1, family), _step(RETURN, 0, 0, ALLOW)]
    families.append(_step(RETURN, 0, 0, ERRNO | EPERM))
    steps += [
        _step(EQUAL, 0, len(families), table["socket"]),  # type: ignore[arg-type]
        *families,
        _step(EQUAL, 0, 3, table["clone"]),  # type: ignore[arg-type]
        _step(LOAD, 0, 0, FIRST_ARGUMENT_AT),
        _step(ANY_BIT, 0, 1, NAMESPACES),
        _step(RETURN, 0, 0, ERRNO | EPERM),
        _step(RETURN, 0, 0, ALLOW),
    ]
    return b"".join(steps)


def _step(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    """Return one instruction: its code, two jumps and an operand."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)
