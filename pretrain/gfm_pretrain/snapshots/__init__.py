"""A run's own resume state: taken beside the training, verified before it is trusted."""
