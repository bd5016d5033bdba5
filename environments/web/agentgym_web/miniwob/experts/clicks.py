"""Experts for tasks that are clicks on what the task names."""

from __future__ import annotations

import re

from agentgym.actions import Move
from agentgym_web.miniwob.experts.page import Expert, ExpertPage, Node, Stuck, click, hover, select, wait

SYNONYMS = """big large huge enormous gigantic|small tiny little mini petite|red scarlet crimson vermillion
happy cheerful joyful gleeful delighted|sad unhappy sorrowful miserable tragic|angry mad furious irritated
evil wicked immoral sinful corrupt depraved|wrong incorrect mistaken erroneous|real genuine actual
strange odd peculiar unusual weird|stop cease halt end finish|scared terrified panicked fearful frightened afraid
quiet calm peaceful serene mild|old aged archaic|love like adore favor|kill murder assassinate
keep retain preserve sustain maintain|hide conceal camouflage|hate despise loathe detest dislike
funny humorous amusing comical laughable|fat fleshy plump chubby|stupid dumb dull unwise
delicious savory delectable appetizing|cut slice carve chop|brave courageous fearless|begin start initiate launch
answer reply response|television televisions TV TVs|house home houses homes|fire flame fires flames|pig pork swine
rabbit rabbits bunny bunnies|car cars automobile automobiles vehicle vehicles|water"""
GROUPS = [set(group.split()) for group in re.split(r"[|\n]", SYNONYMS)]
COLOURS = {
    "red": "rgb(255, 0, 0)", "lime": "rgb(0, 255, 0)", "blue": "rgb(0, 0, 255)", "yellow": "rgb(255, 255, 0)",
    "cyan": "rgb(0, 255, 255)", "aqua": "rgb(0, 255, 255)", "magenta": "rgb(255, 0, 255)", "black": "rgb(0, 0, 0)",
    "grey": "rgb(128, 128, 128)", "gray": "rgb(128, 128, 128)", "white": "rgb(255, 255, 255)",
    "olive": "rgb(128, 128, 0)", "purple": "rgb(128, 0, 128)", "pink": "rgb(255, 192, 203)",
    "green": "rgb(0, 128, 0)", "orange": "rgb(255, 165, 0)", "maroon": "rgb(128, 0, 0)", "navy": "rgb(0, 0, 128)",
    "silver": "rgb(192, 192, 192)", "teal": "rgb(0, 128, 128)", "gold": "rgb(255, 215, 0)",
}  # fmt: skip


def click_named(pattern: str, tags: str = "button") -> Expert:
    """Make the expert that clicks the element whose whole text the task names."""

    def expert(page: ExpertPage) -> Move:
        return click(page.one(tags, page.find(pattern)[1]))

    return expert


def click_button(page: ExpertPage) -> Move:
    """Click the only button."""
    return click(page.one("button"))


def click_sequence(page: ExpertPage) -> Move:
    """Click ONE, then TWO; where a time is named, it passes in between."""
    one = page.one("button", "ONE")
    if not page.was("click", one):
        return click(one)
    found = re.search(r"wait (\d+) second", page.task)
    waits = int(found[1]) - 1 if found else 0
    return wait() if page.commands.count("wait") < waits else click(page.one("button", "TWO"))


def close_dialog(page: ExpertPage) -> Move:
    """Click the button of a dialog that the task names."""
    found = re.search(r'labeled "(.+)"', page.task)
    if found and found[1] != "x":
        return click(page.one("button", found[1]))
    return click(page.one("button", cls="ui-dialog-titlebar-close"))


def click_tab(page: ExpertPage) -> Move:
    """Click the tab that the task names."""
    return click(page.one("a", page.find(r"(Tab #\d+)")[1]))


def look_in_tabs(page: ExpertPage) -> Move:
    """Open tab after tab until the link is there."""
    wanted = page.find(r'the link "(.+)"')[1]
    links = [node for node in page.all("span", cls="alink") if node.text == wanted]
    if links:
        return click(links[0])
    tabs = [node for node in page.all("a", cls="ui-tabs-anchor") if not page.was("click", node)]
    holder = [node for node in page.all("span", wanted, "alink", hidden=True)]
    if holder:  # the panel's number says which tab it is
        panel = holder[0]
        while not re.fullmatch(r"tabs-\d+", panel.attributes.get("id", "")):
            panel = page.parent(panel)
        tabs = [tab for tab in tabs if tab.attributes.get("href") == f"#{panel.attributes['id']}"] or tabs
    if not tabs:
        raise Stuck("no tab is left")
    return click(tabs[0])


