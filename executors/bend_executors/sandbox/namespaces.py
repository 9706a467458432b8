"""The second way into a sandbox, without bubblewrap: namespaces by the kernel's own calls.

Started as `python -I -S -c <this text> SETTINGS COMMAND…`. SETTINGS is JSON: `read` and `write`
(folders that are seen, at their own place), `network` (keep the machine's), `scratch_bytes` (of
each folder that may be written). Root makes the namespaces as it is; anybody else needs
unprivileged user namespaces. The command is pid 2; when it ends, or when the starter goes, all
that it started is killed with its pid namespace.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

NEW_MOUNTS, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEW_USER, NEW_PIDS, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, REMOUNT, BIND = 1, 2, 4, 32, 4096
RECURSIVE, PRIVATE, DETACH = 16384, 1 << 18, 2
PR_SET_PDEATHSIG = 1
INSIDE_ID = 65534
# Inside → outside. Both read as zeros, but shared mappings of the machine's zero would be memory
# that nothing counts.
DEVICES = {name: name for name in ("null", "full", "random", "urandom")} | {"zero": "full"}
# What a bind mount had, it must keep when it becomes read-only (the kernel's flags and statvfs').
KEPT = {1: READ_ONLY, 2: NO_SUID, 4: NO_DEVICES, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
LINKS = {"fd": "/proc/self/fd"}
LINKS |= {"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}

libc = ctypes.CDLL(None, use_errno=True)


def must(answer: int, what: str) -> None:
    """Raise OSError for a call that failed."""
    if answer:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount. Raises OSError."""
    must(
        libc.mount(
            source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
        ),
        f"mount {target}",
    )


def enter(network: bool) -> None:
    """Make the namespaces; a user namespace only for those who are not root."""
    flags = NEW_MOUNTS | NEW_CGROUP | NEW_UTS | NEW_IPC | NEW_PIDS
    flags |= 0 if network else NEW_NETWORK
    uid, gid = os.getuid(), os.getgid()
    if uid:
        flags |= NEW_USER
    must(libc.unshare(flags), "unshare")
    if uid:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{INSIDE_ID} {uid} 1"),
            ("gid_map", f"{INSIDE_ID} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def furnish(settings: dict[str, Any]) -> None:
    """Build a root of its own and move into it."""
    root = "/tmp"  # noqa: S108 - only a place to mount at, in a mount namespace of its own
    scratch = f"size={settings['scratch_bytes']},mode=1777"
    mount("", "/", "", RECURSIVE | PRIVATE)
    # A first move, so that the machine's root stands at /old while /new is furnished from it.
    mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEVICES, "size=1m,mode=755")
    os.makedirs(f"{root}/old")
    os.makedirs(f"{root}/new")
    mount("tmpfs", f"{root}/new", "tmpfs", NO_SUID, "size=1m,mode=755")
    must(libc.syscall(_pivot(), root.encode(), f"{root}/old".encode()), "pivot_root")
    os.chdir("/old")
    for place in ("/tmp", "/scratch", "/dev/shm"):  # noqa: S108 - in the new root
        os.makedirs(f"/new{place}", exist_ok=True)
        mount("tmpfs", f"/new{place}", "tmpfs", NO_SUID | NO_DEVICES, scratch)
    for source in settings["read"]:
        show(source, writable=False)
    for source in settings["write"]:
        show(source, writable=True)
    for name, source in DEVICES.items():
        show(f"/dev/{source}", writable=True, place=f"/dev/{name}")
    for link, target in LINKS.items():
        os.symlink(target, f"/new/dev/{link}")
    os.makedirs("/new/proc", exist_ok=True)
    mount("proc", "/new/proc", "proc", NO_SUID | NO_DEVICES | 8)
    must(libc.umount2(b"/old", DETACH), "umount")
    os.chdir("/new")
    must(libc.syscall(_pivot(), b".", b"."), "pivot_root")
    must(libc.umount2(b".", DETACH), "umount")
    mount("", "/", "", BIND | REMOUNT | READ_ONLY | NO_SUID)
    os.chdir("/scratch")


def show(source: str, *, writable: bool, place: str = "") -> None:
    """Show what lies at `/old<source>` at `/new<place>`, by default its own place."""
    old, target = f"/old{source}", f"/new{place or source}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(old):
        if not os.path.lexists(target):
            os.symlink(os.readlink(old), target)
        return
    if os.path.isdir(old):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(old, target, "", BIND)
    had = os.statvfs(target).f_flag
    flags = BIND | REMOUNT | NO_SUID | (0 if writable else READ_ONLY)
    for seen, kept in KEPT.items():
        flags |= kept if had & seen else 0
    mount("", target, "", flags)


def _pivot() -> int:
    return 41 if os.uname().machine in ("aarch64", "arm64") else 155


def follow(child: int) -> int:
    """Wait for a child, taking those that nobody waits for; return its exit code."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def close(descriptors: list[int]) -> None:
    """Close them; one is that of the listing that found them, and closed already."""
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            pass


def die_with_starter() -> None:
    """Ask the kernel for SIGKILL when the process that started this one goes."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Build the sandbox and run the command in it."""
    settings = json.loads(sys.argv[1])
    command = sys.argv[2:]
    die_with_starter()
    try:
        os.setsid()
    except OSError:
        pass
    # The component's own numbers may be high. Later the root, and /proc with it, is another one.
    held = sorted(map(int, os.listdir("/proc/self/fd")))
    enter(settings["network"])
    first = os.fork()
    if first:
        close([descriptor for descriptor in held if descriptor > 2])
        os._exit(follow(first))
    # From here on pid 1 of the new namespace: its end is the end of all in it.
    die_with_starter()
    try:
        furnish(settings)
        second = os.fork()
        if not second:
            os.execve(command[0], command, dict(os.environ))  # noqa: S606 - by intention
    except OSError as error:
        os.write(2, f"sandbox: {error}\n".encode())
        os._exit(1)
    # What only the command needs: a pipe's reader waits until its last holder has closed it.
    close(held)
    os._exit(follow(second))


if __name__ == "__main__":
    main()
