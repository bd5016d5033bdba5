"""Generated TextWorld games: the same bytes everywhere, safe in the cache, other games in other splits."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentgym_household.textworld_env import TextWorldEnv
from agentgym_household.tw.cache import GameCache, is_intact
from agentgym_household.tw.options import GameSpec, read_options

FIND = """
import hashlib, json, sys
from pathlib import Path
from agentgym_household.tw.cache import GameCache
from agentgym_household.tw.options import GameSpec, read_options
story = GameCache(Path(sys.argv[1])).find(GameSpec(read_options("cooking", "easy", {}), "valid_unseen", 0))
print(json.dumps([hashlib.sha256(p.read_bytes()).hexdigest() for p in (story, story.with_suffix(".json"))]))
"""


def make_spec(split: str, challenge: str = "cooking") -> GameSpec:
    return GameSpec(read_options(challenge, "easy", {}), split, 0)


def start_finder(folder: Path, hash_seed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FIND, str(folder)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE,
        text=True,
    )


def sums(story: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (story, story.with_suffix(".json"))]


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("textworld")


def test_same_bytes_in_other_processes_at_once(cache_dir: Path, tmp_path: Path) -> None:
    """Two processes with other hash seeds make one game at once, in one cache; a third has its own cache."""
    finders = [start_finder(tmp_path, hash_seed) for hash_seed in ("1", "31337")]
    alone = GameCache(cache_dir).find(make_spec("valid_unseen"))
    found = [json.loads(finder.communicate(timeout=120)[0]) for finder in finders]
    assert found[0] == found[1] == sums(alone)
    assert [path.name for path in tmp_path.iterdir()] == [alone.parent.name], "nothing half-made is left behind"


def test_broken_cache_entry_is_made_again(cache_dir: Path) -> None:
    spec = make_spec("train", "treasure_hunter")
    story = GameCache(cache_dir).find(spec)
    before = sums(story)
    manifest = json.loads((story.parent / "manifest.json").read_text())
    assert manifest["task_id"] == spec.task_id
    assert manifest["sha256"] == {"game.z8": before[0], "game.json": before[1]}
    assert story.read_bytes()[0x12:0x18] == b"000000", "the day of compilation is not in it"
    story.write_bytes(story.read_bytes()[:1000])
    assert not is_intact(story.parent)
    assert sums(GameCache(cache_dir).find(spec)) == before
    assert is_intact(story.parent)


def test_splits_hold_different_games_and_unseen_recipes(cache_dir: Path) -> None:
    env = TextWorldEnv(cache_dir=cache_dir, challenge="cooking", difficulty="easy", tasks_per_split=1)
    stories, recipes = {}, {}
    for split in env.splits:
        assert env.prepare(split, progress=False) == 1
        story = env.find_story(env.task_set(split)[0])
        stories[split] = sums(story)[0]
        made = json.loads(story.with_suffix(".json").read_text())["metadata"]
        recipes[split] = {tuple(part) for part in made["ingredients"]}
    assert len(set(stories.values())) == 3
    assert recipes["train"]
    assert not (recipes["train"] | recipes["valid_seen"]) & recipes["valid_unseen"]


def test_every_option_and_the_version_name_the_entry() -> None:
    spec = make_spec("train")
    names = {spec.digest("1.7.0"), spec.digest("1.7.1"), make_spec("valid_seen").digest("1.7.0")}
    for option, value in (("recipe", 3), ("go", 9), ("open", False), ("drop", True), ("recipe_seed", 5)):
        names.add(GameSpec(read_options("cooking", "easy", {option: value}), "train", 0).digest("1.7.0"))
    assert len(names) == 8


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTGYM_CACHE", str(tmp_path))
    assert GameCache().folder == tmp_path / "textworld"
    monkeypatch.delenv("AGENTGYM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert GameCache().folder.parts[-3:] == (".cache", "agentgym", "textworld")
