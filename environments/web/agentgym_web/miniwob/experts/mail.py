"""Experts for the inbox and for posts."""

from __future__ import annotations

import re

from agentgym.actions import Move
from agentgym_web.miniwob.experts.page import Expert, ExpertPage, Node, Stuck, click, fill_in

MAIL_TASKS = [
    "email-inbox",
    *(f"email-inbox-{kind}" for kind in ("delete", "important", "noscroll", "reply", "star-reply")),
]
MAIL_TASKS += [f"email-inbox-{kind}" for kind in ("forward", "forward-nl", "forward-nl-turk", "nl-turk")]
SENTENCES = (
    ("reply", r"email by (?P<by>\S+) and reply to them with the text \"(?P<message>.*)\"\."),
    ("forward", r"email by (?P<by>\S+) and forward that email to (?P<to>\S+)\."),
    ("delete", r"email by (?P<by>\S+) and click the trash"),
    ("important", r"email by (?P<by>\S+) and click the star"),
)


def handle_mail(page: ExpertPage) -> Move:
    """Find the mail by its sender and do with it what the task says."""
    kind, wish = _read_wish(page)
    thread = next(
        node
        for node in page.all(cls="email-thread", hidden=True)
        if page.all(text=wish["by"], cls="email-sender", inside=node, hidden=True)
    )
    if kind in ("delete", "important"):
        return click(page.one(cls="trash" if kind == "delete" else "star", inside=thread))
    if page.all(id="reply"):
        return fill_in(
            (page.one("textarea", inside=page.one(id="reply")), wish["message"]), then=page.one(id="send-reply")
        )
    if page.all(id="forward"):
        return fill_in((page.one("input", inside=page.one(id="forward")), wish["to"]), then=page.one(id="send-forward"))
    if page.all(id="email"):
        return click(page.one(cls="email-reply" if kind == "reply" else "email-forward"))
    return click(page.one(cls="email-sender", text=wish["by"], inside=thread))


def _read_wish(page: ExpertPage) -> tuple[str, dict[str, str]]:
    if page.fields:
        kind = (
            {"star": "important", "trash": "delete"}.get(page.fields["task"], page.fields["task"])
            if "task" in page.fields
            else ""
        )
        return kind or ("reply" if "message" in page.fields else "forward"), dict(page.fields)
    for kind, pattern in SENTENCES:
        found = re.search(pattern, page.task)
        if found:
            return kind, found.groupdict()
    raise Stuck("the task is none of these")


def handle_post(page: ExpertPage) -> Move:
    """Do what the task says under a user's post, in its menu if need be."""
    user, name = page.find(r'user (@\S+), click on the "(.+)" button').groups()
    post = next(node for node in page.all("div", cls="media") if page.all(text=user, cls="username", inside=node))
    if name in ("Reply", "Retweet", "Like"):
        return click(page.one(cls=name.lower(), inside=post))
    entries = [node for node in page.all("li", inside=post) if node.text == name]
    return click(entries[0]) if entries else click(page.one(cls="more", inside=post))


def handle_posts(page: ExpertPage) -> Move:
    """Do the same under all, or some, posts of a user."""
    name, count, user = page.find(r'the "(.+)" button on (\w+) posts? by (@\S+) and').groups()
    posts = [
        node for node in page.all("div", cls="media") if page.all(text=user, cls="username", inside=node, hidden=True)
    ]
    buttons = [page.one(cls=name.lower(), inside=post) for post in posts]
    wanted = buttons if count == "all" else buttons[: int(count)]
    left = [button for button in wanted if not page.was("click", button)]
    return click(left[0]) if left else click(page.one("button", "Submit"))


def search_result(page: ExpertPage) -> Move:
    """Search, turn to the page of results, and click the one that the task counts."""
    words, number = page.find(r'enter "(.+)" and press .* the (\d+)\w\w search').groups()
    results = page.all("a", cls="search-title")
    field = page.one("input")
    if not results:
        return fill_in((field, words), then=page.one("button"))
    first = int(results[0].attributes["data-result"])
    index = int(number) - 1
    if first <= index < first + len(results):
        return click(results[index - first])
    return click(_find_page(page, str(index // 3 + 1)))


def _find_page(page: ExpertPage, label: str) -> Node:
    return next(node for node in page.all("a", cls="page-link") + page.all("a") if node.text == label)


def look_up(page: ExpertPage) -> Move:
    """Leaf through the contacts and click what the task asks for."""
    name, what = page.find(r"Find (.+) in the contact book and click on their (.+)\.").groups()
    if page.one("h2").text != name:
        return click(_find_page(page, ">"))
    return click(page.one("a", cls=what.split()[0]))


EXPERTS: dict[str, Expert] = {
    **dict.fromkeys(MAIL_TASKS, handle_mail),
    "social-media": handle_post, "social-media-all": handle_posts, "social-media-some": handle_posts,
    "search-engine": search_result, "phone-book": look_up,
}  # fmt: skip
