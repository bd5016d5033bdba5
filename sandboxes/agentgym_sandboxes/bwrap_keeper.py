"""The process that keeps one bubblewrap box: it holds the box's files and starts its commands.

Run as a script by :mod:`agentgym_sandboxes.bwrap`, with nothing but the standard library. All mounts are made in a
mount namespace of its own, so that the host sees none, and nothing has to be unmounted: when this process ends, and it
ends with its parent however that ended, the kernel removes them. It is a member of the box's control group, and so is
what it starts, from birth: moving a process into a group takes longer than starting bwrap. It reads no output and
judges nothing.

It is root only in a user namespace of its own. There it may mount, and outside it is an unprivileged user: with root's
help (``map``) one that owns nothing, else the user who started it.

Requests come as one packet each, with file descriptors: ``run`` (stdin, stdout, stderr, status, block, options, filter,
go, words, command) and ``reset`` (status). Answers go to the status descriptor; what bwrap writes there follows.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import sys

KEEPER_SCRIPT = __file__
STATUS_FD, BLOCK_FD, OPTIONS_FD, SECCOMP_FD, GO_FD, WORDS_FD = 3, 4, 5, 6, 7, 8
"""Numbers that bwrap, its options and what it starts find their descriptors at."""
ROOT, DEVICES, TOOL = "/root", "/devices", "/tool"
"""What the box sees as ``/`` and ``/dev``, and a bwrap that its user could not reach, as the keeper sees them."""
SHARES = {"workspace": "/workspace", "tmp": "/share", "shm": f"{DEVICES}/shm"}
"""What the box can write, as the keeper sees it; ``/tmp`` itself is where bwrap works."""
_PLACE = "/sys"  # becomes the keeper's root; it is a directory everywhere, and covering it harms nothing
ETC = {
    "passwd": "root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:{uid}:{uid}:agent:/tmp:/bin/bash\n",
    "group": "root:x:0:\nagent:x:{uid}:\n",
    "hosts": "127.0.0.1 localhost agentgym\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
HOST_ETC = ("/etc/alternatives", "/etc/ld.so.cache")

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CLONE_NEWNS, _CLONE_NEWCGROUP, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_SLAVE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x80000
_MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_libc = ctypes.CDLL(None, use_errno=True)


class Keeper:
    """The box's files and commands.

    Args:
        given: Settings by name, as the parent wrote them.
        channel: To the parent.
    """

    def __init__(self, given: dict[str, str], channel: socket.socket) -> None:
        self._given = given
        self._channel = channel

    def build(self) -> None:
        """Make the namespace and all that the box will see."""
        tool_fd = self._enter_namespaces()
        _mount("none", "/", None, _MS_REC | _MS_SLAVE)
        _mount("agentgym", _PLACE, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
        self._build_root(f"{_PLACE}{ROOT}")
        for name in ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc"):  # for bwrap itself
            if os.path.lexists(f"{_PLACE}{ROOT}/{name}"):
                os.symlink(f"{ROOT}/{name}".lstrip("/"), f"{_PLACE}/{name}")
        os.mkdir(f"{_PLACE}/tmp")
        for name in ("proc", "dev"):
            os.mkdir(f"{_PLACE}/{name}")
            _bind(f"/{name}", f"{_PLACE}/{name}")
        if self._given["tool"]:
            os.mkdir(f"{_PLACE}{TOOL}")
            _bind(f"/proc/self/fd/{tool_fd}", f"{_PLACE}{TOOL}")
            os.close(tool_fd)
        _change_root(_PLACE)  # from here on, no mount of the host is left that a mistake could show
        _build_devices()
        for share, path in SHARES.items():
            os.mkdir(path)
            self._mount_share(share)

    def _build_root(self, root: str) -> None:
        for name in ("", "dev", "etc", "proc", "tmp", "usr", "workspace"):
            os.mkdir(f"{root}/{name}")
        _bind("/usr", f"{root}/usr")
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if os.path.islink(f"/{name}"):
                os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
            elif os.path.isdir(f"/{name}"):
                os.mkdir(f"{root}/{name}")
                _bind(f"/{name}", f"{root}/{name}")
        for name, text in ETC.items():
            with open(f"{root}/etc/{name}", "w") as file:
                file.write(text.format(uid=self._given["uid"]))
        for path in HOST_ETC:
            if os.path.isdir(path):
                os.mkdir(f"{root}{path}")
                _bind(path, f"{root}{path}")
            elif os.path.isfile(path):
                with open(f"{root}{path}", "w"):
                    pass
                _bind(path, f"{root}{path}")

    def reset(self) -> None:
        """Replace what commands could write by what it was at first."""
        for share, path in SHARES.items():
            _check(_libc.umount2(path.encode(), _MNT_DETACH), "umount")
            self._mount_share(share)
        _check(_libc.unshare(_CLONE_NEWIPC), "unshare")  # segments of shared memory outlive the commands that made them

    def run(self, fds: list[int]) -> None:
        """Start bwrap; what fails is said on the status descriptor."""
        argv = os.pread(fds[-1], os.fstat(fds[-1]).st_size, 0).split(b"\0")
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds[:-1])]
        try:
            os.posix_spawn(argv[0], argv, {}, file_actions=actions, setsid=True)  # unlike fork, it copies no memory
        except OSError as error:
            _answer(fds[STATUS_FD], f"error {error.errno} {error}")

    def _mount_share(self, share: str) -> None:
        size, inodes, mode = self._given[f"{share}_bytes"], self._given["inodes"], "1777" if share == "shm" else "755"
        options = f"size={size},nr_inodes={inodes},mode={mode}"
        _mount("agentgym", SHARES[share], "tmpfs", _MS_NOSUID | _MS_NODEV, options)

    def _enter_namespaces(self) -> int:
        """Enter what all commands of the box share: a fresh network for each would cost as much as all the rest.

        Returns:
            The directory of bwrap, opened while we are still the user who started us: it can be in a home of root's.
        """
        uid, gid = os.getuid(), os.getgid()
        kinds = _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS | _CLONE_NEWCGROUP
        _check(_libc.unshare(kinds), "unshare")
        tool_fd = os.open(self._given["tool"], os.O_PATH) if self._given["tool"] else -1
        if uid == 0:
            self._channel.send(b"map")
            if self._channel.recv(64) != b"mapped":
                raise OSError("nobody mapped the users")
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        else:
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"0 {uid} 1")
            _write("/proc/self/gid_map", f"0 {gid} 1")
        socket.sethostname("agentgym")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        return tool_fd


def _change_root(place: str) -> None:
    """Make a directory the root, and detach all other mounts (``pivot_root(".", ".")`` of the manual page)."""
    os.chdir(place)
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount of the host's root")
    os.chdir("/")


def _build_devices() -> None:
    """Make once what ``bwrap --dev`` would make for each command, which takes it a quarter of its time."""
    for name in ("", "pts"):
        os.mkdir(f"{DEVICES}/{name}")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        with open(f"{DEVICES}/{name}", "w"):
            pass
        _bind(f"/dev/{name}", f"{DEVICES}/{name}")
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        os.symlink(f"/proc/self/fd/{number}", f"{DEVICES}/{name}")
    os.symlink("/proc/self/fd", f"{DEVICES}/fd")
    os.symlink("pts/ptmx", f"{DEVICES}/ptmx")
    _mount("devpts", f"{DEVICES}/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    os.chmod(f"{DEVICES}/pts", 0o555)


def _bind(source: str, target: str) -> None:
    _mount(source, target, None, _MS_BIND | _MS_REC)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            options.encode() or None,
        ),
        f"mount on {target}",
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _answer(fd: int, text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked has gone
        os.write(fd, text.encode() + b"\n")


def _reap(*_: object) -> None:
    """Take the status of whatever has ended: bwrap, and what it left behind, which comes to us as its subreaper."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    data, ancillary, _, _ = channel.recvmsg(64, socket.CMSG_SPACE(16 * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for _, _, packed in ancillary:
        fds.frombytes(packed)
    return data, list(fds)


