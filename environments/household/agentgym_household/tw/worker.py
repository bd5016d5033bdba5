"""Makes one TextWorld game in a process of its own: ``python -P worker.py FOLDER < request.json``.

The generator iterates over sets of strings, so its output depends on ``PYTHONHASHSEED``; the caller fixes it, and one
process makes one game, so that nothing one game leaves behind reaches the next. Only textworld and the standard
library are imported here. Exit status 3 means that no seed gave a game that its own walkthrough wins.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NO_GAME = 3
_NO_QUEST = (AttributeError, IndexError, ValueError, AssertionError)  # how the generator fails on a map that has none
_SERIAL = slice(0x12, 0x18)  # Z-machine header: six digits, the day of compilation


def make_game(challenge: str, settings: dict[str, Any], seed: int, path: Path) -> None:
    """Generate and compile a game into ``path`` (``.z8``) and the ``.json`` beside it.

    Raises:
        textworld.generator.QuestGenerationError: The seed's map holds no quest of the length asked for.
    """
    import textworld
    from textworld.challenges import CHALLENGES
    from textworld.generator import compile_game

    options = textworld.GameOptions()
    options.seeds = seed
    options.path = str(path)
    options.force_recompile = True
    if challenge == "custom":
        game = _make_custom(settings, options)
    else:
        game = CHALLENGES[f"tw-{challenge}"][1](settings, options)
    compile_game(game, options)
    path.with_suffix(".ni").unlink(missing_ok=True)
    story = bytearray(path.read_bytes())
    story[_SERIAL] = b"000000"  # outside the header's checksum, and the only thing that changes from day to day
    path.write_bytes(story)


def _make_custom(settings: dict[str, Any], options: Any) -> Any:
    from textworld.generator import make_game as make_custom_game

    options.nb_rooms = settings["world_size"]
    options.nb_objects = settings["nb_objects"]
    options.nb_parallel_quests = settings["nb_parallel_quests"]
    options.quest_length = settings["quest_length"]
    options.quest_breadth = settings["quest_breadth"]
    options.grammar.theme = settings["theme"]
    return make_custom_game(options)


def play_walkthrough(path: Path) -> dict[str, Any]:
    """Play a game by its own walkthrough.

    Returns:
        ``won``, ``score``, ``max_score`` and ``moves``.
    """
    import textworld

    infos = textworld.EnvInfos(score=True, max_score=True, won=True, extras=["walkthrough"])
    env = textworld.start(str(path), infos)
    try:
        state = env.reset()
        walkthrough = list(state["extra.walkthrough"] or ())
        for command in walkthrough:
            state, _, done = env.step(command)
            if done:
                break
        return {
            "won": bool(state["won"]),
            "score": state["score"],
            "max_score": state["max_score"],
            "moves": len(walkthrough),
        }
    finally:
        env.close()


def main() -> int:
    """Try the request's seeds in turn until one gives a game that is won with its full score."""
    from textworld.generator import QuestGenerationError
    from textworld.generator.inform7 import CouldNotCompileGameError

    request = json.load(sys.stdin)
    path = Path(sys.argv[1]) / "game.z8"
    failures = []
    for seed in request["seeds"]:
        try:
            make_game(request["challenge"], request["settings"], seed, path)
        except (*_NO_QUEST, QuestGenerationError, CouldNotCompileGameError) as error:
            failures.append(f"seed {seed}: {type(error).__name__}: {error}")
            continue
        result = play_walkthrough(path)
        if result["won"] and result["score"] == result["max_score"] and result["max_score"] > 0:
            print(json.dumps({"seed": seed, "moves": result["moves"], "max_score": result["max_score"]}))
            return 0
        failures.append(f"seed {seed}: the walkthrough ended with {result}")
    print("\n".join(failures), file=sys.stderr)
    return NO_GAME


if __name__ == "__main__":
    sys.exit(main())
