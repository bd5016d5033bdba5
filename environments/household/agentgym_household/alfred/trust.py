"""Which game files may be played: ALFWorld's engine evaluates a game's grammar as Python."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from agentgym_household.alfred.alfworld_data import read_domain, read_grammar
from agentgym_household.alfred.errors import GameFileError, UntrustedGameError

#: SHA-256 of the normalised domain and grammar in the games of the ALFWorld release (json_2.1.1).
RELEASE_DOMAINS = frozenset({"84c349f0a720323022351ce5529f3937cd03064e068e832dd97ee85a7d47b6e0"})
RELEASE_GRAMMARS = frozenset({"3701c3eb2ed4687e46084f311fd52308c240fd61b76e4ca2a13da6a54079a733"})
MAX_PROBLEM_CHARS = 4_000_000
MAX_DEPTH = 64

# The sentence is grammar too, so it may hold none of the grammar's signs: # { } [ ] | \ and quotes.
_TASK = re.compile(r'"Your task is to: ([A-Za-z0-9 ,.;:\'!?()/&-]{1,400})"')
_TOKEN = re.compile(r"[()]|[^\s()]+")
_SYMBOL = re.compile(r"[:?]?[A-Za-z][A-Za-z0-9_@-]*|[0-9]+(?:\.[0-9]+)?|[=-]")


def normalise_grammar(grammar: str) -> str:
    """Replace the task's sentence, which differs from game to game, by a placeholder."""
    return _trim(_TASK.sub('"Your task is to: UNKNOWN GOAL."', grammar))


def find_task(grammar: str) -> str | None:
    """Return the sentence ``Your task is to: …`` of a grammar, ``None`` if it has none of plain words."""
    found = _TASK.search(grammar)
    return f"Your task is to: {found[1]}" if found else None


def check_game(data: Mapping[str, Any], source: str, *, trust_game_files: bool = False) -> None:
    """Refuse a game that the engine cannot play, or should not.

    Args:
        data: Content of a ``game.tw-pddl`` file.
        source: Name of the file, for the message.
        trust_game_files: Accept any domain and grammar.

    Raises:
        GameFileError: A field is missing or of the wrong type, or the problem is no plain PDDL.
        UntrustedGameError: Domain or grammar are none of ALFWorld's own.
    """
    for field in ("pddl_domain", "grammar", "pddl_problem"):
        if not isinstance(data.get(field), str):
            raise GameFileError(f"{source}: field {field!r} is missing or is no text; is it a game.tw-pddl file?")
    walkthrough = data.get("walkthrough") or []
    if not isinstance(walkthrough, list) or not all(isinstance(command, str) for command in walkthrough):
        raise GameFileError(f"{source}: field 'walkthrough' must be a list of commands")
    if not trust_game_files:
        for kind, text, known in (
            ("domain", _trim(data["pddl_domain"]), RELEASE_DOMAINS | {_shipped_digests()[0]}),
            ("grammar", normalise_grammar(data["grammar"]), RELEASE_GRAMMARS | {_shipped_digests()[1]}),
        ):
            if _digest(text) not in known:
                raise UntrustedGameError(
                    f"{source}: its {kind} is none of ALFWorld's own, and the engine evaluates game files as Python "
                    f"code. If you made this file or know who did, pass trust_game_files=True."
                )
    parse_problem(data["pddl_problem"], source)


def parse_problem(problem: str, source: str = "the game") -> list[Any]:
    """Read PDDL as nested lists of names, and refuse everything that is not plain PDDL.

    Raises:
        GameFileError: Unbalanced parentheses, unsafe characters, or too large.
    """
    if len(problem) > MAX_PROBLEM_CHARS:
        raise GameFileError(f"{source}: its pddl_problem has {len(problem)} characters; limit {MAX_PROBLEM_CHARS}")
    stack: list[list[Any]] = [[]]
    for token in _TOKEN.findall(problem):
        if token == "(":
            if len(stack) > MAX_DEPTH:
                raise GameFileError(f"{source}: its pddl_problem is nested deeper than {MAX_DEPTH}")
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise GameFileError(f"{source}: its pddl_problem closes a parenthesis that was never opened")
            done = stack.pop()
            stack[-1].append(done)
        elif _SYMBOL.fullmatch(token):
            stack[-1].append(token)
        else:
            raise GameFileError(f"{source}: its pddl_problem holds {token[:60]!r}, which is no plain PDDL name")
    if len(stack) != 1 or len(stack[0]) != 1 or stack[0][0][:1] != ["define"]:
        raise GameFileError(f"{source}: its pddl_problem is not one balanced (define …)")
    problem_list: list[Any] = stack[0][0]
    return problem_list


def _trim(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").strip().split("\n"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=1)
def _shipped_digests() -> tuple[str, str]:
    return _digest(_trim(read_domain())), _digest(normalise_grammar(read_grammar()))
