"""The engine: labelled structures in, a multi-head potential trained on any number of ranks out."""
