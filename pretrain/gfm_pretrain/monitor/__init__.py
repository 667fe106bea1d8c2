"""Watching a run: records of what happens, and those who show or keep them."""
