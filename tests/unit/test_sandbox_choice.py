"""How a sandbox is chosen, and what `agentgym probe` and `gc` say, with kinds that are good, broken and absent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentgym.cli.main import main
from agentgym.errors import SandboxUnavailableError, UnknownNameError, UsageError
from agentgym.sandbox import SandboxSpec
from agentgym.sandbox_choice import make_sandbox, probe_installed

KINDS = """
import asyncio
from agentgym.sandbox import ExecResult, Probe, Sandbox

class Good(Sandbox):
    name, strength = "good", 1
    probed = []
    found = [Probe("starts", True, "yes"), Probe("memory", True, "killed at 64 MB")]
    exceptions = {}
    @classmethod
    async def probe(cls):
        cls.probed.append(cls.name)
        await asyncio.sleep(0)
        return cls.found
    @classmethod
    def collect_garbage(cls, *, dry_run=False):
        return [f"box-{cls.name}"] if cls.name == "good" else []
    async def _start(self): ...
    async def _run(self, command): return ExecResult(0, b"", b"")
    async def _reset(self): ...
    async def _close(self): ...

class Honest(Good):
    name, strength, exceptions = "honest", 2, {"cpus": "nothing shares them out"}
    found = [Probe("starts", True), Probe("cpus", False, "it took 2")]

class Weak(Good):
    name, strength = "weak", 5
    found = [Probe("starts", True), Probe("memory", False, "no cgroup can be written")]

class Unsafe(Good):
    name, strength = "unsafe", 0

class Crash(Good):
    name, strength = "crash", 9
    @classmethod
    async def probe(cls):
        raise RuntimeError("half installed")

class Strange(Good):
    name, strength = "strange", 9
    found = [Probe("is nice", True)]
"""


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kinds of sandbox in place of the installed ones; the test says which by writing names into the list."""
    names: list[str] = ["Good", "Honest", "Weak", "Unsafe", "Crash", "Strange", "Absent"]
    module = f"kinds_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(KINDS)
    (tmp_path / "broken_kind.py").write_text("raise RuntimeError('half written')")
    info = tmp_path / "kinds-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kinds\nVersion: 1\n")
    entries = [f"{name.lower()} = {module if name != 'Absent' else 'missing_module'}:{name}" for name in names]
    (info / "entry_points.txt").write_text("\n".join(["[tests.sandboxes]", *entries, "broken = broken_kind:Kind"]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AGENTGYM_CACHE", str(tmp_path / "cache"))
    for where in ("agentgym.sandbox_choice", "agentgym.cli.sandbox"):
        monkeypatch.setattr(f"{where}.SANDBOXES_GROUP", "tests.sandboxes")
        monkeypatch.setattr(f"{where}.list_names", lambda group: [name.lower() for name in names])
    probe_installed.cache_clear()
    yield names
    probe_installed.cache_clear()


def test_auto_takes_the_strongest_that_keeps_its_promises(kinds: list[str]) -> None:
    assert make_sandbox().name == "honest"
    kinds.remove("Honest")
    probe_installed.cache_clear()
    assert make_sandbox("auto", SandboxSpec(image="x")).spec.image == "x"
    assert make_sandbox().name == "good"


async def test_auto_probes_once_and_where_a_loop_runs(kinds: list[str]) -> None:
    first, second = make_sandbox("auto"), make_sandbox("auto")
    assert type(first) is type(second)
    assert sorted(type(first).probed) == ["honest", "strange", "weak"]  # type: ignore[attr-defined]


def test_auto_remembers_its_choice_from_process_to_process(kinds: list[str], tmp_path: Path) -> None:
    probed = type(make_sandbox()).probed  # type: ignore[attr-defined]
    before = len(probed)
    probe_installed.cache_clear()  # as in a new process
    assert make_sandbox().name == "honest"
    assert len(probed) == before
    (tmp_path / "cache" / "sandbox.json").write_text('{"kind": "hon')
    assert make_sandbox().name == "honest"
    assert len(probed) > before
    kinds.remove("Honest")  # other kinds are installed now
    probe_installed.cache_clear()
    assert make_sandbox().name == "good"


def test_probe_renews_what_auto_remembers(kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_sandbox().name == "honest"
    monkeypatch.setattr(type(make_sandbox()), "found", [])
    assert main(["probe"]) == 0
    assert make_sandbox().name == "good"
    kinds.remove("Good")
    assert main(["probe"]) == 1
    probe_installed.cache_clear()
    with pytest.raises(SandboxUnavailableError):
        make_sandbox()


def test_auto_says_for_each_kind_why_not(kinds: list[str]) -> None:
    kinds[:] = ["Weak", "Crash", "Strange", "Absent", "Unsafe", "Broken"]
    with pytest.raises(SandboxUnavailableError) as caught:
        make_sandbox()
    text = str(caught.value)
    assert "weak: memory: no cgroup can be written." in text
    assert "crash: its probe failed: RuntimeError: half installed." in text
    assert "strange: it probes ['is nice']" in text
    assert "absent: sandbox 'absent' needs a package that is not installed: No module named 'missing_module'." in text
    assert "broken: it is broken: RuntimeError('half written')" in text
    assert "apt-get install" in text


def test_a_kind_by_name(kinds: list[str]) -> None:
    assert make_sandbox("weak").name == "weak"
    with pytest.raises(UnknownNameError, match="Did you mean 'good'"):
        make_sandbox("goood")
    with pytest.raises(UsageError, match="cannot be made with \\['colour'\\]"):
        make_sandbox("good", colour="red")
    with pytest.raises(UsageError, match="not installed"):
        make_sandbox("absent")


def test_local_must_be_asked_for_and_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTGYM_ALLOW_LOCAL", raising=False)
    with pytest.raises(SandboxUnavailableError, match="allow_local=True"):
        make_sandbox("local")
    with pytest.warns(UserWarning, match="holds nothing back"):
        assert make_sandbox("local", allow_local=True).name == "local"
    monkeypatch.setenv("AGENTGYM_ALLOW_LOCAL", "1")
    with pytest.warns(UserWarning, match="holds nothing back"):
        assert make_sandbox("local").name == "local"


def test_probe_prints_promises_by_kinds(kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe"]) == 0
    text = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert text.splitlines()[0].split() == [name.lower() for name in kinds]
    assert " ".join(lines["starts"]) == "starts held held held held not tried not tried not tried"
    assert " ".join(lines["memory"]) == "memory held not tried not held held not tried not tried not tried"
    assert "  cpus: cannot promise. nothing shares them out" in text
    assert "  memory: not held. no cgroup can be written" in text
    assert text.endswith("auto takes honest here.\n")


def test_probe_of_one_kind(kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "weak"]) == 1
    assert "auto does not take weak here" in capsys.readouterr().out
    assert main(["probe", "honest", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["auto"] == "honest"
    assert data["kinds"]["honest"]["promises"]["cpus"] == {
        "standing": "cannot promise",
        "detail": "nothing shares them out",
    }
    assert main(["probe", "nothing"]) == 2
    assert "unknown sandbox 'nothing'" in capsys.readouterr().err


def test_probe_where_nothing_is_installed(kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    kinds.clear()
    assert main(["probe"]) == 1
    assert "apt-get install" in capsys.readouterr().out


def test_garbage_is_listed(kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "good: would remove box-good\n" in text
    assert "absent: not looked at" in text
    assert main(["gc"]) == 0
    assert "good: removed box-good\n" in capsys.readouterr().out
