"""Experts for tasks that fill fields: text, numbers, dates, lists and sliders."""

from __future__ import annotations

import re

from agentgym.actions import Move
from agentgym_web.commands import make_move
from agentgym_web.miniwob.experts.clicks import COLOURS
from agentgym_web.miniwob.experts.page import (
    Expert,
    ExpertPage,
    Node,
    Stuck,
    click,
    drag,
    fill_in,
    press,
    select,
    type_in,
    wait,
)

MONTHS = ["January", "February", "March", "April", "May", "June"]
MONTHS += ["July", "August", "September", "October", "November", "December"]
ORDINALS = {"1st": 0, "2nd": 1, "3rd": 2}


def enter_quoted(page: ExpertPage) -> Move:
    """Type the text that the task quotes, in the case that it asks for, and submit."""
    text = page.find(r'"(.*?)"')[1]
    text = text.upper() if "all upper case" in page.task else text.lower() if "all lower case" in page.task else text
    return fill_in((page.one("input"), text), then=page.one("button"))


def enter_twice(page: ExpertPage) -> Move:
    """Type the password into both fields."""
    text = page.find(r'password "(.*?)"')[1]
    return fill_in(*((field, text) for field in page.all("input")), then=page.one("button"))


def log_in(page: ExpertPage) -> Move:
    """Type name and password; close what pops up over them."""
    found = page.find(r'username "(.*?)" and the password "(.*?)"')
    cancel = [
        node
        for node in page.all("button")
        if node.text.lower() in ("cancel", "x", "close", "no") or node.has_class("cancel")
    ]
    popup = [node for node in page.all() if "popup" in node.attributes.get("id", "")]
    if popup and cancel:
        return click(cancel[0])
    fields = page.all("input")
    buttons = [node for node in page.all("button") if node not in cancel]
    return fill_in((fields[0], found[1]), (fields[1], found[2]), then=buttons[-1])


def enter_date(page: ExpertPage) -> Move:
    """Set a field for dates."""
    month, day, year = page.find(r"(\d+)/(\d+)/(\d+)").groups()
    field = page.one("input")
    text = (
        f"{year}-{int(month):02}-{int(day):02}" if field.attributes.get("type") == "date" else f"{month}/{day}/{year}"
    )
    return fill_in((field, text), then=page.one("button"))


def enter_time(page: ExpertPage) -> Move:
    """Set a field for times."""
    hour, minute, half = page.find(r"(\d+):(\d+) ([AP]M)").groups()
    text = f"{int(hour) % 12 + (12 if half == 'PM' else 0):02}:{minute}"
    return fill_in((page.one("input"), text), then=page.one("button"))


def focus_field(page: ExpertPage) -> Move:
    """Click the field that the task counts."""
    found = re.search(r"the (\d\w\w)", page.task)
    return click(page.all("input")[ORDINALS[found[1]] if found else 0])


def copy_text(page: ExpertPage) -> Move:
    """Copy what stands in one area into the field."""
    found = re.search(r"the (\d\w\w) text area", page.task)
    area = page.all("textarea")[ORDINALS[found[1]] if found else 0]
    return fill_in((page.one("input"), area.value), then=page.one("button"))


def read_table(page: ExpertPage) -> Move:
    """Look up each field's label in the table."""
    cells = page.all("td")
    table = {cells[i].text: cells[i + 1].text for i in range(0, len(cells) - 1, 2)}
    fields = page.all("input")
    found = re.search(r"the value of (.+?) into", page.task)
    labels = [found[1]] if found else [node.text.rstrip(":") for node in page.all("label")]
    return fill_in(
        *((field, table[label]) for field, label in zip(fields, labels, strict=True)), then=page.one("button")
    )


def find_word(page: ExpertPage) -> Move:
    """Type the word of the paragraph that the task counts."""
    number = int(page.find(r"the (\d+)\w\w word")[1])
    word = page.one("p").text.split()[number - 1]
    return fill_in((page.one("input"), re.sub(r"[^a-zA-Z]", "", word)), then=page.one("button"))


def last_word(page: ExpertPage) -> Move:
    """Type the last word of the area."""
    words = page.one("textarea").value.split()
    return fill_in((page.one("input"), words[-1].rstrip(".,")), then=page.one("button"))


