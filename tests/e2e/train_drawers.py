"""Trains on the drawers of tests/fixtures in a process of its own: ``train_drawers.py RECIPE.json [--resume]``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import drawers_env

from agentgym.train.config import load_recipe
from agentgym.train.run import train

drawers_env.register()
train(load_recipe(sys.argv[1]), resume="--resume" in sys.argv)
