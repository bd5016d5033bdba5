"""Families of tasks in the tracker."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass

from agentgym_web.sites.goal import Errand, Goal, Step
from agentgym_web.sites.store import Fact
from agentgym_web.sites.tracker_pages import PRIORITIES, REASONS
from agentgym_web.sites.tracker_world import CAUSES, COMPONENTS, LABELS, REMARKS, TITLES

#: Wordings; ``{ticket}`` is a number, a title, or both.
WORDINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "tracker_create": {
        "seen": (
            'Create a ticket "{title}" in the component {component} with priority {priority} and label {label}.'
            ' Description: "{text}"',
            'For {component}, open a ticket of {priority} priority. Title: "{title}"; description: "{text}";'
            " label: {label}",
        ),
        "unseen": (
            'File this for the {component}: "{title}". It is {priority}, goes under {label}, and the details are'
            ' "{text}"',
        ),
    },
    "tracker_assign": {
        "seen": ("Assign {ticket} to {member}", "Make {member} the assignee of {ticket}"),
        "unseen": ("{member} will work on {ticket}. Record that", "Hand {ticket} over to {member}"),
    },
    "tracker_label": {
        "seen": ('Add the label "{label}" to {ticket}', 'Label {ticket} as "{label}"'),
        "unseen": ('{ticket} lacks the label "{label}". Put it on',),
    },
    "tracker_relabel": {
        "seen": (
            'On {ticket}, replace the label "{old}" by "{label}"',
            'Take the label "{old}" off {ticket} and add "{label}" instead',
        ),
        "unseen": ('{ticket} was filed under "{old}" by mistake. Only that label should become "{label}"',),
    },
    "tracker_comment": {
        "seen": ('Comment on {ticket}: "{text}"', 'Write the comment "{text}" on {ticket}'),
        "unseen": ('Leave a note for those who read {ticket}. It says "{text}"',),
    },
    "tracker_close": {
        "seen": ('Close {ticket} as "{reason}"', 'Close {ticket}. The reason is "{reason}"'),
        "unseen": ('{ticket} needs no more work ("{reason}"). Close it',),
    },
    "tracker_resolve": {
        "seen": (
            'Comment "{text}" on {ticket}, then close it as "{reason}"',
            'Close {ticket} as "{reason}" and leave the comment "{text}" on it',
        ),
        "unseen": ('Wind up {ticket}: a last comment "{text}", and closed as "{reason}"',),
    },
    "tracker_triage": {
        "seen": (
            'Assign every open ticket with the label "{label}" that nobody works on to {member}',
            'Find all open tickets labelled "{label}" without an assignee and assign them to {member}',
        ),
        "unseen": ('{member} takes over whatever is open, labelled "{label}" and not assigned to anybody',),
    },
    "tracker_prioritise": {
        "seen": (
            "Set the priority of every open ticket of the component {component} to {priority}",
            "All open {component} tickets should have priority {priority}. Change those that do not",
        ),
        "unseen": ("From now on, what is open in {component} is {priority}",),
    },
}

HOME = Step("click", "link", "Tickets")


@dataclass(frozen=True)
class Draw:
    """What a goal is drawn from."""

    rows: sqlite3.Connection
    group: str
    chance: random.Random

    def choose_ticket(self, condition: str) -> tuple[int, str]:
        """Return number and title of a ticket; open ones only, as these are listed."""
        query = f"SELECT id, title FROM ticket WHERE closed IS NULL AND {condition} ORDER BY id"
        number, title = self.chance.choice(self.rows.execute(query).fetchall())
        return number, title

    def name_ticket(self, ticket: tuple[int, str]) -> str:
        """Return how an instruction speaks of a ticket."""
        number, title = ticket
        names = (f"ticket #{number}", f'the ticket "{title}"')
        return self.chance.choice(names) if self.group == "seen" else f'#{number} ("{title}")'


def draw_tracker_goal(kind: str, rows: sqlite3.Connection, group: str, chance: random.Random) -> Goal | None:
    """Draw a goal of a family, or nothing if this draw has no such goal.

    Args:
        kind: Family.
        rows: The tracker.
        group: ``"seen"`` or ``"unseen"``: which wordings are used.
        chance: Where it is drawn from.
    """
    draw = Draw(rows, group, chance)
    if kind == "tracker_create":
        errands, words = _create(draw)
    elif kind in ("tracker_triage", "tracker_prioritise"):
        errands, words = _change_many(kind, draw)
    else:
        errands, words = _change_one(kind, draw)
    if not errands:
        return None
    added = tuple(fact for errand in errands for fact in errand.added)
    removed = tuple(fact for errand in errands for fact in errand.removed)
    text = chance.choice(WORDINGS[kind][group]).format(**words)
    return Goal(kind, text[0].upper() + text[1:] + ".", errands, added, removed)


def _visit(ticket: tuple[int, str], *steps: Step) -> tuple[Step, ...]:
    return (HOME, Step("click", "link", f"#{ticket[0]} {ticket[1]}"), *steps)


def _set(field: str, value: str, button: str) -> tuple[Step, Step]:
    return Step("choose", "combobox", field, value), Step("click", "button", button)


def _read_member(rows: sqlite3.Connection, chance: random.Random) -> str:
    return str(chance.choice(rows.execute("SELECT name FROM member ORDER BY name").fetchall())[0])


def _create(draw: Draw) -> tuple[tuple[Errand, ...], dict[str, str]]:
    chance, group = draw.chance, draw.group
    component, cause = chance.choice(COMPONENTS[group]), chance.choice(CAUSES[group])
    title = chance.choice(TITLES[group]).format(component=component, cause=cause)
    title = title[0].upper() + title[1:]
    if draw.rows.execute("SELECT 1 FROM ticket WHERE title = ?", (title,)).fetchone():
        return (), {}
    me = draw.rows.execute("SELECT name FROM me").fetchone()[0]
    text, label = chance.choice(REMARKS[group]), chance.choice(LABELS[group])
    priority = chance.choice(PRIORITIES)
    added: tuple[Fact, ...] = (
        ("ticket", title, text, component, me), ("priority", title, priority), ("label", title, label)
    )  # fmt: skip
    steps = (
        Step("click", "link", "New ticket"),
        Step("fill", "textbox", "Title", title),
        Step("fill", "textbox", "Description", text),
        Step("choose", "combobox", "Component", component),
        Step("choose", "combobox", "Priority", priority),
        Step("choose", "combobox", "Label", label),
        Step("click", "button", "Create ticket"),
    )
    words = {"title": title, "text": text, "component": component, "label": label, "priority": priority}
    return (Errand(steps, added),), words


def _change_one(kind: str, draw: Draw) -> tuple[tuple[Errand, ...], dict[str, str]]:
    rows, chance = draw.rows, draw.chance
    labelled = "id IN (SELECT ticket FROM ticket_label)"
    ticket = draw.choose_ticket({"tracker_relabel": labelled, "tracker_assign": "assignee IS NULL"}.get(kind, "1"))
    title = ticket[1]
    own = [label for (label,) in rows.execute("SELECT label FROM ticket_label WHERE ticket = ?", ticket[:1])]
    label = chance.choice([label for label in LABELS[draw.group] if label not in own])
    member, text = _read_member(rows, chance), chance.choice(REMARKS[draw.group])
    reason, old = chance.choice(REASONS), chance.choice(sorted(own)) if own else ""
    me = rows.execute("SELECT name FROM me").fetchone()[0]
    put = Errand(_visit(ticket, *_set("Label to add", label, "Add label")), (("label", title, label),))
    drop = Errand(_visit(ticket, *_set("Label to remove", old, "Remove label")), (), (("label", title, old),))
    say = Errand(
        _visit(ticket, Step("fill", "textbox", "Your comment", text), Step("click", "button", "Add comment")),
        (("comment", title, me, text),),
    )
    close = Errand(_visit(ticket, *_set("Reason to close", reason, "Close ticket")), (("closed", title, reason),))
    give = Errand(_visit(ticket, *_set("New assignee", member, "Assign")), (("assignee", title, member),))
    errands = {
        "tracker_assign": (give,),
        "tracker_label": (put,),
        "tracker_relabel": (drop, put),
        "tracker_comment": (say,),
        "tracker_close": (close,),
        "tracker_resolve": (say, close),
    }[kind]
    words = {"member": member, "label": label, "old": old, "text": text, "reason": reason}
    return errands, {**words, "ticket": draw.name_ticket(ticket)}


def _change_many(kind: str, draw: Draw) -> tuple[tuple[Errand, ...], dict[str, str]]:
    rows, chance = draw.rows, draw.chance
    member, priority = _read_member(rows, chance), chance.choice(PRIORITIES)
    label, component = chance.choice(LABELS[draw.group]), chance.choice(COMPONENTS[draw.group])
    words = {"member": member, "priority": priority, "label": label, "component": component}
    if kind == "tracker_triage":
        found = rows.execute(
            "SELECT id, title FROM ticket JOIN ticket_label ON ticket = id"
            " WHERE label = ? AND closed IS NULL AND assignee IS NULL ORDER BY id",
            (label,),
        ).fetchall()
        errands = tuple(
            Errand(_visit(one, *_set("New assignee", member, "Assign")), (("assignee", one[1], member),))
            for one in found
        )
    else:
        tickets = rows.execute(
            "SELECT id, title, priority FROM ticket"
            " WHERE component = ? AND closed IS NULL AND priority != ? ORDER BY id",
            (component, priority),
        ).fetchall()
        errands = tuple(
            Errand(
                _visit((number, title), *_set("New priority", priority, "Set priority")),
                (("priority", title, priority),),
                (("priority", title, old),),
            )
            for number, title, old in tickets
        )
    return (errands, words) if 2 <= len(errands) <= 5 else ((), {})
