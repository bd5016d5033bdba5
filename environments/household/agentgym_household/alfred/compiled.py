"""What never changes in a game: its rules, its translation for the planner library, its names."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from textworld.envs.pddl import logic as pddl_logic
from textworld.generator.game import EntityInfo
from textworld.logic import Placeholder, Proposition, Type, Variable

from agentgym.env import Transition
from agentgym_household.alfred.alfworld_data import import_alfworld
from agentgym_household.alfred.grammar import SharedGrammar
from agentgym_household.alfred.translation import Translation, find_translation
from agentgym_household.alfred.trust import find_task, normalise_grammar

Key = TypeVar("Key")
Value = TypeVar("Value")
MAX_GAMES = 256
MAX_FEEDBACKS = 20_000
MAX_LANDINGS = 1_000

# Facts that say what was looked at, helpers of the planner, and what does not hold: none is a state of the world.
_NOT_WORLD = ("checked", "examined", "wasinreceptacle", "new-axiom@", "not_")


class CompiledGame:
    """A game, parsed and translated once; shared by all episodes that play it.

    Attributes:
        sas: The task in Fast Downward's format.
        logic: Actions, types and grammar.
        init: The facts of the problem's ``:init``.
        facts: All that is true at the start; ``None`` before the first episode.
        entity_infos: Names of things by id, as ALFWorld's demangler gives them.
        operators: Action, command and feedback of each operator that was ever applicable, by operator id.
        feedbacks: Texts by operator and state, bounded.
        landings: What each command led to, by place and command, bounded; see :mod:`agentgym_household.alfred.walk`.
    """

    def __init__(self, data: Mapping[str, Any], translated: Translation | None = None) -> None:
        translated = translated or find_translation(data["pddl_domain"], data["pddl_problem"])
        self.sas = translated.sas.encode()
        self.logic = _make_logic(data["grammar"], data["pddl_domain"])
        for name, supertypes in translated.types:
            with suppress(ValueError):  # known from another game with these rules, or built in, as "object" is
                self.logic.types.add(Type(name, supertypes))
        self.schemas = {
            action: [Placeholder(name.strip("?"), kind) for name, kind in parameters]
            for action, parameters in translated.parameters.items()
        }
        self.name2type = translated.objects
        self.init = [
            Proposition(name, [Variable(arg, self.name2type[arg]) for arg in args]) for name, args in translated.init
        ]
        self.facts: list[Fact] | None = None
        self.entity_infos: dict[str, EntityInfo] = {}
        self.names: dict[str, str] = {}
        self.operators: dict[int, Operator] = {}
        self.propositions: dict[bytes, tuple[Fact, Fact]] = {}
        self.feedbacks: OrderedDict[tuple[int, int], str] = OrderedDict()
        self.landings: OrderedDict[tuple[int, str], tuple[int, Transition]] = OrderedDict()

    def name_entities(self) -> None:
        """Name things as ALFWorld does, from the facts of the start."""
        infos = {var.name: EntityInfo(var.name, var.type) for fact in self.facts or () for var in fact.prop.arguments}
        demangler = import_alfworld("alfworld.agents.utils.misc").Demangler(game_infos=infos, shuffle=False)
        for info in infos.values():
            info.name = demangler.demangle_alfred_name(info.id)
            info.definite, info.indefinite = "the", "a"
        self.entity_infos = infos
        self.names = {key: info.name for key, info in infos.items()}

    def read_atom(self, raw: bytes) -> tuple[Fact, Fact]:
        """Return the fact that an atom's name spells, and its negation."""
        known = self.propositions.get(raw)
        if known is None:
            kind, rest = raw.decode("cp1252").split(" ", 1)
            name, args = rest.split("(", 1)
            arguments = [Variable(arg, self.name2type[arg]) for arg in args[:-1].split(", ") if arg]
            prop = Proposition(f"not_{name}" if kind == "NegatedAtom" else name, arguments)
            known = self.propositions[raw] = (weigh(prop), weigh(prop.negate()))
        return known

    def remember_feedback(self, key: tuple[int, int], text: str) -> None:
        """Keep a text, and forget the oldest if there are too many."""
        _remember(self.feedbacks, key, text, MAX_FEEDBACKS)

    def remember_landing(self, key: tuple[int, str], landing: tuple[int, Transition]) -> None:
        """Keep what a command led to, and forget the oldest if there are too many."""
        _remember(self.landings, key, landing, MAX_LANDINGS)


