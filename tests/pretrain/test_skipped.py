"""What is said of troubles; that runs say it is shown in test_train.py."""

import math

import pytest
from gfm_pretrain.guard import Trouble
from gfm_pretrain.skipped import describe

BROKEN = [Trouble(head=head, what="loss", value=math.nan) for head in ("a", "b")]
SPIKES = [Trouble(head=head, what="spike", value=1234.5, usual=0.5) for head in ("a", "b")]


@pytest.mark.parametrize(
    ("troubles", "said"),
    [
        (BROKEN, "the loss of a, b was not finite"),
        (
            [Trouble(head="backbone", what="gradient", value=math.inf)],
            "the gradient of backbone was not finite",
        ),
        (SPIKES[:1], "the loss of a was 1.23e+03, usual are 0.5"),
        (
            SPIKES,
            "the loss of a was 1.23e+03, usual are 0.5; the loss of b was 1.23e+03, usual are 0.5",
        ),
    ],
)
def test_troubles_say_what_they_are(troubles, said):
    assert describe(troubles) == said
