"""The equivariant building blocks of the backbone."""
