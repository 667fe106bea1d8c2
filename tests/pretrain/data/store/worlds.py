"""The ranks that tests in one process have."""

import torch
from gfm_pretrain.process import World

ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
