"""Forecast of an ingest, from fixed costs to be independent of the machine."""

from types import SimpleNamespace

import pytest
from recording_progress import RecordingProgress

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
        settings=SimpleNamespace(keep_codes=stored),
    )


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


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_text_of_few_tokens_has_a_forecast(tokens):
    found = forecast(work(unfinished_shards={"a": 1}, shards=1), Costs(tokens, 0.01, {"a": SPARSE}))
    assert found.run == pytest.approx(0.5 + 0.013 * tokens)


def test_a_run_without_saes_takes_no_time():
    found = forecast(work(unfinished_shards={}), Costs(1000, 0.01, {}))
    assert found == Forecast(0.0, {}, {})
    assert found.pace(progress=RecordingProgress(), clock=lambda: 0.0).seconds_remaining == 0.0
