"""Finds packs, policies and sandboxes by entry point.

Gymnasium 1.x no longer loads the group ``gymnasium.envs`` by itself; importing agentgym does, one pack at a time,
so that a broken one is listed and never breaks another.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from agentgym.errors import UnknownNameError, UsageError

ENVS_GROUP = "gymnasium.envs"
POLICIES_GROUP = "agentgym.policies"
SANDBOXES_GROUP = "agentgym.sandboxes"


@dataclass(frozen=True)
class Pack:
    """A distribution that brings environments.

    Attributes:
        name: Name of its entry point.
        distribution: Name and version of what pip installed.
        env_ids: Ids that it registered.
        error: Why it could not be loaded; empty if it could.
    """

    name: str
    distribution: str
    env_ids: tuple[str, ...] = ()
    error: str = ""


@functools.cache
def load_packs() -> tuple[Pack, ...]:
    """Load every installed pack once and say what came of it."""
    return tuple(_load_pack(entry) for entry in sorted(entry_points(group=ENVS_GROUP), key=lambda e: e.name))


def _load_pack(entry: EntryPoint) -> Pack:
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
    before = set(gymnasium.registry)
    try:
        loaded = entry.load()
        if callable(loaded):
            # Some packs register when they are imported, and again when they are asked to: that is no clash of ids.
            early = {env_id: gymnasium.registry.pop(env_id) for env_id in _ids_of(entry.module)}
            loaded()
            gymnasium.registry.update({env_id: early[env_id] for env_id in early.keys() - gymnasium.registry.keys()})
    except Exception as error:  # a stranger's code: whatever it raises must not reach the importer
        warnings.warn(f"pack {entry.name!r} ({distribution}) is broken and was left out: {error!r}", stacklevel=4)
        return Pack(entry.name, distribution, error=f"{type(error).__name__}: {error}")
    return Pack(entry.name, distribution, env_ids=tuple(sorted(set(gymnasium.registry) - before)))


def _ids_of(module: str) -> list[str]:
    package = f"{module.partition('.')[0]}."
    specs = gymnasium.registry.items()
    return [env_id for env_id, spec in specs if str(spec.entry_point).startswith(package)]


def find_env_spec(env_id: str) -> EnvSpec:
    """Return the registered spec of an environment.

    Raises:
        UnknownNameError: No pack registered the id.
    """
    load_packs()
    if env_id not in gymnasium.registry:
        known = [known for known in gymnasium.registry if known.startswith("agentgym/")] or list(gymnasium.registry)
        broken = [pack.name for pack in load_packs() if pack.error]
        hint = "Packs are installed with pip, e.g. `pip install agentgym-household`; `agentgym packs` lists them."
        if broken:
            hint += f" Broken packs: {', '.join(broken)}."
        raise UnknownNameError("environment", env_id, known, hint)
    return gymnasium.registry[env_id]


def make(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Make an environment: ``gymnasium.make`` with errors that say what exists.

    Raises:
        UnknownNameError: No pack registered the id.
        UsageError: The environment does not take one of the arguments.
    """
    find_env_spec(env_id)
    try:
        # Our AgentEnv keeps the order of calls itself, and the passive checker warns about every text observation.
        return gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    except TypeError as error:
        raise UsageError(f"{env_id} cannot be made with {sorted(kwargs)}: {error}") from error


def make_vec(
    env_id: str, num_envs: int = 1, vectorization_mode: str = "sync", **kwargs: Any
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Make Gymnasium's vector environment, right for text.

    ``AsyncVectorEnv`` shares memory by default, which silently turns text into padding; here it never does.
    """
    find_env_spec(env_id)
    vector_kwargs = dict(kwargs.pop("vector_kwargs", {}))
    if vectorization_mode == "async":
        vector_kwargs.setdefault("shared_memory", False)
    return gymnasium.make_vec(
        env_id, num_envs=num_envs, vectorization_mode=vectorization_mode, vector_kwargs=vector_kwargs, **kwargs
    )


def list_names(group: str) -> list[str]:
    """Return the names registered in an entry-point group."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load_named(group: str, kind: str, name: str) -> Any:
    """Load what is registered under a name in an entry-point group.

    Raises:
        UnknownNameError: Nothing is registered under the name.
        UsageError: What is registered cannot be imported; says which extra is missing.
    """
    for entry in entry_points(group=group):
        if entry.name == name:
            try:
                return entry.load()
            except ImportError as error:
                raise UsageError(f"{kind} {name!r} needs a package that is not installed: {error}") from error
    raise UnknownNameError(kind, name, list_names(group))


def make_policy(name: str, **kwargs: Any) -> Any:
    """Make the policy registered under ``name`` in the group ``agentgym.policies``.

    Raises:
        UnknownNameError: There is no such policy.
        UsageError: It does not take one of the arguments, or needs a package that is not installed.
    """
    factory = load_named(POLICIES_GROUP, "policy", name)
    try:
        return factory(**kwargs)
    except TypeError as error:
        raise UsageError(f"policy {name!r} cannot be made with {sorted(kwargs)}: {error}") from error
