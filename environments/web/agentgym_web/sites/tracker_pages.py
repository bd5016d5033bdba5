"""The pages of the tracker of tickets."""

from __future__ import annotations

import re
import sqlite3

from werkzeug import Request
from werkzeug.exceptions import NotFound

from agentgym_web.sites.server import Go, Page, Site, read_field

REASONS = ("fixed", "duplicate", "cannot reproduce", "works as intended")
PRIORITIES = ("low", "normal", "high", "urgent")
NOBODY = "nobody"

SCHEMA = """
CREATE TABLE me (name TEXT);
CREATE TABLE member (name TEXT PRIMARY KEY);
CREATE TABLE component (name TEXT PRIMARY KEY);
CREATE TABLE label (name TEXT PRIMARY KEY);
CREATE TABLE ticket (
  id INTEGER PRIMARY KEY, title TEXT, body TEXT, component TEXT REFERENCES component, priority TEXT,
  assignee TEXT, author TEXT REFERENCES member, closed TEXT);
CREATE TABLE ticket_label (ticket INTEGER REFERENCES ticket, label TEXT REFERENCES label, PRIMARY KEY (ticket, label));
CREATE TABLE comment (id INTEGER PRIMARY KEY, ticket INTEGER REFERENCES ticket, author TEXT, body TEXT);
"""

# Tickets are told apart by their titles: the number of a new one depends on what else was made.
FACTS = (
    "SELECT 'ticket', title, body, component, author FROM ticket",
    "SELECT 'priority', title, priority FROM ticket",
    "SELECT 'assignee', title, assignee FROM ticket WHERE assignee IS NOT NULL",
    "SELECT 'closed', title, closed FROM ticket WHERE closed IS NOT NULL",
    "SELECT 'label', title, label FROM ticket_label JOIN ticket ON id = ticket",
    "SELECT 'comment', title, comment.author, comment.body FROM comment JOIN ticket ON ticket.id = ticket",
)


def _read_names(rows: sqlite3.Connection, query: str, *values: int) -> list[str]:
    return [name for (name,) in rows.execute(query, values)]


def _read_choices(rows: sqlite3.Connection) -> dict[str, list[str]]:
    return {
        "labels": _read_names(rows, "SELECT name FROM label ORDER BY name"),
        "members": _read_names(rows, "SELECT name FROM member ORDER BY name"),
        "components": _read_names(rows, "SELECT name FROM component ORDER BY name"),
        "priorities": list(PRIORITIES),
        "reasons": list(REASONS),
    }


def list_tickets(rows: sqlite3.Connection, request: Request) -> Page:
    """Show the tickets that pass the filters, the newest first."""
    names = ("status", "label", "assignee", "component", "priority", "words")
    asked = {name: request.args.get(name, "") for name in names}
    asked["status"] = asked["status"] if asked["status"] in ("open", "closed", "any") else "open"
    wanted: list[str] = []
    values: list[str] = []
    if asked["status"] != "any":
        wanted.append("closed IS NULL" if asked["status"] == "open" else "closed IS NOT NULL")
    if asked["label"]:
        wanted.append("id IN (SELECT ticket FROM ticket_label WHERE label = ?)")
        values.append(asked["label"])
    if asked["assignee"]:
        wanted.append("coalesce(assignee, ?) = ?")
        values += [NOBODY, asked["assignee"]]
    for name in ("component", "priority"):
        if asked[name]:
            wanted.append(f"{name} = ?")
            values.append(asked[name])
    for word in re.findall(r"\w+", asked["words"])[:20]:
        wanted.append("instr(lower(title || ' ' || body), lower(?))")
        values.append(word)
    condition = " AND ".join(wanted) or "1"
    tickets = rows.execute(
        "SELECT id, title, coalesce(closed, 'open'), priority, coalesce(assignee, 'nobody'),"  # our words
        " (SELECT coalesce(group_concat(label, ', '), '') FROM (SELECT label FROM ticket_label WHERE ticket = id"
        f" ORDER BY label)) FROM ticket WHERE {condition} ORDER BY id DESC LIMIT 100",
        values,
    ).fetchall()
    return Page("tracker_list.html", {"tickets": tickets, "asked": asked, "nobody": NOBODY, **_read_choices(rows)})


