from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym import Move
from agentgym.actions import COMMAND_TOOL, make_action_format
from agentgym.errors import ActionParseError, UnknownNameError

FORMATS = ("plain", "thought", "tag", "json")


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_rendered_parses_back(name: str) -> None:
    action_format = make_action_format(name)
    assert action_format.parse(action_format.render(Move(command="go to desk 1"))).command == "go to desk 1"


@pytest.mark.parametrize("name", FORMATS)
@given(text=st.text(max_size=300))
def test_any_text_parses_or_is_refused(name: str, text: str) -> None:
    try:
        move = make_action_format(name).parse(text)
    except ActionParseError as error:
        assert str(error)
    else:
        assert isinstance(move, Move)


@pytest.mark.parametrize(
    ("name", "text", "command"),
    [
        ("plain", "\n  look \n", "look"),
        ("thought", "no mug here > go to shelf 2", "go to shelf 2"),
        ("thought", "a > b > look", "look"),
        ("thought", "> look", "look"),
        ("thought", "look", "look"),
        ("tag", "I think… <action>look</action>", "look"),
        ("tag", "<action>go</action> no: <action>look</action>", "look"),
        ("tag", "<action>go <action>look</action>", "look"),
        ("json", 'Sure! {"name": "act", "arguments": {"command": "look"}}', "look"),
        ("json", '<tool_call>{"name": "act", "arguments": {"command": "look"}}</tool_call>', "look"),
    ],
)
def test_moves_are_read(name: str, text: str, command: str) -> None:
    assert make_action_format(name).parse(text).command == command


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("plain", " \n ", "empty"),
        ("plain", "look\ngo", "2 lines"),
        ("thought", "no mug here >", "empty"),
        ("thought", "no mug here > look\ngo", "2 lines"),
        ("tag", "look", "<action>"),
        ("tag", "<action>look", "<action>"),
        ("json", "look", "No JSON object"),
        ("json", '{"name": "act"', "not valid JSON"),
        ("json", "{" * 100_000, "not valid JSON"),
        ("json", '{"name": "fly", "arguments": {}}', "Unknown tool 'fly'"),
        ("json", '{"name": ["act"], "arguments": {}}', "Unknown tool"),
        ("json", '{"name": "act", "arguments": []}', "JSON object"),
        ("json", '{"name": "act", "arguments": {}}', "required"),
        ("json", '{"name": "act", "arguments": {"command": 3}}', "not of type 'string'"),
        ("json", '{"name": "act", "arguments": {"command": "look", "speed": 3}}', "'speed' was unexpected"),
    ],
)
def test_refusals_say_what_is_wrong(name: str, text: str, says: str) -> None:
    with pytest.raises(ActionParseError, match=says):
        make_action_format(name).parse(text)


@pytest.mark.parametrize("name", ["thought", "tag"])
def test_thoughts_are_written_and_never_carried_out(name: str) -> None:
    action_format = make_action_format(name)
    text = action_format.render(Move(command="look", thought="nothing here"))
    assert "nothing here" in text
    assert action_format.parse(text).command == "look"


def test_thoughts_are_read_back() -> None:
    action_format = make_action_format("thought")
    move = Move(command="go to shelf 2", thought="find mug, hold nothing")
    assert action_format.parse(action_format.render(move)) == move


def test_tools_are_named_in_the_instructions() -> None:
    assert json.dumps(COMMAND_TOOL, sort_keys=True) in make_action_format("json").instructions


def test_unknown_format_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'plain'"):
        make_action_format("plane")
