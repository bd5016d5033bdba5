"""The four layouts, each as its authors have it, and a real screenshot set played through the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agentgym.errors import UsageError
from agentgym.rewards.gaussian import Gaussian
from agentgym.rewards.wrapper import RewardWrapper
from agentgym_gui.datasets import load_samples
from agentgym_gui.screenspot import ScreenSpotEnv

REAL = Path(__file__).parents[4] / "shared" / "data" / "gui_screenagent"
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real screenshots, ../shared/data/gui_screenagent, are not here"
)


def write(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80), "navy").save(path)


def screenspot(folder: Path, version: str = "") -> Path:
    row = {
        "img_filename": "a.png", "bbox": [10, 20, 30, 40], "instruction": "close this", "data_type": "icon",
        "data_source": "windows",
    }  # fmt: skip
    write(folder / f"screenspot_desktop{version}.json", [row, {**row, "data_type": "text"}])
    write(folder / f"screenspot_web{version}.json", [{**row, "data_source": "shop"}])
    picture(folder / ("screenspotv2_image" if version else "screenspot_imgs") / "a.png")
    return folder


def screenspot_pro(folder: Path) -> Path:
    row = {
        "img_filename": "davinci_mac/a.png", "bbox": [10, 20, 30, 40], "instruction": "linked selection",
        "instruction_cn": "…", "id": "davinci_macos_0", "application": "davinci", "platform": "macos",
        "img_size": [100, 80], "ui_type": "icon", "group": "Creative",
    }  # fmt: skip
    write(folder / "annotations" / "davinci_macos.json", [row])
    picture(folder / "images" / "davinci_mac" / "a.png")
    return folder


def osworld_g(folder: Path) -> Path:
    row = {"image_path": "a.png", "image_size": [100, 80], "instruction": "the file menu", "GUI_types": ["Label"]}
    rows = [
        {**row, "id": "A-0", "box_type": "bbox", "box_coordinates": [10, 20, 30, 40]},
        {**row, "id": "A-1", "box_type": "polygon", "box_coordinates": [0, 0, 90, 0, 90, 9, 9, 9, 9, 70, 0, 70]},
        {**row, "id": "A-2", "box_type": "refusal", "box_coordinates": [-1, -1, -1, -1]},
    ]
    write(folder / "benchmark" / "OSWorld-G.json", rows)
    groups = {"classified": {"text_matching": [{"id": "A-0"}], "layout_understanding": [{"id": "A-0"}, {"id": "A-1"}]}}
    write(folder / "benchmark" / "classification_result.json", groups)
    picture(folder / "benchmark" / "images" / "a.png")
    return folder


@pytest.mark.parametrize("version", ["", "_v2"])
def test_screenspot_has_sides(tmp_path: Path, version: str) -> None:
    samples = load_samples(screenspot(tmp_path, version))
    assert [sample.id for sample in samples] == ["desktop/00000", "desktop/00001", "web/00000"]
    assert [sample.kind for sample in samples] == ["desktop/icon", "desktop/text", "web/icon"]
    assert samples[0].target.box == (10, 20, 40, 60)


def test_screenspot_pro_has_corners(tmp_path: Path) -> None:
    (sample,) = load_samples(screenspot_pro(tmp_path))
    assert sample.target.box == (10, 20, 30, 40)
    assert (sample.kind, sample.platform, sample.groups) == ("Creative/icon", "macos", ("davinci",))


def test_osworld_g_has_boxes_polygons_and_refusals(tmp_path: Path) -> None:
    box, polygon, refusal = load_samples(osworld_g(tmp_path))
    assert box.target.box == (10, 20, 40, 60)
    assert box.groups == ("text_matching", "layout_understanding")
    assert polygon.target.box == (0, 0, 90, 70)
    assert len(polygon.target.polygon) == 6
    assert refusal.target.box is None


@pytest.mark.parametrize("make", [screenspot, screenspot_pro, osworld_g])
def test_the_expert_scores_1_on_every_layout(tmp_path: Path, make: Any) -> None:
    env = ScreenSpotEnv(data_dir=make(tmp_path))
    assert env.splits == ("test",)
    for task in env.task_set("test"):
        result = task.validate()
        assert result.solved, (task.id, result.detail)
        assert result.episode_return == 1.0


def test_a_refusal_is_right_only_where_nothing_is_asked_for(tmp_path: Path) -> None:
    env = ScreenSpotEnv(data_dir=osworld_g(tmp_path))
    outcomes = []
    for task in env.task_set("test"):
        env.reset(options={"task_id": task.id})
        outcomes.append(env.step("refuse")[1])
    assert outcomes == [0.0, 0.0, 1.0]
    env.reset(options={"task_id": "test/A-2"})
    assert env.step("(20, 30)")[1] == 0.0


def test_a_refusal_does_not_stop_the_gaussian(tmp_path: Path) -> None:
    env = RewardWrapper(ScreenSpotEnv(data_dir=osworld_g(tmp_path)), Gaussian())
    env.reset(options={"task_id": "test/A-0"})
    _, reward, terminated, _, info = env.step("refuse")
    assert (reward, terminated) == (0.0, True)
    assert info["measures"]["hit"] == 0.0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"bbox": [1, 2, 3]}, "no box of four numbers"),
        ({"bbox": [10, 20, -3, 4]}, "negative side"),
        ({"bbox": None}, "no box of four numbers"),
    ],
)
def test_a_row_that_is_not_what_its_authors_say_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    folder = screenspot(tmp_path)
    rows = json.loads((folder / "screenspot_desktop.json").read_text())
    write(folder / "screenspot_desktop.json", [rows[0], {**rows[1], **row}])
    with pytest.raises(UsageError, match=rf"screenspot_desktop.json, row 1.*{said}"):
        load_samples(folder)


def test_sides_in_the_place_of_corners_are_noticed(tmp_path: Path) -> None:
    folder = screenspot_pro(tmp_path)
    (row,) = json.loads((folder / "annotations" / "davinci_macos.json").read_text())
    write(folder / "annotations" / "davinci_macos.json", [{**row, "bbox": [50, 60, 30, 20]}])
    with pytest.raises(UsageError, match="inverted"):
        load_samples(folder)


def test_a_folder_of_another_layout_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="screenspot_.*annotations.*OSWorld-G"):
        load_samples(tmp_path)


@needs_real
def test_people_hit_what_they_annotated_and_the_model_where_it_did(tmp_path: Path) -> None:
    """40 real screenshots, laid out as ScreenSpot-v2 has them."""
    rows = json.loads((REAL / "samples.json").read_text(encoding="utf-8"))
    (tmp_path / "screenspotv2_image").symlink_to(REAL / "images")
    laid_out = []
    for row in rows:
        x1, y1, x2, y2 = row["bbox"]
        laid_out.append(
            {
                "img_filename": Path(row["image"]).name,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "data_type": "text",
                "instruction": row["instruction"],
                "data_source": "linux",
            }
        )
    write(tmp_path / "screenspot_desktop_v2.json", laid_out)
    env = ScreenSpotEnv(data_dir=tmp_path)
    model_points = 0
    for number, row in enumerate(rows):
        options = {"task_id": f"test/desktop/{number:05d}"}
        observation, info = env.reset(options=options)
        assert isinstance(observation, dict)
        assert observation["image"].shape == (row["img_size"][1], row["img_size"][0], 3)
        assert info["privileged"]["box"] == row["bbox"]
        assert env.step("({}, {})".format(*row["human_point"]))[1] == 1.0
        if row["model_point"] is not None:
            model_points += 1
            env.reset(options=options)
            assert env.step("({}, {})".format(*row["model_point"]))[1] == float(row["model_point_inside"])
    assert len(rows) == 40
    assert model_points > 10
