"""The house rules that a linter does not know: lengths of files and functions, names that say nothing."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
]


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.exists()], ids=lambda path: str(path.relative_to(ROOT))
)
def test_file_is_small_and_well_named(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 400, "split it by what it is about"
    assert path.stem not in {"utils", "util", "helpers", "helper", "misc", "common", "manager"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines < 60, f"{node.name} has {lines} lines"
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            counted = [name for name in names if name not in ("self", "cls")]
            assert len(counted) <= 7 or node.name == "__init__", f"{node.name} takes {len(counted)} parameters"
