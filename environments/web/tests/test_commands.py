"""The grammar of commands and tools, both ways."""

from __future__ import annotations

import pytest

from agentgym.actions import Move, make_action_format
from agentgym.errors import ActionParseError
from agentgym_web.commands import TOOLS, PageAction, make_move, read_action

VERBS = tuple(TOOLS)
READ = {
    "click 12": PageAction("click", 12),
    "CLICK 12 double": PageAction("click", 12, count=2),
    "click 40.5, 55 right": PageAction("click", (40.5, 55.0), button="right"),
    'type 3 "a \\"b\\" \\u00e9"': PageAction("type", 3, text='a "b" é'),
    "type 3 two words": PageAction("type", 3, text="two words"),
    'type "here"': PageAction("type", text="here"),
    'type 3 ""': PageAction("type", 3, text=""),
    'select 7 "New York"': PageAction("select", 7, text="New York"),
    "press Enter": PageAction("press", text="Enter"),
    "press 4 Control+a": PageAction("press", 4, text="Control+a"),
    "scroll down": PageAction("scroll", down_px=400),
    "scroll 5 left 30": PageAction("scroll", 5, right_px=-30),
    "drag 1 20,30": PageAction("drag", 1, (20.0, 30.0)),
    "goto http://shop/": PageAction("goto", text="http://shop/"),
    "switch_tab 2": PageAction("switch_tab", index=2),
    "stop": PageAction("stop"),
    "stop 42": PageAction("stop", text="42"),
}
WRONG = """|fly|click|click x|click 1 twice|hover|hover 1 2|drag 1|drag 1 x|scroll|scroll away|scroll down x|select 3
select 3,4 "a"|press|switch_tab|switch_tab x|back 1|goto|type""".replace("\n", "|").split("|")


@pytest.mark.parametrize("command", READ)
def test_commands_are_read(command: str) -> None:
    assert read_action(Move(command=command), VERBS) == READ[command]


@pytest.mark.parametrize("command", WRONG)
def test_what_is_no_command_says_so(command: str) -> None:
    with pytest.raises(ActionParseError):
        read_action(Move(command=command), VERBS)


def test_commands_that_an_environment_lacks_are_refused() -> None:
    with pytest.raises(ActionParseError, match="no command 'goto'"):
        read_action(Move(command="goto http://a/"), ("click",))


MOVES = [
    make_move("click", 12),
    make_move("click", (3.0, 4.5), kind="double"),
    make_move("type", 3, text='say "hi"\nand é'),
    make_move("select", 2, label="A > B"),
    make_move("press", key="Control+a"),
    make_move("drag", 1, end=(2.0, 3.0)),
    make_move("scroll", 4, direction="up", pixels=30),
    make_move("wait"),
    make_move("stop", answer="42"),
]


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.command)
def test_every_format_writes_a_move_that_it_reads_again(move: Move) -> None:
    tools = tuple(TOOLS.values())
    wanted = read_action(move, VERBS)
    for name in ("plain", "tag", "json"):
        form = make_action_format(name, tools)
        assert read_action(form.parse(form.render(move)), VERBS) == wanted
