"""Labelled structures: readers for published formats and user files, and reference energies."""
