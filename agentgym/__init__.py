"""agentgym: the gym in which language-model agents are trained.

Importing it registers every installed pack, so that ``gymnasium.make("agentgym/Household-v0")`` works.
"""

from agentgym.actions import Move
from agentgym.env import AgentEnv, Opening, Transition
from agentgym.errors import AgentGymError, InfrastructureError, UsageError
from agentgym.policy import Completion, Dialogue, Message, Policy, SamplingParams
from agentgym.registry import Pack, load_packs, make, make_policy, make_vec
from agentgym.sandbox import ExecResult, Limits, Sandbox, SandboxSpec
from agentgym.sandbox_choice import make_sandbox
from agentgym.spaces import UnicodeText
from agentgym.task import Task, TaskSet, Validation
from agentgym.trajectory import Trajectory, Turn, read_trajectories, write_trajectories

__version__ = "0.1.0"

__all__ = [
    "AgentEnv",
    "AgentGymError",
    "Completion",
    "Dialogue",
    "ExecResult",
    "InfrastructureError",
    "Limits",
    "Message",
    "Move",
    "Opening",
    "Pack",
    "Policy",
    "SamplingParams",
    "Sandbox",
    "SandboxSpec",
    "Task",
    "TaskSet",
    "Trajectory",
    "Transition",
    "Turn",
    "UnicodeText",
    "UsageError",
    "Validation",
    "load_packs",
    "make",
    "make_policy",
    "make_sandbox",
    "make_vec",
    "read_trajectories",
    "write_trajectories",
]

load_packs()
