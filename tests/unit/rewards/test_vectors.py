"""Worked examples of the papers and of their released code, one test each.

Every ``adapters_*.py`` beside this file has ``METHODS``, the methods that are built; ``ADAPTERS``, which turn the
inputs of one example into what it expects; and ``OMITTED``, expected keys that are nothing of ours, with the reason.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
COPY = HERE / "vectors.json"
# Beside the main checkout; the figures of the study that the methods were built from.
SPEC = HERE.parents[2].parent / "shared" / "specs" / "reward_vectors.json"
Key = tuple[str, str]


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULES = [load(path) for path in sorted(HERE.glob("adapters_*.py"))]
METHODS = {method for module in MODULES for method in module.METHODS}
ADAPTERS: dict[Key, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {}
OMITTED: dict[Key, Mapping[str, str]] = {}
for _module in MODULES:
    ADAPTERS |= _module.ADAPTERS
    OMITTED |= _module.OMITTED
VECTORS = json.loads((SPEC if SPEC.exists() else COPY).read_text(encoding="utf-8"))
CASES = {(method, vector["name"]): vector for method in METHODS for vector in VECTORS[method]}


@pytest.mark.parametrize("key", sorted(CASES), ids=lambda key: f"{key[0]}-{key[1]}")
def test_vector(key: Key) -> None:
    assert key in ADAPTERS, f"{key[0]} is built, but nothing computes its example {key[1]!r}"
    vector = CASES[key]
    expected = {name: value for name, value in vector["expected"].items() if name not in OMITTED.get(key, {})}
    assert expected, "an example of which everything is omitted shows nothing"
    found = ADAPTERS[key](vector["inputs"])
    assert set(found) == set(expected)
    for name, value in expected.items():
        check(found[name], value, float(vector["tol"]), name)


def check(found: Any, expected: Any, tolerance: float, where: str) -> None:
    if isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            check(one, other, tolerance, f"{where}[{number}]")
    elif isinstance(expected, dict):
        assert set(found) == set(expected), where
        for name, value in expected.items():
            check(found[name], value, tolerance, f"{where}.{name}")
    elif isinstance(expected, bool | str) or expected is None:
        assert found == expected, where
    else:
        assert found == pytest.approx(expected, abs=tolerance, rel=0), where


def test_every_adapter_and_every_omission_is_of_an_example() -> None:
    assert set(ADAPTERS) <= set(CASES)
    assert set(OMITTED) <= set(CASES)
    for key, names in OMITTED.items():
        assert set(names) <= set(CASES[key]["expected"])
        assert all(names.values()), "an omission has a reason"


def test_the_copy_has_the_same_figures() -> None:
    assert json.loads(COPY.read_text(encoding="utf-8")) == VECTORS
