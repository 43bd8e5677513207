"""A score and its controls are printed together on a narrow terminal."""

import random

import click
import pytest

from atlas.cli.output.columns import distinguishing, fitting, narrowed, with_controls
from atlas.cli.output.tables import print_table
from atlas.cli.shared_options import shared_options


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "stability", "stability_halves", "stability_null"], {"a": 0, "stability": 2}),
        (["best_ab", "n", "token_document_null_best_ab", "null_best_ab"], {"best_ab": 2, "n": 0}),
        (["kl", "kl_null", "kl_null_low"], {"kl": 2}),
        # A number of tokens or features is not a control.
        (["tokens", "tokens_with_other", "null_threshold"], dict.fromkeys(
            ["tokens", "tokens_with_other", "null_threshold"], 0
        )),
        (["null", "x"], {"null": 0, "x": 0}),
    ],
)  # fmt: skip
def test_controls_are_found_by_name(names, expected):
    assert {name: len(own) for name, own in with_controls(names, {}).items()} == expected


def test_controls_of_other_names_are_passed():
    found = with_controls(["sae", "value", "p", "null"], {"value": ["null", "p", "absent"]})
    assert found == {"sae": (), "value": ("p", "null")}
    names = ["stability", "stability_halves", "stability_null"]
    found = with_controls(names, {"stability_halves": ["stability_null"]})
    assert found == {"stability": (), "stability_halves": ("stability_null",)}


@pytest.mark.parametrize("seed", range(20))
def test_no_score_is_chosen_without_its_controls(seed):
    rng = random.Random(seed)
    names = ["id"]
    for n in range(8):
        names += [f"s{n}", *(f"s{n}_{word}" for word in ("null", "random") if rng.random() < 0.4)]
    names = ["id", *rng.sample(names[1:], len(names) - 1)]
    words = {name: rng.randint(3, 15) for name in names}
    width = rng.randint(60, 120)
    groups = with_controls(names, {})
    chosen = fitting(groups, words, width=width)
    assert chosen[0] == "id"
    assert len(set(chosen)) == len(chosen)
    assert sum(words[name] + 2 for name in chosen) - 2 <= width
    if len(chosen) == len(names):
        assert chosen == names
        return
    controls = [name for name in names if name.endswith(("null", "random"))]
    for name in chosen:
        if name not in controls:
            own = [one for one in names if one.startswith(f"{name}_")]
            at = chosen.index(name) + 1
            assert chosen[at : at + len(own)] == own
    # Scores with controls come first: the next of them does not fit after those before it.
    scored = [name for name in names if f"{name}_null" in names or f"{name}_random" in names]
    here = [name for name in scored if name in chosen]
    assert here == scored[: len(here)]
    used = 2 * len(here) + sum(words[n] + 2 for n in controls if n.split("_")[0] in here)
    used += words["id"] + sum(words[name] for name in here)
    if len(here) < len(scored):
        following = [n for n in names if n.split("_")[0] == scored[len(here)]]
        assert used + sum(words[name] + 2 for name in following) > width


def test_a_score_that_does_not_fit_with_all_controls_is_printed_with_the_first():
    words = dict.fromkeys(["sae", "kl", "kl_random", "kl_other"], 10)
    assert fitting(with_controls([*words], {}), words, width=34) == ["sae", "kl", "kl_random"]
    assert fitting(with_controls([*words], {}), words, width=5) == ["sae"]


def test_a_table_prints_the_control_and_omits_other_columns(monkeypatch, capsys):
    row = {"sae": "a", "tokens": 1, "a_long_name": 2, "kl": 3.0, "kl_random": 4.0}
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")

    @click.command()
    @shared_options
    def shown(as_json, quiet):
        print_table([row, row])

    shown.main([], standalone_mode=False)
    printed = capsys.readouterr()
    assert click.unstyle(printed.out).splitlines()[0].split() == [
        "sae",
        "tokens",
        "kl",
        "kl_random",
    ]
    assert "width: a_long_name." in " ".join(printed.err.split())


