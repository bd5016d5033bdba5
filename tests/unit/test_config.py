from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentgym.errors import RecipeError, UnknownNameError
from agentgym.train.config import load_recipe, parse_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_are_shipped_load_and_survive_resolution(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    resolved = tmp_path / "recipe.json"
    resolved.write_text(recipe.model_dump_json())
    assert load_recipe(resolved) == recipe


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= {"household-tiny", "household-smollm2", "search-tiny"}


def test_overrides_reach_into_sections() -> None:
    recipe = parse_recipe(
        {"env": {"id": "e"}, "grpo": {"updates": 3}},
        {"grpo.updates": 40, "run.seed": 7, "env.kwargs.size": 5, "model.lora.rank": 4, "model.tiny.layers": 2},
    )
    assert (recipe.grpo.updates, recipe.run.seed, recipe.env.kwargs) == (40, 7, {"size": 5})
    assert recipe.model.lora is not None
    assert (recipe.model.lora.rank, recipe.model.tiny.layers) == (4, 2)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"grpo.update": 1}, "Did you mean 'grpo.updates'"),
        ({"grp.updates": 1}, "Did you mean 'grpo'"),
        ({"seed": 1}, "Did you mean 'run.seed'"),
        ({"model.lora.rnk": 1}, "Did you mean 'model.lora.rank'"),
        ({"sampling.temprature": 1}, "Did you mean 'sampling.temperature'"),
    ],
)
def test_unknown_keys_are_told_with_what_was_meant(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(UnknownNameError, match="recipe key") as caught:
        parse_recipe({"env": {"id": "e"}}, overrides)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"grpo.group_size": 1}, "grpo.group_size"),
        ({"grpo.learning_rate": -1}, "grpo.learning_rate"),
        ({"grpo.learning_rate": "fast"}, "grpo.learning_rate"),
        ({"grpo.tis_cap": 2.0}, "old_logprobs"),
        ({"sampling.top_p": 0.9, "grpo.updates": 1}, "old_logprobs"),
        ({"sampling.max_tokens": 9999}, "sampling.context"),
        ({"grpo": 3}, "grpo"),
        ({"model.dtype": "int8"}, "model.dtype"),
    ],
)
def test_values_that_make_no_sense_are_told(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"env": {"id": "e"}}, overrides)
    assert said in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_an_environment_is_needed() -> None:
    with pytest.raises(RecipeError, match="env"):
        parse_recipe({})


@pytest.mark.parametrize("text", ["[env\nid=", '{"env": '])
def test_files_that_cannot_be_read_are_told(tmp_path: Path, text: str) -> None:
    for name in ("a.toml", "a.json", "missing.toml"):
        if name != "missing.toml":
            (tmp_path / name).write_text(text)
        with pytest.raises(RecipeError, match="cannot read"):
            load_recipe(tmp_path / name)
    (tmp_path / "list.json").write_text(json.dumps([1]))
    with pytest.raises(RecipeError, match="no table"):
        load_recipe(tmp_path / "list.json")


def test_reading_a_recipe_imports_no_torch() -> None:
    code = "import sys, agentgym.train.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
