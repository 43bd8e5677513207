"""Forecasts are corrected by the measured pace, on a clock that the test advances."""

import pytest
from recording_progress import RecordingProgress

from atlas.progress import Pace, duration


class Clock:
    """A clock that only the test advances."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recorded():
    return RecordingProgress()


def work(pace, clock, kind, *, pieces, forecast, actual):
    """Record equal pieces of work."""
    for _ in range(pieces):
        clock.now += actual
        pace.lap(kind, forecast)


def test_before_any_work_the_forecast_remains(clock, recorded):
    pace = Pace({"model": 60.0, "reduce": 40.0}, progress=recorded, clock=clock)
    assert pace.seconds_remaining == pace.forecast == 100.0
    assert pace.title == ""
    assert recorded.messages == []


@pytest.mark.parametrize("actual", [7.0, 10.0, 14.0])
def test_a_forecast_that_holds_is_not_corrected(clock, recorded, actual):
    pace = Pace({"model": 1000.0}, progress=recorded, clock=clock)
    work(pace, clock, "model", pieces=100, forecast=10.0, actual=actual)
    assert recorded.messages == []
    assert pace.seconds_remaining == 0.0


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (
            100.0,
            "At the measured pace, about 2.6 hours remain. The forecast was 17 minutes in total; "
            "the corrected forecast is 2.8 hours.",
        ),
        (1.0, "At the measured pace, about 95 seconds remain"),
    ],
)
def test_a_forecast_that_is_far_off_is_corrected_once(clock, recorded, actual, message):
    pace = Pace({"model": 1000.0}, progress=recorded, clock=clock)
    work(pace, clock, "model", pieces=4, forecast=10.0, actual=actual)
    assert recorded.messages == []  # below 5%, start-up dominates
    work(pace, clock, "model", pieces=96, forecast=10.0, actual=actual)
    assert len(recorded.messages) == 1
    assert recorded.messages[0].startswith(message.replace("95 seconds", "2 minutes"))


def test_the_pace_of_one_kind_does_not_change_the_other(clock):
    pace = Pace({"model": 100.0, "reduce": 40.0}, clock=clock)
    work(pace, clock, "model", pieces=5, forecast=10.0, actual=30.0)
    assert pace.seconds_remaining == pytest.approx(150.0 + 40.0)
    assert pace.title == " (about 3 minutes remaining in total)"


def test_a_later_kind_of_work_may_correct_the_forecast(clock, recorded):
    pace = Pace({"model": 100.0, "reduce": 100.0}, progress=recorded, clock=clock)
    work(pace, clock, "model", pieces=10, forecast=10.0, actual=10.0)
    work(pace, clock, "reduce", pieces=10, forecast=10.0, actual=100.0)
    assert len(recorded.messages) == 1


def test_a_difference_of_seconds_is_not_reported(clock, recorded):
    pace = Pace({"model": 2.0}, progress=recorded, clock=clock)
    work(pace, clock, "model", pieces=10, forecast=0.2, actual=2.0)
    assert recorded.messages == []
    assert pace.title == ""


def test_skipped_time_is_not_counted(clock):
    pace = Pace({"model": 10.0}, clock=clock)
    clock.now += 500.0
    pace.skip()
    work(pace, clock, "model", pieces=1, forecast=1.0, actual=1.0)
    assert pace.seconds_remaining == pytest.approx(9.0)


def test_no_work_has_no_remaining_time(clock, recorded):
    pace = Pace({"rows": 0.0}, progress=recorded, clock=clock)
    assert pace.seconds_remaining == 0.0
    clock.now += 100.0
    pace.lap("rows", 0.0)
    assert pace.seconds_remaining == 0.0
    assert recorded.messages == []


def test_more_work_than_forecast_has_no_remaining_time(clock):
    pace = Pace({"rows": 10.0}, clock=clock)
    work(pace, clock, "rows", pieces=3, forecast=10.0, actual=1.0)
    assert pace.seconds_remaining == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 second"),
        (1.4, "1 second"),
        (2, "2 seconds"),
        (89, "89 seconds"),
        (100, "2 minutes"),
        (5399, "90 minutes"),
        (5400, "1.5 hours"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words
