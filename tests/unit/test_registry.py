from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import agentgym
from agentgym.errors import UnknownNameError, UsageError


def _install_fake_pack(folder: Path, name: str, body: str, group: str = "gymnasium.envs") -> None:
    (folder / f"{name}.py").write_text(body)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}:register_envs\n")


@pytest.mark.parametrize(
    "body",
    ["import no_such_module", "def register_envs():\n    raise RuntimeError('half made')", "nothing = 1"],
    ids=["import fails", "register fails", "attribute missing"],
)
def test_a_broken_pack_is_listed_and_breaks_nothing(tmp_path: Path, body: str) -> None:
    _install_fake_pack(tmp_path, "broken_pack", body)
    probe = "import agentgym as a; print([p.name for p in a.load_packs() if p.error], a.make('agentgym/Household-v0'))"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "['broken_pack']" in done.stdout
    assert "pack 'broken_pack' (broken_pack 1.0) is broken and was left out" in done.stderr


def test_the_household_pack_is_found() -> None:
    (pack,) = [pack for pack in agentgym.load_packs() if pack.name == "household"]
    assert pack.env_ids == ("agentgym/Household-v0", "agentgym/TextWorld-v0")
    assert pack.error == ""


def test_the_gui_pack_is_found() -> None:
    (pack,) = [pack for pack in agentgym.load_packs() if pack.name == "gui"]
    assert pack.env_ids == ("agentgym/ScreenSpot-v0",)
    assert pack.error == ""


def test_policies_are_found_by_name() -> None:
    assert agentgym.make_policy("random").name == "random"
    with pytest.raises(UnknownNameError, match="unknown policy 'expret'. Did you mean 'expert'"):
        agentgym.make_policy("expret")
    with pytest.raises(UsageError, match="cannot be made with"):
        agentgym.make_policy("random", colour="red")