def open_sections(page: ExpertPage) -> Move:
    """Open section after section until the link is there; without a link, open the section and submit."""
    found = re.search(r'the link "(.+)"', page.task)
    if found:
        links = [node for node in page.all("span", cls="alink") if node.text == found[1]]
        if links:
            return click(links[0])
    closed = [node for node in page.all("h3") if not page.was("click", node)]
    if closed:
        return click(closed[0])
    return click(page.one("button"))


def click_colour(page: ExpertPage) -> Move:
    """Click the box of the named colour."""
    name = page.find(r"the (\w+) colored")[1]
    return click(
        next(
            node
            for node in page.all(cls="color")
            if node.attributes.get("data-color", name) == name and _is_colour(node, name)
        )
    )


def _is_colour(node: Node, name: str) -> bool:
    return node.colour == COLOURS.get(name)


def tick_boxes(page: ExpertPage) -> Move:
    """Tick the boxes whose labels the task names, and submit."""
    names = page.find(r"Select (?:words similar to )?(.+?) and click")[1].split(", ")
    soft = "similar to" in page.task
    wanted = {word for name in names for group in GROUPS if name in group for word in group} if soft else set(names)
    for box in page.all("input"):
        if not box.checked and page.parent(box).text in wanted:
            return click(box)
    return click(page.one("button"))


def pick_option(page: ExpertPage) -> Move:
    """Pick the radio button that the task names, and submit."""
    name = page.find(r"Select (.+) and click")[1]
    box = next(box for box in page.all("input") if page.parent(box).text == name)
    return click(page.one("button")) if box.checked else click(box)


def pick_from_list(page: ExpertPage) -> Move:
    """Select the named entries of a list, and submit."""
    box = page.one("select")
    names = page.find(r"Select (.+?) from the")[1].split(", ")
    for name in names:
        if not any(command.startswith(f"select {box.number}") and name in command for command in page.commands):
            return select(box, name)
    return click(page.one("button"))


def click_widget(page: ExpertPage) -> Move:
    """Click a widget of the named kind."""
    kind = page.find(r'on a "(\w+)" widget')[1]
    return click(next(node for node in page.all() if node.attributes.get("data-type") == kind))


def pick_shades(page: ExpertPage) -> Move:
    """Click every box whose strongest part is the named colour, and submit."""
    strongest = ["red", "green", "blue"].index(page.find(r"shades of (\w+)")[1])
    for node in page.all("span", inside=page.one(id="area")):
        parts = [int(part) for part in re.findall(r"\d+", node.colour)[:3]]
        if parts.index(max(parts)) == strongest and not node.has_class("selected"):
            return click(node)
    return click(page.one("button"))


def open_menu(page: ExpertPage) -> Move:
    """Go down a menu along its path; a click before its end would be the choice."""
    path = page.find(r"Select (.+)$")[1].split(">")
    for depth, name in enumerate(path):
        node = next(node for node in page.all("div", hidden=True) if node.own == name)
        if depth == len(path) - 1:
            return click(node)
        if not page.was("hover", node):
            return hover(node)
    raise Stuck("the menu has no such path")


def open_menu_button(page: ExpertPage) -> Move:
    """Open a menu by its button and go to an item, by its name or its icon."""
    found = re.search(r'labeled "(.+?)"', page.task)
    if not page.all("ul", cls="ui-menu"):
        return click(page.one("button", "Menu"))
    icon = "" if found else page.asked[-1].attributes["class"].split()[-1]
    items = [
        node
        for node in page.all("div", cls="ui-menu-item-wrapper", hidden=True)
        if (node.own == found[1] if found else _has_icon(page, node, icon))
    ]
    if not items:
        raise Stuck("no such item")
    item = items[0]
    if item.visible:
        return click(item)
    outer = page.parent(page.parent(page.parent(item)))
    return hover(page.one("div", inside=outer))


