"""Families of tasks in the forum."""

from __future__ import annotations

import random
import sqlite3

from agentgym_web.sites.forum_pages import REASONS
from agentgym_web.sites.forum_world import SAYINGS, TOPICS
from agentgym_web.sites.goal import Errand, Goal, Step
from agentgym_web.sites.store import Fact

#: Wordings; train and valid_seen share those of "seen".
WORDINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "forum_reply": {
        "seen": (
            'Reply to the thread "{title}" in {board}: "{text}"',
            'In the board {board} there is a thread "{title}". Answer it with the words "{text}"',
            'Post this reply in "{title}" (board {board}): "{text}"',
        ),
        "unseen": (
            'Somebody in {board} began "{title}". Let them know: "{text}"',
            'Write "{text}" underneath "{title}" on the {board} board',
        ),
    },
    "forum_vote": {
        "seen": (
            '{Way} the post by {author} in the thread "{title}" in {board}',
            'Go to "{title}" in {board} and {way} what {author} wrote there',
        ),
        "unseen": (
            '{author} said something in "{title}" ({board}). {Way} it',
            'On {board}, in "{title}", {way} {author}',
        ),
    },
    "forum_best": {
        "seen": (
            'Upvote the post with the highest score in "{title}" in {board}',
            'In the thread "{title}" in {board}, give your upvote to the best rated post',
        ),
        "unseen": ('Which post of "{title}" in {board} leads by score? Upvote that one',),
    },
    "forum_thread": {
        "seen": (
            'Start a thread in {board} with the title "{title}" and the text "{text}"',
            'Post a new thread "{title}" in the board {board}. It should say "{text}"',
        ),
        "unseen": ('Ask {board} about this: headline "{title}", message "{text}"',),
    },
    "forum_remove": {
        "seen": (
            'As moderator, remove the post by {author} in "{title}" in {board}; the reason is {reason}',
            'Remove what {author} wrote in the thread "{title}" in {board} as {reason}',
        ),
        "unseen": ('{author} broke the rules of {board} in "{title}" ({reason}). Take the post down',),
    },
    "forum_mark": {
        "seen": ('{Mark} the thread "{title}" in {board}', 'As moderator of {board}, {mark} "{title}"'),
        "unseen": ('You moderate {board}. Its thread "{title}" is one to {mark}',),
    },
    "forum_follow": {
        "seen": (
            'Follow everybody who wrote in the thread "{title}" in {board}, except for the one who started it',
            'Follow all members who replied to "{title}" in {board}',
        ),
        "unseen": ('Whoever answered "{title}" in {board} is worth following. Do so',),
    },
    "forum_starter": {
        "seen": ('Follow the member who started the thread "{title}" in {board}',),
        "unseen": ('Find out who began "{title}" in {board} and follow that member',),
    },
}

HOME = Step("click", "link", "Boards")


def draw_forum_goal(kind: str, rows: sqlite3.Connection, group: str, chance: random.Random) -> Goal:
    """Draw a goal of a family.

    Args:
        kind: Family.
        rows: The forum.
        group: ``"seen"`` or ``"unseen"``: which wordings are used.
        chance: Where it is drawn from.
    """
    me, moderates = rows.execute("SELECT name, moderates FROM me").fetchone()
    where = " WHERE board = ?" if kind in ("forum_remove", "forum_mark") else ""
    threads = rows.execute(f"SELECT id, board, title FROM thread{where} ORDER BY id", (moderates,) if where else ())
    number, board, title = chance.choice(threads.fetchall())
    posts = rows.execute("SELECT id, author, score FROM post WHERE thread = ? ORDER BY id", (number,)).fetchall()
    topic = next((topic for topic in TOPICS[group][board] if topic in title), "this")
    text = chance.choice(SAYINGS[group]).format(topic=topic)
    walk = (HOME, Step("click", "link", board), Step("click", "link", title))
    post, author, _ = chance.choice(posts[1:])
    words = {"title": title, "board": board, "text": text, "author": author}
    steps: tuple[Step, ...]
    errands: tuple[Errand, ...]
    if kind == "forum_reply":
        steps = (*walk, Step("fill", "textbox", "Your reply", text), Step("click", "button", "Post reply"))
        errands = (Errand(steps, (("post", title, me, text),)),)
    elif kind in ("forum_vote", "forum_best"):
        value = chance.choice((1, -1)) if kind == "forum_vote" else 1
        if kind == "forum_best":
            post = max(posts, key=lambda row: row[2])[0]
        way = "upvote" if value == 1 else "downvote"
        words |= {"way": way, "Way": way.capitalize()}
        steps = (*walk, Step("click", "button", f"{way.capitalize()} post {post}"))
        errands = (Errand(steps, (("vote", post, value),)),)
    elif kind == "forum_thread":
        errands, words["title"] = _start_thread(board, text, me, chance)
    elif kind == "forum_remove":
        reason = words["reason"] = chance.choice(REASONS)
        choose = Step("choose", "combobox", f"Reason to remove post {post}", reason)
        steps = (*walk, choose, Step("click", "button", f"Remove post {post}"))
        errands = (Errand(steps, (("removed", post, reason),)),)
    elif kind == "forum_mark":
        mark, fact = chance.choice((("lock", "locked"), ("pin", "pinned")))
        words |= {"mark": mark, "Mark": mark.capitalize()}
        errands = (Errand((*walk, Step("click", "button", f"{mark.capitalize()} thread")), ((fact, number),)),)
    else:
        wanted = [name for _, name, _ in posts]
        wanted = wanted[:1] if kind == "forum_starter" else wanted[1:]
        errands = tuple(
            Errand((*walk, Step("click", "link", name), Step("click", "button", f"Follow {name}")), (("follow", name),))
            for name in wanted
        )
    added = tuple(fact for errand in errands for fact in errand.added)
    return Goal(kind, chance.choice(WORDINGS[kind][group]).format(**words) + ".", errands, added)


def _start_thread(board: str, text: str, me: str, chance: random.Random) -> tuple[tuple[Errand, ...], str]:
    heading = chance.choice(("Question", "Small report", "News", "Request", "An idea"))
    title = f"{heading} for {chance.choice(('May', 'June', 'July', 'autumn', 'next week'))} no. {chance.randint(2, 99)}"
    added: tuple[Fact, ...] = (("thread", board, title, me), ("post", title, me, text))
    steps = (
        Step("click", "link", "New thread"),
        Step("choose", "combobox", "Board", board),
        Step("fill", "textbox", "Title", title),
        Step("fill", "textbox", "Text", text),
        Step("click", "button", "Post thread"),
    )
    return (Errand(steps, added),), title
