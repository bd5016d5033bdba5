"""Training: warm start, GRPO, the vLLM sampler and its weight sync."""
