"""The command line: `agentgym VERB`, one file per group of verbs."""
