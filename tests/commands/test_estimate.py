"""Forecast of an ingest, from fixed costs to be independent of the machine."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from recording_progress import RecordingProgress

from ingest.forward import estimate
from ingest.forward.estimate import forecast
from ingest.forward.forecast import Forecast
from ingest.forward.sample import Costs, SaeCosts

SPARSE = SaeCosts(
    l0=20, encode=0.002, write=0.001, write_shard=0.5, reduce=0.003, reduce_shard=0.25, parts=7.0
)
DENSE = SaeCosts(
    l0=1000, encode=0.002, write=0.001, write_shard=0.5, reduce=0.3, reduce_shard=0.25, parts=7.0
)


def work(*, unfinished_shards, shards=10, stored=True):
    """Return a run with a number of unfinished shards for each SAE."""
    return SimpleNamespace(
        shards=shards,
        unfinished=lambda name: unfinished_shards[name],
        settings=SimpleNamespace(keep_codes=stored, memory=100),
        group=SimpleNamespace(model=SimpleNamespace(device=None)),
    )


@pytest.fixture(autouse=True)
def idle(monkeypatch):
    """Set whether a core is idle; none is unless a test sets it."""
    found = SimpleNamespace(core=False)
    monkeypatch.setattr(estimate, "has_idle_core", lambda *_: found.core)
    return found


def test_the_forecast_includes_all_costs():
    costs = Costs(1000, 0.01, {"a": SPARSE})
    found = forecast(work(unfinished_shards={"a": 10}), costs)
    assert found.run == pytest.approx(10 + 2 + 1 + 5)
    assert found.reduce == pytest.approx({"a": 3 + 2.5})
    assert found.parts == {"a": 7.0}
    assert found.seconds == pytest.approx(18 + 5.5 + 7)


def test_the_model_is_counted_once_for_two_saes():
    found = forecast(
        work(unfinished_shards={"a": 10, "b": 10}), Costs(1000, 0.01, {"a": SPARSE, "b": DENSE})
    )
    assert found.run == pytest.approx(10 + 2 * 8)
    assert found.reduce == pytest.approx({"a": 5.5, "b": 302.5})


def test_finished_shards_are_only_reduced():
    found = forecast(work(unfinished_shards={"a": 5}), Costs(1000, 0.01, {"a": SPARSE}))
    assert found.run == pytest.approx(18 / 2)
    assert found.reduce == pytest.approx({"a": 5.5})


def test_dropped_codes_are_reduced_within_the_run():
    found = forecast(
        work(unfinished_shards={"a": 10}, stored=False), Costs(1000, 0.01, {"a": SPARSE})
    )
    assert found.run == pytest.approx(18 + 5.5)
    assert found.reduce == {"a": 0.0}


@pytest.mark.parametrize(
    ("first", "run", "rest"),
    [
        # Model and encoder take 12 s, files 6 s; all passes take 5.5 s.
        (0.5, 12 + (6 + 2.75) / 10, 2.75),
        (0.0, 12 + 6 / 10, 5.5),
        (1.0, 12 + (6 + 5.5) / 10, 0.0),
    ],
)
def test_the_first_pass_overlaps_with_the_run_if_a_core_is_idle(first, run, rest, idle):
    idle.core = True
    costs = Costs(1000, 0.01, {"a": replace(SPARSE, first=first, first_bytes=100)})
    found = forecast(work(unfinished_shards={"a": 10}), costs)
    assert found.run == pytest.approx(run)
    assert found.reduce == pytest.approx({"a": rest})


def test_the_longer_of_the_run_and_the_first_pass_counts(idle):
    idle.core = True
    costs = Costs(1000, 0.01, {"a": replace(DENSE, first=0.5)})
    found = forecast(work(unfinished_shards={"a": 10}), costs)
    assert found.run == pytest.approx(6 + 151.25 + 12 / 10)
    assert found.reduce == pytest.approx({"a": 151.25})


def test_a_text_of_one_shard_does_not_overlap(idle):
    costs = Costs(1000, 0.01, {"a": replace(SPARSE, first=0.5)})
    one = work(unfinished_shards={"a": 1}, shards=1)
    before = forecast(one, costs).seconds
    idle.core = True
    assert forecast(one, costs).seconds == pytest.approx(before)


def test_first_passes_that_do_not_fit_together_run_later(idle):
    idle.core = True
    each = {name: replace(SPARSE, first=0.5, first_bytes=60) for name in "ab"}
    found = forecast(work(unfinished_shards={"a": 10, "b": 10}), Costs(1000, 0.01, each))
    assert found.reduce == pytest.approx({"a": 2.75, "b": 5.5})


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_text_of_few_tokens_has_a_forecast(tokens):
    found = forecast(work(unfinished_shards={"a": 1}, shards=1), Costs(tokens, 0.01, {"a": SPARSE}))
    assert found.run == pytest.approx(0.5 + 0.013 * tokens)


def test_a_run_without_saes_takes_no_time():
    found = forecast(work(unfinished_shards={}), Costs(1000, 0.01, {}))
    assert found == Forecast(0.0, {}, {})
    assert found.pace(progress=RecordingProgress(), clock=lambda: 0.0).seconds_remaining == 0.0
