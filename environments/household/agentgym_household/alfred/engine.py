"""ALFWorld's engine, memoised: same worlds, same text to the byte, many times faster.

The world is still TextWorld's ``PddlEnv`` on Fast Downward's library: it says which actions apply, carries them out and
checks the goal. What is kept between steps and episodes is what the original computes anew each time: the parsed
grammar, the translation to SAS, each action's command, texts already written (see ``benchmarks/alfred_engine.py``).
The planner that ALFWorld offers as an expert is never run: it cannot be interrupted and may take gigabytes.
"""

from __future__ import annotations

import ctypes
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fast_downward
import numpy as np
import textworld
from textworld.core import GameState
from textworld.envs.pddl import PddlEnv
from textworld.envs.pddl.logic import PddlState
from textworld.logic import Proposition, Signature

from agentgym_household.alfred.compiled import CompiledGame, GameCache, Operator, weigh
from agentgym_household.alfred.errors import GameFileError
from agentgym_household.alfred.trust import check_game

_NAME_BYTES = 1024
_OPERATOR = np.dtype([("id", "<i4"), ("name", f"S{_NAME_BYTES}"), ("effects", "<i4")])
NOTHING_HAPPENS = "Nothing happens."

#: Shared by all engines of this process.
GAMES = GameCache()
_FREE_LIBRARIES: list[Any] = []


class MemoState(PddlState):
    """A ``PddlState`` that starts from a compiled game and keeps two keys.

    Attributes:
        key: Names the world's state.
        place: Names all facts, and with them all that the engine may say from here on.
    """

    def __init__(self, downward_lib: Any, game: CompiledGame) -> None:
        self._facts: dict[Any, set[Proposition]] = defaultdict(set)
        self._vars_by_name: dict[str, Any] = {}
        self._vars_by_type: dict[str, set[Any]] = defaultdict(set)
        self._var_counts: Counter[str] = Counter()
        self._logic = game.logic
        self._game = game
        self.downward_lib = downward_lib
        downward_lib.load_sas(game.sas)
        self.key = self.place = 0
        if game.facts is None:
            game.facts = [weigh(prop) for prop in dict.fromkeys([*game.init, *self._read_atoms()])]
            game.name_entities()
        for prop, mark, weight in game.facts:
            self.add_fact(prop)
            self.key ^= weight
            self.place ^= mark

    def applicable(self) -> list[tuple[int, Operator]]:
        """Return id and operator of every action that applies now, in the engine's order, each once."""
        count = self.downward_lib.get_applicable_operators_count()
        raw = (fast_downward.Operator * count)()
        self.downward_lib.get_applicable_operators(raw)
        self.effect_counts = {}
        known, found, seen = self._game.operators, [], set()
        for number, ident, effects in zip(range(count), *_read_columns(raw), strict=True):
            operator = known.get(ident)
            if operator is None:
                operator = known[ident] = Operator(raw[number].name, self._game, self)
            self.effect_counts[ident] = effects
            if operator.name not in seen:
                seen.add(operator.name)
                found.append((ident, operator))
        return found

    def apply_operator(self, ident: int) -> None:
        """Carry out an applicable action."""
        effects = (fast_downward.Atom * self.effect_counts[ident])()
        self.downward_lib.apply_operator(ident, effects)
        for effect in effects:
            fact, negation = self._game.read_atom(effect._name)
            if self.is_fact(negation.prop):
                self.remove_fact(negation.prop)
                self.key ^= negation.weight
                self.place ^= negation.mark
            if not self.is_fact(fact.prop):
                self.add_fact(fact.prop)
                self.key ^= fact.weight
                self.place ^= fact.mark

    def facts_matching(self, signature: Signature, bound: Sequence[tuple[int, Any]]) -> list[Proposition]:
        """Return the facts of a signature with these arguments at these places, sorted."""
        facts: Collection[Proposition] = self._facts.get(signature, ())
        for place, var in bound:
            facts = [fact for fact in facts if fact.arguments[place] == var]
        return sorted(facts) if len(facts) > 1 else list(facts)

    def _all_applicable_assignments(
        self, rule: Any, mapping: dict[Any, Any], used_vars: set[Any], new_phs_by_depth: list[Any], depth: int
    ) -> Iterator[Mapping[Any, Any]]:
        # The original sorts all facts of a signature and then drops those that do not fit; the order is the same.
        if depth >= len(rule.preconditions):
            yield from self._all_assignments(new_phs_by_depth[depth], mapping, used_vars, False)
            return
        pred = rule.preconditions[depth]
        bound = [(place, mapping[ph]) for place, ph in enumerate(pred.parameters) if ph in mapping]
        types = [self._logic.types.get(kind) for kind in pred.signature.types]
        for subtypes in self._logic.types.multi_subtypes(types):
            signature = Signature(pred.signature.name, [kind.name for kind in subtypes])
            for prop in self.facts_matching(signature, bound):
                for ph, var in zip(pred.parameters, prop.arguments, strict=True):
                    existing = mapping.get(ph)
                    if existing is None:
                        if var in used_vars:
                            break
                        mapping[ph] = var
                        used_vars.add(var)
                    elif existing != var:
                        break
                else:
                    yield from self._all_applicable_assignments(rule, mapping, used_vars, new_phs_by_depth, depth + 1)
                for ph in new_phs_by_depth[depth]:
                    used_vars.discard(mapping.pop(ph, None))

    def _read_atoms(self) -> list[Proposition]:
        atoms = (fast_downward.Atom * self.downward_lib.get_state_size())()
        self.downward_lib.get_state(atoms)
        facts = (self._game.read_atom(atom._name)[0].prop for atom in atoms)
        return [prop for prop in facts if not prop.is_negation]


