"""Forecasts of studies are measured on samples, reported before the work and corrected during it."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from recording_progress import RecordingProgress

from atlas.disk.folder import Folder
from atlas.progress import SILENT
from atlas.studies.forecast import Cost, Forecast, total_cost
from atlas.studies.results import Result
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Study, Task, TaskContext
from ingest.probe.sample import sampled
from ingest.synthetic import Planted, PlantedSettings


class Clock:
    """A clock that only the test advances."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@dataclass(frozen=True)
class FixedStudy(Study):
    """A study whose forecast is set by the test."""

    @dataclass(frozen=True)
    class Settings:
        pass

    kind: ClassVar[str] = "fixed"
    version: ClassVar[int] = 1
    costs: tuple[Cost | None, ...] = ()

    def tasks(self, at, saes):
        return [
            Task(f"t{i}", (), self.Settings(), recorded={"n": i}) for i in range(len(self.costs))
        ]

    def forecast(self, task, at):
        return self.costs[task.recorded["n"]]

    def run(self, task, at):
        return Found([("x", pa.table({"n": [task.recorded["n"]]}))])

    def result(self, part):
        return Result(self.kind, part.manifest.name, {"name": part.manifest.name})


@pytest.fixture
def path(tmp_path):
    return Folder.create(tmp_path / "x.atlas").path


def test_the_runner_reports_the_forecast_before_the_work(path):
    recorded = RecordingProgress()
    costs = (Cost(30, 2**20), Cost(10, 3 * 2**20), Cost(0.4, 0))
    run_study(FixedStudy(costs), path, "all", progress=recorded)
    assert recorded.messages == [
        "fixed: about 40 seconds and 3 MiB of memory beyond the program for 3 tasks."
    ]
    recorded = RecordingProgress()
    run_study(FixedStudy((Cost(30), None)), path, "all", replace=True, progress=recorded)
    assert recorded.messages == []


def test_costs_add_seconds_and_take_the_largest_memory():
    assert total_cost([]) == Cost(0.0, 0)
    assert total_cost([Cost(1, 5), Cost(2, 3)]) == Cost(3.0, 5)


def test_seconds_of_each_process_count_once():
    assert total_cost([Cost(1, once=4), Cost(2, once=3)]) == Cost(3.0, 0, once=4)
    clock, recorded = Clock(), RecordingProgress()
    costs = [[Cost(30.0, once=60.0)], [Cost(30.0, once=60.0)]]
    forecast = Forecast("f", costs, groups=2, processes=2, progress=recorded, clock=clock)
    forecast.begin()
    assert forecast.seconds == 90.0
    assert "about 2 minutes" in recorded.messages.pop()
    clock.now += 75  # as forecast: once, and half of a task
    forecast.task_done(0, 0)
    assert recorded.messages == []
    assert Forecast("f", None, groups=1).seconds is None


def test_the_forecast_is_corrected_as_tasks_finish():
    clock, recorded = Clock(), RecordingProgress()
    costs = [[Cost(60.0)], [Cost(60.0)], [Cost(60.0)]]
    forecast = Forecast("f", costs, groups=3, progress=recorded, clock=clock)
    forecast.begin()
    assert (
        recorded.messages.pop()
        == "f: about 3 minutes and less than 1 MiB of memory beyond the program for 3 tasks."
    )
    clock.now += 180  # three times the forecast
    forecast.task_done(0, 0)
    forecast.group_done()
    assert recorded.messages == [
        "At the measured pace, about 6 minutes remain. The forecast was 3 minutes in total; the "
        "corrected forecast is 9 minutes.",
        "f: 1 of 3 done, about 6 minutes remain.",
    ]


def test_without_a_forecast_the_remaining_time_follows_the_finished_groups():
    clock, recorded = Clock(), RecordingProgress()
    forecast = Forecast("f", None, groups=4, progress=recorded, clock=clock)
    forecast.begin()
    clock.now += 20
    forecast.task_done(0, 0)
    forecast.group_done()
    clock.now += 5
    forecast.group_done()
    assert recorded.messages == ["f: 1 of 4 done, about 60 seconds remain."]


