"""``agentgym/Site-v0``: tasks on sites of several pages, graded by the sites' databases."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from agentgym.actions import Move
from agentgym.env import Opening, Transition
from agentgym.errors import UnknownNameError, UsageError
from agentgym.task import Task, TaskSet
from agentgym_web.commands import PageAction
from agentgym_web.page_view import PageView
from agentgym_web.sites.goal import score_changes
from agentgym_web.sites.server import SiteServer
from agentgym_web.sites.shop_tasks import score_orders
from agentgym_web.sites.site_expert import SiteExpert
from agentgym_web.sites.store import Store
from agentgym_web.sites.worlds import (
    KINDS,
    SITES,
    SPLITS,
    WEBSHOP_KINDS,
    Challenge,
    TaskIds,
    draw_challenge,
    site_of,
    snapshot_world,
)
from agentgym_web.web_env import Grade, WebEnv

ALL_KINDS = tuple(kind for kinds in KINDS.values() for kind in kinds)


class SiteEnv(WebEnv):
    """Shop, write and vote in a forum, or work on tickets, on pages that a server makes from a database.

    Goods, members and tickets are synthetic; the shop can sell those of WebShop (Yao et al., 2022, arXiv:2207.01206)
    from a user's copy of its files. An episode has a database of its own and ends with ``stop``. The only reward term
    is ``outcome``, in [0, 1], paid with ``stop``: read from the database, never from a page; 1 is success.
    ``shop_find`` is scored as in WebShop (:mod:`agentgym_web.sites.wish`), all other families by what changed
    (:func:`agentgym_web.sites.goal.score_changes`); what was not asked for costs. Who does not stop in time gets
    nothing.

    The rule of the splits is in :mod:`agentgym_web.sites.worlds`.

    Args:
        kinds: Families, or sites for all of theirs; everything by default.
        tasks_per_split: Number of tasks in a split.
        items: Folder with WebShop's files (:mod:`agentgym_web.sites.webshop_files`); then only the shop is played.
        **kwargs: As for :class:`agentgym_web.web_env.WebEnv`.

    Raises:
        UnknownNameError: A family, site or split does not exist.
        UsageError: ``tasks_per_split`` is not positive, or ``items`` is no folder.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS
    instructions: ClassVar[str] = (
        "You use a web site in a browser. Every line of the page names an element by a number in brackets. Commands: "
        'click NUMBER, type NUMBER "text", select NUMBER "entry", press KEY, scroll down, scroll up, back, '
        "goto ADDRESS, stop. Do what the task says and nothing else; when it is done, stop."
    )

    def __init__(
        self,
        *,
        kinds: Sequence[str] | None = None,
        tasks_per_split: int = 10_000,
        items: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 1 <= tasks_per_split < 10**9:
            raise UsageError(f"tasks_per_split must be from 1 to 999999999, got {tasks_per_split}")
        if items is not None and not Path(items).is_dir():
            raise UsageError(f"items must be a folder with WebShop's files, got {str(items)!r}")
        self._items = "" if items is None else str(Path(items).resolve())
        self._kinds = read_kinds(kinds, WEBSHOP_KINDS if items is not None else ALL_KINDS)
        self._tasks_per_split = tasks_per_split
        self._server: SiteServer | None = None
        self._store: Store | None = None
        self._challenge: Challenge | None = None
        self._expert: SiteExpert | None = None
        self._view = PageView("", "", "")

    def task_set(self, split: str) -> TaskSet:
        """Return the tasks of a split; a task is drawn when it is played.

        Raises:
            UnknownNameError: There is no such split.
        """
        ids = TaskIds(self._known_split(split), self._tasks_per_split, self._kinds)

        def build(task_id: str) -> Task:
            _, kind, number = task_id.split("/")
            return self.make_task(task_id, split, kind=kind, data={"number": int(number)})

        return TaskSet(split, ids, build, index=ids.position)

    def expert_move(self) -> Move:
        """Return the scripted expert's next move.

        Raises:
            UsageError: No task is being played.
        """
        if self._expert is None or self._store is None:
            raise UsageError("no task is being played: call reset() first")
        return self._expert.choose(self._view.text, self._store.changes(), finished=self._score() == 1.0)

    def close(self) -> None:
        """Close page and server, and forget the database."""
        super().close()
        if self._server is not None:
            self._server.close()
        if self._store is not None:
            self._store.close()
        self._server = self._store = self._expert = None

    def _start(self, task: Task) -> Opening:
        challenge = draw_challenge(task.split, task.kind, task.data["number"], self._items)
        self._seat.leave()  # a request of the episode before must not reach the next one's database
        if self._store is not None:
            self._store.close()
        if self._server is None:
            self._server = SiteServer()
            weakref.finalize(self, self._server.close_apart).atexit = False
        site = SITES[challenge.world.site]
        self._store = Store(snapshot_world(challenge.world), site.facts)
        self._challenge = challenge
        entrance = self._server.play(site, self._store)
        self._expert = SiteExpert(challenge.goal, self._show_address(self._home))
        self._view = self._enter(entrance, [f"127.0.0.1:{self._server.port}"])
        self._server.check()
        opening = self._open(self._view, self._privileged())
        return opening._replace(state_key=self._name_state(opening.state_key))

    def _move(self, move: Move) -> Transition:
        if self._server is None or self._expert is None:
            raise UsageError("the environment was closed: call reset() first")
        transition = super()._move(move)
        self._server.check()
        self._expert.note(move)
        return transition._replace(state_key=self._name_state(transition.state_key))

    def _grade(self, action: PageAction | None, view: PageView) -> Grade:
        self._view = view
        if action is None or action.verb != "stop":
            return Grade(privileged=self._privileged())
        score = self._score()
        return Grade({"outcome": score}, terminated=True, success=score == 1.0, privileged=self._privileged())

    def _notes(self, view: PageView) -> Sequence[str]:
        return [] if self._challenge is None else [f"Task: {self._challenge.goal.instruction}"]

    def _show_address(self, url: str) -> str:
        return self._public + url.removeprefix(self._home) if url.startswith(self._home) else url

    def _find_address(self, url: str) -> str:
        return self._home + url.removeprefix(self._public) if url.startswith(self._public) else url

    @property
    def _home(self) -> str:
        return f"http://127.0.0.1:{self._server.port if self._server is not None else 0}/"

    @property
    def _public(self) -> str:
        return f"http://{self._challenge.world.site if self._challenge is not None else 'site'}.example/"

    def _score(self) -> float:
        assert self._challenge is not None
        assert self._store is not None
        goal, changes = self._challenge.goal, self._store.changes()
        if goal.wish is None:
            return score_changes(goal, changes)
        with self._store.transaction() as rows:
            return score_orders(goal, changes, rows)

    def _privileged(self) -> Mapping[str, Any]:
        """Return the wanted facts, as one text: their single words stand in the task's."""
        assert self._challenge is not None
        goal = self._challenge.goal
        return {"goal": repr({"added": goal.added, "removed": goal.removed, "wish": goal.wish})}

    def _name_state(self, page_key: str) -> str:
        assert self._store is not None
        return f"{page_key}/{self._store.digest()}"


def read_kinds(kinds: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return families in order; a site stands for all of its families.

    Raises:
        UnknownNameError: There is no such family or site.
        UsageError: None was named.
    """
    given = list(known) if kinds is None else [kinds] if isinstance(kinds, str) else list(kinds)
    sites = {site_of(kind) for kind in known}
    for name in given:
        if name not in known and name not in sites:
            raise UnknownNameError("family of tasks", str(name), (*known, *sites))
    if not given:
        raise UsageError(f"kinds is empty; name some of {', '.join(known)}")
    return tuple(kind for kind in known if kind in given or site_of(kind) in given)