def add_up(page: ExpertPage) -> Move:
    """Work out the sum, difference or product that is shown."""
    left, sign, right = next(
        found for node in page.all() if (found := re.fullmatch(r"(-?\d+) ([-+x*×]) (-?\d+) =", node.own or node.text))
    ).groups()
    result = {"+": int(left) + int(right), "-": int(left) - int(right)}.get(sign, int(left) * int(right))
    return fill_in((page.one("input"), str(result)), then=page.one("button"))


def solve(page: ExpertPage) -> Move:
    """Solve an equation with one x."""
    text = next(node.text for node in page.all() if re.fullmatch(r"[-\dx ]+ ?[-+] ?[-\dx ]+= ?-?\d+", node.text))
    found = re.fullmatch(r"(-?\d+|x) ([-+]) (-?\d+|x) = (-?\d+)", text)
    if not found:
        raise Stuck(text)
    left, sign, right, total = found[1], found[2], found[3], int(found[4])
    if left == "x":
        x = total - int(right) if sign == "+" else total + int(right)
    else:
        x = total - int(left) if sign == "+" else int(left) - total
    return fill_in((page.one("input"), str(x)), then=page.one("button"))


def type_seen(page: ExpertPage) -> Move:
    """Type the letters that are drawn."""
    area = page.one(id="captcha") if page.all(id="captcha") else page.one(id="area")
    letters = "".join(node.own for node in page.all("span|tspan|text|div|p", inside=area) if len(node.own) == 1)
    return fill_in((page.one("input"), letters), then=page.one("button"))


def count_blocks(page: ExpertPage) -> Move:
    """Type how many blocks there are."""
    return fill_in((page.one("input"), str(len(page.all(cls="addition-block")))), then=page.one("button"))


