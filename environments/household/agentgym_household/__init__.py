"""Household tasks and text games: ``agentgym/Household-v0`` and ``agentgym/TextWorld-v0``."""

from __future__ import annotations

__version__ = "0.1.0"

ENVIRONMENTS = {
    "agentgym/Household-v0": "agentgym_household.household:HouseholdEnv",
    "agentgym/TextWorld-v0": "agentgym_household.textworld_env:TextWorldEnv",
}


def register_envs() -> None:
    """Register the environments of this pack with Gymnasium; calling it again changes nothing."""
    import gymnasium

    for env_id, entry_point in ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)
