"""Multi-hop questions that are answered by searching: ``agentgym/SearchQA-v0``."""

from __future__ import annotations

__version__ = "0.1.0"

ENVIRONMENTS = {"agentgym/SearchQA-v0": "agentgym_search.search_qa:SearchQAEnv"}


def register_envs() -> None:
    """Register the environment of this pack with Gymnasium; calling it again changes nothing."""
    import gymnasium

    for env_id, entry_point in ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)
