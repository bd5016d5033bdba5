"""What an agent can do on a page, written as a command or called as a tool.

The commands, one a line; a target is an element's number, or a point of the screen as ``x,y``::

    click 12                 click 40,55 double        click 12 right
    type 12 "some words"     type "where the focus is"
    select 7 "Germany"       press Enter               press 12 Control+a
    scroll down              scroll 12 up 300          hover 12
    drag 12 40,55            goto http://shop/         back
    new_tab                  switch_tab 1              close_tab 1
    wait                     stop "the answer"

Text is a JSON string, or whatever stands in the rest of the line. The names follow those of BrowserGym's action set
(Chezelles et al., 2024, arXiv:2412.05467); the grammar is design.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from agentgym.actions import Move
from agentgym.errors import ActionParseError

Verb = Literal[
    "click", "type", "select", "press", "scroll", "hover", "drag",
    "goto", "back", "new_tab", "switch_tab", "close_tab", "wait", "stop",
]  # fmt: skip
Place = int | tuple[float, float]
Button = Literal["left", "middle", "right"]

_PLACE = re.compile(r"(-?\d{1,6}(?:\.\d{1,6})?)\s*,\s*(-?\d{1,6}(?:\.\d{1,6})?)|(\d{1,9})")
_DIRECTIONS = {"down": (0, 1), "up": (0, -1), "right": (1, 0), "left": (-1, 0)}
_CLICKS = {"": ("left", 1), "double": ("left", 2), "right": ("right", 1), "middle": ("middle", 1)}
DEFAULT_SCROLL_PX = 400


@dataclass(frozen=True)
class PageAction:
    """One thing to do on a page.

    Attributes:
        verb: What to do.
        target: Where: an element's number, or a point in pixels of the viewport.
        end: Where a drag ends.
        text: Text, label, key, address or answer.
        button: Mouse button of a click.
        count: Clicks in a row.
        right_px: Pixels to scroll to the right.
        down_px: Pixels to scroll down.
        index: Number of a tab.
    """

    verb: Verb
    target: Place | None = None
    end: Place | None = None
    text: str = ""
    button: Button = "left"
    count: int = 1
    right_px: float = 0.0
    down_px: float = 0.0
    index: int = 0


def read_action(move: Move, verbs: Sequence[Verb]) -> PageAction:
    """Read a move, whether it is a command or the call of a tool.

    Raises:
        ActionParseError: It is no action, or none of ``verbs``; the message is for the model.
    """
    return _read_call(move.tool, move.arguments) if move.tool else _read_command(move.command, verbs)


def _read_command(command: str, verbs: Sequence[Verb]) -> PageAction:
    word, _, rest = command.strip().partition(" ")
    verb, rest = word.lower(), rest.strip()
    if verb not in verbs:
        raise ActionParseError(f"There is no command {word[:40]!r}. Commands: {', '.join(verbs)}.")
    arguments: dict[str, Any] = {}
    if verb in ("click", "hover", "type", "select", "press", "scroll", "drag"):
        found = _PLACE.match(rest)
        if found and (found.end() == len(rest) or rest[found.end()].isspace()):
            arguments["target"], rest = found[0], rest[found.end() :].strip()
    if verb == "click":
        arguments["kind"] = rest
    elif verb in ("hover", "back", "new_tab", "wait"):
        if rest:
            raise ActionParseError(f"{verb} is followed by {'a target' if verb == 'hover' else 'nothing'} and no more.")
    elif verb == "drag":
        arguments["end"] = rest
    elif verb == "scroll":
        words = rest.split()
        arguments["direction"] = words[0] if words else ""
        if len(words) > 1:
            arguments["pixels"] = _read_number(words[1])
    elif verb in ("switch_tab", "close_tab"):
        arguments["index"] = _read_number(rest)
    elif rest or verb == "stop":
        arguments[_TEXT_OF[verb]] = _read_text(rest)
    return _read_call(verb, arguments)


_TEXT_OF = {"type": "text", "select": "label", "press": "key", "goto": "url", "stop": "answer"}


def _read_call(verb: str, arguments: Mapping[str, Any]) -> PageAction:
    target = _read_place(arguments["target"]) if "target" in arguments else None
    if target is None and verb in ("click", "select", "hover", "drag"):
        raise ActionParseError(f"{verb} needs a target: the number of an element, or a point as x,y.")
    if verb == "click":
        kind = str(arguments.get("kind", ""))
        if kind not in _CLICKS:
            raise ActionParseError("A click is plain, double, right or middle.")
        button, count = _CLICKS[kind]
        return PageAction("click", target, button=cast(Button, button), count=count)
    if verb == "drag":
        return PageAction("drag", target, _read_place(arguments["end"]))
    if verb == "scroll":
        direction = str(arguments.get("direction", ""))
        if direction not in _DIRECTIONS:
            raise ActionParseError("scroll needs a direction: down, up, left or right.")
        pixels = float(arguments.get("pixels", DEFAULT_SCROLL_PX))
        if not math.isfinite(pixels):
            raise ActionParseError("Pixels are a finite number.")
        right, down = _DIRECTIONS[direction]
        return PageAction("scroll", target, right_px=right * pixels, down_px=down * pixels)
    if verb in ("switch_tab", "close_tab"):
        return PageAction(cast(Verb, verb), index=int(arguments["index"]))
    text = str(arguments.get(_TEXT_OF.get(verb, ""), ""))
    if not text and verb in ("press", "goto", "select"):
        raise ActionParseError(f"{verb} needs a {_TEXT_OF[verb]}.")
    if verb == "type" and "text" not in arguments:
        raise ActionParseError("type needs a text.")
    if verb == "select" and not isinstance(target, int):
        raise ActionParseError("select needs the number of a list.")
    return PageAction(cast(Verb, verb), target, text=text)


def _read_place(place: Any) -> Place:
    if isinstance(place, int) and not isinstance(place, bool):
        return place
    found = _PLACE.fullmatch(str(place).strip())
    if not found:
        raise ActionParseError(f"{str(place)[:40]!r} is no target: write the number of an element, or a point as x,y.")
    return int(found[3]) if found[3] else (float(found[1]), float(found[2]))


def _read_number(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text):
        raise ActionParseError(f"{text[:40]!r} is no whole number.")
    return int(text)


def _read_text(rest: str) -> str:
    if rest.startswith('"'):
        try:
            text = json.loads(rest)
        except ValueError:
            return rest  # a text that begins with a quotation mark and is no JSON means itself
        if isinstance(text, str):
            return text
    return rest


def write_place(place: Place) -> str:
    """Write a target as a command names it."""
    return str(place) if isinstance(place, int) else f"{place[0]:.6g},{place[1]:.6g}"


def make_move(verb: Verb, target: Place | None = None, thought: str = "", **arguments: Any) -> Move:
    """Make a move that every action format can write: the command, and the call of the tool.

    Args:
        verb: What to do.
        target: Where.
        thought: What was thought before.
        **arguments: The tool's other arguments.
    """
    call: dict[str, Any] = dict(arguments)
    if "end" in call and not isinstance(call["end"], int):
        call["end"] = write_place(call["end"])
    if target is not None:
        call = {"target": target if isinstance(target, int) else write_place(target), **call}
    words = [
        json.dumps(call[n], ensure_ascii=False) if n in _TEXT_OF.values() and n != "key" else call[n] for n in call
    ]
    return Move(" ".join(str(word) for word in (verb, *words) if word != ""), verb, call, thought)


_TARGET = {"type": ["integer", "string"], "description": "Number of an element, or a point as 'x,y'."}


def _tool(name: Verb, description: str, *required: str, **properties: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": description, "parameters": schema}


_TEXT = {"type": "string"}
_INDEX = {"type": "integer", "minimum": 0, "maximum": 999_999}
_KIND = {"enum": ["", "double", "right", "middle"]}
_PIXELS = {"type": "number", "minimum": 0, "maximum": 1_000_000}
TOOLS: Mapping[Verb, Mapping[str, Any]] = {
    "click": _tool("click", "Click an element or a point.", "target", target=_TARGET, kind=_KIND),
    "type": _tool("type", "Put text into a field in place of its own.", "text", target=_TARGET, text=_TEXT),
    "select": _tool("select", "Select an entry of a list.", "target", "label", target=_TARGET, label=_TEXT),
    "press": _tool("press", "Press a key or chord, e.g. Enter or Control+a.", "key", target=_TARGET, key=_TEXT),
    "scroll": _tool(
        "scroll",
        "Turn the mouse wheel.",
        "direction",
        direction={"enum": list(_DIRECTIONS)},
        pixels=_PIXELS,
        target=_TARGET,
    ),
    "hover": _tool("hover", "Move the mouse.", "target", target=_TARGET),
    "drag": _tool("drag", "Drag from one place to another.", "target", "end", target=_TARGET, end=_TARGET),
    "goto": _tool("goto", "Open an address.", "url", url=_TEXT),
    "back": _tool("back", "Go back in the history of the tab."),
    "new_tab": _tool("new_tab", "Open an empty tab."),
    "switch_tab": _tool("switch_tab", "Make a tab the active one.", "index", index=_INDEX),
    "close_tab": _tool("close_tab", "Close a tab.", "index", index=_INDEX),
    "wait": _tool("wait", "Let a moment pass."),
    "stop": _tool("stop", "End the task, with an answer if one was asked for.", answer=_TEXT),
}
