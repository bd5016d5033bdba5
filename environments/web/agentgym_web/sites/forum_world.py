"""Generated forums: boards, members and what they wrote."""

from __future__ import annotations

import random
import sqlite3

from agentgym_web.sites.forum_pages import SCHEMA
from agentgym_web.sites.store import open_memory

#: What people talk about, by board; what ``valid_unseen`` talks about, no other split does.
TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "seen": {
        "Gardening": (
            "tomato seedlings",
            "compost",
            "raised beds",
            "slugs",
            "pruning roses",
            "herb pots",
            "drip hoses",
        ),
        "Cycling": ("tubeless tyres", "commuting in rain", "brake pads", "bike lights", "saddle bags", "chain wax"),
        "Cooking": (
            "sourdough starter",
            "cast iron pans",
            "pickled onions",
            "rice cookers",
            "knife sharpening",
            "stock",
        ),
        "Linux": ("tiling windows", "backup scripts", "kernel updates", "font rendering", "shell aliases", "swap size"),
    },
    "unseen": {
        "Astronomy": ("star charts", "collimation", "meteor showers", "light pollution", "eyepieces", "dew heaters"),
        "Photography": ("film scanning", "tripod heads", "polarizers", "portrait light", "lens caps", "darkrooms"),
        "Board Games": (
            "solo variants",
            "card sleeves",
            "dice towers",
            "cooperative games",
            "rule disputes",
            "inserts",
        ),
    },
}
MEMBERS = {
    "seen": [
        "anna_b",
        "ben77",
        "carla",
        "dmitri",
        "elif.k",
        "farid",
        "greta_m",
        "hugo",
        "ines",
        "jonas_w",
        "kofi",
        "lena",
        "marek",
        "nadia",
    ],
    "unseen": [
        "oskar_v",
        "priya",
        "quentin",
        "rosa_l",
        "sven",
        "tomoko",
        "ursula",
        "vikram",
        "wanda",
        "yusuf",
        "zelda_x",
    ],
}
TITLES = {
    "seen": (
        "How do you deal with {topic}?", "Is it worth learning about {topic}?", "My experience with {topic}",
        "Please explain {topic} to a beginner", "What nobody tells you about {topic}", "Cheap ways to do {topic}",
    ),
    "unseen": (
        "Five years of {topic}: lessons", "Stuck with {topic}, any hints?", "Weekly chat: {topic}",
        "{topic}: common mistakes", "Which guide to {topic} is good?",
    ),
}  # fmt: skip
REPLIES = {
    "seen": (
        "I tried {topic} last year and it went well.", "Patience is all you need for {topic}.",
        "Could you post a picture of your {topic}?", "There was a long thread about {topic} in spring.",
        "My advice on {topic}: start small.", "I would not spend money on {topic} again.",
    ),
    "unseen": (
        "Half of what people say about {topic} is wrong.", "A friend showed me {topic}, it is easier than it looks.",
        "Keep notes whenever you work on {topic}.", "For {topic} I follow the old handbook.",
        "Has anybody measured what {topic} costs?",
    ),
}  # fmt: skip
SAYINGS = {
    "seen": (
        "Thank you, this helped me with {topic}.", "I have the same question about {topic}.",
        "Let us meet on Saturday and talk about {topic}.", "Here is what I know about {topic}: less is more.",
        "Please add {topic} to the list of frequent questions.",
    ),
    "unseen": (
        "Count me in for {topic}.", "I wrote a short note on {topic}, ask me for it.",
        "Does {topic} work in winter, too?", "Good summary of {topic}, I agree with most of it.",
    ),
}  # fmt: skip
THREADS_PER_BOARD = 9


def build_forum(group: str, chance: random.Random) -> sqlite3.Connection:
    """Return a forum's database.

    Args:
        group: ``"seen"`` or ``"unseen"``.
        chance: Where it is drawn from.
    """
    rows = open_memory()
    rows.executescript(SCHEMA)
    rows.execute("BEGIN")
    members = chance.sample(MEMBERS[group], len(MEMBERS[group]))
    me = members.pop()
    boards = list(TOPICS[group])
    rows.execute("INSERT INTO me VALUES (?, ?)", (me, chance.choice(boards)))
    for name in (*members, me):
        rows.execute("INSERT INTO user VALUES (?, ?)", (name, f"Member since {chance.randint(2009, 2024)}."))
    rows.executemany("INSERT INTO board VALUES (?)", [(name,) for name in boards])
    drafts = [
        (board, title.format(topic=topic), topic)
        for board in boards
        for topic in TOPICS[group][board]
        for title in chance.sample(TITLES[group], 2)
    ]
    chance.shuffle(drafts)
    counts = dict.fromkeys(boards, 0)
    for board, title, topic in drafts:
        counts[board] += 1
        if counts[board] <= THREADS_PER_BOARD:
            _write_thread(rows, (board, title, topic), members, REPLIES[group], chance)
    rows.execute("COMMIT")
    return rows


def _write_thread(
    rows: sqlite3.Connection,
    draft: tuple[str, str, str],
    members: list[str],
    replies: tuple[str, ...],
    chance: random.Random,
) -> None:
    """Write a thread in which nobody writes twice and no two posts have the same score."""
    board, title, topic = draft
    authors = chance.sample(members, chance.randint(3, 6))
    scores = chance.sample(range(-3, 30), len(authors))
    thread = rows.execute("INSERT INTO thread (board, title, author) VALUES (?, ?, ?)", (board, title, authors[0]))
    for number, (author, score) in enumerate(zip(authors, scores, strict=True)):
        said = f"Tell me what you think about {topic}." if not number else chance.choice(replies).format(topic=topic)
        rows.execute(
            "INSERT INTO post (thread, author, body, score) VALUES (?, ?, ?, ?)",
            (thread.lastrowid, author, said, score),
        )
        rows.execute("INSERT INTO words VALUES (?, ?)", (thread.lastrowid, f"{title} {said}" if not number else said))
