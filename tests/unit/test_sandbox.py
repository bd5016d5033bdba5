"""The contract of a sandbox, as far as no box is needed: words for outcomes, refusals before a start, safe text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from agentgym.errors import SandboxLostError, SandboxRefusedError, UsageError
from agentgym.sandbox import Command, ExecResult, Limits, Probe, Sandbox, SandboxSpec
from agentgym.sandbox_output import escape_output


class EchoBox(Sandbox):
    """Answers every command with what it was asked."""

    name = "echo"

    @classmethod
    async def probe(cls) -> Sequence[Probe]:
        return [Probe("starts", True)]

    async def _start(self) -> None:
        self.closed = 0

    async def _run(self, command: Command) -> ExecResult:
        self.command = command
        return ExecResult(0, b"", b"")

    async def _reset(self) -> None:
        raise self._mark_lost("it cannot")

    async def _close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("flags", "outcome"),
    [
        ({"exit_code": 0}, "ok"),
        ({"exit_code": 137}, "failed"),  # a command chooses its status; only counters and clocks say why
        ({"exit_code": 137, "oom": True}, "oom"),
        ({"exit_code": None, "timed_out": True}, "timed_out"),
        ({"exit_code": None, "truncated": True}, "truncated"),
        ({"exit_code": None, "timed_out": True, "truncated": True, "oom": True}, "oom"),
    ],
)
def test_an_outcome_is_one_word(flags: dict[str, Any], outcome: str) -> None:
    assert ExecResult(stdout=b"", stderr=b"", **flags).outcome == outcome


@pytest.mark.parametrize(
    ("command", "kwargs", "why"),
    [
        ("", {}, None),
        ([], {}, "no command"),
        (["", "x"], {}, "no command"),
        ("echo \0", {}, "NUL"),
        (["echo", "\0"], {}, "NUL"),
        ("true", {"cwd": "\0"}, "NUL"),
        ("true", {"env": {"A": "\0"}}, "NUL"),
        ("true", {"env": {"A=B": "1"}}, "environment"),
        ("true", {"env": {"": "1"}}, "environment"),
        ("echo \ud800", {}, "surrogates"),
        (["echo", "\udcff"], {}, "surrogates"),
        ("x" * 10_000_000, {}, "script to a file"),
        (["x" * 90_000] * 12, {}, "script to a file"),
        (["x"] * 200_000, {}, "script to a file"),
        ("true", {"env": {"A": "x" * 100_001}}, "script to a file"),
        ("true", {"timeout_s": 0}, "timeout_s"),
        ("true", {"timeout_s": -1}, "timeout_s"),
        ("true", {"timeout_s": math.nan}, "timeout_s"),
        ("true", {"timeout_s": math.inf}, "timeout_s"),
        ("true", {"timeout_s": None}, "timeout_s"),
    ],
)
async def test_what_cannot_be_run_is_refused_before_it_starts(command: Any, kwargs: Any, why: str | None) -> None:
    async with EchoBox() as box:
        if why is None:
            await box.exec(command, **{"timeout_s": 1, **kwargs})
            return
        with pytest.raises(SandboxRefusedError, match=why):
            await box.exec(command, **{"timeout_s": 1, **kwargs})
        assert not hasattr(box, "command")


async def test_a_deadline_is_at_most_an_hour_and_paths_start_in_the_workspace() -> None:
    async with EchoBox(SandboxSpec(env={"A": "spec", "B": "spec"})) as box:
        await box.exec("true", timeout_s=1e9, cwd="sub", env={"A": "call"})
        assert box.command.timeout_s == 3600
        assert box.command.cwd == "/workspace/sub"
        assert box.command.env == {"A": "call", "B": "spec"}


async def test_a_box_is_used_between_start_and_close() -> None:
    box = EchoBox()
    with pytest.raises(UsageError, match="not started"):
        await box.exec("true", timeout_s=1)
    async with box:
        await box.start()
    await box.close()
    assert box.closed == 1
    with pytest.raises(SandboxLostError, match="closed"):
        await box.exec("true", timeout_s=1)
    with pytest.raises(SandboxLostError, match="closed"):
        await box.start()


async def test_a_box_whose_reset_failed_is_lost() -> None:
    async with EchoBox() as box:
        with pytest.raises(SandboxLostError, match="it cannot"):
            await box.reset()
        with pytest.raises(SandboxLostError, match="lost"):
            await box.exec("true", timeout_s=1)
    assert box.closed == 1


async def test_a_lease_ends() -> None:
    async with EchoBox(SandboxSpec(lease_s=1e-6)) as box:
        with pytest.raises(SandboxLostError, match="lease"):
            await box.exec("true", timeout_s=1)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, None, "1"])
def test_limits_are_numbers_above_zero(value: Any) -> None:
    with pytest.raises(UsageError, match="memory_mb above 0"):
        Limits(memory_mb=value)


@pytest.mark.parametrize("spec", [{"lease_s": 0}, {"lease_s": math.inf}, {"network": "host"}])
def test_a_spec_is_checked(spec: Any) -> None:
    with pytest.raises(UsageError):
        SandboxSpec(**spec)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"line\r\n", "line\n"),
        (b"\x1b[2J\x07\x00\r", r"\x1b[2J\x07\x00\x0d"),
        ("\u202eevil\u2066\u061c\x85".encode(), r"\u202eevil\u2066\u061c\x85"),
        (b"\xff\xfeok", "\ufffd\ufffdok"),
        ("täxt 🙂".encode(), "täxt 🙂"),
    ],
)
def test_output_is_safe_to_show(data: bytes, text: str) -> None:
    assert escape_output(data) == text


def test_long_output_is_cut_in_the_middle() -> None:
    shown = ExecResult(0, b"a" * 500, b"b" * 500).show(max_chars=100)
    assert shown.startswith("a" * 50)
    assert shown.endswith("b" * 50)
    assert "901 characters left out" in shown


def test_a_sync_box_has_the_same_face() -> None:
    with EchoBox().sync() as box:
        assert box.exec(["true"], timeout_s=1).outcome == "ok"
        with pytest.raises(SandboxLostError):
            box.reset()
