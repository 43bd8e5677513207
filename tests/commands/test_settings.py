"""Help, range and flag of each setting are written once, for Python and for the command line."""

from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from analysis.communities.settings import CommunitySettings
from analysis.feature_map.settings import MapSettings
from analysis.graph.settings import GraphStatisticsSettings
from analysis.graph_comparison.settings import ComparisonSettings
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.residual.settings import ResidualSettings
from analysis.transcoder.settings import TranscoderSettings
from atlas.cli import main as main_module
from atlas.cli.main import command
from atlas.cli.options import chosen_settings, flags_for, settings_options
from atlas.cli.shared_options import shared_options
from atlas.errors import BadInput
from atlas.plugins import study_commands
from atlas.studies.settings import check_settings, documented, read_settings, setting, settings_of
from ingest.match.settings import MatchSettings
from ingest.probe.settings import ProbeSettings
from ingest.settings import Settings

CLASSES = (
    CommunitySettings,
    ComparisonSettings,
    GraphMatchingSettings,
    GraphStatisticsSettings,
    MatchSettings,
    ProbeSettings,
    ResidualSettings,
    Settings,
    TranscoderSettings,
)


@documented
@dataclass(frozen=True)
class Example:
    """An example."""

    count: int = setting(3, "Some count.", least=1, most=9)
    share: float = setting(0.5, "Some share.", above=0, below=1)
    way: Literal["one way", "other"] = setting("one way", "Which way.")
    rates: tuple[float, ...] = setting((0.1, 0.2), "Some rates.", flag="rate", above=0)
    limit: int | None = setting(None, "Some limit.", least=1, shown="all")
    fast: bool = setting(True, "Whether it is fast.")
    hidden: str = setting("x", "Python only.", flag=None)

    def __post_init__(self):
        check_settings(self)


def test_a_large_bound_is_shown_with_all_digits():
    with pytest.raises(
        BadInput, match=r"seed is -1; expected a whole number from 0 to 2,147,483,647\."
    ):
        MapSettings(seed=-1)


def test_the_largest_number_is_accepted():
    assert Example(limit=2**63 - 1).limit == 2**63 - 1


def numbers_of(of):
    for parameter in of.params:
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
            yield parameter
    for each in of.commands.values() if isinstance(of, click.Group) else ():
        yield from numbers_of(each)


def test_every_number_of_the_command_line_refuses_nan_and_more_than_64_bits():
    """click accepts both, and tables and libraries do not."""
    found = list(numbers_of(command()))
    assert len(found) > 100
    for parameter in found:
        whole = isinstance(parameter.type, click.types.IntParamType)
        for value in (str(2**63), str(-(2**63)), "9" * 400) if whole else ("nan",):
            with pytest.raises(click.BadParameter):
                parameter.type.convert(value, parameter, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count is 0; expected a whole number from 1 to 9."),
        ({"count": 10}, "count is 10; expected a whole number from 1 to 9."),
        ({"count": True}, "count is True; expected a whole number"),
        ({"count": 2.0}, "count is 2.0; expected a whole number"),
        ({"share": 0.0}, "share is 0.0; expected a number between 0 and 1, both excluded."),
        ({"share": float("nan")}, "share is nan; expected a number"),
        ({"way": "third"}, "way is 'third'; expected one of one way, other."),
        ({"rates": ()}, "rates is (); expected one or more"),
        ({"rates": (0.1, -1.0)}, "rates is -1.0; expected a number, above 0."),
        (
            {"limit": 2**63},
            "limit is a number above 64 bits; expected a whole number, 1 or more, of",
        ),
        ({"limit": 10**400}, "limit is a number above 64 bits"),
        ({"share": 10**400}, "share is a number above 64 bits"),
        ({"limit": 0}, "limit is 0; expected a whole number, 1 or more."),
        ({"fast": 1}, "fast is 1; expected true or false."),
        ({"hidden": 3}, "hidden is 3; expected a text."),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_expected_range(values, message):
    with pytest.raises(BadInput) as error:
        Example(**values)
    assert message in str(error.value)


def test_values_at_the_bounds_are_accepted():
    for values in ({"count": 1}, {"count": 9}, {"limit": None}, {"limit": 1}, {"rates": (1e-9,)}):
        Example(**values)


def run(*words):
    seen = {}

    @click.command()
    @settings_options(Example)
    def command(**options):
        seen.update(chosen_settings(Example, options))

    done = CliRunner().invoke(command, words)
    return done, seen


@documented
@dataclass(frozen=True)
class Drawn:
    """Settings with draws."""

    draws: int = setting(20, "Draws.", least=1, paper=999)
    seed: int = setting(0, "Seed.", least=0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--rows"], {}),
        (["--full"], {"draws": 999}),
        (["--full", "--draws", "5"], {"draws": 5}),
        (["--draws", "5", "--full", "--seed", "1"], {"draws": 5, "seed": 1}),
    ],
)
def test_full_draws_what_a_paper_needs(words, expected):
    seen = {}

    @click.command()
    @settings_options(Drawn)
    @shared_options
    def command(as_json, quiet, **options):
        seen.update(chosen_settings(Drawn, options))

    assert CliRunner().invoke(command, words).exit_code == 0
    assert seen == expected
    assert "20; 999 with --full" in " ".join(CliRunner().invoke(command, ["--help"]).output.split())


