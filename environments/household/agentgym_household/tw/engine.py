"""One running game: TextWorld's own engine, asked for no more than a step needs."""

from __future__ import annotations

import hashlib
import re
import warnings
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym.errors import UsageError

LONGEST_COMMAND = 120
_BANNER = re.compile(r"\A(?:[\s$_|\\/<>]*\n)+")
_EPILOGUE = re.compile(r"\s*Would you like to RESTART.*\Z", re.DOTALL)
_BLANK_LINES = re.compile(r"\n\s*\n\s*\n+")
_CHAINED = re.compile(r"[.,;]|\bthen\b", re.IGNORECASE)
# Inform's commands about the session, and TextWorld's debug commands: they would leave the tracked state behind,
# or show what a player must not see.
_META_VERBS = (
    *("restart", "restore", "save", "quit", "q", "undo", "again", "g", "oops", "o", "script", "transcript", "unscript"),
    *("notify", "verify", "version", "pronouns", "nouns", "superbrief", "brief", "verbose", "short", "long", "normal"),
    *("purloin", "abstract", "gonear", "showme", "scene", "rules", "actions", "test"),
)
_WORD_LETTERS = 9  # all that a Z-machine's dictionary keeps of a word
_META_WORDS = frozenset(verb[:_WORD_LETTERS] for verb in _META_VERBS)


@dataclass(frozen=True)
class Glimpse:
    """What the engine shows after a reset or a command.

    Attributes:
        text: Its words, without the banner.
        score: Running score, in points.
        won: The game was won.
        lost: The game was lost.
        acted: The command was carried out as an action of the world's model.
        state_key: Equal for equal facts and score, in any process.
        admissible: Commands that would be carried out now, sorted.
    """

    text: str
    score: int
    won: bool
    lost: bool
    acted: bool
    state_key: str
    admissible: Sequence[str]


class FactHash:
    """Hashes a set of facts without sorting it: the sum of the facts' own hashes, each computed once."""

    def __init__(self) -> None:
        self._known: dict[Any, int] = {}

    def key(self, facts: Iterable[Any], score: int) -> str:
        """Return the key of a state."""
        known = self._known
        total = 0
        for fact in facts:
            value = known.get(fact)
            if value is None:
                value = known[fact] = int.from_bytes(hashlib.blake2b(str(fact).encode(), digest_size=8).digest())
            total += value
        return f"{total % 2**64:016x}:{score}"


class GameSession:
    """A game that is being played.

    Args:
        story: The ``.z8`` file, with its ``.json`` beside it.
        policy: Also keep TextWorld's own plan to win up to date; several times slower.

    Raises:
        UsageError: The files cannot be read as a TextWorld game.
    """

    def __init__(self, story: Path, policy: bool = False) -> None:
        import textworld

        self.story = story
        infos = textworld.EnvInfos(
            admissible_commands=True,
            score=True,
            max_score=True,
            won=True,
            lost=True,
            moves=True,
            policy_commands=policy,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jericho warns that it has no score table for games that it does not know
            try:
                self._env = textworld.start(str(story), infos)
            except Exception as error:  # whatever the JSON reader met in a file that is no game
                raise UsageError(
                    f"{story.with_suffix('.json')} is no TextWorld game description "
                    f"({type(error).__name__}: {error}); make the game again with tw-make"
                ) from error
        # The collector may finalise the interpreter before the textworld object that then shuts it down, which kills
        # the process; this finaliser comes before both, and at exit.
        self._close = weakref.finalize(self, self._env.close)
        self._env.seed(0)
        # Some games look to jericho like one that it has score tables for; it then warns at every step that it has
        # none. Everything asked for here comes from TextWorld's own layer above it.
        self._env.unwrapped._jericho.is_fully_supported = False
        self._hash = FactHash()
        self._moves = 0
        self._key = ""
        self._score = 0
        self._state: Any = None

    def reset(self) -> Glimpse:
        """Begin the game anew."""
        self._moves = 0
        self._key = ""
        self._state = self._env.reset()
        return self._look(_BANNER.sub("", self._state["feedback"]))

    def step(self, command: str) -> Glimpse:
        """Carry out one command."""
        self._state, _, _ = self._env.step(command)
        return self._look(self._state["feedback"])

    @property
    def max_score(self) -> float:
        """Points that the whole game is worth; infinite if a quest may be repeated."""
        return float(self._state["max_score"])

    @property
    def walkthrough(self) -> tuple[str, ...]:
        """Commands that win the game, as its maker wrote them; empty if there are none."""
        return tuple(self._state["game"].metadata.get("walkthrough") or ())

    @property
    def policy(self) -> tuple[str, ...]:
        """TextWorld's own plan from here, if the session was asked to keep one; often empty after a lost turn."""
        return tuple(self._state["policy_commands"] or ())

    @property
    def world(self) -> Any:
        """The logical state of the world, ``textworld.logic.State``; not to be changed."""
        return self._state["_game_progression"].state

    @property
    def knowledge(self) -> Any:
        """The rules of the world, ``textworld.generator.data.KnowledgeBase``."""
        return self._state["game"].kb

    def write_command(self, action: Any) -> str:
        """Write a logical action as a command."""
        return str(self._env._inform7.gen_commands_from_actions([action])[0])

    def close(self) -> None:
        """Free the interpreter and its memory."""
        self._close()

    def _look(self, feedback: str) -> Glimpse:
        state = self._state
        moves = state["moves"]
        score = state["score"] or 0
        if moves != self._moves or score != self._score or not self._key:
            self._key = self._hash.key(state["_facts"], score)
        acted = moves != self._moves
        self._moves, self._score = moves, score
        return Glimpse(
            text=tidy(feedback),
            score=score,
            won=state["won"],
            lost=state["lost"],
            acted=acted,
            state_key=self._key,
            admissible=state["admissible_commands"],
        )


def tidy(feedback: str) -> str:
    """Drop the question that follows the end of a game, and runs of blank lines."""
    return _BLANK_LINES.sub("\n\n", _EPILOGUE.sub("", feedback)).strip()


def find_objection(command: str) -> str:
    """Say why a command must not reach the interpreter; empty if it may."""
    if len(command) > LONGEST_COMMAND:
        return f"That was longer than {LONGEST_COMMAND} characters. Give one short command, such as: look"
    if not (command.isascii() and command.isprintable()):
        return "Only plain letters, digits and spaces are understood. Give one short command, such as: look"
    verb = command.split(maxsplit=1)[0].lower() if command.strip() else ""
    if not verb[:1].isalnum():
        return "A command begins with a verb. Give one short command, such as: look"
    if _CHAINED.search(command):
        return "Give one command at a time, such as: look"
    if verb[:_WORD_LETTERS] in _META_WORDS or verb.startswith("tw-"):
        return f"'{verb}' is not part of this game."
    return ""
