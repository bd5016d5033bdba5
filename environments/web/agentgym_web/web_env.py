"""The base of every environment in which an agent sees a page and acts on it."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces

from agentgym.actions import Move
from agentgym.browser import BrowserLimits, BrowserSpec, Tab
from agentgym.browser_sync import SyncBrowserSession
from agentgym.env import AgentEnv, Observation, Opening, Transition
from agentgym.errors import (
    ActionParseError,
    PageError,
    ResetNeededError,
    SandboxLostError,
    SandboxRefusedError,
    UnknownNameError,
    UsageError,
)
from agentgym.trajectory import Mark
from agentgym_web.commands import TOOLS, PageAction, Place, Verb, read_action
from agentgym_web.page_view import PageView, decode_image, one_line, read_view, show_events, show_view
from agentgym_web.shared_browser import BrowserSeat

READER = resources.files(__package__).joinpath("reader.js").read_text()
READ = f"argument => {{ {READER} return agentgym.ask(argument); }}"
OBSERVATIONS = ("tree", "dom")
PENDING_POLL_S = 0.01
PENDING_S = 10.0
WAIT_S = 0.5
# Equal limits let environments share a browser. A page of ours must not fail because the machine is busy.
LIMITS = BrowserLimits(action_s=20.0)


@dataclass(frozen=True)
class Grade:
    """What an environment says of a page after a move.

    Attributes:
        reward_terms: As in :class:`agentgym.env.Transition`.
        terminated: The task ended.
        success: It ended well.
        privileged: Ground truth.
    """

    reward_terms: Mapping[str, float] = field(default_factory=dict)
    terminated: bool = False
    success: bool = False
    privileged: Mapping[str, Any] = field(default_factory=dict)


class WebEnv(AgentEnv):
    """Pages in a boxed browser, read as text or seen, acted on by number or point.

    The environments of a process share one browser; an episode has a session of its own. The tree has roles and names
    by the rules of HTML and WAI-ARIA, computed by our reader rather than taken from Chromium: it also lists what has no
    role but can be seen, such as a coloured box or a shape (design). An element keeps its number.
    An observation quotes the page behind ``| ``, escaped, so that no page can write the frame around itself.

    A move that the page or the sandbox refuses is an observation with ``executable=False``. A browser that dies raises
    :class:`agentgym.errors.SandboxLostError` in the episodes that it held, and the next ``reset`` starts another.

    A subclass writes ``task_set``, ``_start`` (which calls ``_enter``) and ``_grade``.

    Args:
        observation: ``"tree"`` or ``"dom"``.
        image: Add a screenshot; observations are then a mapping with ``"text"`` and ``"image"`` (uint8, H×W×3).
        viewport: Width and height of the page in pixels.
        page_chars: Most characters of a page that are shown.
        limits: What a page may use.
        **kwargs: As for :class:`agentgym.env.AgentEnv`.

    Raises:
        UnknownNameError: There is no such kind of observation.
    """

    tools: ClassVar[tuple[Mapping[str, Any], ...]] = tuple(TOOLS.values())
    verbs: ClassVar[tuple[Verb, ...]] = tuple(TOOLS)

    def __init__(
        self,
        *,
        observation: Literal["tree", "dom"] = "tree",
        image: bool = False,
        viewport: tuple[int, int] = (1280, 720),
        page_chars: int = 20_000,
        limits: BrowserLimits | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if observation not in OBSERVATIONS:
            raise UnknownNameError("observation", str(observation), OBSERVATIONS)
        spec = BrowserSpec(limits=limits or LIMITS)
        if not 100 <= page_chars <= spec.limits.observation_bytes // 4:
            most = spec.limits.observation_bytes // 4
            raise UsageError(f"page_chars is from 100 to {most}, a quarter of the limit in bytes, got {page_chars}")
        self._mode, self._page_chars = observation, page_chars
        self._viewport = spec.check_viewport(viewport)
        self._image_size = self._viewport if image else None
        self._limits = spec.limits
        self._seat = BrowserSeat(self, spec)
        self._many_tabs = False
        self._mark: Mark | None = None
        if image:
            width, height = self._viewport
            self._use_image_space(width, height)

    # -- what a subclass writes -------------------------------------------------------------------------

    @abstractmethod
    def _grade(self, action: PageAction | None, view: PageView) -> Grade:
        """Judge the world after a move; ``action`` is ``None`` if the move could not be read.

        Reads the truth where the page cannot write it: on a server of ours, in a world apart.
        """

    def _notes(self, view: PageView) -> Sequence[str]:
        """Return lines that stand above every page, such as the task's words."""
        return ()

    def _show_address(self, url: str) -> str:
        """Return an address as the agent knows it; ports of ours are different in every process."""
        return url

    def _find_address(self, url: str) -> str:
        """Return the address that an agent means."""
        return url

    # -- an episode -------------------------------------------------------------------------------------

    @property
    def session(self) -> SyncBrowserSession:
        """The session of the running episode.

        Raises:
            ResetNeededError: There is none.
        """
        session = self._seat.session
        if session is None:
            raise ResetNeededError("no page is open: call reset() first")
        return session

    def _enter(self, url: str, hosts: Sequence[str]) -> PageView:
        """Open a session that reaches ``hosts`` (``host:port``) and show an address in it.

        Raises:
            SandboxLostError: There is no browser, or the page of ours did not load.
        """
        self._many_tabs = False
        session = self._seat.open(hosts, self._viewport)
        try:
            session.goto(url)
            return self._look()
        except (PageError, SandboxRefusedError) as error:
            raise SandboxLostError(f"the first page of the task could not be shown: {error}") from error

    def _open(self, view: PageView, privileged: Mapping[str, Any] | None = None) -> Opening:
        """Make the opening from the first page."""
        return Opening(self._compose(view, ()), view.key, privileged=privileged or {})

    def _move(self, move: Move) -> Transition:
        action, problem, self._mark = None, "", None
        try:
            action = read_action(move, self.verbs)
            self._do(action)
        except (ActionParseError, PageError, SandboxRefusedError) as error:
            problem = f"Not done: {one_line(str(error))}"
        except SandboxLostError:
            self._seat.leave()
            raise
        return self._see(action, problem)

    def _see(self, action: PageAction | None, problem: str) -> Transition:
        try:
            view = self._look()
        except (PageError, SandboxRefusedError) as error:
            problem = problem or f"The page could not be read: {one_line(str(error))}"
            view = PageView("", "", "(no page could be read)")
        events = show_events(self.session.take_events())
        grade = self._grade(action, view)
        if any("popup" in line for line in events):
            self._many_tabs = True
        return Transition(
            observation=self._compose(view, [*([problem] if problem else []), *events]),
            reward_terms=grade.reward_terms,
            terminated=grade.terminated,
            success=grade.success,
            executable=not problem,
            state_key=view.key,
            privileged=grade.privileged,
            mark=self._mark,
        )

    def close(self) -> None:
        """Close the session, and the browser if no other environment uses it."""
        self._seat.give_up()
        super().close()

    # -- reading ----------------------------------------------------------------------------------------

    def _ask(self, verb: str, **wish: Any) -> Any:
        """Ask our reader in the browser; see ``reader.js``."""
        return self.session.read(READ, {"verb": verb, **wish})

    def _look(self) -> PageView:
        """Read the page once no navigation is under way any more."""
        wish = {"mode": self._mode, "chars": self._page_chars, "nodes": self._limits.observation_nodes}
        end = time.monotonic() + PENDING_S
        while True:
            answer = self._ask("read", **wish)
            if not (isinstance(answer, dict) and answer.get("pending")) or time.monotonic() > end:
                break
            time.sleep(PENDING_POLL_S)
        view = read_view(answer)
        return PageView(self._show_address(view.url), view.title, view.text, view.truncated, view.extra)

    def _compose(self, view: PageView, notes: Sequence[str]) -> Observation:
        tabs: Sequence[Tab] = ()
        if self._many_tabs:
            try:
                tabs = [Tab(self._show_address(tab.url), tab.title, tab.active) for tab in self.session.tabs()]
                self._many_tabs = len(tabs) > 1
            except PageError as error:
                notes = [*notes, f"The tabs could not be listed: {one_line(str(error))}"]
        text = show_view(view, [*self._notes(view), *notes], tabs)
        if self._image_size is None:
            return text
        try:
            image = decode_image(self.session.screenshot(), self._image_size)
        except PageError as error:
            width, height = self._image_size
            image = np.zeros((height, width, 3), dtype=np.uint8)
            text = f"No screenshot could be taken: {one_line(str(error))}\n{text}"
        return {"text": text, "image": image}

    def _use_image_space(self, width: int, height: int) -> None:
        image = spaces.Box(0, 255, (height, width, 3), np.uint8)
        self._image_size = (width, height)
        self.observation_space = spaces.Dict({"text": self.observation_space, "image": image})

    # -- acting -----------------------------------------------------------------------------------------

    def _do(self, action: PageAction) -> None:
        """Carry an action out.

        Raises:
            PageError, SandboxRefusedError: The page or the sandbox refuses it.
        """
        session = self.session
        match action.verb:
            case "goto":
                session.goto(self._find_address(action.text))
            case "back":
                session.go_back()
            case "new_tab":
                self._many_tabs = True
                session.new_tab()
            case "switch_tab":
                self._many_tabs = True
                session.select_tab(action.index)
            case "close_tab":
                self._many_tabs = True
                session.close_tab(action.index)
            case "wait":
                self._wait()
            case "stop":
                return
            case _:
                self._do_on_page(session, action)

    def _do_on_page(self, session: SyncBrowserSession, action: PageAction) -> None:
        if action.verb == "select":
            at = self._check(self._ask("choose", number=action.target, label=action.text))
            self._mark = Mark("point", (float(at["x"]), float(at["y"])))
            return
        point = None if action.target is None else self._point(action.target)
        if point is not None:
            self._mark = Mark("point", point)
        match action.verb:
            case "click":
                assert point is not None
                session.click(point, button=action.button, count=action.count)
            case "type":
                self._type(session, action, point)
            case "press":
                session.press(action.text, point)
            case "scroll":
                session.scroll(action.down_px, action.right_px, point)
            case "hover":
                assert point is not None
                session.hover(point)
            case "drag":
                assert point is not None
                assert action.end is not None
                end = self._point(action.end)
                self._mark = Mark("drag", (*point, *end))
                session.drag(point, end)

    def _type(self, session: SyncBrowserSession, action: PageAction, point: tuple[float, float] | None) -> None:
        if point is not None:
            session.click(point)
        number = action.target if isinstance(action.target, int) else None
        ready = self._check(self._ask("prepare", number=number, text=action.text))
        if ready.get("done"):
            return
        if action.text:
            session.type_text(action.text)
        elif number is not None:
            session.press("Delete")

    def _point(self, place: Place) -> tuple[float, float]:
        if not isinstance(place, int):
            return place
        at = self._check(self._ask("locate", number=place))
        return float(at["x"]), float(at["y"])

    def _check(self, answer: Any) -> Mapping[str, Any]:
        if not isinstance(answer, dict):
            raise PageError("the page could not be read")
        if "problem" in answer:
            raise PageError(str(answer["problem"]))
        return answer

    def _wait(self) -> None:
        time.sleep(WAIT_S)
