"""Names of what a box promises, used in ``Sandbox.probe``, ``Sandbox.exceptions``, ``check_sandbox`` and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PROMISES: Mapping[str, str] = MappingProxyType(
    {
        "starts": "it starts, and a command in it runs",
        "commands": "arguments, directory, environment, stdin, exit status and bytes of output arrive as they were",
        "deadline": "at its deadline a command ends with all that it started, children of setsid included",
        "output cap": "a flood on stdout or stderr is read up to the cap, and ended",
        "background": "what a command leaves in the background delays no result, and is gone when the box is",
        "zombies": "orphans that have ended are reaped",
        "files": "files go in and out to the byte; links, devices and pipes of the box are never followed on the host",
        "no network": "nothing but a loopback of its own: no address, no name, no socket of the host answers",
        "no capabilities": "every set of capabilities is empty, and no new privileges can be had",
        "no host files": "nothing of the host's files but what the box is made of, and that read-only",
        "no host secrets": "no environment variable of ours is visible, neither to a command nor in /proc",
        "no host processes": "no process of the host can be seen or signalled, nor the one that keeps the box alive",
        "processes": "Limits.processes holds, and the next command runs",
        "memory": "Limits.memory_mb holds for all processes together, and the result says oom",
        "cpus": "Limits.cpus holds for all processes together",
        "workspace size": "Limits.workspace_mb and tmp_mb hold; the host's disk does not fill",
        "inodes": "Limits.inodes holds",
        "open files": "Limits.open_files holds",
        "reset": "reset brings back the initial state to the byte, whatever was done",
        "lease": "the box ends by itself when its lease is over",
        "close": "close leaves no process, file or mount",
    }
)
