"""The pages of the forum."""

from __future__ import annotations

import re
import sqlite3
from urllib.parse import quote

from werkzeug import Request
from werkzeug.exceptions import NotFound

from agentgym_web.sites.server import Go, Page, Site, read_field

REASONS = ("spam", "off topic", "rude", "duplicate")

SCHEMA = """
CREATE TABLE me (name TEXT, moderates TEXT);
CREATE TABLE user (name TEXT PRIMARY KEY, about TEXT);
CREATE TABLE board (name TEXT PRIMARY KEY);
CREATE TABLE thread (
  id INTEGER PRIMARY KEY, board TEXT REFERENCES board, title TEXT, author TEXT REFERENCES user,
  locked INTEGER DEFAULT 0, pinned INTEGER DEFAULT 0);
CREATE TABLE post (
  id INTEGER PRIMARY KEY, thread INTEGER REFERENCES thread, author TEXT REFERENCES user, body TEXT,
  score INTEGER DEFAULT 0, removed TEXT);
CREATE TABLE vote (post INTEGER PRIMARY KEY REFERENCES post, value INTEGER);
CREATE TABLE follow (user TEXT PRIMARY KEY REFERENCES user);
CREATE VIRTUAL TABLE words USING fts5(thread UNINDEXED, text, tokenize = 'porter');
"""

FACTS = (
    "SELECT 'thread', board, title, author FROM thread",
    "SELECT 'locked', id FROM thread WHERE locked",
    "SELECT 'pinned', id FROM thread WHERE pinned",
    "SELECT 'post', title, post.author, body FROM post JOIN thread ON thread.id = thread",
    "SELECT 'removed', id, removed FROM post WHERE removed IS NOT NULL",
    "SELECT 'vote', post, value FROM vote",
    "SELECT 'follow', user FROM follow",
)

_THREADS = (
    "SELECT thread.id, board, title, thread.author, locked, pinned,"
    " (SELECT count(*) - 1 FROM post WHERE post.thread = thread.id) FROM thread"
)
_POSTS = (
    "SELECT post.id, author, body, score + coalesce(value, 0), removed, coalesce(value, 0) FROM post"
    " LEFT JOIN vote ON vote.post = post.id"
)


def _read_me(rows: sqlite3.Connection) -> tuple[str, str]:
    name, moderates = rows.execute("SELECT name, moderates FROM me").fetchone()
    return name, moderates


def _read_boards(rows: sqlite3.Connection) -> list[str]:
    return [name for (name,) in rows.execute("SELECT name FROM board ORDER BY name")]


def show_home(rows: sqlite3.Connection, request: Request) -> Page:
    """Show the boards."""
    me, moderates = _read_me(rows)
    boards = [(name, "/board/" + quote(name)) for name in _read_boards(rows)]
    return Page("forum_home.html", {"boards": boards, "me": me, "moderates": moderates})


def show_board(rows: sqlite3.Connection, request: Request, board: str) -> Page:
    """Show a board's threads, pinned ones first."""
    if board not in _read_boards(rows):
        raise NotFound
    threads = rows.execute(f"{_THREADS} WHERE board = ? ORDER BY pinned DESC, id DESC LIMIT 100", (board,)).fetchall()
    return Page("forum_board.html", {"heading": board, "threads": threads})


def search(rows: sqlite3.Connection, request: Request) -> Page:
    """Show the threads in which words stand, best first."""
    asked = request.args.get("q", "")
    wanted = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", asked)[:40])
    query = "SELECT thread FROM words WHERE words MATCH ? ORDER BY bm25(words), rowid"
    found = rows.execute(query, (wanted,)).fetchall() if wanted else []  # of no words FTS5 makes an error
    numbers = list(dict.fromkeys(number for (number,) in found))[:20]
    threads = [rows.execute(f"{_THREADS} WHERE id = ?", (number,)).fetchone() for number in numbers]
    return Page("forum_board.html", {"heading": f"Search: {asked}", "threads": threads})


def show_thread(rows: sqlite3.Connection, request: Request, thread: int) -> Page:
    """Show a thread's posts, oldest first."""
    head = rows.execute(f"{_THREADS} WHERE id = ?", (thread,)).fetchone()
    if head is None:
        raise NotFound
    posts = rows.execute(f"{_POSTS} WHERE thread = ? ORDER BY post.id", (thread,)).fetchall()
    moderated = head[1] == _read_me(rows)[1]
    values = {"head": head, "posts": posts, "moderated": moderated, "reasons": REASONS}
    return Page("forum_thread.html", {**values, "board_address": "/board/" + quote(head[1])})


def show_form(rows: sqlite3.Connection, request: Request) -> Page:
    """Show the form for a new thread."""
    return Page("forum_new.html", {"boards": _read_boards(rows)})


def start_thread(rows: sqlite3.Connection, request: Request) -> Go:
    """Start a thread."""
    board, title, body = (read_field(request, name) for name in ("board", "title", "body"))
    if board not in _read_boards(rows) or not title or not body or len(title) > 200:
        return Go("/new", "Not posted: a thread needs a board, a title and a text.")
    me, _ = _read_me(rows)
    made = rows.execute("INSERT INTO thread (board, title, author) VALUES (?, ?, ?)", (board, title, me))
    rows.execute("INSERT INTO post (thread, author, body) VALUES (?, ?, ?)", (made.lastrowid, me, body))
    rows.execute("INSERT INTO words VALUES (?, ?)", (made.lastrowid, f"{title} {body}"))
    return Go(f"/thread/{made.lastrowid}", "Your thread was posted.")