def test_unmeasured_groups_cost_the_mean_of_the_measured():
    clock, measured = Clock(), []

    def measure(number):
        measured.append(number)
        clock.now += 1.0
        return [Cost(10.0, 7), Cost(30.0, 9)]

    recorded = RecordingProgress()
    forecast = Forecast.measured(
        "f", measure, sizes=[2, 2, 1], processes=2, progress=recorded, clock=clock
    )
    assert measured == [0]
    forecast.begin()
    # (40 + 40 + 20) / 2
    assert recorded.messages == [
        "f: about 50 seconds and less than 1 MiB of memory beyond the program for 5 tasks in 2 processes."
    ]


def test_a_minimum_of_groups_is_measured_beyond_the_budget():
    clock, measured = Clock(), []

    def measure(number):
        measured.append(number)
        clock.now += 1.0
        return [Cost(5.0 * (number + 1))]

    recorded = RecordingProgress()
    forecast = Forecast.measured(
        "f", measure, sizes=[1] * 5, least=3, progress=recorded, clock=clock
    )
    assert measured == [0, 1, 2]
    forecast.begin()
    # 5 + 10 + 15 + 2 * 10
    assert "about 50 seconds" in recorded.messages[0]


def test_workers_share_the_forecast():
    clock, recorded = Clock(), RecordingProgress()
    costs = [[Cost(60.0)]] * 4
    forecast = Forecast("f", costs, groups=4, processes=8, progress=recorded, clock=clock)
    forecast.begin()
    assert recorded.messages == [
        "f: about 60 seconds and less than 1 MiB of memory beyond the program for 4 tasks in 4 processes."
    ]


