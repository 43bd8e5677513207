"""Plans of all reductions: a refusal reports readable sizes and advises an existing option."""

import re

import pytest

from atlas.cli.main import command
from atlas.errors import OutOfSpace
from ingest.reduce.examples import Examples
from ingest.reduce.protocol import Plan, Sizes
from ingest.reduce.runner import plan_all

SIZES = Sizes(d_in=64, d_sae=2048, tokens=10_000, l0=5.0, vocabulary=100, codes_stored=False)


class Large:
    """A reduction that needs three quarters of a MiB, whatever the memory."""

    name = "large"

    def plan(self, sizes, *, memory):
        return Plan(passes=1, bytes=3 * 2**18)


def test_small_sizes_are_reported_in_mib():
    with pytest.raises(OutOfSpace, match=r"large need 0\.8 MiB for 2,048 .* 0\.5 MiB are allowed"):
        plan_all([Large()], SIZES, memory=2**19)


def test_the_error_of_examples_advises_an_existing_option():
    with pytest.raises(OutOfSpace) as refused:
        plan_all([Examples(seed=0)], SIZES, memory=10 * 2**20)
    advised = re.findall(r"`([a-z_]+)`", str(refused.value))
    options = {option.name for option in command().commands["ingest"].params}
    assert advised
    assert set(advised) <= options
