"""``agentgym/ScreenSpot-v0``: say where on a screen something is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agentgym.actions import Move
from agentgym.env import AgentEnv, Observation, Opening, Transition
from agentgym.errors import ActionParseError, InfrastructureError, UnknownNameError, UsageError
from agentgym.rewards.gaussian import HIT, Box, Prediction, centre, write_prediction
from agentgym.spaces import UnicodeText
from agentgym.task import Task, TaskSet
from agentgym.trajectory import Mark
from agentgym_gui.answers import FRAMES, parse_answer, place_answer
from agentgym_gui.cache import find_screens, read_spec
from agentgym_gui.datasets import Sample, load_samples
from agentgym_gui.spaces import Picture
from agentgym_gui.verdict import EDGES, hits, inner_point

MOST_PIXELS = 64_000_000
ZOOM, REFUSE = "zoom", "refuse"
OBSERVED = ("image", "elements")
ANSWERED = ("point", "box")
COLUMNS = "role name: x1 y1 x2 y2"  # of the table of elements


def _tool(name: str, description: str, *numbers: str) -> Mapping[str, Any]:
    properties = {number: {"type": "number"} for number in numbers}
    parameters = {"type": "object", "properties": properties, "required": list(numbers)}
    return {"name": name, "description": description, "parameters": parameters}


TOOLS = (
    _tool("point", "Answer with a point inside of what is asked for.", "x", "y"),
    _tool("box", "Answer with the box around what is asked for.", "x1", "y1", "x2", "y2"),
    _tool(ZOOM, "Look closer at a part of the screen, where the environment allows it.", "x1", "y1", "x2", "y2"),
    _tool(REFUSE, "Answer that what is asked for is not on the screen."),
)


def _read_elements(sample: Sample) -> list[dict[str, Any]]:
    if sample.elements is None:
        raise UsageError(f"nobody says what is on {sample.image.name}: elements are known of generated screens only")
    elements: list[dict[str, Any]] = json.loads(sample.elements.read_text(encoding="utf-8"))
    return elements


def _name(element: Mapping[str, Any]) -> str:
    return f"{element['role']} {element['name']}"


@dataclass(frozen=True)
class Choice:
    """What an agent chose: an answer, a part to look at, or, with neither, to refuse."""

    answer: Prediction | None = None
    zoom: Box | None = None


class ScreenSpotEnv(AgentEnv):
    """Point at what an instruction asks for on a screenshot: ScreenSpot, its successors, and generated screens.

    One answer ends the episode. The only reward term is ``outcome``, 1 if its point, or the centre of its box, hits.
    What was answered is in ``info["measures"]``, for :class:`agentgym.rewards.gaussian.Gaussian`. ``privileged`` has
    ``box`` (``[x1, y1, x2, y2]`` in pixels of the whole screenshot), ``size``, ``platform``, ``data_type`` and
    ``groups``; the ``kind`` of a task is what the authors break their tables down by. A published benchmark has a
    ``test`` split only; generated screens have ``train`` and ``test``, of different layouts.

    Args:
        data_dir: Folder of ScreenSpot, ScreenSpot-v2, ScreenSpot-Pro or OSWorld-G (:mod:`agentgym_gui.datasets`); by
            default ``$AGENTGYM_SCREENSPOT``, and if that is unset, or this is ``"generated"``, screens are drawn.
        observe: ``"image"``: text and picture. ``"elements"``: text only, with a table of what is on the screen and
            where; generated screens alone have one.
        frame: What coordinates mean, in observations and answers: ``"pixels"``, ``"thousand"`` (0 to 1000 each way)
            or ``"unit"`` (0 to 1).
        edges: Which edges of a box count as hit; see :func:`agentgym_gui.verdict.hits`.
        zoom: Allow ``zoom [x1, y1, x2, y2]``, which shows that part as large as the screen. Answers stay in
            coordinates of the whole.
        expert: What the expert answers: the ``"point"`` in the middle, or the ``"box"``, written as in the table.
        most_side_px: Pictures are shrunk so that no side is longer; ``"pixels"`` are then those of the shrunk picture.
        generate: Fields of :class:`agentgym_gui.generate.render.ScreenSpec`, for generated screens.
        cache_dir: Where generated screens are kept; ``$AGENTGYM_CACHE/gui`` or ``~/.cache/agentgym/gui``.
        **kwargs: As for :class:`agentgym.env.AgentEnv`; ``max_turns`` is 1 by default, or 4 with zoom.

    Raises:
        UnknownNameError: A name does not exist.
        UsageError: The folder is laid out as none of the benchmarks, or a setting cannot be.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    tools: ClassVar[tuple[Mapping[str, Any], ...]] = TOOLS

    def __init__(
        self,
        *,
        data_dir: str | Path | None = None,
        observe: str = "image",
        frame: str = "pixels",
        edges: str = "closed",
        zoom: bool = False,
        expert: str = "point",
        most_side_px: int | None = None,
        generate: Mapping[str, Any] | None = None,
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        for what, name, known in (
            ("observation", observe, OBSERVED),
            ("frame", frame, FRAMES),
            ("rule for edges", edges, EDGES),
            ("expert", expert, ANSWERED),
        ):
            if name not in known:
                raise UnknownNameError(what, str(name), known)
        if most_side_px is not None and most_side_px < 1:
            raise UsageError(f"most_side_px must be at least 1, got {most_side_px}")
        chosen = os.environ.get("AGENTGYM_SCREENSPOT") if data_dir is None else data_dir
        self._folder = None if not chosen or chosen == "generated" else Path(chosen)
        if self._folder is not None:
            self.splits = ("test",)  # type: ignore[misc]  # what a folder has is known here only
            kwargs.setdefault("split", "test")
            if not self._folder.is_dir():
                raise UsageError(f"there is no folder {self._folder} with a benchmark")
        super().__init__(**{"max_turns": 4 if zoom else 1, **kwargs})
        self._observe, self._frame, self._edges, self._zoom = observe, frame, edges, zoom
        self._expert, self._most_side_px = expert, most_side_px
        self._spec = read_spec(generate)
        self._cache = Path(cache_dir) if cache_dir is not None else None
        text = UnicodeText(max_bytes=1_048_576)
        self.observation_space = (
            text if observe == "elements" else gymnasium.spaces.Dict({"text": text, "image": Picture(MOST_PIXELS)})
        )
        self._sample: Sample | None = None
        self._elements: list[dict[str, Any]] = []
        self._image: Image.Image | None = None
        self._size = self._shown = (1, 1)
        self._choice = Choice()
        self._seen: Box = (0, 0, 1, 1)
        self._privileged: Mapping[str, Any] = {}
        self._task_sets: dict[str, TaskSet] = {}

    @property
    def system_prompt(self) -> str:
        """What a model is told before the first observation."""
        if self._system_prompt is not None:
            return self._system_prompt
        return f"{self._how_to_answer()}\n{self.action_format.instructions}"

    def task_set(self, split: str) -> TaskSet:
        """Return the tasks of a split; screens that are not there yet are drawn.

        Raises:
            UnknownNameError: There is no such split.
            UsageError: The folder is laid out as none of the benchmarks.
            SandboxUnavailableError: Screens must be drawn, and there is no browser.
        """
        if self._known_split(split) not in self._task_sets:
            folder = self._folder or find_screens(split, self._spec, self._cache)
            samples = {f"{split}/{sample.id}": sample for sample in load_samples(folder)}

            def build(task_id: str) -> Task:
                sample = samples[task_id]
                return self.make_task(task_id, split, kind=sample.kind, data={"sample": sample})

            self._task_sets[split] = TaskSet(split, list(samples), build)
        return self._task_sets[split]

    def expert_move(self) -> Move:
        """Return the middle of the target, or its box, or a refusal; its thought is what the list of elements calls it.

        Raises:
            UsageError: No task is being played.
        """
        if self._sample is None:
            raise UsageError("no task is being played: call reset() first")
        target = self._sample.target
        if target.box is None:
            return Move(command=REFUSE, tool=REFUSE)
        if self._expert == "box":
            x1, y1, x2, y2 = self._write(target.box)
            box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            written = self._write_row(target.box) if self._observe == "elements" else f"[{x1}, {y1}, {x2}, {y2}]"
            return Move(written, tool="box", arguments=box, thought=self._name_target())
        x, y = self._write(inner_point(target))
        return Move(f"({x}, {y})", tool="point", arguments={"x": x, "y": y}, thought=self._name_target())

    def _name_target(self) -> str:
        """Return what the list of elements calls the target; nothing where there is no list."""
        assert self._sample is not None
        box = self._sample.target.box
        return next((_name(element) for element in self._elements if tuple(element["box"]) == box), "")

    def close(self) -> None:
        """Forget the picture."""
        self._image = None
        super().close()

    # -- the episode ------------------------------------------------------------------------------------

    def _start(self, task: Task) -> Opening:
        sample: Sample = task.data["sample"]
        self._sample = sample
        self._elements = _read_elements(sample) if self._observe == "elements" else []
        try:
            with Image.open(sample.image) as image:
                self._image = image.convert("RGB")
        except OSError as error:
            raise InfrastructureError(f"the screenshot of task {task.id!r} cannot be read: {error}") from error
        self._size = self._image.size
        longest = max(self._size)
        shrink = 1.0 if self._most_side_px is None else min(1.0, self._most_side_px / longest)
        self._shown = max(1, round(self._size[0] * shrink)), max(1, round(self._size[1] * shrink))
        box = sample.target.box
        self._privileged = {
            "box": None if box is None else list(box),
            "polygon": [list(corner) for corner in sample.target.polygon],
            "size": list(self._size),
            "platform": sample.platform,
            "data_type": sample.data_type,
            "groups": list(sample.groups),
        }
        return Opening(self._show(), state_key=task.id, privileged=self._privileged)

    def _read(self, action: str) -> Move:
        move = super()._read(action)
        self._choice = self._choose(move)
        return move

    def _move(self, move: Move) -> Transition:
        sample, choice = self._sample, self._choice
        assert sample is not None
        if choice.zoom is not None:
            key = f"{self.task.id if self.task else ''} {choice.zoom}"
            mark = self._mark(choice)
            return Transition(self._show(choice.zoom), state_key=key, privileged=self._privileged, mark=mark)
        if choice.answer is None:
            hit = sample.target.box is None
            measures = {HIT: float(hit)}
        else:
            hit = hits(sample.target, choice.answer.point, self._edges)
            measures = {**write_prediction(choice.answer), HIT: float(hit)}
        last = self._last.observation
        said = "Answered."
        return Transition(
            observation=said if isinstance(last, str) else {"text": said, "image": last["image"].copy()},
            reward_terms={"outcome": float(hit)},
            terminated=True,
            success=hit,
            state_key=f"{self.task.id if self.task else ''} answered",
            privileged=self._privileged,
            measures=measures,
            mark=self._mark(choice),
        )

    def _mark(self, choice: Choice) -> Mark | None:
        """Return what was chosen in pixels of the picture that was seen, which may be a part of the screenshot."""
        box = choice.zoom or (choice.answer.box if choice.answer is not None else None)
        place: Sequence[float] | None = box or (choice.answer.point if choice.answer is not None else None)
        if place is None:
            return None
        sides = self._seen[2] - self._seen[0], self._seen[3] - self._seen[1]
        pixels = [(at - self._seen[i % 2]) * self._shown[i % 2] / sides[i % 2] for i, at in enumerate(place)]
        return Mark("box" if box else "point", tuple(pixels))

    def _refuse(self, message: str) -> Transition:
        """Say what was wrong; on the last turn, what cannot be read is a wrong answer, as the papers count it."""
        transition = super()._refuse(message)
        if self._turn < self.max_turns:
            return transition
        return transition._replace(reward_terms={"outcome": 0.0}, terminated=True, measures={HIT: 0.0})

    def _choose(self, move: Move) -> Choice:
        """Read a command or a tool call.

        Raises:
            ActionParseError: It is nothing that can be done here; the message is for the model.
        """
        command = move.command.strip()
        if move.tool:
            numbers = [move.arguments[name] for name in ("x", "y", "x1", "y1", "x2", "y2") if name in move.arguments]
            is_zoom, is_refusal = move.tool == ZOOM, move.tool == REFUSE
            found = None if is_refusal else self._scale(place_answer(numbers, self._shown, self._frame))
        else:
            is_zoom, is_refusal = command.startswith(ZOOM), command == REFUSE
            text = command.removeprefix(ZOOM) if is_zoom else command
            found = None if is_refusal else self._scale(parse_answer(text, self._shown, self._frame))
        if not is_zoom:
            return Choice(answer=found)
        if not self._zoom:
            raise ActionParseError("You cannot zoom here. Answer with a point or a box.")
        if found is None or found.box is None:
            raise ActionParseError("Say what to look at as a box: zoom [x1, y1, x2, y2].")
        return Choice(zoom=found.box)

    # -- coordinates and pictures -------------------------------------------------------------------------

    def _scale(self, prediction: Prediction) -> Prediction:
        """Return an answer on the shown picture in pixels of the whole screenshot."""
        across, down = self._size[0] / self._shown[0], self._size[1] / self._shown[1]
        point = prediction.point[0] * across, prediction.point[1] * down
        if prediction.box is None:
            return Prediction(point)
        x1, y1, x2, y2 = prediction.box
        return Prediction(point, (x1 * across, y1 * down, x2 * across, y2 * down))

    def _write(self, place: Sequence[float]) -> list[float | int]:
        """Return pixels of the whole screenshot as numbers of the frame, whole where the frame is fine enough."""
        most = {"pixels": self._shown, "thousand": (1000, 1000), "unit": (1, 1)}[self._frame]
        numbers = [side * most[axis % 2] / self._size[axis % 2] for axis, side in enumerate(place)]
        if self._frame == "unit":
            return [round(number, 4) for number in numbers]
        small = len(place) == 2 or min(numbers[2] - numbers[0], numbers[3] - numbers[1]) < 2
        rounded = [round(number, 1) if small else round(number) for number in numbers]
        return [int(number) if number == int(number) else number for number in rounded]

    def _write_row(self, box: Sequence[float]) -> str:
        """Return a box as the table of elements writes it."""
        return " ".join(map(str, self._write(box)))

    def _show(self, zoom: Box | None = None) -> Observation:
        assert self._sample is not None
        assert self._image is not None
        self._seen = (0, 0, *self._size)
        lines = [self._sample.instruction]
        if zoom is not None:
            x1, y1, x2, y2 = self._write(zoom)
            lines = [f"You look at [{x1}, {y1}, {x2}, {y2}] of the screen.", *lines]
        if self._observe == "elements":
            return "\n".join([*self._list_elements(zoom), *lines])
        lines.append(f"The screen is {self._shown[0]} wide and {self._shown[1]} high.")
        image = self._image
        if zoom is not None:
            x1, y1, x2, y2 = (round(side) for side in _widen(zoom))
            image, self._seen = image.crop((x1, y1, x2, y2)), (x1, y1, x2, y2)
        if image.size != self._shown:
            image = image.resize(self._shown, Image.Resampling.LANCZOS)
        picture: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
        return {"text": "\n".join(lines), "image": picture}

    def _list_elements(self, zoom: Box | None) -> list[str]:
        lines = [COLUMNS]
        for element in self._elements:
            x, y = centre(element["box"])
            if zoom is None or (zoom[0] <= x <= zoom[2] and zoom[1] <= y <= zoom[3]):
                lines.append(f"{_name(element)}: {self._write_row(element['box'])}")
        return lines

    def _how_to_answer(self) -> str:
        frame = {
            "pixels": "Coordinates are pixels from the upper left corner.",
            "thousand": "Coordinates go from 0 to 1000 from the upper left to the lower right corner.",
            "unit": "Coordinates go from 0 to 1 from the upper left to the lower right corner.",
        }[self._frame]
        ways = "Say where on the screen it is that you are asked for: a point (x, y) or a box [x1, y1, x2, y2]."
        zoom = " To look closer first: zoom [x1, y1, x2, y2]." if self._zoom else ""
        return f"{ways} {frame}{zoom} If it is not there: {REFUSE}."


def _widen(box: Box) -> Box:
    """Return the box with sides of at least a pixel, so that a picture can be cut."""
    return box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)