def guess(page: ExpertPage) -> Move:
    """Halve the range by what the page said of the guesses so far, then ask."""
    field, low, high = page.one("input"), 0, 9
    said = " ".join(node.text for way in ("lower", "higher") for node in page.all(id=way))
    guesses = [int(number) for command in page.commands for number in re.findall(r'^type \d+ "(\d+)"', command)]
    lower, higher = re.search(r"lower than (\d+)", said), re.search(r"higher than (\d+)", said)
    for number in guesses[:-1]:  # every guess but the last was answered, and the next one followed the answer
        later = guesses[guesses.index(number) + 1]
        low, high = (max(low, number + 1), high) if later > number else (low, min(high, number - 1))
    if lower:
        high = min(high, int(lower[1]) - 1)
    if higher:
        low = max(low, int(higher[1]) + 1)
    answer = lower or higher
    if field.value and (answer is None or field.value != answer[1]):
        return click(page.one("button"))
    return type_in(field, str((low + high) // 2))


def generate(page: ExpertPage) -> Move:
    """Press the button until the number fits, then submit."""
    shown = page.one(id="display-number").text
    number = int(shown) if shown.lstrip("-").isdigit() else None
    less, more = re.search(r"less than (\d+)", page.task), re.search(r"greater than (\d+)", page.task)
    fits = number is not None and (
        number < int(less[1]) if less else number > int(more[1]) if more else number % 2 == ("odd" in page.task)
    )
    return click(page.one("button", "Submit" if fits else "Generate"))


def mark_numbers(page: ExpertPage) -> Move:
    """Mark every number as odd or even."""
    for row in page.all("div", cls="row"):
        number = int(page.one(cls="display-number", inside=row).text)
        button = page.one("button", "Odd" if number % 2 else "Even", inside=row)
        if not button.has_class("selected"):
            return click(button)
    return click(page.one("button", "Submit"))


def set_spinner(page: ExpertPage) -> Move:
    """Turn the spinner with the arrow keys, as it takes no digits, and submit."""
    field, wanted = page.one("input"), int(page.find(r"Select (-?\d+) with")[1])
    if int(field.value) == wanted:
        return click(page.one("button"))
    return press("ArrowUp" if wanted > int(field.value) else "ArrowDown") if field.focused else click(field)


def set_slider(page: ExpertPage) -> Move:
    """Move the slider with the arrow keys, then go on with the form if there is one."""
    wanted, now = int(page.find(r"Select (-?\d+) with")[1]), int(page.one(id="val").text)
    handle = page.one(cls="ui-slider-handle")
    if now != wanted:
        return _nudge(page, handle, wanted - now)
    found = re.search(r"the (\d\w\w) checkbox", page.task)
    if found:
        box = page.all("input")[ORDINALS[found[1]]]
        if not box.checked:
            return click(box)
    return click(page.one("button"))


def _nudge(page: ExpertPage, handle: Node, steps: int) -> Move:
    if not handle.focused:
        return click(handle)
    if abs(steps) > 20:  # PageUp and PageDown are a fifth of the range
        return press("PageUp" if steps > 0 else "PageDown")
    return press("ArrowRight" if steps > 0 else "ArrowLeft")


def fill_sequence(page: ExpertPage) -> Move:
    """Pick a radio button, type a number into a field, and submit."""
    radio, number, field = page.find(r'the (\w+) radio .*number "(-?\d+)" into the (\w+) textbox').groups()
    button = page.all("input")[ORDINALS[radio]]
    if not button.checked:
        return click(button)
    fields = [node for node in page.all("input") if node.attributes.get("type") == "text"]
    return fill_in((fields[ORDINALS[field]], number), then=page.one("button"))


def choose_height(page: ExpertPage) -> Move:
    """Select an entry of a list, then click the named button."""
    entry, button = page.find(r'Choose (.+) from the dropdown, then click the button labeled "(\w+)"').groups()
    box = page.one("select", hidden=True)
    if not page.was("select", box) and box.value != entry:
        if page.all("li", entry):
            return click(page.one("li", entry))
        return click(page.one(cls="button")) if page.all(cls="button") else select(box, entry)
    return click(page.one("button", button))


def complete(page: ExpertPage) -> Move:
    """Type the beginning, click the proposal that ends as asked, and submit."""
    start = page.find(r'starts with "(.+?)"')[1]
    end = re.search(r'ends with "(.+?)"', page.task)
    field = page.one("input")
    fits = [
        node for node in page.all("li|div", cls="ui-menu-item-wrapper") if node.text.endswith(end[1] if end else "")
    ]
    if field.value.startswith(start) and len(field.value) > len(start) and field.value.endswith(end[1] if end else ""):
        return click(page.one("button"))
    if fits:
        return click(fits[0])
    return wait() if field.value == start else type_in(field, start)


def search_movies(page: ExpertPage) -> Move:
    """Fill the fields of a form of any layout by their labels."""
    genre, director, year = page.find(r"for (.+?) movies directed by (.+?) from year (\d+)").groups()
    fields = [node for node in page.all("input") if node.attributes.get("type", "text") == "text"]
    labels = [
        node
        for node in page.all("div|span|th|label|p|td|b")
        if re.search(r"^(Movie )?(Genre|Director|Year|Released)", node.own)
    ]
    values = {"G": genre, "D": director, "Y": year, "R": year}
    submit = next(node for node in page.all("button|div") if node.own in ("Submit", "Search", "Go!"))
    pairs = [(field, values[re.sub(r"^Movie ", "", label.own)[0]]) for field, label in zip(fields, labels, strict=True)]
    return fill_in(*pairs, then=submit)


def sign(page: ExpertPage) -> Move:
    """Cancel, or scroll the agreement to its end, sign and agree."""
    if "cancel button" in page.task:
        return click(page.one("button", "Cancel"))
    area, name = page.one("textarea"), page.find(r'enter the name "(.+?)"')[1]
    if not page.was("scroll", area):
        return make_move("scroll", area.number, direction="down", pixels=5000)
    return fill_in((page.one("input"), name), then=page.one("button", page.find(r'press "(\w+)"')[1]))


def scroll_text(page: ExpertPage) -> Move:
    """Scroll the area to its top or bottom and submit."""
    area, direction = page.one("textarea"), "up" if "the top" in page.task else "down"
    if not page.was("scroll", area):
        return make_move("scroll", area.number, direction=direction, pixels=5000)
    return click(page.one("button"))


def pick_date(page: ExpertPage) -> Move:
    """Open the calendar, leaf to the month, click the day, and submit."""
    month, day, year = (int(part) for part in page.find(r"(\d+)/(\d+)/(\d+)").groups())
    field = page.one("input")
    if field.value == page.find(r"(\d+/\d+/\d+)")[1]:
        return click(page.one("button"))
    shown = page.all("span", cls="ui-datepicker-month")
    if not shown:
        return click(field)
    there = MONTHS.index(shown[0].text) + 1 + 12 * int(page.one("span", cls="ui-datepicker-year").text)
    if there != month + 12 * year:
        return click(page.one("a", cls="ui-datepicker-next" if there < month + 12 * year else "ui-datepicker-prev"))
    return click(page.one("a", str(day), cls="ui-state-default"))


def buy_stock(page: ExpertPage) -> Move:
    """Wait for the price and buy."""
    limit = float(page.find(r"less than \$([\d.]+)\.$")[1])
    price = float(page.one(id="stock-price").text.lstrip("$"))
    return click(page.one("button")) if price < limit else wait()


def use_terminal(page: ExpertPage) -> Move:
    """List the files and remove one with the named ending."""
    field, ending = page.one(id="terminal-target", hidden=True), re.search(r"extension (\.\S+)$", page.task)
    typed = page.one(id="active-input", hidden=True).text
    if typed:
        return press("Enter")
    if not any(command.endswith('"ls"') for command in page.commands):
        return make_move("type", text="ls") if field.focused else click(page.one(id="terminal"))
    files = page.all("span", cls="output")[-1].text.split()
    fits = [name for name in files if (name.endswith(ending[1]) if ending else "." not in name)]
    return make_move("type", text=f"rm {fits[0]}")


def order_food(page: ExpertPage) -> Move:
    """Click the plus of each named dish, or often enough that of a dish of the named kind, and order."""
    signs = [node for node in page.all(text="+") if node.own]
    found = re.search(r"Order (\d+) items that are (.+)$", page.task)
    if found:
        plus = _plus_after(signs, next(node for node in page.all("img") if node.attributes.get("alt") == found[2]))
        return click(plus if len(page.commands) < int(found[1]) else page.one("button"))
    names = page.find(r"each item: (.+)$")[1].split(", ")
    for name in names:
        dish = next(node for node in page.all() if node.own == name)
        plus = _plus_after(signs, dish)
        if not page.was("click", plus):
            return click(plus)
    return click(page.one("button"))


def _plus_after(signs: list[Node], dish: Node) -> Node:
    return min((sign for sign in signs if sign.number > dish.number), key=lambda sign: sign.number)


def highlight(page: ExpertPage) -> Move:
    """Select the paragraph's text with the mouse and submit."""
    if any(command.startswith("drag") for command in page.commands):
        return click(page.one("button"))
    found = re.search(r"the (\d\w\w) paragraph", page.task)
    paragraphs = page.all("p") or [node for node in page.all("div") if node.own]
    x, y, width, height = paragraphs[ORDINALS[found[1]] if found else 0].box
    return drag((x + 0.5, y + 3), (x + width - 0.5, y + height - 2))


def pick_colour(page: ExpertPage) -> Move:
    """Write the colour into the picker's field, close the picker, which covers the button, and submit."""
    name = page.find(r"Select (\w+) with")[1]
    parts = [int(part) for part in re.findall(r"\d+", COLOURS[name])]
    code = "".join(f"{part:02X}" for part in parts)
    field = page.one("input")
    if field.value == code and field.has_class("jscolor-active"):
        return click((155.0, 200.0))
    return fill_in((field, code), then=page.one("button"))


EXPERTS: dict[str, Expert] = {
    "enter-text": enter_quoted, "enter-text-2": enter_quoted, "enter-text-dynamic": enter_quoted,
    "enter-password": enter_twice, "login-user": log_in, "login-user-popup": log_in,
    "enter-date": enter_date, "enter-time": enter_time,
    "focus-text": focus_field, "focus-text-2": focus_field,
    "copy-paste": copy_text, "copy-paste-2": copy_text,
    "read-table": read_table, "read-table-2": read_table,
    "find-word": find_word, "scroll-text": last_word,
    "simple-arithmetic": add_up, "simple-algebra": solve,
    "text-transform": type_seen, "visual-addition": count_blocks,
    "guess-number": guess, "generate-number": generate, "odd-or-even": mark_numbers,
    "use-spinner": set_spinner, "use-slider": set_slider, "form-sequence": set_slider,
    "form-sequence-2": fill_sequence, "form-sequence-3": choose_height,
    "sign-agreement": sign, "scroll-text-2": scroll_text, "stock-market": buy_stock, "terminal": use_terminal,
    "choose-date": pick_date, "choose-date-easy": pick_date, "choose-date-medium": pick_date,
    "choose-date-nodelay": pick_date, "highlight-text": highlight, "highlight-text-2": highlight,
    "use-colorwheel": pick_colour, "order-food": order_food,
    "use-autocomplete": complete, "use-autocomplete-nodelay": complete,
    "multi-layouts": search_movies, "multi-orderings": search_movies,
}  # fmt: skip
