"""Action formats: how the text that a model produced becomes a move, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from agentgym.errors import ActionParseError, UnknownNameError

#: No arguments, no terms: the default of mappings that nobody changes.
NOTHING: Mapping[str, Any] = {}


class Move(NamedTuple):
    """What an agent wants to do.

    Attributes:
        command: The command line for engines that read one; empty if a tool with several arguments was called.
        tool: Name of the tool, for JSON tool calls.
        arguments: Arguments of the tool.
        thought: What was thought before acting, on one line; experts may give one. Engines never read it.
    """

    command: str = ""
    tool: str = ""
    arguments: Mapping[str, Any] = NOTHING
    thought: str = ""


class ActionFormat(Protocol):
    """Turns text into a :class:`Move` and a move into text."""

    name: str

    @property
    def instructions(self) -> str:
        """Say to the model how to write an action."""
        ...

    def parse(self, text: str) -> Move:
        """Read a move.

        Raises:
            ActionParseError: The text is no move; the message is for the model.
        """
        ...

    def render(self, move: Move) -> str:
        """Write a move as a model should have written it."""
        ...


class PlainCommand:
    """The whole text is the command, on one line."""

    name = "plain"
    instructions = "Answer with one command on a single line and nothing else."

    def parse(self, text: str) -> Move:
        """Read the one line that is not blank."""
        command = text.strip()
        if not command:
            raise ActionParseError("Your answer was empty. Answer with one command on a single line.")
        lines = command.splitlines()
        if len(lines) > 1:
            count = sum(1 for line in lines if line.strip())
            raise ActionParseError(f"Your answer had {count} lines. Answer with one command on a single line.")
        return Move(command=command)

    def render(self, move: Move) -> str:
        """Return the command."""
        return move.command


class ThoughtCommand:
    """A thought, ``>``, and the command, on one line, e.g. ``no mug here > go to shelf 2``.

    The interleaving of thoughts and acts is that of ReAct (Yao et al., 2023, arXiv:2210.03629); that both stand in
    one turn, and the mark between them, is design.
    """

    name = "thought"
    instructions = "Answer with one line: what you think, then the sign >, then one command. The thought may be empty."

    def parse(self, text: str) -> Move:
        """Read what follows the last ``>``; a line without the sign is a command without a thought."""
        thought, _, command = text.rpartition(">")
        return Move(command=PlainCommand().parse(command).command, thought=" ".join(thought.split()))

    def render(self, move: Move) -> str:
        """Write thought and command."""
        return f"{move.thought} > {move.command}" if move.thought else f"> {move.command}"


class TaggedCommand:
    """Free text, with the command inside the last ``<action>…</action>``."""

    name = "tag"
    instructions = "You may think first. End your answer with the command in tags: <action>command</action>"
    _tag = re.compile(r"<action>((?:(?!<action>).)*?)</action>", re.DOTALL)

    def parse(self, text: str) -> Move:
        """Read the last complete tag."""
        found = self._tag.findall(text)
        if not found:
            raise ActionParseError("No complete <action>…</action> was found. Write <action>command</action>.")
        return PlainCommand().parse(found[-1])

    def render(self, move: Move) -> str:
        """Put the command in tags, after the thought."""
        return f"{move.thought} <action>{move.command}</action>".strip()


class ToolCall:
    """One JSON object ``{"name": …, "arguments": {…}}``, alone or inside ``<tool_call>`` tags.

    Args:
        tools: JSON schemas of the tools, in the shape ``{"name", "description", "parameters"}``.
    """

    name = "json"

    def __init__(self, tools: tuple[Mapping[str, Any], ...]) -> None:
        self.tools = {str(tool["name"]): tool for tool in tools}
        from jsonschema import Draft202012Validator  # slow to import, and only JSON tool calls need it

        self._validators = {
            name: Draft202012Validator({"additionalProperties": False, **tool["parameters"]})
            for name, tool in self.tools.items()
        }

    def __reduce__(self) -> tuple[type[ToolCall], tuple[tuple[Mapping[str, Any], ...]]]:
        """Pickle as the tools alone: compiled validators cannot be pickled."""
        return type(self), (tuple(self.tools.values()),)

    @property
    def instructions(self) -> str:
        """Name the tools and the shape of a call."""
        schemas = "\n".join(json.dumps(tool, sort_keys=True) for tool in self.tools.values())
        shape = '{"name": …, "arguments": {…}}'
        return f"Call one tool with a JSON object {shape} and nothing after it. Tools:\n{schemas}"

    def parse(self, text: str) -> Move:
        """Read the last JSON object, and check it against the tool's parameters."""
        body = text.rsplit("<tool_call>", 1)[-1].split("</tool_call>", 1)[0]
        start = body.find("{")
        if start < 0:
            raise ActionParseError('No JSON object was found. Write {"name": …, "arguments": {…}}.')
        try:
            call, _ = json.JSONDecoder().raw_decode(body[start:])
        except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
            raise ActionParseError(f"The tool call is not valid JSON: {error}") from None
        name = call.get("name")
        arguments = call.get("arguments", {})
        if not isinstance(name, str) or name not in self.tools:
            raise ActionParseError(f"Unknown tool {name!r}. Tools: {', '.join(sorted(self.tools))}.")
        if not isinstance(arguments, dict):
            raise ActionParseError('"arguments" must be a JSON object.')
        problem = next(self._validators[name].iter_errors(arguments), None)
        if problem is not None:
            raise ActionParseError(f"Wrong arguments for tool {name!r}: {problem.message[:300]}.")
        command = arguments.get("command")
        return Move(command=command if isinstance(command, str) else "", tool=name, arguments=arguments)

    def render(self, move: Move) -> str:
        """Write the call as JSON; a bare command goes to the only tool there is."""
        tool = move.tool or next(iter(self.tools))
        arguments = dict(move.arguments) if move.tool else {"command": move.command}
        return json.dumps({"name": tool, "arguments": arguments})


COMMAND_TOOL: Mapping[str, Any] = {
    "name": "act",
    "description": "Carry out one command in the world.",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}


def make_action_format(name: str, tools: tuple[Mapping[str, Any], ...] = ()) -> ActionFormat:
    """Return the action format called ``plain``, ``thought``, ``tag`` or ``json``.

    Raises:
        UnknownNameError: There is no such format.
    """
    makers: dict[str, Callable[[], ActionFormat]] = {
        "plain": PlainCommand,
        "thought": ThoughtCommand,
        "tag": TaggedCommand,
        "json": lambda: ToolCall(tools or (COMMAND_TOOL,)),
    }
    if name not in makers:
        raise UnknownNameError("action format", name, makers)
    return makers[name]()
