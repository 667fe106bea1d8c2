"""Other potentials, each in an environment of its own, timed in turn with this one."""
