"""Checks of what a box holds back: network, capabilities, and the host's files, secrets and processes.

Each tries what a hostile command would, bounded, so that a box that holds nothing back does no harm to the host.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from agentgym.check_result import require
from agentgym.checks_sandbox.subject import Subject, say

_CONNECT = "timeout 5 bash -c 'exec 3<>/dev/tcp/{0}/{1}' 2>/dev/null && echo reached {0}"


async def check_no_network(subject: Subject) -> str:
    """No device but a loopback; the host's loopback, its abstract sockets, addresses and names are out of reach."""
    token = f"agentgym-check-{secrets.token_hex(8)}"
    with closing(socket.create_server(("127.0.0.1", 0))) as server, closing(socket.socket(socket.AF_UNIX)) as abstract:
        abstract.bind(f"\0{token}")
        abstract.listen()
        async with subject.box() as box:
            devices = await say(box, "awk -F: 'NR > 2 {print $1}' /proc/net/dev || true")
            require(set(devices.split()) <= {"lo"}, f"there are network devices: {devices.split()}")
            port = server.getsockname()[1]
            tries = [("127.0.0.1", port), ("localhost", port), ("169.254.169.254", 80), ("192.0.2.1", 80)]
            line = "; ".join(_CONNECT.format(*target) for target in tries)
            result = await box.exec(f"{line}; timeout 5 getent hosts example.com && echo a name", timeout_s=30)
            require(b"reached" not in result.stdout and b"a name" not in result.stdout, result.show(max_chars=200))
            require(result.duration_s < 5, f"attempts to connect hung for {result.duration_s:.1f} s")
            require(token not in await say(box, "cat /proc/net/unix"), "abstract sockets of the host are visible")
    return f"5 attempts failed within {result.duration_s:.2f} s"


async def check_no_capabilities(subject: Subject) -> str:
    """Capability sets are empty, privileges cannot grow, and what needs them is refused."""
    async with subject.box() as box:
        status = await say(box, "cat /proc/self/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            require(int(fields[name], 16) == 0, f"{name} is {fields[name]}")
        require(fields["NoNewPrivs"] == "1", "a set-uid program could give privileges (no_new_privs is not set)")
        tries = ["mount -t tmpfs none /tmp", "unshare -U true", 'date -s "@$(date +%s)"', "mknod null c 1 3"]
        for line in tries:
            result = await box.exec(line, timeout_s=20)
            require(result.outcome == "failed", f"{line!r} became {result.outcome}")
    return f"5 empty sets; {len(tries)} attempts refused"


async def check_no_host_files(subject: Subject) -> str:
    """A file in the host's temporary directory cannot be read, and nothing of the system can be written."""
    token = secrets.token_hex(16)
    with tempfile.NamedTemporaryFile("w", prefix="agentgym-check-") as secret:
        secret.write(token)
        secret.flush()
        os.chmod(secret.name, 0o644)
        async with subject.box() as box:
            result = await box.exec(["cat", secret.name], timeout_s=20)
            require(token.encode() not in result.stdout, f"{secret.name} of the host can be read")
            places = "/ /usr /bin /etc /root /home /var /sys /sys/fs/cgroup /proc/sys /proc/sysrq-trigger"
            found = await say(
                box,
                f'for place in {places}; do [ -w "$place" ] && echo "$place"; done; '
                "find /dev -type b; for it in /run/docker.sock /var/run/docker.sock; do [ -e $it ] && echo $it; done; "
                "true",
            )
            require(not found, f"these can be written, or should not be there: {found.split()}")
    return f"{len(places.split())} places of the system cannot be written"


async def check_no_host_secrets(subject: Subject) -> str:
    """A variable of our own environment is not visible in the box."""
    token, name = secrets.token_hex(16), "AGENTGYM_CHECK_SECRET"
    os.environ[name] = token
    try:
        # A process that inherits it shows it in /proc; this one only shows there what it was started with.
        async with _sleeper("inherits"), subject.box() as box:
            result = await box.exec("env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline", timeout_s=20)
            require(token.encode() not in result.stdout, "a variable of our environment is visible in the box")
            count = len((await say(box, "env")).splitlines())
    finally:
        del os.environ[name]
    return f"{count} variables, none of ours"


async def check_no_host_processes(subject: Subject) -> str:
    """Processes of the host are neither seen nor signalled, and the box survives the signals."""
    token = secrets.token_hex(16)
    async with _sleeper(token) as sleeper, subject.box() as box:
        seen = await say(box, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        require(token not in seen, "a process of the host is visible")
        space = (await say(box, "readlink /proc/self/ns/pid")).strip()
        # Only behind this wall are the signals harmless.
        require(space != os.readlink("/proc/self/ns/pid"), "the box numbers its processes together with the host")
        result = await box.exec("kill -9 1; kill -9 -1; sleep 0.2", timeout_s=20)
        require(result.outcome in ("ok", "failed"), f"killing everything became {result.outcome}")
        require(sleeper.returncode is None, "a process of the host was killed")
        await say(box, "true")
    return "not seen; and signals to all processes did not end the box"


@asynccontextmanager
async def _sleeper(token: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(300)", token)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
