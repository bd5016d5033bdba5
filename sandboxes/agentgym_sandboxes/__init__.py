"""Where untrusted commands and pages run; found by entry point in the group ``agentgym.sandboxes``."""
