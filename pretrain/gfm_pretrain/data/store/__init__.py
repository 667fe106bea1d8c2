"""Structures on disk, in columns that are read at full speed."""
