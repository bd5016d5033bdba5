"""MiniWoB++ on its own pages: ``agentgym/MiniWoB-v0``."""
