"""Pages by platform. Those of the test split share no layout with those of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentgym_gui.generate import words
from agentgym_gui.generate.page import Page

Writer = Callable[[Page], str]


@dataclass(frozen=True)
class Template:
    """A layout: its name, the platform that it is of, the split, and what writes it."""

    name: str
    platform: str
    split: str
    write: Writer


def _filler(page: Page, count: int) -> str:
    return " ".join(str(word) for word in page.chance.choice(words.FILLER, size=count))


def _editor(page: Page) -> str:
    """Write a word processor: menus, a ribbon of icons and commands, a sheet."""
    pad = page.theme.pad
    menus = "".join(page.text(m, "menu", "i") for m in page.take(words.MENUS, page.number(4, 8)))
    tools = page.icons(page.number(4, 9), page.number(16, 24))
    commands = "".join(page.text(c, "button") for c in page.take(words.COMMANDS, page.number(2, 5)))
    lines = "".join(f"<p>{_filler(page, page.number(8, 24))}</p>" for _ in range(page.number(4, 9)))
    folders = "".join(page.text(f, "entry", "i", "display:block") for f in page.take(words.FOLDERS, page.number(3, 8)))
    return (
        f'<div class="bar row" style="padding:{pad(4)}px">{menus}</div>'
        f'<div class="bar row" style="padding:{pad(5)}px">{tools}{commands}</div>'
        f'<div style="display:flex;height:100%"><div class="bar" style="width:{page.number(150, 240)}px">'
        f"{folders}</div>"
        f'<div style="flex:1;padding:{pad(30)}px {pad(60)}px">{lines}</div></div>'
    )


def _files(page: Page) -> str:
    """Write a file manager: an address line with icons, a tree, tiles of folders, a status line with answers."""
    pad = page.theme.pad
    tools = page.icons(page.number(3, 6), page.number(18, 26))
    width = page.number(110, 170)
    tiles = "".join(
        page.text(f, "folder", "b", f"width:{width}px;height:{page.number(60, 90)}px;text-align:center")
        for f in page.take(words.FOLDERS, page.number(6, 14))
    )
    commands = "".join(page.text(c, "button", "b p") for c in page.take(words.COMMANDS, page.number(1, 3)))
    return (
        f'<div class="bar row" style="padding:{pad(8)}px;justify-content:space-between"><div class="row">{tools}</div>'
        f'<span class="m">/ {_filler(page, 2).replace(" ", " / ")}</span><div class="row">{commands}</div></div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:{pad(14)}px;padding:{pad(20)}px">{tiles}</div>'
    )


def _mail(page: Page) -> str:
    """Write a mail program: folders, a list of people, a message with icons over it."""
    pad = page.theme.pad
    folders = "".join(page.text(f, "entry", "i", "display:block") for f in page.take(words.FOLDERS, 6))
    rows = "".join(
        f'<div style="border-bottom:1px solid var(--border);padding:{pad(6)}px">{page.text(p, "row", "", "")}'
        f'<div class="m">{_filler(page, 4)}</div></div>'
        for p in page.take(words.PEOPLE, page.number(4, 9))
    )
    tools = page.icons(page.number(4, 7), page.number(16, 24))
    answers = "".join(page.text(a, "button") for a in page.take(words.ANSWERS, 2))
    return (
        f'<div style="display:flex;height:100%"><div class="bar" style="width:150px;padding:{pad(8)}px">{folders}</div>'
        f'<div style="width:300px;border-right:1px solid var(--border)">{rows}</div>'
        f'<div style="flex:1;padding:{pad(12)}px"><div class="row">{tools}</div><h2>{_filler(page, 3)}</h2>'
        f'<p>{_filler(page, 60)}</p><div class="row">{answers}</div></div></div>'
    )


def _settings(page: Page) -> str:
    """Write a telephone's settings: a title with an icon or two, rows, one of them with switches."""
    pad = page.theme.pad
    rows = "".join(
        f'<div style="border-bottom:1px solid var(--border);padding:{pad(9)}px {pad(14)}px">'
        f"{page.text(s, 'row', '', 'display:inline-block')}</div>"
        for s in page.take(words.SETTINGS, page.number(6, 11))
    )
    return (
        f'<div class="bar row" style="padding:{pad(12)}px;justify-content:space-between">'
        f"{page.icons(1, 24)}<b>{_filler(page, 1)}</b><div class='row'>{page.icons(page.number(1, 2), 24)}</div></div>"
        f"{rows}"
    )


def _player(page: Page) -> str:
    """Write a music player: a cover, big round icons, a list of songs."""
    pad = page.theme.pad
    songs = "".join(
        f'<div style="padding:{pad(7)}px {pad(16)}px">{page.text(s, "row", "", "display:inline-block")}</div>'
        for s in page.take(words.SONGS, page.number(3, 7))
    )
    big = page.icons(page.number(3, 5), page.number(26, 38), "i", "background:var(--surface)")
    return (
        f'<div class="row" style="padding:{pad(10)}px;justify-content:space-between">{page.icons(2, 22)}</div>'
        f'<div style="height:{page.number(120, 240)}px;margin:{pad(14)}px;background:var(--accent)"></div>'
        f'<div class="row" style="justify-content:space-evenly">{big}</div><p class="m" style="text-align:center">'
        f"{_filler(page, 2)}</p>{songs}"
    )