def _has_icon(page: ExpertPage, node: Node, name: str) -> bool:
    return any(one.has_class(name) for one in page.all("span", inside=node, hidden=True))


def open_pie(page: ExpertPage) -> Move:
    """Open a pie menu and click the item."""
    name = page.find(r'labeled "(.+)"')[1]
    items = [node for node in page.all("text|tspan") if node.own == name and node.box[2] > 2]
    if items and any(command.startswith("click") for command in page.commands):
        return click(items[0])
    return click(
        next(node for node in page.all("circle|path|text", hidden=True) if "spreader" in node.attributes.get("id", ""))
    )


def click_tree(page: ExpertPage) -> Move:
    """Open the folders around the named file from the outside in, and click it."""
    name = page.find(r'named "(.+?)"')[1]
    target = next(node for node in page.all("span", hidden=True) if node.text == name)
    if target.visible:
        return click(target)
    closed = [node for node in page.all("li", cls="expandable") if page.is_inside(target, node)]
    return click(page.one("span", inside=closed[0]))


def click_digits(page: ExpertPage) -> Move:
    """Click the numbers from the smallest to the largest; after the first click they are covered."""
    covers = [node for node in page.all("rect") if "data-index" in node.attributes]
    if covers:
        return click(min(covers, key=lambda node: int(node.attributes["data-index"])))
    return click(min(page.all("text"), key=lambda node: int(node.text)))


def click_cheapest(page: ExpertPage) -> Move:
    """Buy the ticket with the least, or the most, cost or time."""
    buttons = page.all("button")
    if "cost" in page.task:
        costs = [int(re.sub(r"\D", "", node.text)) for node in buttons]
    else:
        costs = [int(node.attributes["data-duration"]) for node in page.all(cls="time-duration")]
    wanted = min(costs) if re.search("cheapest|shortest", page.task) else max(costs)
    return click(buttons[costs.index(wanted)])


def click_point(page: ExpertPage) -> Move:
    """Click the grid's point with the named coordinates."""
    x, y = (int(number) for number in page.find(r"\((-?\d+),(-?\d+)\)").groups())
    points = [node.centre for node in page.all("circle", cls="plot-point")]
    columns = sorted({round(point[0]) for point in points})
    rows = sorted({round(point[1]) for point in points})
    return click((columns[x + 2], rows[2 - y]))


EXPERTS: dict[str, Expert] = {
    "click-button": click_named(r'Click on the "(.+)" button'),
    "unicode-test": click_named(r'Click on the "(.+)" button'),
    "click-button-sequence": click_sequence,
    "button-delay": click_sequence,
    "click-test": click_button,
    "click-test-2": click_named(r"Click button (\w+)\."),
    "click-test-transfer": click_named(r"Click button (\w+)\."),
    "click-dialog": close_dialog,
    "click-dialog-2": close_dialog,
    "click-link": click_named(r'the link "(.+)"', "span"),
    "click-tab": click_tab,
    "click-tab-2": look_in_tabs,
    "click-tab-2-easy": look_in_tabs,
    "click-tab-2-medium": look_in_tabs,
    "click-tab-2-hard": look_in_tabs,
    "click-collapsible": open_sections,
    "click-collapsible-nodelay": open_sections,
    "click-collapsible-2": open_sections,
    "click-collapsible-2-nodelay": open_sections,
    "click-color": click_colour,
    "click-checkboxes": tick_boxes,
    "click-checkboxes-large": tick_boxes,
    "click-checkboxes-soft": tick_boxes,
    "click-checkboxes-transfer": tick_boxes,
    "click-option": pick_option,
    "click-scroll-list": pick_from_list,
    "choose-list": pick_from_list,
    "click-widget": click_widget,
    "click-shades": pick_shades,
    "click-menu": open_menu,
    "click-menu-2": open_menu_button,
    "click-pie": open_pie,
    "click-pie-nodelay": open_pie,
    "navigate-tree": click_tree,
    "ascending-numbers": click_digits,
    "buy-ticket": click_cheapest,
    "grid-coordinate": click_point,
}  # fmt: skip