def show_ticket(rows: sqlite3.Connection, request: Request, ticket: int) -> Page:
    """Show a ticket and what can be done with it."""
    head = rows.execute("SELECT * FROM ticket WHERE id = ?", (ticket,)).fetchone()
    if head is None:
        raise NotFound
    own = _read_names(rows, "SELECT label FROM ticket_label WHERE ticket = ? ORDER BY label", ticket)
    comments = rows.execute("SELECT id, author, body FROM comment WHERE ticket = ? ORDER BY id", (ticket,)).fetchall()
    names = ("id", "title", "body", "component", "priority", "assignee", "author", "closed")
    values = {"ticket": dict(zip(names, head, strict=True)), "own": own, "comments": comments, "nobody": NOBODY}
    return Page("tracker_ticket.html", {**values, **_read_choices(rows)})


def show_form(rows: sqlite3.Connection, request: Request) -> Page:
    """Show the form for a new ticket."""
    return Page("tracker_new.html", _read_choices(rows))


def create(rows: sqlite3.Connection, request: Request) -> Go:
    """Create a ticket."""
    title, body, component, priority, label = (
        read_field(request, name) for name in ("title", "body", "component", "priority", "label")
    )
    choices = _read_choices(rows)
    if not title or len(title) > 200 or component not in choices["components"] or priority not in PRIORITIES:
        return Go("/new", "Not created: a ticket needs a title, a component and a priority.")
    me = rows.execute("SELECT name FROM me").fetchone()[0]
    made = rows.execute(
        "INSERT INTO ticket VALUES (NULL, ?, ?, ?, ?, NULL, ?, NULL)", (title, body, component, priority, me)
    )
    if label in choices["labels"]:
        rows.execute("INSERT INTO ticket_label VALUES (?, ?)", (made.lastrowid, label))
    return Go(f"/ticket/{made.lastrowid}", f"Ticket #{made.lastrowid} was created.")


def change(rows: sqlite3.Connection, request: Request, ticket: int, what: str) -> Go:
    """Change one thing about a ticket."""
    if rows.execute("SELECT 1 FROM ticket WHERE id = ?", (ticket,)).fetchone() is None:
        raise NotFound
    value, choices = read_field(request, "value"), _read_choices(rows)
    allowed = {
        "assign": [*choices["members"], NOBODY],
        "prioritise": PRIORITIES,
        "label": choices["labels"],
        "unlabel": choices["labels"],
        "close": REASONS,
        "reopen": [""],
    }
    if (what == "comment" and not value) or (what != "comment" and value not in allowed[what]):
        return Go(f"/ticket/{ticket}", "Not saved: choose or write something first.")
    _save(rows, ticket, what, value)
    return Go(f"/ticket/{ticket}", "Saved.")


def _save(rows: sqlite3.Connection, ticket: int, what: str, value: str) -> None:
    if what == "comment":
        me = rows.execute("SELECT name FROM me").fetchone()[0]
        rows.execute("INSERT INTO comment VALUES (NULL, ?, ?, ?)", (ticket, me, value))
    elif what == "label":
        rows.execute("INSERT OR IGNORE INTO ticket_label VALUES (?, ?)", (ticket, value))
    elif what == "unlabel":
        rows.execute("DELETE FROM ticket_label WHERE ticket = ? AND label = ?", (ticket, value))
    else:
        column = {"assign": "assignee", "prioritise": "priority", "close": "closed", "reopen": "closed"}[what]
        kept = None if value in (NOBODY, "") else value
        rows.execute(f"UPDATE ticket SET {column} = ? WHERE id = ?", (kept, ticket))  # one of our columns


TRACKER = Site(
    name="Ticket Desk",
    routes=(
        ("GET", "/", list_tickets),
        ("GET", "/new", show_form),
        ("POST", "/new", create),
        ("GET", "/ticket/<int:ticket>", show_ticket),
        (
            "POST",
            "/ticket/<int:ticket>/<any(assign, prioritise, label, unlabel, close, reopen, comment):what>",
            change,
        ),
    ),
    facts=FACTS,
    links=(("Tickets", "/"), ("New ticket", "/new")),
)
