"""What the scripted experts see: every element of a task's page, shown or not, and what was done so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentgym.actions import Move
from agentgym_web.commands import Place, make_move

Point = tuple[float, float]


@dataclass(frozen=True)
class Node:
    """One element.

    Attributes:
        number: By which an action names it.
        parent: Number of its parent; 0 for the body.
        tag: Name of its tag, in lower case.
        attributes: Its attributes.
        text: All text in it.
        own: Text that is in it and in no element below it.
        value: Value of a field.
        checked: Whether a box is ticked.
        visible: It can be seen.
        box: x, y, width and height in pixels of the viewport.
        fill: Computed colour of a shape.
        colour: Computed colour of the background.
        ink: Computed colour of the text.
        focused: It has the focus.
    """

    number: int
    parent: int
    tag: str
    attributes: Mapping[str, str]
    text: str
    own: str
    value: str
    checked: bool
    visible: bool
    box: tuple[float, float, float, float]
    fill: str
    colour: str
    ink: str
    focused: bool

    @property
    def centre(self) -> Point:
        """Its middle."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2

    def has_class(self, name: str) -> bool:
        """Whether it has a class."""
        return name in self.attributes.get("class", "").split()


class Stuck(Exception):
    """The expert does not find what it looks for."""


@dataclass(frozen=True)
class ExpertPage:
    """A page in the eyes of an expert.

    Attributes:
        nodes: Its elements, in the order of the document, but for those in the task's words.
        task: The task's words.
        asked: Elements in the task's words, such as a colour or an icon.
        fields: What the package says is asked for, in the tasks with free language.
        commands: The commands that were carried out in this episode.
    """

    nodes: Sequence[Node]
    task: str
    fields: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    asked: Sequence[Node] = ()

    def all(
        self,
        tag: str = "",
        text: str | None = None,
        cls: str = "",
        id: str = "",
        inside: Node | None = None,
        hidden: bool = False,
    ) -> list[Node]:
        """Return the elements that fit, in order; the hidden ones only if asked for."""
        tags = tag.split("|") if tag else []
        return [
            node
            for node in self.nodes
            if (not tags or node.tag in tags)
            and (text is None or node.text == text)
            and (not cls or node.has_class(cls))
            and (not id or node.attributes.get("id") == id)
            and (inside is None or self.is_inside(node, inside))
            and (hidden or node.visible)
        ]

    def one(self, *given: Any, **wish: Any) -> Node:
        """Return the first that fits.

        Raises:
            Stuck: There is none.
        """
        found = self.all(*given, **wish)
        if not found:
            raise Stuck(f"nothing fits {given} {wish}")
        return found[0]

    def parent(self, node: Node, steps: int = 1) -> Node:
        """Return what an element is in."""
        for _ in range(steps):
            node = next(one for one in self.nodes if one.number == node.parent)
        return node

    def is_inside(self, node: Node, outer: Node) -> bool:
        """Whether an element is somewhere in another."""
        parents = self._parents
        number = node.parent
        while number:
            if number == outer.number:
                return True
            number = parents.get(number, 0)
        return False

    @property
    def _parents(self) -> dict[int, int]:
        return {node.number: node.parent for node in self.nodes}

    def was(self, verb: str, node: Node) -> bool:
        """Whether an action was done on an element in this episode."""
        start = f"{verb} {node.number}"
        return any(command == start or command.startswith(f"{start} ") for command in self.commands)

    def find(self, pattern: str) -> re.Match[str]:
        """Search the task's words.

        Raises:
            Stuck: They don't fit.
        """
        found = re.search(pattern, self.task)
        if not found:
            raise Stuck(f"the task does not fit {pattern!r}")
        return found


Expert = Callable[[ExpertPage], Move]


def read_page(
    nodes: Sequence[Mapping[str, Any]], task: str, fields: Mapping[str, str], commands: tuple[str, ...]
) -> ExpertPage:
    """Make a page of what ``host.inspect`` returned."""
    made = [Node(**{**node, "box": tuple(node["box"])}) for node in nodes]
    query = {node.number for node in made if node.attributes.get("id") == "query"}
    for node in made:
        if node.parent in query:
            query.add(node.number)
    page, asked = (tuple(node for node in made if (node.number in query) == inside) for inside in (False, True))
    return ExpertPage(page, task, fields, commands, asked)


def click(place: Node | Point, kind: str = "") -> Move:
    """Click an element or a point."""
    more = {"kind": kind} if kind else {}
    return make_move("click", _place(place), **more)


def type_in(node: Node, text: str) -> Move:
    """Put text into a field."""
    return make_move("type", node.number, text=text)


def select(node: Node, label: str) -> Move:
    """Select an entry of a list."""
    return make_move("select", node.number, label=label)


def drag(start: Node | Point, end: Node | Point) -> Move:
    """Drag from one place to another."""
    return make_move("drag", _place(start), end=_place(end))


def press(key: str) -> Move:
    """Press a key where the focus is."""
    return make_move("press", key=key)


def hover(node: Node) -> Move:
    """Rest the mouse on an element."""
    return make_move("hover", node.number)


def wait() -> Move:
    """Let a turn pass."""
    return make_move("wait")


def fill_in(*pairs: tuple[Node, str], then: Node) -> Move:
    """Fill the first field that does not hold its text yet; then click."""
    for node, text in pairs:
        if node.value != text:
            return type_in(node, text)
    return click(then)


def _place(place: Node | Point) -> Place:
    return place.number if isinstance(place, Node) else (round(place[0], 1), round(place[1], 1))
