"""A hardened container: what it is created with, how it is swept of the agent's processes, and how it is removed."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym.sandbox import WORKSPACE, Limits
from agentgym_sandboxes.cgroup import find_field
from agentgym_sandboxes.docker_engine import DockerError
from agentgym_sandboxes.docker_exec import Calls, Program, run_program
from agentgym_sandboxes.docker_server import CommandServer

# Three users: neither can signal, trace or write to what belongs to another, since none has any capability.
HOLDER = "10000:10000"  # keeps the container alive
AGENT = "10001:10001"  # runs commands
GRADER = "10002:10002"  # runs checks that the agent must not touch
_SHM_MB = 64
_SWEEP_S = 10.0
_SWEEPS = 3
_REMOVE_S = 60.0
_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

# Runs as the user whose processes it ends: kill(-1) reaches all that it may signal, but not itself. The last command is
# the child of the command server or, started by the daemon, has no parent in the container (parent 0): by its start,
# what earlier commands left running is told apart. Prints how many those were, and ends with 0 only when no process of
# the user is left.
SWEEP = r"""
user=$1 server=$2 main= born=()
look() {
  left=0
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    [ "$pid" != $$ ] || continue
    { IFS= read -rd '' status <"$entry/status"; IFS= read -rd '' stat <"$entry/stat"; } 2>/dev/null
    case $status in
      *$'\nState:\tZ'* | *$'\nState:\tX'*) ;;
      *$'\nUid:\t'"$user"$'\t'*)
        left=$((left + 1))
        set -- ${stat##*) }
        born_at=$((${20} * 10000000 + pid))  # its start is in ticks of 10 ms; in one tick, numbers rise
        if [ "$2" = "$server" ]; then main=$born_at; elif [ "$pid" != "$server" ]; then born+=("$born_at"); fi ;;
    esac
    status= stat=
  done
}
look
older=0
for born_at in "${born[@]}"; do
  if [ -z "$main" ] || [ "$born_at" -lt "$main" ]; then older=$((older + 1)); fi
done
echo "$older"
SECONDS=0
while [ "$SECONDS" -lt 5 ]; do  # without sleep, which would be one more process
  kill -9 -1 2>/dev/null
  look
  [ "$left" -gt 0 ] || exit 0
