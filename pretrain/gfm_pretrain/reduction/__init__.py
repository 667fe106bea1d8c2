"""How the gradients of all ranks become those of the whole global batch."""
