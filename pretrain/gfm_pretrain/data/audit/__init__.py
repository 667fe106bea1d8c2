"""What a careful scientist would look at before training on a data set."""