class MemoPddlEnv(PddlEnv):
    """TextWorld's ``PddlEnv`` with ALFWorld's names, memoised.

    Args:
        infos: What to put in the game state besides ``feedback``, ``won``, ``admissible_commands``.
        trust_game_files: Play games with any grammar; see :mod:`agentgym_household.alfred.trust`.
    """

    def __init__(self, infos: textworld.EnvInfos | None = None, *, trust_game_files: bool = False) -> None:
        super(PddlEnv, self).__init__(infos)  # PddlEnv's own would load one more copy of the library
        self.downward_lib: Any = _FREE_LIBRARIES.pop() if _FREE_LIBRARIES else fast_downward.load_lib()
        self._trust = trust_game_files
        self._source = ""
        self._compiled: CompiledGame | None = None
        self._valid: list[tuple[int, Operator]] = []

    def load(self, filename_or_data: str | Path | Mapping[str, Any]) -> None:
        """Load a game from its file or its content.

        Raises:
            GameFileError: It cannot be read.
            UntrustedGameError: Its rules are none of ALFWorld's own.
        """
        if isinstance(filename_or_data, Mapping):
            data, self._source = dict(filename_or_data), "the game"
        else:
            data, self._source = read_game(filename_or_data), str(filename_or_data)
        check_game(data, self._source, trust_game_files=self._trust)
        self._game_data = data
        self.walkthrough = data.get("walkthrough")
        try:
            self._compiled = GAMES.find(data)
        except (Exception, SystemExit) as error:
            # Fast Downward's translator has no error of its own: it fails anywhere, or exits the process.
            raise GameFileError(f"{self._source}: its pddl_problem cannot be translated: {error!r}") from error
        self._logic = self._compiled.logic

    def reset(self) -> GameState:
        """Start the loaded game."""
        game = self.game
        self._pddl_state = MemoState(self.downward_lib, game)
        self._valid = self._pddl_state.applicable()
        self._entity_infos = game.entity_infos
        self.prev_state = None
        self._last_action = None
        self._moves = 0
        self.state = GameState()
        context = {"state": self._pddl_state, "variables": {}, "mapping": {}, "entity_infos": game.entity_infos}
        self.state.feedback = self._write((-1, self._pddl_state.key), "#intro#", context)
        self.state.raw = self.state.feedback
        self._gather_infos()
        if "walkthrough" in self.request_infos.extras:
            self.state["extra.walkthrough"] = self.walkthrough or []
        return self.state

    def step(self, command: str) -> tuple[GameState, int, bool]:
        """Carry out a command; one that does not apply is answered with ``Nothing happens.`` and no change."""
        command = command.strip()
        self.prev_state = self.state
        self.state = GameState()
        self.state.last_command = command
        self.state.feedback = self.state.raw = self.advance(command)
        self._gather_infos()
        if "walkthrough" in self.request_infos.extras:
            self.state["extra.walkthrough"] = self.walkthrough or []
        self.state["score"] = int(self.state["won"])
        self.state["done"] = self.state["won"]
        return self.state, self.state["score"], self.state["done"]

    def advance(self, command: str) -> str:
        """Carry out a command as ``step`` does, and return the words alone; ``state`` stays as it was."""
        self._last_action = None
        chosen = next((pair for pair in self._valid if pair[1].command == command), None)
        if chosen is None:
            return NOTHING_HAPPENS
        ident, operator = chosen
        self._last_action = operator.action
        self._pddl_state.apply_operator(ident)
        self._valid = self._pddl_state.applicable()
        self._moves += 1
        context = operator.context(self.game, self._pddl_state)
        return self._write((ident, self._pddl_state.key), operator.feedback_rule, context)

    @property
    def won(self) -> bool:
        """Whether the goal is reached."""
        return bool(self._pddl_state.check_goal())

    @property
    def admissible_commands(self) -> list[str]:
        """Commands that can be carried out now, sorted."""
        return sorted({operator.command for _, operator in self._valid})

    @property
    def state_key(self) -> str:
        """Name of the world's state, the same in every process; what was only looked at does not count."""
        return f"{self._pddl_state.key:032x}"

    @property
    def place(self) -> int:
        """Name of all facts, what was looked at included; in equal places, equal commands lead to the same."""
        return self._pddl_state.place

    @property
    def game(self) -> CompiledGame:
        """The loaded game.

        Raises:
            GameFileError: There is none.
        """
        if self._compiled is None:
            raise GameFileError("no game is loaded: call load() first")
        return self._compiled

    def facts_and_names(self) -> tuple[Iterable[Any], dict[str, str]]:
        """Return the propositions that hold now, and the text names by id of what they speak of."""
        return self._pddl_state.facts, self.game.names

    def close(self) -> None:
        """Hand this engine's copy of Fast Downward's library to the next engine.

        It is never unloaded: doing so crashes the process when the next copy is loaded.
        """
        lib, self.downward_lib = getattr(self, "downward_lib", None), None
        if lib is not None:
            _FREE_LIBRARIES.append(lib)

    def _write(self, key: tuple[int, int], rule: str, context: dict[str, Any]) -> str:
        game = self.game
        text = game.feedbacks.get(key)
        if text is None:
            text = game.logic.grammar.derive(rule, context)
            game.remember_feedback(key, text)
        return text

    def _gather_infos(self) -> None:
        state = self.state
        state["won"] = self.won
        state["lost"] = False
        if self.request_infos.facts:
            state["facts"] = [self._get_human_readable_fact(fact) for fact in self._pddl_state.facts]
        state["last_action"], state["_last_action"] = None, self._last_action
        state["_valid_commands"] = [operator.command for _, operator in self._valid]
        state["admissible_commands"] = self.admissible_commands
        if self.request_infos.moves:
            state["moves"] = self._moves


def read_game(path: str | Path) -> dict[str, Any]:
    """Read a ``game.tw-pddl`` file.

    Raises:
        GameFileError: It is absent, half-written, or no JSON object.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GameFileError(f"{path}: cannot be read: {error}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise GameFileError(f"{path}: is not whole JSON ({error}); was it copied to its end?") from error
    if not isinstance(data, dict):
        raise GameFileError(f"{path}: holds a JSON {type(data).__name__}, not an object; is it a game.tw-pddl file?")
    return data


def _read_columns(raw: Any) -> tuple[list[int], list[int]]:
    """Return ids and numbers of effects of a ctypes array of operators."""
    if not len(raw):
        return [], []
    if ctypes.sizeof(fast_downward.Operator) != _OPERATOR.itemsize:
        return [op.id for op in raw], [op.nb_effect_atoms for op in raw]
    table = np.frombuffer(raw, dtype=_OPERATOR)
    return table["id"].tolist(), table["effects"].tolist()
