"""Run by Playwright in place of Chromium: enters the box, hands out a listening socket there, becomes Chromium.

It has the standard library only (``python -I -S``). Playwright talks to Chromium over the descriptors 3 and 4, which
pass through ``execv`` and bubblewrap. The caller writes ``launch.json`` and listens on ``launch.sock``, both in one
directory. Before it becomes Chromium, it waits for the caller's answer, so that the caller can take hold of its pid.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # linux/prctl.h
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h

libc = ctypes.CDLL(None, use_errno=True)


def main(directory: str, arguments: list[str]) -> None:
    """Start Chromium with the arguments, as ``launch.json`` in the directory says."""
    with open(f"{directory}/launch.json") as file:
        plan = json.load(file)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(f"{directory}/launch.sock")
        try:
            profile = next(text.partition("=")[2] for text in arguments if text.startswith("--user-data-dir="))
            command, listeners = _prepare(plan, profile)
            arguments = [text for text in arguments if not text.startswith("--user-data-dir=")]
            report = {"profile": profile, "driver": os.getppid()}
        except OSError as error:
            command, listeners, report = [], [], {"error": str(error)}
        socket.send_fds(caller, [json.dumps(report).encode()], [listener.fileno() for listener in listeners])
        for listener in listeners:
            listener.close()
        if caller.recv(1) and command:
            os.execv(command[0], [*command, *arguments])


def _prepare(plan: dict[str, Any], profile: str) -> tuple[list[str], list[socket.socket]]:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getuid() == 0:
        if not plan["bwrap"]:
            os.chown(profile, plan["uid"], plan["uid"])
        os.setgroups([])
        os.setresgid(plan["uid"], plan["uid"], plan["uid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    if plan["bwrap"]:
        return [*_box(plan), "--user-data-dir=/tmp/profile"], [_enter_network(plan["port"])]
    command = [plan["chromium"], f"--user-data-dir={profile}"]
    return (command if _has_user_namespaces() else [*command, "--no-sandbox"]), []


def _enter_network(port: int) -> socket.socket:
    """Go into a network that holds a loopback and nothing else, and listen on all of its addresses."""
    uid, gid = os.getuid(), os.getgid()
    _call("prctl", PR_SET_DUMPABLE, 1)  # after a change of uid, /proc/self belongs to root until this
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("0.0.0.0", port))
    listener.listen(128)
    return listener


def _box(plan: dict[str, Any]) -> list[str]:
    """Return bubblewrap's command: only what Chromium is made of, read-only, and room in memory."""
    room = str(plan["disk_mb"] << 20)
    binds = [text for path in plan["read_only"] for text in ("--ro-bind-try", path, path)]
    links = [text for name in ("bin", "lib", "lib64") for text in _link_or_bind(name)]
    # No --disable-userns: Chromium's own sandbox, which holds back its renderers, is made of user namespaces.
    return [
        *(plan["bwrap"], "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "box", "--clearenv"),
        *("--setenv", "HOME", "/tmp", "--setenv", "PATH", "/usr/bin", "--setenv", "LANG", "C.UTF-8"),
        *("--ro-bind", "/usr", "/usr", *links, *binds, "--proc", "/proc", "--dev", "/dev"),
        *("--size", room, "--tmpfs", "/dev/shm", "--size", room, "--tmpfs", "/tmp", "--chdir", "/", plan["chromium"]),
    ]


def _link_or_bind(name: str) -> list[str]:
    path = f"/{name}"
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind-try", path, path]


def _has_user_namespaces() -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.unshare(CLONE_NEWUSER) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def _call(name: str, *arguments: int) -> None:
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
