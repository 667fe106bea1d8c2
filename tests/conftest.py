"""What all tests share."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors: threads that wait for one another cost more than they bring."""
    torch.set_num_threads(1)
