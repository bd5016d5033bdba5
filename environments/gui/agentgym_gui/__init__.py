"""Grounding on screens: ``agentgym/ScreenSpot-v0``."""

from __future__ import annotations

__version__ = "0.1.0"

ENVIRONMENTS = {"agentgym/ScreenSpot-v0": "agentgym_gui.screenspot:ScreenSpotEnv"}


def register_envs() -> None:
    """Register the environment of this pack with Gymnasium; calling it again changes nothing."""
    import gymnasium

    for env_id, entry_point in ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)
