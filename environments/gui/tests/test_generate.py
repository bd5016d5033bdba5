"""Generated screens: what is on them, where, and that they come out the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agentgym.errors import UnknownNameError, UsageError
from agentgym_gui.cache import find_screens, read_spec
from agentgym_gui.datasets import load_samples
from agentgym_gui.generate.icons import ICONS
from agentgym_gui.generate.page import ICON, TEXT, Element, Page
from agentgym_gui.generate.render import LAYOUTS, VIEWPORTS, ScreenSpec, write_screens
from agentgym_gui.generate.themes import draw_theme


@pytest.fixture(scope="module")
def train(screens_dir: Path, spec: ScreenSpec) -> Path:
    return find_screens("train", spec, screens_dir)


@pytest.fixture(scope="module")
def test(screens_dir: Path, spec: ScreenSpec) -> Path:
    return find_screens("test", spec, screens_dir)


def elements_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((folder / "elements").glob("*.json"))}


def test_the_loader_reads_every_platform_back(train: Path) -> None:
    samples = load_samples(train)
    assert {sample.platform for sample in samples} == set(VIEWPORTS)
    assert {sample.data_type for sample in samples} == {TEXT, ICON}
    for sample in samples:
        with Image.open(sample.image) as image:
            assert image.size in VIEWPORTS[sample.platform]
            assert sample.target.box is not None
            x1, y1, x2, y2 = sample.target.box
            assert 0 <= x1 < x2 <= image.width
            assert 0 <= y1 < y2 <= image.height


def test_something_is_drawn_in_every_box(train: Path) -> None:
    """The browser said where it is, and the picture is the browser's: a box of one colour would be a wrong box."""
    for sample in load_samples(train):
        assert sample.target.box is not None
        with Image.open(sample.image) as image:
            cut = np.asarray(image.crop(tuple(round(side) for side in sample.target.box)))
        assert len(np.unique(cut.reshape(-1, 3), axis=0)) > 3, sample


def test_an_instruction_means_one_element(train: Path, test: Path) -> None:
    for folder in (train, test):
        for name, elements in elements_of(folder).items():
            said = [phrase.lower() for element in elements for phrase in element["phrases"]]
            assert len(said) == len(set(said)), name
            boxes = [tuple(element["box"]) for element in elements]
            assert len(boxes) == len(set(boxes)), name


def test_no_two_icons_have_a_purpose_or_a_look_in_common() -> None:
    said = [words for icon in ICONS.values() for words in (icon.looks, *icon.purposes)]
    assert len(said) == len(set(said))


def test_a_name_or_an_instruction_twice_on_a_page_is_refused() -> None:
    page = Page(np.random.default_rng(0), draw_theme(np.random.default_rng(0)))
    page.mark(Element("Stop", TEXT, "button", ('click "Stop"',)))
    with pytest.raises(ValueError, match="twice"):
        page.mark(Element("stop", ICON, "icon", ("end it",)))
    with pytest.raises(ValueError, match="twice"):
        page.mark(Element("Halt", TEXT, "button", ('Click "stop"',)))


def test_splits_share_no_layout(train: Path, test: Path) -> None:
    sources = [{group for sample in load_samples(folder) for group in sample.groups} for folder in (train, test)]
    assert sources[0]
    assert sources[1]
    assert not sources[0] & sources[1]
    names = [layout.name for layout in LAYOUTS]
    assert len(names) == len(set(names))
    for platform in VIEWPORTS:
        assert {layout.split for layout in LAYOUTS if layout.platform == platform} == {"train", "test"}


def test_the_same_seed_draws_the_same_bytes_and_a_killed_run_goes_on(
    train: Path, tmp_path: Path, spec: ScreenSpec
) -> None:
    panels = ScreenSpec(screens=2, targets=spec.targets, platforms=("panel",))
    again = tmp_path / "again"
    write_screens(again, "train", panels, progress=False)
    names = sorted(path.name for path in (again / "screenspotv2_image").iterdir())
    assert names == ["panel_train_000000.png", "panel_train_000001.png"]
    for name in names:
        assert (again / "screenspotv2_image" / name).read_bytes() == (train / "screenspotv2_image" / name).read_bytes()
    whole = (again / "screenspot_panel_v2.json").read_bytes()
    assert whole == (train / "screenspot_panel_v2.json").read_bytes()
    (again / "screens" / "panel_train_000001.json").unlink()
    shutil.rmtree(again / "screenspotv2_image")
    write_screens(again, "train", panels, progress=False)
    assert (again / "screenspot_panel_v2.json").read_bytes() == whole
    assert sorted(path.name for path in (again / "screenspotv2_image").iterdir()) == names


def test_screens_that_are_there_need_no_browser(train: Path, spec: ScreenSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgym_gui.generate.studio.make_browser", None)
    assert write_screens(train, "train", spec, progress=False) == len(load_samples(train))


def test_a_folder_of_other_screens_is_not_mixed(train: Path) -> None:
    with pytest.raises(UsageError, match="another folder"):
        write_screens(train, "train", ScreenSpec(seed=7), progress=False)


def test_specs_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="desktop"):
        ScreenSpec(platforms=("destkop",))
    with pytest.raises(UsageError):
        ScreenSpec(screens=0)
    with pytest.raises(UsageError, match="screns"):
        read_spec({"screns": 3})
    with pytest.raises(UnknownNameError):
        write_screens(tmp_path, "valid")
    assert read_spec({"platforms": ["web"]}) == ScreenSpec(platforms=("web",))
