"""Reads grounding benchmarks from the folders that their authors publish.

ScreenSpot (SeeClick, arXiv 2401.10935): ``screenspot_{desktop,mobile,web}.json``, images in ``screenspot_imgs/``. Rows:
``img_filename``, ``bbox`` as **[x, y, width, height]** in pixels, ``instruction``, ``data_type`` (text, icon),
``data_source`` (windows, macos, ios, android, and the web's gitlab, shop, forum, tool).

ScreenSpot-v2 (OS-Atlas, arXiv 2410.23218): the same rows with corrected labels, in ``screenspot_*_v2.json`` and
``screenspotv2_image/``. The generator of this pack writes this.

ScreenSpot-Pro (arXiv 2504.07981): ``annotations/*.json``, one per program and system, and ``images/``. Rows:
``img_filename``, ``bbox`` as **[x1, y1, x2, y2]** in pixels, ``instruction``, ``instruction_cn``, ``id``,
``application``, ``platform``, ``group``, ``ui_type`` (text, icon), ``img_size``.

OSWorld-G (Jedi, arXiv 2505.13227): ``OSWorld-G.json``, ``OSWorld-G_refined.json``, ``classification_result.json`` and
``images/``, all in the repository's folder ``benchmark/``. Rows: ``id``, ``image_path``, ``image_size``,
``instruction``, ``GUI_types``, ``box_type`` and ``box_coordinates``: of a ``bbox`` **[x, y, width, height]**, of a
``polygon`` its corners in one flat list, of a ``refusal`` nothing that means something.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentgym.errors import UsageError
from agentgym.rewards.gaussian import Box
from agentgym_gui.verdict import Target

_PLATFORM = re.compile(r"screenspot_([a-z]+)(?:_v2)?\.json")
_IMAGE_FOLDERS = ("screenspotv2_image", "screenspot_imgs", "images")


@dataclass(frozen=True)
class Sample:
    """One question about one screenshot.

    Attributes:
        id: Unique in the data set.
        image: File of the screenshot.
        instruction: What is to be found.
        target: Where it is.
        platform: ``desktop``, ``mobile``, ``web``; of ScreenSpot-Pro the operating system.
        data_type: ``text`` or ``icon``; empty where the authors do not say.
        kind: What the authors break their tables down by: platform or group, and type.
        groups: Further groups, which may overlap.
        elements: File with everything that is on the screen; only generated screens have one.
    """

    id: str
    image: Path
    instruction: str
    target: Target
    platform: str
    data_type: str
    kind: str
    groups: tuple[str, ...] = field(default=())
    elements: Path | None = None


@functools.lru_cache(maxsize=16)
def load_samples(folder: Path) -> tuple[Sample, ...]:
    """Read the samples of a folder in any of the four layouts.

    Raises:
        UsageError: It has none of the layouts, or a row is not what its authors say; the message names it.
    """
    benchmark = folder / "benchmark" if (folder / "benchmark").is_dir() else folder
    screenspot = sorted(path for path in folder.glob("screenspot_*.json") if _PLATFORM.fullmatch(path.name))
    if screenspot:
        samples = [sample for path in screenspot for sample in _screenspot(folder, path)]
    elif (folder / "annotations").is_dir():
        samples = [s for path in sorted((folder / "annotations").glob("*.json")) for s in _screenspot_pro(folder, path)]
    elif (benchmark / "OSWorld-G.json").is_file():
        samples = _osworld_g(benchmark)
    else:
        raise UsageError(
            f"{folder} is laid out as none of: ScreenSpot or ScreenSpot-v2 (screenspot_*.json), ScreenSpot-Pro "
            "(annotations/*.json), OSWorld-G (OSWorld-G.json)"
        )
    if not samples:
        raise UsageError(f"{folder} has no sample")
    return tuple(samples)


def _screenspot(folder: Path, path: Path) -> list[Sample]:
    found = _PLATFORM.fullmatch(path.name)
    assert found is not None
    platform = found[1]
    images = _image_folder(folder)
    samples = []
    for number, row in enumerate(_rows(path)):
        where = f"{path}, row {number}"
        name, data_type = str(_get(row, "img_filename", where)), str(_get(row, "data_type", where))
        elements = folder / "elements" / f"{Path(name).stem}.json"
        samples.append(
            Sample(
                id=f"{platform}/{number:05d}",
                image=images / name,
                instruction=str(_get(row, "instruction", where)),
                target=Target(_from_sides(_get(row, "bbox", where), where)),
                platform=platform,
                data_type=data_type,
                kind=f"{platform}/{data_type}",
                groups=(str(row.get("data_source", "")),),
                elements=elements if elements.is_file() else None,
            )
        )
    return samples


def _screenspot_pro(folder: Path, path: Path) -> list[Sample]:
    samples = []
    for number, row in enumerate(_rows(path)):
        where = f"{path}, row {number}"
        data_type = str(_get(row, "ui_type", where))
        x1, y1, x2, y2 = _numbers(_get(row, "bbox", where), where)
        if x2 < x1 or y2 < y1:
            raise UsageError(f"{where}: bbox {[x1, y1, x2, y2]} is inverted; ScreenSpot-Pro has [x1, y1, x2, y2]")
        samples.append(
            Sample(
                id=f"{path.stem}/{number:05d}",
                image=folder / "images" / str(_get(row, "img_filename", where)),
                instruction=str(_get(row, "instruction", where)),
                target=Target((x1, y1, x2, y2)),
                platform=str(row.get("platform", "")),
                data_type=data_type,
                kind=f"{_get(row, 'group', where)}/{data_type}",
                groups=(str(row.get("application", "")),),
            )
        )
    return samples


def _osworld_g(folder: Path) -> list[Sample]:
    groups: dict[str, list[str]] = {}
    classified = folder / "classification_result.json"
    if classified.is_file():
        for group, members in json.loads(classified.read_text(encoding="utf-8"))["classified"].items():
            for member in members:
                groups.setdefault(str(member["id"]), []).append(str(group))
    samples = []
    for number, row in enumerate(_rows(folder / "OSWorld-G.json")):
        where = f"{folder / 'OSWorld-G.json'}, row {number}"
        name, box_type = str(_get(row, "id", where)), str(_get(row, "box_type", where))
        samples.append(
            Sample(
                id=name,
                image=folder / "images" / str(_get(row, "image_path", where)),
                instruction=str(_get(row, "instruction", where)),
                target=_osworld_target(box_type, row.get("box_coordinates"), where),
                platform="desktop",
                data_type="",
                kind=box_type,
                groups=tuple(groups.get(name, ())),
            )
        )
    return samples


def _osworld_target(box_type: str, coordinates: Any, where: str) -> Target:
    if box_type == "refusal":
        return Target(None)
    if box_type == "bbox":
        return Target(_from_sides(coordinates, where))
    if box_type != "polygon" or not isinstance(coordinates, list) or len(coordinates) < 6 or len(coordinates) % 2:
        raise UsageError(f"{where}: {box_type!r} of {coordinates!r} is no bbox, polygon or refusal")
    numbers = [float(number) for number in coordinates]
    xs, ys = numbers[::2], numbers[1::2]
    return Target((min(xs), min(ys), max(xs), max(ys)), tuple(zip(xs, ys, strict=True)))


def _image_folder(folder: Path) -> Path:
    for name in _IMAGE_FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    raise UsageError(f"{folder} has no folder of images; expected one of {', '.join(_IMAGE_FOLDERS)}")


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list):
        raise UsageError(f"{path} is no list of rows")
    return rows


def _get(row: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in row:
        raise UsageError(f"{where} has no {key!r}, only {sorted(row)}")
    return row[key]


def _from_sides(box: Any, where: str) -> Box:
    x, y, width, height = _numbers(box, where)
    if width < 0 or height < 0:
        raise UsageError(f"{where}: [x, y, width, height] has a negative side: {box}")
    return x, y, x + width, y + height


def _numbers(box: Any, where: str) -> Box:
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        raise UsageError(f"{where}: {box!r} is no box of four numbers")
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])
