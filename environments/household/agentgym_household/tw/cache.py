"""The games on disk: made when first asked for, checked by their checksums, safe for many processes at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentgym.errors import InfrastructureError, UsageError
from agentgym.machine import cache_dir
from agentgym_household.tw.options import GameSpec
from agentgym_household.tw.worker import NO_GAME

_log = logging.getLogger(__name__)
_WORKER = Path(__file__).with_name("worker.py")
_FILES = ("game.z8", "game.json")


class GameCache:
    """Makes games and keeps them.

    An entry is a folder with ``game.z8``, ``game.json`` and ``manifest.json`` (spec, seed, SHA-256 of both). It is
    written under a temporary name and renamed, so another process sees all of it or nothing.

    Args:
        folder: Where to keep the games.
        timeout_s: Longest time that one game may take to make.
    """

    def __init__(self, folder: Path | None = None, timeout_s: float = 600.0) -> None:
        self.folder = (folder or cache_dir("textworld")).expanduser()
        self.timeout_s = timeout_s
        self._engine_version = version("textworld")
        self._checked: set[str] = set()

    def find(self, spec: GameSpec) -> Path:
        """Return the story file of a game, made now if it is not there.

        Raises:
            UsageError: The generator finds no game with these options.
            InfrastructureError: The generator broke down, or the disk did.
        """
        digest = spec.digest(self._engine_version)
        entry = self.folder / digest
        if digest not in self._checked:
            if entry.exists() and not is_intact(entry):
                _log.warning("TextWorld game %s does not match its checksums and is made again", entry)
                self._discard(entry)
            if not entry.exists():
                self._make(spec, entry)
            self._checked.add(digest)
        return entry / "game.z8"

    def prepare(self, specs: Sequence[GameSpec], jobs: int | None = None, progress: bool = True) -> None:
        """Make many games in parallel, with a progress bar.

        Args:
            specs: The games.
            jobs: Generator processes at once; by default one per core.
            progress: Show the bar.

        Raises:
            UsageError: The generator finds no game with one of the specs.
            InfrastructureError: The generator broke down.
        """
        from tqdm import tqdm

        with ThreadPoolExecutor(max_workers=jobs or os.cpu_count() or 1) as pool:
            pending = [pool.submit(self.find, spec) for spec in specs]
            try:
                for done in tqdm(as_completed(pending), total=len(pending), unit="game", disable=not progress):
                    done.result()
            finally:
                for future in pending:
                    future.cancel()

    def _make(self, spec: GameSpec, entry: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".making-", dir=self.folder) as scratch:
                made = Path(scratch) / "entry"
                made.mkdir()
                report = self._run_generator(spec, made)
                manifest = {"task_id": spec.task_id, "engine": self._engine_version, "request": spec.request()}
                manifest |= {"made": report, "sha256": {name: _sha256(made / name) for name in _FILES}}
                (made / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
                _publish(made, entry)
        except OSError as error:
            raise InfrastructureError(f"cannot keep TextWorld games in {self.folder}: {error}") from error

    def _run_generator(self, spec: GameSpec, folder: Path) -> dict[str, Any]:
        try:
            ran = subprocess.run(
                [sys.executable, "-P", str(_WORKER), str(folder)],
                input=json.dumps(spec.request()),
                env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                timeout=self.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InfrastructureError(
                f"{spec.task_id} was not made within {self.timeout_s:.0f} s: "
                "if the machine is not overloaded, ask for a shorter quest or fewer rooms"
            ) from error
        if ran.returncode == NO_GAME:
            raise UsageError(
                f"TextWorld finds no {spec.options.challenge} game with {dict(spec.options.values)}: "
                f"ask for a shorter quest or a larger world. Tried {ran.stderr.strip()[-400:]}"
            )
        if ran.returncode:
            raise InfrastructureError(f"the TextWorld generator failed on {spec.task_id}: {ran.stderr.strip()[-800:]}")
        report: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
        return report

    def _discard(self, entry: Path) -> None:
        aside = Path(tempfile.mkdtemp(prefix=".broken-", dir=self.folder))
        with contextlib.suppress(FileNotFoundError):  # another process saw it too, and was quicker
            entry.rename(aside / "entry")
        shutil.rmtree(aside)


def is_intact(entry: Path) -> bool:
    """Tell whether a cache entry is whole and matches its own checksums."""
    try:
        sums = json.loads((entry / "manifest.json").read_text())["sha256"]
        return all(_sha256(entry / name) == sums[name] for name in _FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _publish(made: Path, entry: Path) -> None:
    try:
        made.rename(entry)
    except OSError:
        if not is_intact(entry):  # not that another process made the same bytes first
            raise


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
