"""Studies show the stored results of floors next to those of the selected SAEs."""

import json
import shlex
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import ClassVar

import click
import pytest
from click.testing import CliRunner
from random_models import random_model, small_tokenizer
from recording_progress import RecordingProgress
from small_ingest import model, texts, topk

from analysis import (
    CommunitySettings,
    ComparisonSettings,
    DirectionSettings,
    GraphStatisticsSettings,
    InterpretabilitySettings,
    LogitSettings,
    PositionSettings,
    SimilaritySettings,
    SpectrumSettings,
    SplittingSettings,
    TopologySettings,
    activation_by_position,
    compare_graphs,
    compare_spaces,
    find_splits,
    graph_features,
    graph_statistics,
    measure_interpretability,
    measure_logits,
    measure_spectra,
    measure_topology,
    nearest_directions,
)
from atlas.cli.main import command
from atlas.disk.folder import Folder, Sound
from atlas.plugins import StudyCommand, study_commands
from atlas.studies.floor_values import _with_control, add_floor_values
from atlas.studies.floors import floor_parts
from atlas.studies.results import Result, Results
from atlas.studies.study import Study
from ingest import MatchSettings, Settings, ingest, match_saes
from ingest.sae.autoencoder import open_sae

MATCH = MatchSettings(draws=3, min_joint=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return an atlas of two SAEs and an untrained floor of the first."""
    path, lm = tmp_path_factory.mktemp("floors") / "a.atlas", model()
    saes = [open_sae(topk(seed=s), name=n) for s, n in enumerate(["one", "two"])]
    ingest(path, saes=saes, text=texts(30), model=lm, match=None).close()
    floor = open_sae(topk(seed=9), name="floor")
    ingest(
        path,
        saes=[floor],
        model=lm,
        settings=Settings(role="untrained", floor_of="one"),
        match=None,
    ).close()
    return path


def names(results):
    return [(result.name, result.floor) for result in results]


def test_a_study_of_one_sae_has_the_results_of_its_floors(path):
    recorded = RecordingProgress()
    settings = PositionSettings(draws=3)
    alone = activation_by_position(path, ["one"], settings=settings, progress=recorded)
    assert names(alone) == [("one", False)]
    hint = next(m for m in recorded.messages if "floors without this result: floor." in m)
    assert hint.endswith("run with the same settings: `atlas positions floor`.")
    words = ["positions", "one", "--draws", "3", "-a", str(path)]
    shown = CliRunner().invoke(command(), words)
    typed = f"`{shlex.join(['atlas', 'positions', 'floor', '--draws', '3', '--atlas', str(path)])}`"
    assert typed in shown.stderr
    activation_by_position(path, ["floor"], settings=settings)
    both = activation_by_position(path, ["one"], settings=settings)
    assert names(both) == [("one", False), ("floor", True)]
    assert (both[1]["role"], both[1]["floor_of"]) == ("untrained", "one")
    assert both[1].verdict[0] == "floor is a floor (untrained)."
    assert "role" not in both[0]
    # The floor is not repeated if it is selected, and has no floors of its own.
    assert names(activation_by_position(path, ["one", "floor"], settings=settings)) == [
        ("one", False),
        ("floor", False),
    ]
    assert names(activation_by_position(path, ["floor"], settings=settings)) == [("floor", False)]
    assert names(activation_by_position(path, ["two"], settings=settings)) == [("two", False)]
    done = CliRunner().invoke(
        command(), ["positions", "one", "--draws", "3", "-a", str(path), "--json"]
    )
    assert [row.get("floor_of") for row in json.loads(done.stdout)["result"]] == [None, "one"]
    shown = (
        CliRunner().invoke(command(), ["positions", "one", "--draws", "3", "-a", str(path)]).stdout
    )
    assert "floor (floor of one): L0" in shown
    assert "untrained" in shown


def test_studies_of_pairs_and_graphs_have_the_results_of_floors(path):
    recorded = RecordingProgress()
    match_saes(path, ["one", "two"], settings=MATCH, progress=recorded)
    hint = next(m for m in recorded.messages if "floors without this result: floor." in m)
    assert hint.endswith("run with the same settings: `atlas match floor two`.")
    match_saes(path, ["floor", "two"], settings=MATCH)
    assert names(match_saes(path, ["one", "two"], settings=MATCH)) == [
        ("one+two", False),
        ("floor+two", True),
    ]
    for study, settings in [
        (graph_statistics, GraphStatisticsSettings(draws=2)),
        (graph_features, None),
    ]:
        chosen = {} if settings is None else {"settings": settings}
        study(path, ["floor"], **chosen)
        assert names(study(path, ["one"], **chosen)) == [("one", False), ("floor", True)]


def test_a_floor_with_other_settings_is_named_with_the_settings_and_a_command(path):
    match_saes(path, ["one", "two"], settings=MATCH)
    match_saes(path, ["floor", "two"], settings=replace(MATCH, draws=2))
    recorded = RecordingProgress()
    found = match_saes(path, ["one", "two"], settings=MATCH, progress=recorded)
    assert "with other settings (draws 2, not 3)." in " ".join(found[0].verdict)
    expected = "run `atlas match floor two` with `min_joint=2` `draws=3`."
    assert any(message.endswith(expected) for message in recorded.messages)
    words = ["match", "one", "two", "--draws", "3", "--min-joint", "2", "-a", str(path)]
    shown = CliRunner().invoke(command(), words)
    assert "`atlas match floor two` with --min-joint 2 --draws 3." in " ".join(shown.stderr.split())
    match_saes(path, ["floor", "two"], settings=MATCH)
    recorded = RecordingProgress()
    (pair, _) = match_saes(path, ["one", "two"], settings=MATCH, progress=recorded)
    assert "other settings" not in " ".join([*pair.verdict, *recorded.messages])


def test_the_typed_command_for_other_saes_can_be_pasted():
    @click.command("steer", cls=StudyCommand)
    @click.argument("file")
    @click.option("--sae", "-s", "saes", multiple=True)
    @click.option("--task", multiple=True)
    @click.option("--fast/--slow", default=True)
    @click.option("--draws", default=3)
    @click.option("--quiet", is_flag=True)
    @click.pass_context
    def study(context, **options):
        click.echo(context.command.with_saes(["c", "d"]))

    words = ["my words.csv", "-s", "a", "--task", "x", "--task", "y z", "--slow", "--quiet"]
    done = CliRunner().invoke(study, words)
    pasted = "atlas steer 'my words.csv' --sae c --sae d --task x --task 'y z' --slow\n"
    assert done.output == pasted
    assert study.with_saes(["c"]) is None  # no command is running


class Measured(Study):
    """A study with a number that is compared with floors."""

    kind, version = "measured", 1
    floor_values: ClassVar = {"score": "The score", "count": "The count"}

    def tasks(self, at, saes):
        raise NotImplementedError

    def run(self, task, at):
        raise NotImplementedError

    def result(self, part):
        raise NotImplementedError


class NeedsFloors(Measured):
    needs_floors = True


class SortedPairs(Measured):
    sorted_pairs = True


ROWS = [
    {"name": "a"},
    {"name": "c"},
    {"name": "a-frozen", "role": "frozen-decoder", "floor_of": "a"},
    {"name": "a-untrained", "role": "untrained", "floor_of": "a"},
]


def measured(*saes, score, count=None, settings=None):
    one = Result("measured", "+".join(saes), {"score": score, "count": count}, verdict=["First."])
    one.saes, one.settings = saes, settings or {}
    return one


def sentences(study, results, rows=ROWS):
    add_floor_values(study(), results, rows)
    return [list(one.verdict[1:]) for one in results]


def test_a_verdict_has_the_values_of_all_floors():
    found = [
        measured("a", score=0.5, count=2000, settings={"draws": 3}),
        measured("c", score=0.25),
        measured("a-frozen", score=0.125, count=1000, settings={"draws": 5}),
        measured("a-untrained", score=None, count=None),
    ]
    assert sentences(Measured, found) == [
        [
            "The score is 0.5; it is 0.125 for the floor a-frozen (frozen-decoder), with other settings (draws 5, not 3).",
            "The count is 2,000; it is 1,000 for the floor a-frozen (frozen-decoder), with other settings (draws 5, not 3).",
        ],
        [],
        [],
        [],
    ]


def test_a_verdict_of_a_pair_names_the_replaced_sae():
    pair = measured("a", "c", score=0.5)
    floors = [measured("a-frozen", "c", score=0.25), measured("a-untrained", "c", score=0.125)]
    (own, *rest) = sentences(NeedsFloors, [pair, *floors])
    assert own == [
        "The score is 0.5; it is 0.25 with the floor a-frozen (frozen-decoder) instead of a, and 0.125 with "
        "the floor a-untrained (untrained) instead of a."
    ]
    assert rest == [[], []]


def test_results_of_one_sae_and_its_floors_have_one_trained_sae():
    one, two, floor = (measured(name, score=1.0) for name in ("a", "c", "a-frozen"))
    floor.floor = True
    assert Results([one, floor]).has_one_trained
    assert not Results([one, two, floor]).has_one_trained
    assert not Results([]).has_one_trained


class OneSentence(Measured):
    """A study with one sentence for all numbers of a floor."""

    floor_sentence: ClassVar = "{count:,} and {score}"


def test_one_sentence_has_all_numbers_of_a_floor():
    found = [
        measured("a", score=0.5, count=2000, settings={"draws": 3}),
        measured("a-frozen", score=0.125, count=1000, settings={"draws": 5}),
        measured("a-untrained", score=0.25, count=None),
    ]
    assert sentences(OneSentence, found)[0] == [
        "For the floor a-frozen (frozen-decoder): 1,000 and 0.125, with other settings (draws 5, not 3)."
    ]
    # Without a floor that has all numbers, each number is compared.
    assert sentences(OneSentence, [measured("a", score=0.5, count=2000), found[2]])[0] == [
        "The score is 0.5; it is 0.25 for the floor a-untrained (untrained)."
    ]


def test_both_orders_of_a_pair_are_two_results_unless_names_are_sorted():
    floor = measured("a-frozen", "c", score=0.25)
    reverse = measured("c", "a-frozen", score=0.125)
    sentence = "The score is 0.5; it is {} with the floor a-frozen (frozen-decoder) instead of a."
    for study in (Measured, SortedPairs):
        for floors in ([floor, reverse], [reverse, floor]):
            own, *_ = sentences(study, [measured("a", "c", score=0.5), *floors])
            assert own == [sentence.format(0.25)]
    assert sentences(Measured, [measured("a", "c", score=0.5), reverse])[0] == []
    own, _ = sentences(SortedPairs, [measured("a", "c", score=0.5), reverse])
    assert own == [sentence.format(0.125)]


def test_a_verdict_that_needs_floors_states_that_there_are_none():
    assert sentences(NeedsFloors, [measured("a", "c", score=0.5)]) == [
        ["No floor is compared: the atlas has no such result of a-frozen or a-untrained."]
    ]
    assert sentences(NeedsFloors, [measured("a", "c", score=0.5)], []) == [
        ["No floor is compared: the atlas has no floor of a or c."]
    ]
    # Without a value there is nothing to compare, and other studies have a null of their own.
    assert sentences(NeedsFloors, [measured("a", "c", score=None)]) == [[]]
    assert sentences(Measured, [measured("a", "c", score=0.5)]) == [[]]


def test_the_numbers_that_are_compared_with_floors_are_in_the_summary(path):
    match_saes(path, ["one", "two"], settings=MATCH)
    match_saes(path, ["floor", "two"], settings=MATCH)
    own, floor = match_saes(path, ["one", "two"], settings=MATCH)
    assert (
        f"With the floor floor (untrained) instead of one: {floor['one_to_one']} and {floor['beyond_token']}."
    ) in own.verdict


#: Each study with numbers that are compared with floors: its function, small settings, and SAEs.
COMPARED = {
    "CommunityStudy": (graph_features, CommunitySettings(runs=2, splits=1, draws=2), ["one"]),
    "DirectionStudy": (nearest_directions, DirectionSettings(draws=1), ["one"]),
    "GraphStatisticsStudy": (graph_statistics, GraphStatisticsSettings(draws=2), ["one"]),
    "InterpretabilityStudy": (measure_interpretability, InterpretabilitySettings(), ["one"]),
    "LogitStudy": (measure_logits, LogitSettings(features=0), ["one"]),
    "MatchStudy": (match_saes, MATCH, ["one", "two"]),
    "SimilarityStudy": (compare_spaces, SimilaritySettings(draws=19), ["one", "two"]),
    "SpectrumStudy": (measure_spectra, SpectrumSettings(draws=20), ["one"]),
    "SplittingStudy": (find_splits, SplittingSettings(draws=3), ["one", "two"]),
    "TopologyStudy": (
        measure_topology,
        TopologySettings(
            repeats=1, draws=19, mapper_draws=19, cubes=(3,), overlap=(0.3,), subsamples=1
        ),
        ["one"],
    ),
}


@pytest.fixture(scope="module")
def with_codes(tmp_path_factory):
    """Return an atlas of two matched SAEs with codes, and the SAEs."""
    path = tmp_path_factory.mktemp("codes") / "a.atlas"
    saes = [open_sae(topk(seed=s), name=n) for s, n in enumerate(["one", "two"])]
    settings = Settings(keep_codes=True)
    ingest(path, saes=saes, text=texts(30), model=model(), settings=settings, match=MATCH).close()
    return path, saes


def compared_studies():
    """Return the studies of the repository that compare numbers with floors, by class name."""
    for each in study_commands().values():
        if find_spec(f"{each.package}.study"):
            import_module(f"{each.package}.study")
    found, classes = {}, [Study]
    while classes:
        one = classes.pop()
        classes += one.__subclasses__()
        if one.floor_values and not one.__module__.startswith("test_"):
            found[one.__name__] = one
    return found


def test_each_study_that_compares_with_floors_is_tested():
    assert set(compared_studies()) == set(COMPARED)


@pytest.mark.parametrize("name", sorted(COMPARED))
def test_the_summary_has_the_numbers_that_are_compared(name, with_codes):
    path, opened = with_codes
    function, settings, saes = COMPARED[name]
    more = {
        "opened": opened,
        "model": random_model("llama", seed=0),
        "tokenizer": small_tokenizer(),
    }
    taken = {key: more[key] for key in more if key in signature(function).parameters}
    (result, *_) = function(path, saes, settings=settings, **taken)
    assert set(compared_studies()[name].floor_values) <= set(result.summary)


@pytest.mark.slow
def test_comparisons_have_the_results_of_floors(path):
    settings = ComparisonSettings(draws=2)
    for pair in (["one", "two"], ["floor", "two"]):
        match_saes(path, pair, settings=MATCH)
    compare_graphs(path, ["floor", "two"], settings=settings)
    found = compare_graphs(path, ["one", "two"], settings=settings)
    assert [result.floor for result in found] == [False, True]


def test_parts_are_compared_only_with_the_same_result(path):
    sound = Folder.open(path).sound()
    rows = [{"name": "one"}, {"name": "floor", "role": "untrained", "floor_of": "one"}]
    parts = [sound.parts["statistics/one"]]
    found, missing = floor_parts(sound, parts, rows)
    assert (list(found), missing) == (["floor"], [])
    assert floor_parts(sound, [], rows) == ({}, [])
    assert floor_parts(sound, parts, [{"name": "one"}]) == ({}, [])
    # A floor that an older version of the study measured is missing.
    newer = replace(parts[0].manifest, version=parts[0].manifest.version + 1)
    assert floor_parts(sound, [replace(parts[0], manifest=newer)], rows) == ({}, ["floor"])


@pytest.mark.parametrize("names", [("floor", "two"), ("two", "floor")])
def test_a_pair_in_another_order_is_a_floor_only_of_studies_without_order(path, names):
    rows = [{"name": "one"}, {"name": "two"}]
    rows += [{"name": "floor", "role": "untrained", "floor_of": "one"}]
    part = Folder.open(path).sound().parts["statistics/one"]
    pairs = [
        replace(part, manifest=replace(part.manifest, name="+".join(saes), saes=saes))
        for saes in (("one", "two"), names)
    ]
    sound = Sound({f"statistics/{pair.manifest.name}": pair for pair in pairs})
    ordered = floor_parts(sound, pairs[:1], rows)
    assert list(ordered[0]) == (["floor+two"] if names == ("floor", "two") else [])
    assert list(floor_parts(sound, pairs[:1], rows, any_order=True)[0]) == ["+".join(names)]


def test_floors_of_targets_are_not_compared(path):
    sound = Folder.open(path).sound()
    rows = [{"name": "one"}, {"name": "floor", "role": "untrained", "floor_of": "one"}]
    part = sound.parts["statistics/one"]
    for saes, missing in ((("one", "two"), ["floor"]), (("two", "one"), [])):
        pair = replace(part, manifest=replace(part.manifest, saes=saes))
        assert floor_parts(sound, [pair], rows, first_only=True)[1] == missing
        assert floor_parts(sound, [pair], rows)[1] == ["floor"]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ((), ("F.",)),
        (("One.",), ("One.", "F.")),
        (("One. Two.", "Three."), ("One.", "F.", "Two.", "Three.")),
    ],
)
def test_the_value_of_a_floor_follows_the_first_sentence(verdict, expected):
    assert _with_control(verdict, ["F."]) == expected
    assert _with_control(verdict, []) == verdict
