"""``agentgym/MiniWoB-v0``: the tasks of MiniWoB++, on the package's own pages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from agentgym.actions import Move
from agentgym.env import Opening, Transition
from agentgym.errors import PageError, SandboxLostError, SandboxRefusedError, UnknownNameError, UsageError
from agentgym.task import DrawnIds, Task, TaskSet
from agentgym_web.commands import TOOLS, PageAction, Verb
from agentgym_web.miniwob.catalogue import TASKS
from agentgym_web.page_view import PageView, one_line, read_view
from agentgym_web.web_env import Grade, WebEnv

if TYPE_CHECKING:
    from agentgym_web.miniwob.experts.page import ExpertPage

VERBS: tuple[Verb, ...] = ("click", "type", "select", "press", "scroll", "hover", "drag", "wait")
FIRST_SEEDS = {"train": 0, "valid_seen": 1_000_000_000, "valid_unseen": 2_000_000_000}
MODES = {"train": "train", "valid_seen": "train", "valid_unseen": "test"}
REWARDS = ("raw", "success")
PLAIN, FLIGHT = ((500, 320), (160, 210)), ((600, 800), (375, 667))  # viewport and picture, as in the package
EPISODES_PER_SESSION = 500
FIRST_DAY_MS = 1_577_880_000_000  # noon of 1 January 2020, UTC
DAY_MS, DAYS = 86_400_000, 1461


class TaskIds(DrawnIds):
    """Ids of the tasks of a split, ``name/split/number``: one of each name, then the next of each."""

    def __init__(self, split: str, names: Sequence[str], length: int) -> None:
        super().__init__(length * len(names))
        self._split, self._names, self._each = split, tuple(names), length

    def draw(self, position: int) -> str:
        """Return the id at a position."""
        number, name = divmod(position, len(self._names))
        return f"{self._names[name]}/{self._split}/{number}"

    def position(self, task_id: str) -> int:
        """Return where an id stands.

        Raises:
            KeyError: It is no id of this split.
        """
        name, _, number = task_id.partition(f"/{self._split}/")
        if name in self._names and number.isdecimal() and str(int(number)) == number and int(number) < self._each:
            return int(number) * len(self._names) + self._names.index(name)
        raise KeyError(task_id)


class MiniWoBEnv(WebEnv):
    """The tasks of MiniWoB++ (Shi et al., 2017; Liu et al., 2018, arXiv:1802.08802), from ``miniwob`` 1.1.0.

    An episode is the package's own, seed by seed: ``Math.seedrandom(seed)`` in a world that no episode used before. The
    only reward term, ``outcome``, is the package's raw reward (from -1 to 1, without its discount by time), paid on the
    step that ends the task; ``success`` is a raw reward above 0. Some tasks pay in parts. A wrong end pays -1 and none
    at all 0, so that a policy which is mostly wrong learns not to end; ``reward="success"`` pays 1 or 0, as BrowserGym.

    Time (design): a page's clock, timers and animations stand still while the agent thinks and go on by ``turn_ms``
    after every move, and the calendar's today is drawn by the seed. The package's limit of time is off;
    ``max_turns`` holds.

    Splits have seeds of their own; kinds are names of tasks. ``valid_unseen`` also sets the package's data mode to
    ``test``, which changes five tasks and FlightWoB. FlightWoB is the four ``flight.*``.

    Args:
        task: A task's name, several, or all of the package's.
        reward: ``raw``, or ``success``: 1 where the raw reward is above 0, else 0.
        turn_ms: What a page's clock goes on by in a turn, in milliseconds.
        seeds_per_split: Tasks of each name in a split.
        **kwargs: As for :class:`agentgym_web.web_env.WebEnv`, but for ``viewport``.

    Raises:
        UnknownNameError: There is no such task, or no such reward.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "valid_seen", "valid_unseen")
    verbs: ClassVar[tuple[Verb, ...]] = VERBS
    tools: ClassVar[tuple[Mapping[str, Any], ...]] = tuple(TOOLS[verb] for verb in VERBS)
    instructions: ClassVar[str] = (
        'You see a small web page and a task. Commands: click N, click N double, click N right, type N "text", '
        'select N "entry", press KEY, scroll N down, hover N, drag N M, wait. N and M are numbers of elements, '
        "or points as x,y in pixels."
    )

    def __init__(
        self,
        *,
        task: str | Sequence[str] | None = None,
        reward: Literal["raw", "success"] = "raw",
        turn_ms: int = 1000,
        seeds_per_split: int = 10_000,
        observation: Literal["tree", "dom"] = "tree",
        image: bool = False,
        max_turns: int = 30,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation=observation, max_turns=max_turns, **kwargs)
        self._names = _read_names(task)
        if reward not in REWARDS:
            raise UnknownNameError("reward", str(reward), REWARDS)
        if not 0 <= turn_ms <= 60_000:
            raise UsageError(f"turn_ms is from 0 to 60000, got {turn_ms}")
        if not 1 <= seeds_per_split <= 1_000_000_000:
            raise UsageError(f"seeds_per_split is from 1 to 1000000000, got {seeds_per_split}")
        self._reward, self._turn_ms, self._length = reward, turn_ms, seeds_per_split
        if image:
            sizes = [(FLIGHT if name.startswith("flight.") else PLAIN)[1] for name in self._names]
            self._use_image_space(max(width for width, _ in sizes), max(height for _, height in sizes))
        self._viewport, self._episodes = (0, 0), 0
        self._utterance = ""
        self._fields: Mapping[str, str] = {}
        self._commands: list[str] = []

    def task_set(self, split: str) -> TaskSet:
        """Return the tasks of a split.

        Raises:
            UnknownNameError: There is no such split.
        """
        ids = TaskIds(self._known_split(split), self._names, self._length)

        def build(task_id: str) -> Task:
            name, _, number = task_id.partition(f"/{split}/")
            data = {"seed": FIRST_SEEDS[split] + int(number), "mode": MODES[split]}
            return self.make_task(task_id, split, kind=name, data=data)

        return TaskSet(split, ids, build, index=ids.position)

    def expert_move(self) -> Move:
        """Return the scripted expert's next command; ``wait`` where it is at a loss.

        Raises:
            UsageError: This task has no expert, or none is being played.
        """
        from agentgym_web.miniwob.experts import find_expert

        if self.task is None:
            raise UsageError("no task is being played: call reset() first")
        return find_expert(self.task.kind)(self._inspect())

    def _inspect(self) -> ExpertPage:
        from agentgym_web.miniwob.experts.page import read_page

        nodes = self.session.evaluate("() => host.inspect()")
        return read_page(nodes, self._utterance, self._fields, tuple(self._commands))

    def _start(self, task: Task) -> Opening:
        self._commands, self._many_tabs = [], False
        view = self._begin(task)
        self._utterance, self._fields = one_line(view.extra["utterance"], 2000), view.extra["fields"]
        self.session.take_events()
        return self._open(view)

    def _begin(self, task: Task) -> PageView:
        viewport = (FLIGHT if task.kind.startswith("flight.") else PLAIN)[0]
        for attempt in range(2):
            try:
                if self._seat.session is None or viewport != self._viewport or self._episodes >= EPISODES_PER_SESSION:
                    self._open_host(viewport)
                self._episodes += 1
                return read_view(self.session.evaluate("argument => host.begin(argument)", self._beginning(task)))
            except (PageError, SandboxRefusedError, SandboxLostError) as error:
                self._seat.leave()  # whatever the last episode did to it, the next session knows nothing of it
                if attempt or isinstance(error, SandboxRefusedError):
                    raise SandboxLostError(f"the page of {task.id} could not be shown: {error}") from error
        raise AssertionError("unreachable")

    def _open_host(self, viewport: tuple[int, int]) -> None:
        from agentgym_web.miniwob.pages import HOST_PATH, serve_pages

        pages = serve_pages()
        self._viewport, self._episodes = viewport, 0
        self._seat.open([pages.host], viewport).goto(f"http://{pages.host}{HOST_PATH}")

    def _beginning(self, task: Task) -> dict[str, Any]:
        name, seed = task.kind, int(task.data["seed"])
        path = f"/{name.replace('.', '/')}/wrapper.html" if name.startswith("flight.") else f"/miniwob/{name}.html"
        return {
            "path": path,
            "seed": seed,
            "mode": task.data["mode"],
            "start": FIRST_DAY_MS + seed % DAYS * DAY_MS,
            "width": self._viewport[0],
            "height": self._viewport[1],
            "wish": self._wish(0),
        }

    def _move(self, move: Move) -> Transition:
        transition = super()._move(move)
        if transition.executable:
            self._commands.append(move.command or json.dumps([move.tool, dict(move.arguments)]))
        return transition

    def _ask(self, verb: str, **wish: Any) -> Any:
        return self.session.evaluate("wish => host.ask(wish)", {"verb": verb, **wish})

    def _look(self) -> PageView:
        return read_view(self.session.evaluate("wish => host.look(wish)", self._wish(self._turn_ms)))

    def _wish(self, span_ms: int) -> dict[str, Any]:
        nodes = self._limits.observation_nodes
        return {"mode": self._mode, "chars": self._page_chars, "nodes": nodes, "span": span_ms}

    def _notes(self, view: PageView) -> Sequence[str]:
        return (f"Task: {self._utterance}",)

    def _wait(self) -> None:
        """Nothing to do: every turn lets the page's clock go on."""

    def _grade(self, action: PageAction | None, view: PageView) -> Grade:
        if not isinstance(view.extra, dict) or not view.extra["done"]:
            return Grade(reward_terms={"outcome": 0.0})
        raw = float(view.extra["raw"])
        reason = re.sub(r"//127\.0\.0\.1:\d+/", "//miniwob/", str(view.extra["reason"]))  # the port is of this process
        outcome = raw if self._reward == "raw" else float(raw > 0)
        return Grade({"outcome": outcome}, True, raw > 0, {"reason": reason})


def _read_names(task: str | Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(TASKS) if task is None else (task,) if isinstance(task, str) else tuple(task)
    for name in names:
        if name not in TASKS:
            raise UnknownNameError("task of MiniWoB", str(name), TASKS)
    if not names or len(set(names)) != len(names):
        raise UsageError("name at least one task, and none twice")
    return names