def _remember(kept: OrderedDict[Key, Value], key: Key, value: Value, most: int) -> None:
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)


class Operator:
    """One ground action, with its command as the grammar writes it."""

    __slots__ = ("action", "command", "feedback_rule", "mapping", "name", "variables")

    def __init__(self, name: str, game: CompiledGame, state: Any) -> None:
        self.name = name
        schema, *arguments = name.split()
        logic_action = game.logic.actions[schema]
        self.mapping = {
            placeholder: Variable(argument, placeholder.type)
            for placeholder, argument in zip(game.schemas[schema], arguments, strict=False)
        }
        self.variables = {placeholder.name: game.entity_infos[v.name] for placeholder, v in self.mapping.items()}
        self.feedback_rule = logic_action.feedback_rule
        self.action = pddl_logic.textworld.logic.Action(name=schema, preconditions=[], postconditions=[])
        self.action.mapping = self.mapping
        self.action.feedback_rule = self.feedback_rule
        self.action.command_template = game.logic.grammar.derive(logic_action.template, self.context(game, state))
        self.command: str = self.action.format_command(game.names)

    def context(self, game: CompiledGame, state: Any) -> dict[str, Any]:
        """Return what the grammar needs to write about this action now."""
        return {
            "state": state,
            "variables": self.variables,
            "mapping": self.mapping,
            "entity_infos": game.entity_infos,
        }


class GameCache:
    """The games that were played last, found by their content."""

    def __init__(self, capacity: int = MAX_GAMES) -> None:
        self._capacity = capacity
        self._games: OrderedDict[str, CompiledGame] = OrderedDict()
        self._translated: tuple[str, Translation] | None = None

    def find(self, data: Mapping[str, Any]) -> CompiledGame:
        """Return the compiled game, compiled now if it is not known."""
        key = _content_key(data)
        (prepared, translated), self._translated = self._translated or ("", None), None
        game = self._games.pop(key, None) or CompiledGame(data, translated if prepared == key else None)
        self._games[key] = game
        while len(self._games) > self._capacity:
            self._games.popitem(last=False)
        return game

    def prepare(self, data: Mapping[str, Any]) -> None:
        """Translate a game, if it is not known, for the next ``find``. Unlike that, it may go on beside other games."""
        key = _content_key(data)
        if key not in self._games:
            self._translated = key, find_translation(data["pddl_domain"], data["pddl_problem"])

    def __len__(self) -> int:
        return len(self._games)


def _content_key(data: Mapping[str, Any]) -> str:
    content = "\0".join((data["pddl_domain"], data["grammar"], data["pddl_problem"]))
    return hashlib.sha256(content.encode()).hexdigest()


class Fact(NamedTuple):
    """A proposition and its shares of two keys, each the exclusive or over the facts that hold (Zobrist, 1970).

    Attributes:
        prop: The proposition.
        mark: 128 bits that name it.
        weight: The same, or 0 for what is no state of the world: what was looked at, and helpers of the planner.
    """

    prop: Proposition
    mark: int
    weight: int


def weigh(prop: Proposition) -> Fact:
    """Return the fact that a proposition states."""
    text = f"{prop.name}({','.join(var.name for var in prop.arguments)})"
    mark = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
    return Fact(prop, mark, 0 if prop.name.startswith(_NOT_WORLD) else mark)


@lru_cache(maxsize=16)
def _parse_logic(grammar: str, domain: str) -> Any:
    return pddl_logic.GameLogic(domain=domain, grammar=grammar)


def _make_logic(grammar: str, domain: str) -> Any:
    """Parse the grammar, but only once for all games that differ in nothing but the task's sentence."""
    task = find_task(grammar)
    base = _parse_logic(grammar if task is None else normalise_grammar(grammar), domain)
    logic = object.__new__(pddl_logic.GameLogic)
    logic.domain, logic.actions, logic.types = domain, base.actions, base.types
    logic.grammar = SharedGrammar.of(base.grammar, task)
    return logic
