"""Job scripts: a run on N ranks of a machine, with the settings of its site and their reasons."""
