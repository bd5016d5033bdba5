"""Wheels of core and of every pack build, install in a clean venv, and make no generic name importable."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKS = sorted(path.parent for path in ROOT.glob("environments/*/pyproject.toml"))
GENERIC_NAMES = ("tests", "environments", "sandboxes", "policies", "benchmarks", "docker", "scripts", "recipes", "docs")


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _build_wheel(project: Path, out_dir: Path) -> Path:
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out_dir, project, cwd=out_dir)
    name = "agentgym_core" if project == ROOT else f"agentgym_{project.name}"
    (wheel,) = out_dir.glob(f"{name}-*.whl")
    return wheel


def _importable_generic_names(python: Path, cwd: Path, names: tuple[str, ...] = GENERIC_NAMES) -> str:
    probe = f"import importlib.util as u; print([n for n in {names!r} if u.find_spec(n)])"
    return _run(python, "-c", probe, cwd=cwd).strip()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out_dir = tmp_path_factory.mktemp("wheels")
    return [_build_wheel(project, out_dir) for project in (ROOT, *PACKS)]


def test_wheels_hold_only_their_own_packages(wheels: list[Path]) -> None:
    allowed = {"agentgym_core": {"agentgym", "agentgym_sandboxes", "agentgym_policies"}}
    for wheel in wheels:
        distribution = wheel.name.split("-")[0]
        top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
        packages = {name for name in top if not name.endswith(".dist-info")}
        assert packages == allowed.get(distribution, {distribution})


def test_wheels_install_in_a_clean_venv(wheels: list[Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    _run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wheels, cwd=tmp_path)
    listed = _run(python, "-W", "error", "-c", "import agentgym; print(agentgym.load_packs())", cwd=tmp_path)
    assert "agentgym/Household-v0" in listed
    assert "agentgym/TextWorld-v0" in listed
    assert "agentgym/SearchQA-v0" in listed
    assert "agentgym/MiniWoB-v0" in listed
    assert "agentgym/ScreenSpot-v0" in listed
    assert "error=''" in listed
    play = "import gymnasium, agentgym; print(gymnasium.make('agentgym/Household-v0').reset(seed=1)[0])"
    assert "Your task is to" in _run(python, "-c", play, cwd=tmp_path)
    assert _run(python.parent / "agentgym", "--help", cwd=tmp_path)
    assert _importable_generic_names(python, tmp_path) == "[]"


def test_editable_install_makes_no_generic_name_importable(tmp_path: Path) -> None:
    names = tuple(name for name in GENERIC_NAMES if name != "docker")  # the SDK that our box uses has this name
    assert _importable_generic_names(Path(sys.executable), tmp_path, names) == "[]"
    where = "import docker; print(docker.__file__)"
    assert "site-packages" in _run(sys.executable, "-c", where, cwd=tmp_path), "our folder docker/ is no package"


def test_import_is_light(tmp_path: Path) -> None:
    probe = "import sys, agentgym; print([m for m in ('torch', 'vllm', 'textworld', 'alfworld') if m in sys.modules])"
    assert _run(sys.executable, "-c", probe, cwd=tmp_path).strip() == "[]"
