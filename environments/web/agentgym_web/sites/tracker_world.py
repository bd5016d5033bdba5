"""Generated trackers: members, components, labels and tickets."""

from __future__ import annotations

import random
import sqlite3

from agentgym_web.sites.store import open_memory
from agentgym_web.sites.tracker_pages import PRIORITIES, REASONS, SCHEMA

MEMBERS = {
    "seen": ["Amira", "Bruno", "Celine", "Dario", "Edith", "Fiona", "Gustav", "Hana", "Ivan", "Jules"],
    "unseen": ["Katya", "Lorenzo", "Mirela", "Noah", "Olga", "Petros", "Runa", "Stefan"],
}
COMPONENTS = {
    "seen": ("editor", "importer", "login", "search", "mail", "billing"),
    "unseen": ("calendar", "printing", "gateway", "dashboard", "archive"),
}
LABELS = {
    "seen": ("bug", "feature", "docs", "regression", "needs info", "security"),
    "unseen": ("crash", "wish", "translation", "performance", "accessibility"),
}
TITLES = {
    "seen": (
        "{component} fails when {cause}", "{component} is slow when {cause}",
        "{component} shows a blank page when {cause}",
        "{component} forgets settings when {cause}", "Let the {component} say more when {cause}",
    ),
    "unseen": (
        "Wrong totals from the {component} if {cause}", "{component}: no answer if {cause}",
        "Please simplify the {component} if {cause}", "{component} repeats itself if {cause}",
    ),
}  # fmt: skip
CAUSES = {
    "seen": (
        "a file is empty", "two people save at once", "the network is down", "a name has accents", "the disk is full",
        "the clock changes", "a list is very long", "a user has no address",
    ),
    "unseen": (
        "the browser is old", "a date is in the past", "nobody is signed in", "the text runs right to left",
        "a page is reloaded", "a device sleeps", "an attachment is large",
    ),
}  # fmt: skip
REMARKS = {
    "seen": (
        "I can reproduce this on my machine.", "Please attach the log file.", "This began with the last release.",
        "A fix is on its way.", "Let us talk about it on Monday.", "It works for me after a restart.",
    ),
    "unseen": (
        "Customers have asked for this twice.", "I will look into it tonight.",
        "Waiting for an answer from the vendor.",
        "See the minutes of our last meeting.", "Reverting the change helps.",
    ),
}  # fmt: skip
TICKETS = 24


def build_tracker(group: str, chance: random.Random) -> sqlite3.Connection:
    """Return a tracker's database.

    Args:
        group: ``"seen"`` or ``"unseen"``.
        chance: Where it is drawn from.
    """
    rows = open_memory()
    rows.executescript(SCHEMA)
    rows.execute("BEGIN")
    members = chance.sample(MEMBERS[group], len(MEMBERS[group]))
    rows.execute("INSERT INTO me VALUES (?)", (members[0],))
    for table, names in (("member", members), ("component", COMPONENTS[group]), ("label", LABELS[group])):
        rows.executemany(f"INSERT INTO {table} VALUES (?)", [(name,) for name in names])
    titles: dict[str, str] = {}
    while len(titles) < TICKETS:
        component = chance.choice(COMPONENTS[group])
        title = chance.choice(TITLES[group]).format(component=component, cause=chance.choice(CAUSES[group]))
        titles.setdefault(title[0].upper() + title[1:], component)
    for number, (title, component) in enumerate(titles.items(), start=chance.randint(100, 900)):
        closed = chance.choice(REASONS) if chance.random() < 0.25 else None
        assignee = chance.choice(members) if chance.random() < 0.5 else None
        body = f"Seen in the {component}. {chance.choice(REMARKS[group])}"
        ticket = (number, title, body, component, chance.choice(PRIORITIES), assignee, chance.choice(members), closed)
        rows.execute("INSERT INTO ticket VALUES (?, ?, ?, ?, ?, ?, ?, ?)", ticket)
        for label in sorted(chance.sample(LABELS[group], chance.randint(0, 2))):
            rows.execute("INSERT INTO ticket_label VALUES (?, ?)", (number, label))
        for _ in range(chance.randint(0, 2)):
            remark = (number, chance.choice(members), chance.choice(REMARKS[group]))
            rows.execute("INSERT INTO comment VALUES (NULL, ?, ?, ?)", remark)
    rows.execute("COMMIT")
    return rows