# ---------------------------------------------------------------- forecasts of the studies


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Write a planted atlas of two SAEs with codes."""
    from ingest.match.settings import MatchSettings
    from ingest.match.study import match_saes

    where = tmp_path_factory.mktemp("forecast") / "p.atlas"
    Planted(PlantedSettings(seed=1, shared=8, private=12)).write(where).close()
    match_saes(where, "all", settings=MatchSettings(draws=3))
    return where


def forecasts(study, path, tmp_path, monkeypatch, *modules):
    """Return the cost of the first task, with a clock that counts only timed calls."""
    calls = []

    def timed(work):
        calls.append(work())
        return float(len(calls))

    for module in modules:
        monkeypatch.setattr(module, "timed", timed)
    folder = Folder.open(path)
    at = TaskContext(folder, folder.sound(), tmp_path, SILENT)
    saes = [part.manifest.name for part in folder.sound().of("sae")][:2]
    return study.forecast_group([study.tasks(at, saes)[0]], at)[0]


def cases():
    from analysis.communities import study as communities
    from analysis.communities.settings import CommunitySettings
    from analysis.graph import draw_cost
    from analysis.graph import study as graph
    from analysis.graph.settings import GraphStatisticsSettings
    from analysis.graph_comparison import forecast as comparison
    from analysis.graph_comparison.settings import ComparisonSettings
    from analysis.graph_comparison.study import GraphComparisonStudy
    from analysis.graph_matching import forecast as matching
    from analysis.graph_matching.settings import GraphMatchingSettings
    from analysis.graph_matching.study import GraphMatchingStudy
    from analysis.positions import study as positions
    from analysis.positions.settings import PositionSettings
    from ingest.match import study as match
    from ingest.match.settings import MatchSettings

    return {
        "positions": (positions.PositionStudy, PositionSettings(draws=20), (positions,), ["draws"]),
        "match": (match.MatchStudy, MatchSettings(draws=3), (match,), ["draws"]),
        "communities": (
            communities.CommunityStudy,
            CommunitySettings(),
            (communities, draw_cost),
            ["draws", "splits", "runs"],
        ),
        "statistics": (
            graph.GraphStatisticsStudy,
            GraphStatisticsSettings(),
            (graph, draw_cost),
            ["draws"],
        ),
        "compare": (
            GraphComparisonStudy,
            ComparisonSettings(draws=20, matches="one-to-one"),
            (comparison, draw_cost),
            ["draws", "halves"],
        ),
        "compare unmatched": (
            GraphComparisonStudy,
            ComparisonSettings(draws=20, matches="both-nulls", level=0),
            (comparison, draw_cost),
            ["draws", "halves"],
        ),
        "counterparts": (
            GraphMatchingStudy,
            GraphMatchingSettings(draws=3, repeats=1),
            (matching, match),
            ["draws", "repeats"],
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "positions",
        "match",
        "communities",
        "statistics",
        "compare",
        "compare unmatched",
        "counterparts",
    ],
)
def test_forecasts_are_finite_and_grow_with_the_settings(name, planted, tmp_path, monkeypatch):
    study, settings, modules, growing = cases()[name]
    first = forecasts(study(settings), planted, tmp_path, monkeypatch, *modules)
    assert np.isfinite(first.seconds)
    assert first.seconds > 0
    assert first.bytes > 0
    for field in growing:
        more = replace(settings, **{field: 4 * getattr(settings, field)})
        cost = forecasts(study(more), planted, tmp_path, monkeypatch, *modules)
        assert cost.seconds > first.seconds, field


@pytest.mark.parametrize("draws", [0, 1, 3, 20, 199])
def test_the_forecast_of_a_match_is_linear_in_documents_and_draws(
    draws, planted, tmp_path, monkeypatch
):
    from ingest.match import study as match
    from ingest.match.settings import MatchSettings
    from ingest.text.corpus import Corpus

    documents = Corpus.open(Folder.open(planted).corpus_file).info.documents
    calls = []

    def compare(_sides, _corpus, settings, *, documents, **_options):
        calls.append((settings.draws, len(documents)))

    def timed(work):
        work()
        ran, number = calls[-1]
        return 1 + number * (0.3 + 0.2 * ran)

    monkeypatch.setattr(match, "compare", compare)
    monkeypatch.setattr(match, "timed", timed)
    folder = Folder.open(planted)
    at = TaskContext(folder, folder.sound(), tmp_path, SILENT)
    study = match.MatchStudy(MatchSettings(draws=draws))
    cost = study.forecast(study.tasks(at, None)[0], at)
    assert cost.seconds == pytest.approx(1 + documents * (0.3 + 0.2 * draws))
    assert max(ran for ran, _ in calls) == min(draws, 4)  # one draw is less than the noise


@pytest.mark.parametrize("features", [1, 3, 4, 40, 512, 513, 4000])
def test_the_cost_of_probes_has_setup_blocks_and_features(features):
    measured = []

    def block(number):
        measured.append(number)
        return 3.0 + 0.25 * number

    found = sampled(block, setup=2.0, features=features, at_once=512)
    total = found.setup + features * found.feature
    blocks = 1 if features <= 512 else 2 if features <= 1024 else 8
    assert total == pytest.approx(2.0 + 3.0 * blocks + 0.25 * features)
    assert max(measured) <= features
    assert sum(measured) <= 52


def test_the_forecast_is_on_stderr_and_not_in_the_json(planted):
    from click.testing import CliRunner

    from atlas.cli.main import command

    words = ["positions", "--draws", "10", "--json", "--replace", "--atlas", str(planted)]
    quiet, loud = (CliRunner().invoke(command(), [*words, *more]) for more in (["--quiet"], []))
    assert loud.exit_code == quiet.exit_code == 0, loud.output
    loud_result, quiet_result = (json.loads(one.stdout)["result"] for one in (loud, quiet))
    assert loud_result == quiet_result
    assert "positions: about" in loud.stderr
    assert not quiet.stderr
