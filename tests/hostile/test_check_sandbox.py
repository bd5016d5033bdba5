"""The shipped conformance suite passes our sandboxes, and finds a kind that promises what it does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest

from agentgym.checks import check_sandbox
from agentgym.checks_sandbox import CHECKS
from agentgym.cli.main import main
from agentgym.sandbox import Probe, Sandbox, SandboxSpec
from agentgym.sandbox_promises import PROMISES
from agentgym_sandboxes.local import LocalSandbox

pytestmark = pytest.mark.timeout(600)
# Attacks that only a box's own walls keep from the host: no liar may be attacked with them here.
DANGEROUS = {
    "no host processes",
    "no capabilities",
    "memory",
    "processes",
    "inodes",
    "workspace size",
    "reset",
    "background",
}


class Liar(LocalSandbox):
    """No box at all, that says it were one."""

    name = "liar"
    exceptions: ClassVar[Mapping[str, str]] = dict.fromkeys(DANGEROUS, "too dangerous for a test")

    def __init__(self, spec: SandboxSpec | None = None) -> None:
        super().__init__(spec, allow_local=True)

    @classmethod
    async def probe(cls) -> Sequence[Probe]:
        return [Probe("starts", True), Probe("memory", True)]


def test_every_promise_has_a_check() -> None:
    assert list(CHECKS) == [name for name in PROMISES if name in CHECKS]
    assert set(CHECKS) == set(PROMISES)


def test_our_sandboxes_keep_the_contract(kind: type[Sandbox]) -> None:
    results = check_sandbox(kind.name)
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []
    assert {result.name for result in results if result.declared} == set(kind.exceptions)


@pytest.mark.filterwarnings("ignore:the local sandbox holds nothing back")
def test_local_declares_what_it_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTGYM_ALLOW_LOCAL", "1")
    assert main(["check", "--sandbox", "local"]) == 0
    text = capsys.readouterr().out
    assert f"{len(LocalSandbox.exceptions)} promises are not made" in text
    assert "none  no network " in text


@pytest.mark.filterwarnings("ignore:the local sandbox holds nothing back")
def test_a_liar_is_found() -> None:
    failed = {result.name: result.detail for result in check_sandbox(Liar) if not result.passed}
    assert set(failed) >= {"probe", "deadline", "no network", "no host files", "no host secrets"}
    assert "'memory' was found to hold, and is declared not to" in failed["probe"]


def test_check_takes_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    assert main(["check", "some/Env-v0", "--sandbox", "docker"]) == 2
    assert "either an ENV_ID or --sandbox NAME" in capsys.readouterr().err
