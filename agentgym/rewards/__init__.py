"""Rewards and credit assignment: pure functions over trajectories, and Gymnasium wrappers."""
