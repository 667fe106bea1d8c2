"""What a potential is: graphs, equivariant layers, heads, derivatives, checkpoints."""