def reply(rows: sqlite3.Connection, request: Request, thread: int) -> Go:
    """Reply to a thread that is not locked."""
    head = rows.execute("SELECT locked FROM thread WHERE id = ?", (thread,)).fetchone()
    if head is None:
        raise NotFound
    body = read_field(request, "body")
    if head[0] or not body:
        return Go(f"/thread/{thread}", "Not posted: the thread is locked." if head[0] else "Not posted: write a text.")
    rows.execute("INSERT INTO post (thread, author, body) VALUES (?, ?, ?)", (thread, _read_me(rows)[0], body))
    rows.execute("INSERT INTO words VALUES (?, ?)", (thread, body))
    return Go(f"/thread/{thread}", "Your reply was posted.")


def vote(rows: sqlite3.Connection, request: Request, post: int) -> Go:
    """Vote for or against a post of somebody else; the same vote again takes it back."""
    found = rows.execute(
        "SELECT thread, author, value FROM post LEFT JOIN vote ON post = id WHERE id = ?", (post,)
    ).fetchone()
    if found is None:
        raise NotFound
    thread, author, old = found
    value = {"up": 1, "down": -1}.get(read_field(request, "vote"))
    if value is None or author == _read_me(rows)[0]:
        return Go(f"/thread/{thread}", "That vote does not count.")
    rows.execute("DELETE FROM vote WHERE post = ?", (post,))
    if value != old:
        rows.execute("INSERT INTO vote VALUES (?, ?)", (post, value))
    return Go(f"/thread/{thread}", "Your vote was taken back." if value == old else "Your vote was counted.")


def _check_moderator(rows: sqlite3.Connection, thread: int) -> None:
    board = rows.execute("SELECT board FROM thread WHERE id = ?", (thread,)).fetchone()
    if board is None or board[0] != _read_me(rows)[1]:
        raise NotFound


def remove(rows: sqlite3.Connection, request: Request, post: int) -> Go:
    """Remove a post from a board that the reader moderates."""
    thread = rows.execute("SELECT thread FROM post WHERE id = ?", (post,)).fetchone()
    if thread is None:
        raise NotFound
    _check_moderator(rows, thread[0])
    reason = read_field(request, "reason")
    if reason not in REASONS:
        return Go(f"/thread/{thread[0]}", "Not removed: choose a reason.")
    rows.execute("UPDATE post SET removed = ? WHERE id = ?", (reason, post))
    return Go(f"/thread/{thread[0]}", "The post was removed.")


def mark(rows: sqlite3.Connection, request: Request, thread: int, what: str) -> Go:
    """Lock or pin a thread, or undo it."""
    _check_moderator(rows, thread)
    column = {"lock": "locked", "pin": "pinned"}[what]
    rows.execute(f"UPDATE thread SET {column} = 1 - {column} WHERE id = ?", (thread,))  # one of two words
    return Go(f"/thread/{thread}", "The thread was changed.")


def show_user(rows: sqlite3.Connection, request: Request, name: str) -> Page:
    """Show a member and what she wrote last."""
    user = rows.execute("SELECT name, about FROM user WHERE name = ?", (name,)).fetchone()
    if user is None:
        raise NotFound
    posts = rows.execute(
        "SELECT thread, title, body FROM post JOIN thread ON thread.id = thread WHERE post.author = ?"
        " AND removed IS NULL ORDER BY post.id DESC LIMIT 20",
        (name,),
    ).fetchall()
    follows = rows.execute("SELECT count(*) FROM follow WHERE user = ?", (name,)).fetchone()[0]
    return Page("forum_user.html", {"user": user, "posts": posts, "follows": follows, "me": _read_me(rows)[0]})


def follow(rows: sqlite3.Connection, request: Request, name: str) -> Go:
    """Follow a member, or stop following."""
    if rows.execute("SELECT 1 FROM user WHERE name = ?", (name,)).fetchone() is None or name == _read_me(rows)[0]:
        raise NotFound
    if not rows.execute("DELETE FROM follow WHERE user = ?", (name,)).rowcount:
        rows.execute("INSERT INTO follow VALUES (?)", (name,))
    return Go("/user/" + quote(name), "Done.")


FORUM = Site(
    name="Town Square",
    routes=(
        ("GET", "/", show_home),
        ("GET", "/board/<board>", show_board),
        ("GET", "/search", search),
        ("GET", "/thread/<int:thread>", show_thread),
        ("GET", "/new", show_form),
        ("POST", "/new", start_thread),
        ("POST", "/thread/<int:thread>/reply", reply),
        ("POST", "/post/<int:post>/vote", vote),
        ("POST", "/post/<int:post>/remove", remove),
        ("POST", "/thread/<int:thread>/<any(lock, pin):what>", mark),
        ("GET", "/user/<name>", show_user),
        ("POST", "/user/<name>", follow),
    ),
    facts=FACTS,
    links=(("Boards", "/"), ("New thread", "/new")),
)
