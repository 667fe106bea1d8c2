"""Published data sets: one file for each, and the table of all in `registry.py`."""