def _contacts(page: Page) -> str:
    """Write a telephone's contacts: people with round pictures, a floating button, icons at the bottom."""
    pad = page.theme.pad
    rows = "".join(
        f'<div class="row" style="padding:{pad(8)}px {pad(14)}px"><div style="width:36px;height:36px;'
        f'border-radius:18px;background:var(--accent)"></div>{page.text(p, "row", "", "")}</div>'
        for p in page.take(words.PEOPLE, page.number(4, 8))
    )
    bottom = page.icons(page.number(3, 5), 26)
    floating = page.icons(1, 26, "i p", "position:absolute;right:18px;bottom:90px")
    return (
        f'<h3 style="padding:{pad(10)}px {pad(14)}px;margin:0">{_filler(page, 1)}</h3>{rows}{floating}'
        f'<div class="bar row" style="position:absolute;bottom:0;left:0;right:0;padding:{pad(10)}px;'
        f'justify-content:space-around">{bottom}</div>'
    )


def _shop(page: Page) -> str:
    """Write a shop: sections on top, cards of goods."""
    pad = page.theme.pad
    sections = "".join(page.text(s, "link", "i") for s in page.take(words.SECTIONS, page.number(4, 7)))
    width = page.number(150, 220)
    cards = "".join(
        f'<div class="b" style="width:{width}px"><div style="height:{page.number(50, 90)}px;background:var(--border)">'
        f"</div>{page.text(g, 'link', '', 'display:inline-block')}<div class='m'>{page.number(3, 900)}.00</div></div>"
        for g in page.take(words.GOODS, page.number(5, 10))
    )
    return (
        f'<div class="bar row" style="padding:{pad(8)}px;justify-content:space-between"><div class="row">{sections}'
        f'</div><div class="row">{page.icons(page.number(2, 4), page.number(18, 24))}</div></div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:{pad(12)}px;padding:{pad(16)}px">{cards}</div>'
    )


def _dashboard(page: Page) -> str:
    """Write a dashboard: sections at the side, figures, a row of answers."""
    pad = page.theme.pad
    sections = "".join(
        page.text(s, "link", "i", "display:block") for s in page.take(words.SECTIONS, page.number(6, 10))
    )
    figures = "".join(
        f'<div class="b" style="flex:1"><div class="m">{_filler(page, 1)}</div><h2>{page.number(10, 9999)}</h2></div>'
        for _ in range(page.number(2, 4))
    )
    answers = "".join(
        page.text(a, "button", "b p" if n == 0 else "b") for n, a in enumerate(page.take(words.ANSWERS, 3))
    )
    return (
        f'<div style="display:flex;height:100%"><div class="bar" style="width:{page.number(140, 220)}px;'
        f'padding:{pad(10)}px">{sections}</div><div style="flex:1;padding:{pad(18)}px"><div class="row">'
        f'{page.icons(page.number(3, 6), page.number(18, 26))}</div><div class="row" style="margin:{pad(16)}px 0">'
        f"{figures}</div><p>{_filler(page, 30)}</p><div class='row'>{answers}</div></div></div>"
    )


def _table(page: Page) -> str:
    """Write a table of people with an icon at the end of some rows, tabs above, answers below."""
    pad = page.theme.pad
    tabs = "".join(page.text(s, "tab") for s in page.take(words.SECTIONS, page.number(3, 5)))
    people = page.take(words.PEOPLE, page.number(4, 8))
    rows = "".join(
        f'<tr><td style="padding:{pad(6)}px">{page.text(p, "row", "", "display:inline-block")}</td><td class="m">'
        f"{_filler(page, 2)}</td><td>{page.number(1, 99)}</td><td>{page.icons(1, 18)}</td></tr>"
        for p in people
    )
    answers = "".join(page.text(a, "button", "b p") for a in page.take(words.ANSWERS, 2))
    return (
        f'<div style="padding:{pad(20)}px"><h2>{_filler(page, 2)}</h2><div class="row">{tabs}</div>'
        f'<table style="width:90%;margin:{pad(14)}px 0">{rows}</table><div class="row">{answers}</div></div>'
    )


TEMPLATES: tuple[Template, ...] = (
    Template("editor", "desktop", "train", _editor),
    Template("files", "desktop", "train", _files),
    Template("mail", "desktop", "test", _mail),
    Template("settings", "mobile", "train", _settings),
    Template("player", "mobile", "train", _player),
    Template("contacts", "mobile", "test", _contacts),
    Template("shop", "web", "train", _shop),
    Template("dashboard", "web", "train", _dashboard),
    Template("table", "web", "test", _table),
)
