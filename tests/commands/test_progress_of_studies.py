"""Studies report stages with amounts, and forecast work that they did not forecast before."""

from contextlib import contextmanager

import numpy as np
import pytest

from analysis.positions.study import by_position
from analysis.topology.mapper import compare_mapper
from analysis.topology.persistence import compare_persistence
from analysis.topology.settings import TopologySettings
from atlas.progress import Silent


def test_each_draw_of_a_null_advances_the_stage():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    settings = TopologySettings(draws=19, mapper_draws=19, landmarks=20, points=40)
    for compare in (compare_persistence, compare_mapper):
        calls = []
        list(compare(rows, settings, advance=lambda calls=calls: calls.append(1)))
        assert len(calls) == 3 * 19  # three nulls


def test_each_order_of_tokens_advances_the_stage():
    calls = []
    ones = np.ones(4, dtype=np.int64)
    by_position(
        np.arange(4), ones, l0=ones, total=ones * 1.0, draws=7, seed=0,
        advance=lambda: calls.append(1),
    )  # fmt: skip
    assert len(calls) == 7


class Recorded(Silent):
    """Records the amount of each stage, and what was advanced."""

    def __init__(self):
        self.stages = {}

    @contextmanager
    def stage(self, title, *, total=None, unit=""):
        done = self.stages[title] = [total, 0]

        class Stage:
            def advance(self, by=1):
                done[1] += by

        yield Stage()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    from tests.support.small_demo import make_small_demo

    path = tmp_path_factory.mktemp("progress") / "a.atlas"
    make_small_demo(path)
    return path


def test_describe_directions_spectra_positions_and_floors_report_stages(demo):
    from analysis import (
        activation_by_position,
        compare_with_floors,
        measure_interpretability,
        measure_spectra,
        nearest_directions,
    )

    for study, title in (
        (activation_by_position, "random orders"),
        (measure_interpretability, "marks"),
        (nearest_directions, "nearest directions"),
        (measure_spectra, "spectra and nulls"),
        (compare_with_floors, "reading statistics"),
    ):
        recorded = Recorded()
        study(demo, progress=recorded)
        found = [amount for one, amount in recorded.stages.items() if title in one]
        assert found, study.__name__
        for total, done in found:
            assert total in (None, done), study.__name__