done
exit 1
"""


@dataclass(frozen=True)
class Container:
    """A running container.

    Attributes:
        name: Its name, chosen by us before it was created.
        id: The daemon's id.
        image_id: Id of its image, a digest of its contents.
        oom_counter: File of this host with the count of its processes that the kernel ended for want of memory, or
            ``None`` if the daemon is elsewhere.
        server: What starts the agent's commands in it.
    """

    name: str
    id: str
    image_id: str
    oom_counter: Path | None
    server: CommandServer


def make_name() -> str:
    """Return a new name for a container.

    It is chosen before the container is created, so that it can be removed even if the daemon's answer is lost.
    """
    return f"ag-{uuid.uuid4()}"


def make_settings(api: Any, image_id: str, limits: Limits, lease_s: float, runtime: str | None) -> dict[str, Any]:
    """Return the options of ``docker.APIClient.create_container`` for a box, but for name and labels.

    Docker counts files in ``/workspace``, ``/tmp`` and ``/dev/shm`` as memory: they share ``memory_mb`` with processes.
    The seccomp profile is Docker's default one. Nothing is mounted from the host and no log is written to its disk.
    """
    tmpfs = f"rw,nosuid,nodev,nr_inodes={limits.inodes}"
    host = api.create_host_config(
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        read_only=True,
        init=True,  # reaps what commands orphan
        auto_remove=True,  # see reaper.py
        tmpfs={
            "/tmp": f"{tmpfs},size={limits.tmp_mb}m,mode=1777",
            WORKSPACE: f"{tmpfs},exec,size={limits.workspace_mb}m,mode=755,uid=10001,gid=10001",
        },
        pids_limit=limits.processes,
        mem_limit=f"{limits.memory_mb}m",
        memswap_limit=f"{limits.memory_mb}m",
        nano_cpus=round(limits.cpus * 1e9),
        shm_size=f"{_SHM_MB}m",
        log_config={"type": "none"},
        runtime=runtime,
        ulimits=[
            {"Name": "nofile", "Soft": limits.open_files, "Hard": limits.open_files},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
    )
    # An image's own entry point has no place here: it would run as the holder.
    return {
        "image": image_id,
        "entrypoint": ["sleep"],
        "command": [str(max(1, round(lease_s)))],
        "user": HOLDER,
        "hostname": "box",
        "working_dir": "/",
        "network_disabled": True,
        "host_config": host,
    }


async def start_container(call: Calls, name: str, settings: dict[str, Any], labels: dict[str, str]) -> Container:
    """Create and start a container, and the server of its commands; whoever removes it closes that.

    Raises:
        DockerError: It failed; a container of that name may be left.
    """
    container_id = (await call("create_container", name=name, labels=labels, **settings))["Id"]
    await call("start", container_id)
    pid = (await call("inspect_container", container_id))["State"]["Pid"]
    server = CommandServer(call, container_id, AGENT)
    await server.start()
    return Container(name, container_id, settings["image"], _find_oom_counter(container_id, pid), server)


async def remove_container(call: Calls, name: str) -> None:
    """Remove a container in whatever state it is, and wait until it is gone.

    Raises:
        DockerError: The daemon cannot, or hangs.
    """
    deadline = time.monotonic() + _REMOVE_S
    while True:
        try:
            await call("remove_container", name, force=True, v=True)
        except DockerError as error:
            if error.status == 404:
                return
            # 409 and 500: it is being removed already, since it has ended by itself.
            if error.status is None or time.monotonic() > deadline:
                raise
        try:
            await call("inspect_container", name)
        except DockerError as error:
            if error.status == 404:
                return
            raise
        await asyncio.sleep(0.02)


async def sweep(call: Calls, container: Container, user: str) -> bool:
    """End every process of a user, command server included; say whether some of them were left by earlier commands.

    Raises:
        DockerError: The container is gone, or not all of them can be ended.
    """
    older = await _sweep_from_inside(call, container, user)
    if older is not None:
        return older
    # No process of ours can start beside the agent's, or theirs kill it.
    for _ in range(_SWEEPS):
        await _sweep_from_outside(call, container, user)
        if await _sweep_from_inside(call, container, user) is not None:
            return True
    raise DockerError("the agent's processes cannot be ended")


async def _sweep_from_inside(call: Calls, container: Container, user: str) -> bool | None:
    """Return what :func:`sweep` does, or ``None`` if it did not succeed."""
    server_pid = container.server.pid if user == AGENT else 0
    argv = ["/bin/bash", "-c", SWEEP, "sweep", user.partition(":")[0], str(server_pid)]
    program = Program(argv, user, _PATH, b"", time.monotonic() + _SWEEP_S, 1 << 16)
    ending = await run_program(call, container.id, program)
    return ending.stdout.strip() != b"0" if ending.exit_code == 0 else None


async def _sweep_from_outside(call: Calls, container: Container, user: str) -> None:
    """Freeze the container, and end what is in it from a second one that shares nothing with it but process ids."""
    name = make_name()
    details = await call("inspect_container", container.id)
    host = {
        "PidMode": f"container:{container.id}",
        "NetworkMode": "none",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "AutoRemove": True,
        "LogConfig": {"Type": "none"},
    }
    frozen = await _freeze(call, container)
    try:
        sweeper = await call(
            "create_container",
            container.image_id,
            ["-c", "kill -9 -1"],
            entrypoint=["/bin/bash"],
            user=user,
            name=name,
            labels=details["Config"]["Labels"],
            network_disabled=True,
            host_config=host,
        )
        await call("start", sweeper["Id"])
        await _wait_removed(call, name)
    finally:
        try:
            if frozen:
                await call("unpause", container.id)
        finally:
            await remove_container(call, name)


async def _freeze(call: Calls, container: Container) -> bool:
    """Freeze what would kill the sweeper, and say whether that worked.

    A fork bomb can outrun the freezer of cgroup v1, but not the sweeper's signal.
    """
    try:
        await call("pause", container.id)
    except DockerError as error:
        if error.status in (None, 404):
            raise
        return False
    return True


async def _wait_removed(call: Calls, name: str) -> None:
    try:
        await call("wait", name)
    except DockerError as error:
        if error.status != 404:
            raise


def _find_oom_counter(container_id: str, pid: int) -> Path | None:
    """Find the memory counters of a container, if it runs on this host and this process sees its control groups."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if container_id not in path:  # a process of somebody else: the daemon counts in another namespace
            continue
        root, file = {"memory": ("memory", "memory.oom_control"), "": ("", "memory.events")}.get(controllers, ("", ""))
        counter = Path("/sys/fs/cgroup", root, path.lstrip("/"), file)
        if file and counter.is_file():
            return counter
    return None


async def count_oom_kills(call: Calls, container: Container) -> int:
    """Return how many processes of a container the kernel has ended for want of memory.

    Raises:
        DockerError: Nobody can say: the container is gone.
    """
    if container.oom_counter is not None:
        try:
            return _parse_oom_kills(container.oom_counter.read_text())
        except OSError as error:
            raise DockerError(f"container {container.name} is gone", 404) from error
    # As a user whom the agent cannot reach.
    script = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null"
    program = Program(["/bin/sh", "-c", script], GRADER, _PATH, b"", time.monotonic() + _SWEEP_S, 1 << 16)
    return _parse_oom_kills((await run_program(call, container.id, program)).stdout.decode("ascii", "replace"))


def _parse_oom_kills(text: str) -> int:
    count = find_field(text, "oom_kill")
    if count is None:
        raise DockerError("the container's memory counters cannot be read")
    return count
