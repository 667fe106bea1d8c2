import os
import re

import pytest

LAUNCHERS = re.compile(
    r"(OMPI|PMIX?|PALS|MV2|MPI|SLURM|PBS)_|(LOCAL_)?(RANK|WORLD_SIZE)$|MASTER_(ADDR|PORT)$"
    r"|TORCHELASTIC_RUN_ID$|GROUP_WORLD_SIZE$"
)


@pytest.fixture
def no_launcher(monkeypatch):
    """Tests run alone, also inside a job of some launcher."""
    for name in filter(LAUNCHERS.match, list(os.environ)):
        monkeypatch.delenv(name)