def test_a_paper_has_more_draws_than_the_default_and_they_are_valid():
    found = []
    for each in study_commands().values():
        module = f"{each.package}.settings"
        if find_spec(module) is None:
            continue
        for cls in vars(import_module(module)).values():
            if is_dataclass(cls) and cls.__module__ == module:
                for one in settings_of(cls):
                    if one.paper is not None:
                        found.append((each.name, one.name))
                        assert one.accepts(one.paper), (each.name, one.name)
                        assert one.paper > one.default, (each.name, one.name)
    assert len({name for name, _ in found}) > 15


def test_options_are_generated_from_the_fields():
    done, seen = run()
    assert (done.exit_code, seen) == (0, {})
    done, seen = run(
        "--count", "4", "--way", "one-way", "--rate", "0.3", "--rate", "1", "--no-fast"
    )
    assert done.exit_code == 0
    assert seen == {"count": 4, "way": "one way", "rates": (0.3, 1.0), "fast": False}
    assert run("--count", "10")[0].exit_code == 2
    assert run("--share", "0")[0].exit_code == 2
    assert run("--hidden", "y")[0].exit_code == 2
    help = run("--help")[0].output
    for text in ("Some share. [default: 0.5]", "Some limit. [default: all]", "--fast / --no-fast"):
        assert text in help


def test_options_written_from_settings_are_read_as_equal_settings():
    settings = Example(count=5, way="other", rates=(0.5, 2.0), limit=7, fast=False)
    words = flags_for(Example, asdict(settings))
    assert words == [
        "--count",
        "5",
        "--way",
        "other",
        "--rate",
        "0.5",
        "--rate",
        "2",
        "--limit",
        "7",
        "--no-fast",
    ]
    _, seen = run(*words)
    assert Example(**seen) == settings
    assert flags_for(Example, asdict(Example())) == []
    assert "--share" in flags_for(Example, asdict(Example()), every=True)


def test_missing_fields_of_a_manifest_get_their_defaults():
    stored = {"count": 2, "rates": [0.5], "gone": 1}
    assert read_settings(Example, stored) == Example(count=2, rates=(0.5,))


@pytest.mark.parametrize("cls", CLASSES)
def test_every_setting_has_a_sentence_of_help_and_its_default_is_valid(cls):
    for one in settings_of(cls):
        assert one.help[0].isupper() or one.help[0] in "λ", one.name
        assert one.help.endswith("."), one.name
        assert one.help in cls.__doc__, one.name
        for value in one.default if one.multiple else (one.default,):
            unset = (one.optional and value is None) or one.shown == "required"
            assert unset or one.accepts(value), one.name


def test_fields_without_help_or_option_type_are_refused():
    @dataclass(frozen=True)
    class Plain:
        count: int = 3

    with pytest.raises(TypeError, match="no help"):
        settings_of(Plain)

    @dataclass(frozen=True)
    class Odd:
        table: dict[str, int] | None = setting(None, "A table.")

    with pytest.raises(TypeError, match="expected int, float, str, bool"):
        settings_of(Odd)


@pytest.mark.parametrize("size", [2**46, 2**62, 2**63 - 1])  # above any memory, and above any array
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_an_array_above_any_memory_is_one_message(monkeypatch, capsys, library, size):
    import numpy as np
    import torch

    @click.command()
    def allocate():
        np.empty((size, 3)) if library == "numpy" else torch.empty((size, 3))

    monkeypatch.setattr(main_module, "command", lambda: allocate)
    with pytest.raises(SystemExit) as ended:
        main_module.main([])
    assert ended.value.code == 1
    message = " ".join(capsys.readouterr().err.split())
    assert message.startswith("atlas: Memory does not suffice (")
    assert "Pass smaller numbers" in message


def test_other_errors_of_values_are_not_taken_for_a_lack_of_memory(monkeypatch):
    @click.command()
    def fail():
        raise ValueError("another error")

    monkeypatch.setattr(main_module, "command", lambda: fail)
    with pytest.raises(ValueError, match="another error"):
        main_module.main([])
