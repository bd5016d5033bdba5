"""Checks of the limits: each asks for a small one, and then for a bounded amount more than it."""

from __future__ import annotations

from agentgym.check_result import require
from agentgym.checks_sandbox.subject import Subject, say

_FILL = "head -c 32M /dev/zero >{0}/fill; stat --format=%s {0}/fill; rm {0}/fill"


async def check_processes(subject: Subject) -> str:
    """More processes than the limit do not start, and the next command runs."""
    limit = 40
    async with subject.box(processes=limit) as box:
        line = "for i in $(seq 120); do (: >p$i; exec sleep 100) & done; wait"
        result = await box.exec(line, timeout_s=4)
        require(result.outcome != "ok", "120 processes ran at a limit of 40")
        count = int(await say(box, "ls | wc -l"))
        require(0 < count <= limit, f"{count} processes ran at once at a limit of {limit}")
    return f"{count} of 120 ran at a limit of {limit}"


async def check_memory(subject: Subject) -> str:
    """Memory of one process and of several together is limited, the result says so, and the next command runs."""
    one = "head -c {0}M /dev/zero | tail >/dev/null"
    async with subject.box(memory_mb=128) as box:
        # "&" within the line: the shell itself goes on, and only the counters of the box know.
        for line in (one.format(400), f"({one.format(90)}) & ({one.format(90)}) & ({one.format(90)}) & wait"):
            result = await box.exec(line, timeout_s=60)
            require(result.outcome == "oom", f"{line!r} at a limit of 128 MB became {result.outcome}")
            await say(box, "true")
        await say(box, one.format(20))
    return "400 MB, and 3 times 90 MB, at a limit of 128 MB"


async def check_cpus(subject: Subject) -> str:
    """Two loops get no more processor time together than the limit."""
    async with subject.box(cpus=0.5) as box:
        line = "for i in 1 2; do timeout 2 sh -c 'while :; do :; done' & done; wait; times >t; tail -n 1 t | tr ms '  '"
        user_min, user_s, system_min, system_s = map(float, (await say(box, line)).split())
        used_s = 60 * (user_min + system_min) + user_s + system_s
        require(0 < used_s < 1.7, f"two loops got {used_s:.1f} s of processor time in 2 s at half a processor")
    return f"two loops got {used_s:.2f} s in 2 s at half a processor"


async def check_workspace_size(subject: Subject) -> str:
    """Neither directory takes more than its limit, and the next command runs."""
    async with subject.box(workspace_mb=8, tmp_mb=8) as box:
        for place in ("/workspace", "/tmp"):
            result = await box.exec(_FILL.format(place), timeout_s=60)
            size = int(result.stdout)
            require(0 < size <= 8 << 20, f"{size} bytes went into {place} at a limit of 8 MB")
        await box.write_file("after", b"x")
    return "8 of 32 MB went in"


async def check_inodes(subject: Subject) -> str:
    """No more files than the limit."""
    async with subject.box(inodes=300) as box:
        for place in ("/workspace", "/tmp"):
            line = f"mkdir {place}/many; cd {place}/many; for i in $(seq 1000); do : >$i || break; done; ls | wc -l"
            count = int((await box.exec(line, timeout_s=60)).stdout)
            require(0 < count <= 300, f"{count} files were made in {place} at a limit of 300")
    return f"{count} of 1000 files were made at a limit of 300"


async def check_open_files(subject: Subject) -> str:
    """No process opens more files than the limit, nor raises it."""
    async with subject.box(open_files=64) as box:
        line = (
            "ulimit -Hn; ulimit -n 1000 2>/dev/null && echo raised; "
            'for i in $(seq 10 200); do eval "exec $i</dev/null" 2>/dev/null || break; done; echo $i'
        )
        seen = (await say(box, line)).split()
        require(seen[0] == "64" and "raised" not in seen, f"the limit is {seen[:2]}")
        require(int(seen[-1]) <= 64, f"descriptor {seen[-1]} was opened at a limit of 64")
    return f"descriptor {seen[-1]} could not be opened"
