"""The command line as a user meets it: in a process of its own, with its exit codes and its one line of error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentgym import read_trajectories, write_trajectories
from agentgym.cli.arguments import read_pairs
from agentgym.cli.main import build_parser, main
from agentgym.errors import UsageError
from agentgym.trajectory import Trajectory, Turn, mend_trajectories

COMMAND = [sys.executable, "-m", "agentgym.cli.main"]


def agentgym(*args: str | os.PathLike[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    if code == 2:
        lines = done.stderr.strip().splitlines()
        assert "Traceback" not in done.stderr
        assert lines[-1].startswith(("agentgym: ", "agentgym run: error", "agentgym eval: error")), done.stderr
    return done


def test_help_is_quick_and_teaches() -> None:
    before = os.times()
    text = agentgym("--help").stdout
    after = os.times()
    used_s = after.children_user - before.children_user + after.children_system - before.children_system
    assert used_s < 2.0  # of the processor, since other work makes the wall clock go on; measured 0.4 s
    assert "agentgym eval agentgym/TextWorld-v0" in text


def test_help_loads_no_engine() -> None:
    code = (
        "import sys; from agentgym.cli.main import build_parser; build_parser();"
        "print([m for m in ('torch', 'transformers', 'vllm', 'openai', 'textworld', 'alfworld') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "verb", ["packs", "policies", "check", "run", "eval", "train", "report", "show", "view", "probe", "gc"]
)
def test_every_verb_has_an_example_that_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    example = capsys.readouterr().out.rsplit("example:\n", 1)[1].split()
    assert example[0] == "agentgym"
    assert build_parser().parse_args(example[1:]).verb == verb


def test_packs_lists_the_installed_ones(corridor: str) -> None:
    text = agentgym("packs").stdout
    assert "corridor (agentgym-corridor 0.1.0)\n  agentgym/Corridor-v0" in text


def test_packs_lists_the_broken_ones_and_the_others_work(
    corridor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "agentgym_ruin-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: agentgym-ruin\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[gymnasium.envs]\nruin = agentgym_ruin:register_envs\n")
    (tmp_path / "agentgym_ruin.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}{os.pathsep}{tmp_path}")
    done = agentgym("packs")
    assert "ruin (agentgym-ruin 0.1)\n  broken: RuntimeError: half installed" in done.stdout
    assert "agentgym/Corridor-v0" in done.stdout
    assert "pack 'ruin' (agentgym-ruin 0.1) is broken" in done.stderr
    assert "Traceback" not in done.stderr


def test_policies_lists_arguments() -> None:
    text = agentgym("policies").stdout
    assert "random\n" in text
    assert "--policy-arg: fallback=''" in text
    assert "openai\n" in text


def test_check_passes_a_good_environment(corridor: str) -> None:
    text = agentgym("check", corridor).stdout
    assert "checks passed" in text
    assert "FAIL" not in text


def test_check_fails_a_bad_one(corridor: str) -> None:
    assert "FAIL  expert" in agentgym("check", corridor, "--env-arg", "fault=crash", code=1).stdout


def test_run_writes_what_was_played(corridor: str, tmp_path: Path) -> None:
    out = tmp_path / "new" / "run.jsonl"
    agentgym("run", corridor, "--policy", "expert", "--episodes", "5", "--out", out, "--env-arg", "length=2")
    played = list(read_trajectories(out))
    assert sorted(t.task_id for t in played) == [f"train-{i}" for i in range(5)]
    assert all(t.success and len(t.turns) == 2 for t in played)


def test_run_never_overwrites(corridor: str, tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    out.write_text("precious\n")
    done = agentgym("run", corridor, "--policy", "expert", "--out", out, code=2)
    assert "add --resume" in done.stderr
    assert out.read_text() == "precious\n"


def test_action_format_and_policy_arguments_arrive(corridor: str, tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    arguments = ["--policy", "expert", "--episodes", "1", "--out", out, "--action-format", "json"]
    agentgym("run", corridor, *arguments, "--workers", "process")
    (played,) = read_trajectories(out)
    assert json.loads(played.turns[0].action) == {"name": "act", "arguments": {"command": "forward"}}
    again = tmp_path / "again.jsonl"
    arguments = ["--episodes", "1", "--action-format", "json", "--out", again]
    agentgym("run", corridor, "--policy", "replay", "--policy-arg", f"file={out}", *arguments)
    (replayed,) = read_trajectories(again)
    assert [t.action for t in replayed.turns] == [t.action for t in played.turns]


def test_killed_run_is_resumed_without_loss_or_repetition(corridor: str, tmp_path: Path) -> None:
    """kill -9 in mid-run, then tear the last line: --resume keeps every whole episode and plays only the others."""
    out = tmp_path / "run.jsonl"
    arguments = ["run", corridor, "--policy", "random", "--episodes", "20", "--out", str(out), "--concurrency", "2"]
    with subprocess.Popen([*COMMAND, *arguments, "--env-arg", "fault=slow"], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not out.exists() or out.read_bytes().count(b"\n") < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    before = out.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert 4 <= whole.count(b"\n") < 20
    out.write_bytes(whole + b'{"env_id":"agentgym/Corr')
    agentgym(*arguments, "--resume")
    assert out.read_bytes().startswith(whole)
    assert sorted(t.task_id for t in read_trajectories(out)) == sorted(f"train-{i}" for i in range(20))
    agentgym(*[str(tmp_path / "whole.jsonl") if a == str(out) else a for a in arguments])
    assert _said(out) == _said(tmp_path / "whole.jsonl"), "as if it had never been killed"
    assert "already holds every episode" in agentgym(*arguments, "--resume").stdout


def _said(file: Path) -> dict[str, list[str]]:
    return {t.task_id: [turn.action for turn in t.turns] for t in read_trajectories(file)}


def test_interrupt_says_what_was_saved(corridor: str, tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    arguments = ["run", corridor, "--policy", "expert", "--episodes", "20", "--out", str(out), "--concurrency", "1"]
    command = [*COMMAND, *arguments, "--env-arg", "fault=slow", "--workers", "process"]

    def heed_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs inherit that it is ignored

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts) as process:
        deadline = time.monotonic() + 60
        while not out.exists() or not out.read_bytes().count(b"\n"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert f"of 20 episodes are in {out}; add --resume" in errors


def test_resume_refuses_a_file_of_something_else(corridor: str, tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    write_trajectories(out, [Trajectory("other/Env-v0", "t", "train")])
    done = agentgym("run", corridor, "--policy", "expert", "--out", out, "--resume", code=2)
    assert "choose another --out" in done.stderr


def test_eval_prints_json_and_nothing_else(corridor: str) -> None:
    arguments = ["--policy", "random", "--split", "valid", "--episodes", "10", "--json"]
    data = json.loads(agentgym("eval", corridor, *arguments).stdout)
    assert data["episodes"] == 10
    assert 0 <= data["success"]["low"] <= data["success"]["estimate"] <= data["success"]["high"] <= 1
    assert data["infrastructure_failures"] == 0


def test_eval_prints_a_table(corridor: str) -> None:
    text = agentgym("eval", corridor, "--policy", "expert", "--split", "valid", "--episodes", "4").stdout
    assert "1.000 [0.510, 1.000]" in text
    assert "ended: 4 terminated" in text


def test_eval_fails_if_nothing_could_be_measured(corridor: str) -> None:
    arguments = ["--policy", "expert", "--split", "valid", "--episodes", "3", "--env-arg", "fault=crash"]
    done = agentgym("eval", corridor, *arguments, code=1)
    assert "fault of ours, not scored (3 times)" in done.stdout
    assert "the engine broke" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "agentgym/Corridr-v0", "--policy", "random", "--out", "x"], "Did you mean 'agentgym/Corridor-v0'"),
        (["run", "agentgym/Corridor-v0", "--policy", "randm", "--out", "x"], "Did you mean 'random'?"),
        (["eval", "agentgym/Corridor-v0", "--policy", "random", "--split", "vald"], "Did you mean 'valid'?"),
        (["eval", "agentgym/Corridor-v0", "--policy", "random", "--split", "valid", "--episodes", "21"], "20 tasks"),
        (
            ["eval", "agentgym/Corridor-v0", "--policy", "random", "--split", "valid", "--env-arg", "length"],
            "KEY=VALUE",
        ),
        (["eval", "agentgym/Corridor-v0", "--policy", "random", "--split", "valid", "--env-arg", "depth=2"], "depth"),
        (["eval", "agentgym/Corridor-v0", "--policy", "random", "--split", "valid", "--workers", "moon"], "process"),
        (["eval", "agentgym/Corridor-v0", "--policy", "random", "--split", "valid", "--action-format", "x"], "plain"),
        (["eval", "agentgym/Corridor-v0", "--policy", "random", "--split", "valid", "--policy-arg", "a=1"], "'a'"),
        (
            ["eval", "agentgym/Corridor-v0", "--policy", "random", "--split", "valid", "--concurrency", "0"],
            "at least 1",
        ),
        (["eval", "agentgym/Corridor-v0", "--policy", "openai", "--split", "valid"], "needs a model"),
        (["eval", "agentgym/Corridor-v0", "--policy", "replay", "--split", "valid", "--policy-arg", "file=no"], "no"),
        (["eval", "agentgym/Corridor-v0", "--policy", "random"], "--split"),
        (["show", "nowhere.jsonl"], "nowhere.jsonl"),
        (["check", "agentgym/Nowhere-v0"], "unknown environment"),
        (["train", "nowhere.toml"], "nowhere.toml"),
        (["report", "nowhere"], "no run in nowhere"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else None,
)
def test_mistakes_get_one_line(arguments: list[str], said: str, corridor: str, tmp_path: Path) -> None:
    assert said in agentgym(*[str(tmp_path / "x") if a == "x" else a for a in arguments], code=2).stderr


def test_debug_shows_the_traceback() -> None:
    for arguments in (["--debug", "show", "nowhere.jsonl"], ["show", "nowhere.jsonl", "--debug"]):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
        assert done.returncode == 2
        assert "Traceback" in done.stderr


def test_full_disk_is_one_line(corridor: str) -> None:
    done = agentgym("run", corridor, "--policy", "expert", "--episodes", "2", "--out", "/dev/full", code=1)
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def _episode(**fields: Any) -> Trajectory:
    turn = Turn("You see a door.", "open door", reward_terms={"goal": 1.0}, token_ids=(1, 2), logprobs=(-1.0, -2.0))
    return Trajectory("e/E-v0", "task-7", "train", turns=(turn,), final_observation="It opens.", success=True, **fields)


def test_show_prints_an_episode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.jsonl"
    write_trajectories(file, [_episode(), _episode(system_prompt="Be brief.", privileged={"answer": "secret"})])
    assert main(["show", str(file), "--episode", "-1"]) == 0
    text = capsys.readouterr().out
    for part in (
        "task task-7",
        "success",
        "Be brief.",
        "You see a door.",
        "> open door",
        "goal +1, 2 tokens",
        "It opens.",
    ):
        assert part in text
    assert "secret" not in text
    assert main(["show", str(file), "--episode", "2"]) == 2
    assert "holds 2 episodes and none with number 2" in capsys.readouterr().err


def test_show_disarms_control_characters(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    evil = Turn("\x1b]0;owned\x07\x1b[2Jwipe \u202edrow \ud800", "tab\tand\nline é 日本")
    write_trajectories(file, [Trajectory("e/E-v0", "t", "train", turns=(evil,))])
    text = agentgym("show", file).stdout
    assert "\\x1b]0;owned\\x07\\x1b[2Jwipe \\u202edrow \\ud800" in text
    assert "tab\tand\nline é 日本" in text


def test_closed_pipe_is_quiet(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    write_trajectories(file, [Trajectory("e/E-v0", "t", "train", turns=(Turn("x" * 2_000_000, "a"),) * 3)])
    with subprocess.Popen([*COMMAND, "show", file], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""


def test_pairs_are_json_or_text() -> None:
    pairs = ["a=1", "b=true", "c=hello", 'd=["x"]', "e=", "f=x=y", "call-timeout=2.5"]
    assert read_pairs(pairs, "--set") == {
        "a": 1,
        "b": True,
        "c": "hello",
        "d": ["x"],
        "e": "",
        "f": "x=y",
        "call_timeout": 2.5,
    }
    for bad in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="--set"):
            read_pairs(bad, "--set")


@pytest.mark.parametrize(
    ("content", "kept"), [(b"", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n"), (b"torn" * 50_000, b"")]
)
def test_mending_cuts_only_the_torn_line(tmp_path: Path, content: bytes, kept: bytes) -> None:
    file = tmp_path / "f.jsonl"
    file.write_bytes(content)
    assert mend_trajectories(file) == len(content) - len(kept)
    assert file.read_bytes() == kept