def main() -> None:
    """Keep a box until the parent, or the lease, ends."""
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    channel = socket.socket(fileno=int(given["channel_fd"]))
    channel.set_inheritable(False)
    while os.open(os.devnull, os.O_RDONLY) < WORDS_FD:
        continue  # so that no descriptor that we get has a number that a command is to have
    try:
        for path in filter(None, given["member_files"].split("\n")):
            _write(path, "0")
        keeper = Keeper(given, channel)
        keeper.build()
    except OSError as error:
        channel.send(f"error {error}".encode())
        return
    for kind, value in (("CORE", "0"), ("NOFILE", given["open_files"]), ("FSIZE", given["file_bytes"])):
        _limit(getattr(resource, f"RLIMIT_{kind}"), int(value))
    signal.signal(signal.SIGCHLD, _reap)
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1), "prctl")
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)), "prctl")
    signal.setitimer(signal.ITIMER_REAL, float(given["lease_s"]))  # SIGALRM ends us, and with us the box
    channel.send(b"ready")
    while True:
        data, fds = _receive(channel)
        if not data:
            return
        if data == b"run":
            keeper.run(fds)
        else:
            try:
                keeper.reset()
                _answer(fds[0], "done")
            except OSError as error:
                _answer(fds[0], f"error {error.errno} {error}")
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main()
