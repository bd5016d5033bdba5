"""Web tasks in a boxed browser: ``agentgym/MiniWoB-v0`` and ``agentgym/Site-v0``."""

from __future__ import annotations

__version__ = "0.1.0"

ENVIRONMENTS = {
    "agentgym/MiniWoB-v0": "agentgym_web.miniwob.miniwob_env:MiniWoBEnv",
    "agentgym/Site-v0": "agentgym_web.sites.site_env:SiteEnv",
}


def register_envs() -> None:
    """Register the environments of this pack with Gymnasium; calling it again changes nothing."""
    import gymnasium

    for env_id, entry_point in ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)
