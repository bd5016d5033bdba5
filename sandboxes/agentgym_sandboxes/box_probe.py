"""What a box holds on this host, docker's or bwrap's, found by trying each promise in a small one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from agentgym.errors import AgentGymError
from agentgym.sandbox import Limits, Probe, SandboxSpec

if TYPE_CHECKING:
    from agentgym_sandboxes.bwrap import BwrapSandbox
    from agentgym_sandboxes.docker import DockerSandbox

    Box: TypeAlias = DockerSandbox | BwrapSandbox

_LIMITS = Limits(
    cpus=0.5, memory_mb=128, processes=32, workspace_mb=8, tmp_mb=8, inodes=200, open_files=64, output_bytes=4096
)
_COMMAND_S = 30.0

# Each ends with 0 if the promise holds, and prints what it saw if not.
_SCRIPTS = {
    "no network": r"""
        [ "$(grep -c : /proc/net/dev)" = 1 ] || { echo "a network device"; cat /proc/net/dev; exit 1; }
        [ "$(wc -l </proc/net/route)" -le 1 ] || { echo "a route"; exit 1; }
        [ "$(wc -l </proc/net/unix)" = 1 ] || { echo "a socket of the host"; exit 1; }
        for socket in /run/docker.sock /var/run/docker.sock; do
          [ ! -e "$socket" ] || { echo "the docker daemon's socket"; exit 1; }
        done
        ! timeout 2 bash -c '</dev/tcp/192.0.2.1/80' 2>/dev/null || { echo "a connection"; exit 1; }
    """,
    "no capabilities": r"""
        grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -s '\t\n' ' '
        [ "$(awk '/^Cap/ && $2 !~ /^0+$/' /proc/self/status)" = "" ] || exit 1
        grep -q '^NoNewPrivs:.1$' /proc/self/status && grep -q '^Seccomp:.2$' /proc/self/status || exit 1
        ! unshare -Ur true 2>/dev/null || { echo "a user namespace can be made"; exit 1; }
    """,
    "no host files": r"""
        awk '$2 == "/" {root = substr($4, 1, 3)} END {exit root != "ro,"}' /proc/mounts || { echo "/ is rw"; exit 1; }
        ! (>/usr/written) 2>/dev/null && ! (>/etc/hosts) 2>/dev/null || { echo "a file was written"; exit 1; }
    """,
    "no host secrets": r"""
        [ "$(cat /proc/1/environ 2>/dev/null | tr -d '\0')" = "" ] || { echo "an environment"; exit 1; }
        [ "$(env | cut -d= -f1 | sort | tr '\n' ' ')" = "HOME HOSTNAME LANG PATH PWD SHLVL _ " ] || { env; exit 1; }
    """,
    "no host processes": r"""
        others=$(ls /proc | grep -c '^[0-9]')
        [ "$others" -lt 12 ] || { echo "$others processes"; exit 1; }
        # Refused, or ignored: the kernel shields the first process of a PID namespace from those within.
        ! kill -9 1 2>/dev/null || { sleep 0.2; [ -e /proc/1 ]; } || exit 1
        ! date -s '2001-01-01' >/dev/null 2>&1 || { echo "the clock can be set"; exit 1; }
    """,
    "processes": r"""
        for turn in {1..40}; do sleep 3 & done 2>/dev/null
        [ "$(ls /proc | grep -c '^[0-9]')" -le 32 ] || exit 1
    """,
    "workspace size": r"""
        for place in /workspace /tmp; do
          ! head -c 16M /dev/zero 2>/dev/null >$place/full || { echo "16 MB fit into $place"; exit 1; }
          [ "$(stat -c %s $place/full)" -le $((8 << 20)) ] || exit 1
          rm $place/full
        done
    """,
    "inodes": r"for n in {1..400}; do (>f$n) 2>/dev/null || { rm -f f*; exit 0; }; done; echo 400 files; exit 1",
    "open files": r"""
        for n in {10..200}; do { eval "exec $n</dev/null"; } 2>/dev/null || exit 0; done; ulimit -n; exit 1
    """,
    "zombies": r"""
        orphan=$(bash -c 'sleep 0.1 >/dev/null & echo $!'); sleep 0.6; [ ! -e /proc/$orphan ]
    """,
}


async def probe(kind: type[Box]) -> list[Probe]:
    """Try what boxes of this kind promise on this host; see :meth:`agentgym.sandbox.Sandbox.probe`."""
    try:
        async with kind(SandboxSpec(limits=_LIMITS, lease_s=300)) as box:
            result = await box.exec("echo started", timeout_s=_COMMAND_S)
            found = [Probe("starts", result.stdout == b"started\n", result.show() or result.outcome)]
            for promise, script in _SCRIPTS.items():
                result = await box.exec(script, timeout_s=_COMMAND_S)
                found.append(Probe(promise, result.exit_code == 0, " ".join(result.show(max_chars=400).split())))
            for promise, attempt in _ATTEMPTS.items():
                found.append(await _try(promise, attempt, box))
        found.append(await _try("lease", _outlive_lease, kind(SandboxSpec(limits=_LIMITS, lease_s=1))))
        return found
    except AgentGymError as error:
        return [Probe("starts", False, str(error))]


async def _try(promise: str, attempt: Callable[[Box], Awaitable[str]], box: Box) -> Probe:
    """Make an attempt, which says what was wrong."""
    wrong = await attempt(box)
    return Probe(promise, not wrong, wrong)


async def _exceed_deadline(box: Box) -> str:
    result = await box.exec("setsid sleep 98765 & trap '' TERM; sleep 98765; sleep 98765", timeout_s=0.5)
    # The brackets keep it from finding itself.
    left = await box.exec("grep -lz '9876[5]' /proc/[0-9]*/cmdline 2>/dev/null", timeout_s=_COMMAND_S)
    return "" if result.timed_out and not left.stdout else f"{result.outcome}, left: {left.show(max_chars=200)}"


async def _flood(box: Box) -> str:
    result = await box.exec("yes", timeout_s=_COMMAND_S)
    return "" if result.truncated and len(result.stdout) == _LIMITS.output_bytes else f"{len(result.stdout)} bytes read"


async def _leave_behind(box: Box) -> str:
    started = time.monotonic()
    await box.exec("sleep 20 & echo", timeout_s=_COMMAND_S)
    took_s = time.monotonic() - started
    return "" if took_s < 10 else f"the result took {took_s:.1f} s"


async def _exceed_memory(box: Box) -> str:
    result = await box.exec("head -c 1G /dev/zero | tail >/dev/null; exit 1", timeout_s=_COMMAND_S)
    return "" if result.oom else f"1 GB taken: {result.outcome}"


async def _exceed_cpus(box: Box) -> str:
    script = "for n in 1 2; do timeout 2 bash -c 'while :; do :; done' & done; wait; times >t; tail -n 1 t"
    started = time.monotonic()
    result = await box.exec(script, timeout_s=_COMMAND_S)
    elapsed_s = time.monotonic() - started
    spent = [float(minutes) * 60 + float(seconds[:-1]) for minutes, _, seconds in _split_times(result.stdout)]
    share = sum(spent) / elapsed_s
    return "" if 0 < share < 1.2 * _LIMITS.cpus else f"{share:.2f} cores used"


def _split_times(output: bytes) -> list[tuple[str, str, str]]:
    return [word.partition("m") for word in output.decode("ascii", "replace").split()]


async def _vandalise(box: Box) -> str:
    await box.exec("touch a /tmp/b /dev/shm/c; chmod 000 /workspace; sleep 98766 & ", timeout_s=_COMMAND_S)
    await box.reset()
    look = "find /workspace /tmp /dev/shm -mindepth 1; stat -c %a /workspace"
    result = await box.exec(look, timeout_s=_COMMAND_S)
    return "" if result.stdout == b"755\n" else result.show(max_chars=200)


async def _outlive_lease(box: Box) -> str:
    try:
        await box.start()
        for _ in range(100):
            if not await box.is_running():
                return ""
            await asyncio.sleep(0.1)
        return "it ran for 10 s more than its lease"
    finally:
        await box.close()


_ATTEMPTS: dict[str, Callable[[Box], Awaitable[str]]] = {
    "deadline": _exceed_deadline,
    "output cap": _flood,
    "background": _leave_behind,
    "memory": _exceed_memory,
    "cpus": _exceed_cpus,
    "reset": _vandalise,
}
