"""The filter of system calls of a box: classic BPF, made without a compiler or a library.

It refuses by a list, and all that is newer than the list: what could reach other processes, other namespaces, the
kernel's keys and programs, its clock, or the host by a socket. The box has no capabilities, so most of it would fail
anyway; what is refused here cannot reach the kernel's code at all. Numbers: ``asm/unistd_64.h`` and
``asm-generic/unistd.h`` of Linux 6.18. Other ABIs of the same processor (i386, x32, arm) are not let in.
"""

from __future__ import annotations

import errno
import functools
import platform
import socket
import struct
from collections.abc import Mapping

# name: (x86_64, aarch64); None: the architecture has no such call
_REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
# Refused as if the kernel did not know them, so that programs take the older way that they have.
_UNKNOWN: Mapping[str, tuple[int, int]] = {
    "clone3": (435, 435),  # its flags lie in memory, where no filter can see them
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
_CLONE, _SOCKET = (56, 220), (41, 198)
_LAST_KNOWN = 469
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_AF_NETLINK, _NETLINK_ROUTE = 16, 0

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH of linux/audit.h
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data; both machines are little-endian
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

_Instruction = tuple[int, int, int, int]


@functools.cache
def make_filter(machine: str | None = None) -> bytes:
    """Return the filter as ``bwrap --seccomp`` reads it.

    Args:
        machine: ``x86_64`` or ``aarch64``; ``None`` is this one.

    Raises:
        KeyError: There is no list for this machine.
    """
    column, arch = _MACHINES[machine or platform.machine()]
    program: list[_Instruction] = [(_LOAD, 0, 0, _ARCH_AT), (_JUMP_EQUAL, 1, 0, arch), _end(_KILL)]
    program += [(_LOAD, 0, 0, _NUMBER_AT), (_JUMP_ABOVE, 0, 1, _LAST_KNOWN), _refuse(errno.ENOSYS)]
    for numbers in _UNKNOWN.values():
        program += [(_JUMP_EQUAL, 0, 1, numbers[column]), _refuse(errno.ENOSYS)]
    for numbers_or_none in _REFUSED.values():
        number = numbers_or_none[column]
        if number is not None:
            program += [(_JUMP_EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    program += _clone_rules(_CLONE[column]) + _socket_rules(_SOCKET[column]) + [_end(_ALLOW)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _clone_rules(number: int) -> list[_Instruction]:
    """Let processes and threads be made, and no namespaces."""
    return [
        (_JUMP_EQUAL, 0, 4, number),
        _load_argument(0),
        (_JUMP_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        _refuse(errno.EPERM),
        _end(_ALLOW),
    ]


def _socket_rules(number: int) -> list[_Instruction]:
    """Let sockets of the internet and of routing be made: the box's own network has only a loopback.

    A socket of the host in a file system would not be held back by that, so there is no ``AF_UNIX``; ``socketpair``,
    which reaches nobody, is another call. Routing is what ``getaddrinfo`` and ``getifaddrs`` ask.
    """
    return [
        (_JUMP_EQUAL, 0, 8, number),
        _load_argument(0),
        (_JUMP_EQUAL, 5, 0, int(socket.AF_INET)),
        (_JUMP_EQUAL, 4, 0, int(socket.AF_INET6)),
        (_JUMP_EQUAL, 0, 2, _AF_NETLINK),
        _load_argument(2),
        (_JUMP_EQUAL, 1, 0, _NETLINK_ROUTE),
        _refuse(errno.EAFNOSUPPORT),
        _end(_ALLOW),
    ]


def _load_argument(index: int) -> _Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)  # the lower half: these arguments are ints


def _refuse(number: int) -> _Instruction:
    return _end(_ERRNO | number)


def _end(action: int) -> _Instruction:
    return (_RETURN, 0, 0, action)
