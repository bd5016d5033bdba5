"""Policies that ship with agentgym; found by entry point, see `agentgym policies`."""
