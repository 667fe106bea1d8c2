"""A run past one machine, before it is started: who owns what, what it takes, how it scales."""
