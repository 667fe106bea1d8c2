"""The limit on open files is raised where a store needs it, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from gfm_pretrain.data.store.open_files import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (400, 2000))
allow_open_files(100)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
allow_open_files(1000)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
allow_open_files(5000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_the_limit_is_raised_when_needed_and_named_when_it_cannot_be():
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    before, after = map(int, ended.stdout.split())
    assert before == 400
    assert 1256 <= after <= 1300
    assert "files would be open, and the system allows 2000; raise the limit with" in ended.stderr