PAIRS = [
    {"a": a, "b": b, "n": 3, "space": space, "measure": measure, "value": 0.5, "null": 0.1}
    for a, b in (("one", "two"), ("one", "three"))
    for space in ("decoder", "activation")
    for measure in ("cka", "svcca")
]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (PAIRS, ["a", "b", "space", "measure"]),
        (PAIRS[:4], ["a", "space", "measure"]),  # of one pair
        (PAIRS[:2], ["a", "measure"]),
        ([row | {"a": n} for n, row in enumerate(PAIRS)], ["a"]),  # numbers that differ
        ([PAIRS[0], PAIRS[0]], ["a"]),  # equal rows
        ([{"a": ["list"], "b": {"node": 1}}] * 2, ["a"]),
        ([{"a": None, "b": "x"}, {"a": None, "b": None}], ["a", "b"]),
        ([], ["a"]),
    ],
)
def test_the_texts_that_distinguish_rows(rows, expected):
    names = [*PAIRS[0]] if not rows else [*rows[0]]
    assert distinguishing(rows, names) == expected


@pytest.mark.parametrize("seed", range(20))
def test_keys_are_never_omitted(seed):
    rng = random.Random(seed)
    names = ["id", *(f"s{n}" for n in range(6)), "k0", "k1", "s0_null"]
    names[1:] = rng.sample(names[1:], len(names) - 1)
    words = {name: rng.randint(3, 12 if name.startswith("s") else 30) for name in names}
    keys = ["id", "k0", "k1"]
    groups = with_controls(names, {})
    sizes = narrowed(groups, words, width=80, keys=keys, least={"k0": 4, "k1": 4})
    assert all(sizes[name] == words[name] for name in names if name not in ("k0", "k1"))
    assert all(min(8, words[key]) <= sizes[key] <= words[key] for key in keys)
    chosen = fitting(groups, sizes, width=80, keys=keys)
    assert {*keys, "s0", "s0_null"} <= set(chosen)
    assert sum(sizes[name] + 2 for name in chosen) - 2 <= 80


def test_a_table_prints_its_keys_at_80_columns(monkeypatch, capsys):
    long = {"a": "gemma-scope-layer-12-width-16k", "b": "tiny-gemma-scope-2"}
    rows = [row | long | {f"other_{n}": 0.123 for n in range(6)} for row in PAIRS[:4]]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")

    @click.command()
    @shared_options
    def shown(as_json, quiet):
        print_table(rows, keys=("b", "absent"), controls={"value": ("null",)})

    shown.main([], standalone_mode=False)
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert {"a", "b", "space", "measure", "value", "null"} <= set(lines[0].split())
    assert max(map(len, lines)) <= 80


def test_a_name_is_broken_between_its_parts_and_not_in_a_number(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    runs = [
        f"{split}/active/learning_rate={rate}"
        for split in ("document", "type")
        for rate in (0.00123, 0.5)
    ]
    rows = [
        {"sae": "tiny-a-l1-s0-untrained-decoder", "site": "tiny-a/blocks.11.hook_resid_post"}
        | {"run": run, "score": 0.812345, "score_control": 0.7712}
        for run in runs
    ]
    print_table(rows, keys=("sae", "site", "run"))
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert {"tiny-a-l1-s0-untrained-decoder", "blocks.11.", "hook_resid_", "rate=0.00123"} <= {
        *words
    }


@pytest.mark.parametrize("seed", range(20))
def test_both_limits_of_an_interval_are_chosen_or_neither(seed):
    rng = random.Random(seed)
    names = ["id", "a", "a_null", "a_low", "a_high", "low", "high", "b", "b low", "b high", "n"]
    rng.shuffle(names)
    words = {name: rng.randint(4, 14) for name in names}
    owned = {"a": ["a_null", "a_low", "a_high"], "b": ["b low", "b high"]}
    controls = owned if rng.random() < 0.7 else {}
    groups = with_controls(names, controls)
    for width in range(10, 140, 3):
        chosen = fitting(groups, words, width=width)
        for low, high in (("a_low", "a_high"), ("low", "high"), ("b low", "b high")):
            if next(iter(groups)) not in (low, high):  # the first column is always printed
                assert (low in chosen) == (high in chosen), (width, chosen)


def test_a_limit_without_the_other_is_a_column_like_others():
    groups = {"id": (), "low": (), "n": ()}
    assert fitting(groups, {"id": 5, "low": 5, "n": 5}, width=12) == ["id", "low"]
