"""A user's own games: a folder of ``.z8`` files, each with its ``.json``."""

from __future__ import annotations

from pathlib import Path

from agentgym.errors import UsageError
from agentgym_household.tw.options import SPLITS

_HEADER_BYTES = 64


def find_games(folder: Path) -> dict[str, dict[str, Path]]:
    """Find the games in a folder.

    Sub-folders named after splits hold the games of those splits; without any, all games are of ``train``.

    Returns:
        Split → name of the game → its story file.

    Raises:
        UsageError: There is no such folder, or it holds no game, or a game's ``.json`` is missing.
    """
    if not folder.is_dir():
        raise UsageError(f"games_dir {folder} is no folder: give one with .z8 games, each with its .json")
    parts = {split: folder / split for split in SPLITS if (folder / split).is_dir()} or {"train": folder}
    games = {split: _find_stories(part) for split, part in parts.items()}
    return {split: found for split, found in games.items() if found}


def _find_stories(folder: Path) -> dict[str, Path]:
    stories = sorted(folder.glob("*.z8"))
    if not stories:
        if glulx := sorted(folder.glob("*.ulx")):
            raise UsageError(
                f"{glulx[0]} is a Glulx game, which TextWorld plays no longer since 1.7: "
                "make it again with tw-make, which writes .z8"
            )
        raise UsageError(f"{folder} holds no .z8 game: make one with tw-make, e.g. `tw-make custom --output {folder}/`")
    for story in stories:
        if not story.with_suffix(".json").is_file():
            raise UsageError(
                f"{story.name} lacks {story.with_suffix('.json').name} beside it in {folder}: "
                "tw-make writes both, and without it neither quest nor commands are known"
            )
    return {story.stem: story for story in stories}


def check_story(story: Path) -> None:
    """Check a story file before the interpreter, which dies of a broken one, reads it.

    Version, length and checksum are those of the Z-machine's header (The Z-Machine Standards Document 1.1, section 11).

    Raises:
        UsageError: The file is no whole Z-machine game of version 8.
    """
    try:
        data = story.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the game {story}: {error}") from error
    advice = "copy it again from where it came, or make it again with tw-make"
    if len(data) < _HEADER_BYTES or data[0] != 8:
        raise UsageError(f"{story} is no Z-machine game of version 8: {advice}")
    length = int.from_bytes(data[0x1A:0x1C], "big") * 8
    if len(data) < length or length < _HEADER_BYTES:
        raise UsageError(f"{story} is cut short, {len(data)} bytes of {length}: {advice}")
    if sum(data[_HEADER_BYTES:length]) % 0x10000 != int.from_bytes(data[0x1C:0x1E], "big"):
        raise UsageError(f"{story} is corrupt, its checksum does not match its contents: {advice}")
