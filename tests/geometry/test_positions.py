"""Activations by position: a brute-force reference, degenerate input, a planted trend and none."""

import json
from itertools import permutations

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.positions.settings import PositionSettings
from analysis.positions.study import activation_by_position, by_position, constant_l0, verdict_of
from atlas.cli.main import command
from atlas.disk.folder import Folder
from ingest.codes.store import read_shard
from ingest.synthetic import Planted, PlantedSettings


def tokens(rng, documents=30, length=16):
    position = np.tile(np.arange(1, length + 1), documents)
    return position, np.repeat(np.arange(documents), length), rng.poisson(5, documents * length)


def test_rows_equal_counts_by_hand():
    rng = np.random.default_rng(0)
    position, document, l0 = tokens(rng)
    total = rng.random(len(l0)) * l0
    rows = by_position(position, document, l0=l0, total=total, draws=5, seed=0)
    assert [(r["first"], r["last"]) for r in rows] == [(1, 1), (2, 3), (4, 7), (8, 15), (16, 16)]
    for row in rows:
        here = [i for i, p in enumerate(position) if row["first"] <= p <= row["last"]]
        assert row["tokens"] == len(here)
        assert row["l0"] == pytest.approx(sum(l0[i] for i in here) / len(here))
        active = sum(l0[i] for i in here)
        assert row["activation"] == pytest.approx(sum(total[i] for i in here) / active)


def test_trend_is_significant_and_random_values_are_not():
    position, document, l0 = tokens(np.random.default_rng(1))
    more = by_position(
        position, document, l0=l0 + 4 * (position == 1), total=l0 * 1.0, draws=99, seed=0
    )
    assert more[0]["l0_p"] == 0.01
    assert more[0]["l0"] > more[0]["l0_null_high"]
    low = [
        by_position(*where, l0=l0, total=l0 * 1.0, draws=19, seed=s)[0]["l0_p"]
        for s in range(100)
        for *where, l0 in [tokens(np.random.default_rng(s))]
    ]
    assert np.mean(np.array(low) <= 0.1) <= 0.2  # 0.1 expected; above 0.2 in 1 of 1,000 sets


def test_both_nulls_equal_those_over_all_orders():
    """Draws approach the null that is computed from every order of the tokens of each document."""
    position, document = np.array([1, 2, 3, 1, 2, 3]), np.array([0, 0, 0, 1, 1, 1])
    l0, total = np.array([3, 1, 2, 4, 0, 1]), np.array([9.0, 1.5, 2.0, 2.0, 0.0, 4.0])
    orders = [(*a, *b) for a in permutations(range(3)) for b in permutations(range(3, 6))]
    rows = by_position(position, document, l0=l0, total=total, draws=4000, seed=0)
    assert [(r["first"], r["last"]) for r in rows] == [(1, 1), (2, 3)]
    for row in rows:
        here = [i for i in range(6) if row["first"] <= position[i] <= row["last"]]
        l0s = [sum(l0[o[i]] for i in here) / len(here) for o in orders]
        activations = [sum(total[o[i]] for i in here) / sum(l0[o[i]] for i in here) for o in orders]
        for name, null in (("l0", l0s), ("activation", activations)):
            own = null[0]  # the first order is the observed one
            centre = sum(null) / len(null)
            far = [abs(one - centre) >= abs(own - centre) - 1e-9 for one in null]
            assert row[name] == pytest.approx(own)
            assert row[f"{name}_p"] == pytest.approx(np.mean(far), abs=0.05)  # 6 standard errors
            assert row[f"{name}_null_low"] == pytest.approx(min(null))  # 1 of 36 is more than 2.5%
            assert row[f"{name}_null_high"] == pytest.approx(max(null))


def test_constant_l0_has_a_test_by_activation():
    rng = np.random.default_rng(3)
    position, document, _ = tokens(rng)
    l0, total = np.full(len(position), 20), rng.random(len(position))
    rows = by_position(position, document, l0=l0, total=total, draws=99, seed=0)
    assert constant_l0(rows)
    more = by_position(
        position, document, l0=l0, total=total + 9 * (position == 1), draws=99, seed=0
    )
    assert [r["l0_p"] for r in more] == [1] * 5
    assert more[0]["activation_p"] == 0.01
    assert more[0]["activation"] > more[0]["activation_null_high"]
    l0[0] = 21
    assert not constant_l0(by_position(position, document, l0=l0, total=total, draws=9, seed=0))


def test_verdict_concludes_about_the_statistic_that_varies():
    constant = {"first": 1, "last": 1, "tokens": 9, "l0": 20.0, "l0_null_low": 20.0}
    constant |= {"l0_null_high": 20.0, "l0_p": 1.0, "activation": 0.9, "activation_p": 0.005}
    constant |= {"activation_null_low": 0.5, "activation_null_high": 0.6}
    assert verdict_of("s", [constant]) == [
        "s: at position 1, the mean activation of active features is 0.9, above the 95% range of "
        "shuffled tokens (0.5 to 0.6, p = 0.005).",
        "L0 is 20.0 at every position and in every shuffle, so it has no test.",
    ]
    varied = constant | {"last": 2, "l0": 19.0, "l0_null_high": 21.0, "activation": 0.55}
    first, second = verdict_of("s", [varied])
    assert first.startswith(
        "s: at positions 1 to 2, there are 19.0 active features per token, below"
    )
    assert "is 0.55, inside the 95% range" in second
    none = varied | dict.fromkeys(("activation", "activation_null_low"))
    assert verdict_of("s", [none])[1] == "No feature is active at positions 1 to 2."


@pytest.mark.parametrize("l0", [[0], [3]])
def test_documents_of_one_token(l0):
    one, document, l0s, total = (np.array(x) for x in ([1], [0], l0, [0.0]))
    (row,) = by_position(one, document, l0=l0s, total=total, draws=3, seed=0)
    assert row["l0_p"] == 1
    assert row["l0_null_low"] == row["l0_null_high"] == row["l0"] == l0[0]
    activation = {name: row[name] for name in row if name.startswith("activation")}
    assert len(activation) == 4
    if l0 == [0]:
        assert set(activation.values()) == {None}
    else:
        assert activation.pop("activation_p") == 1
        assert set(activation.values()) == {0}


def test_no_tokens_and_constant_values():
    none = np.empty(0, dtype=np.int64)
    assert by_position(none, none, l0=none, total=none * 1.0, draws=3, seed=0) == []
    position, document, _ = tokens(np.random.default_rng(2))
    rows = by_position(position, document, l0=document, total=document * 1.0, draws=3, seed=0)
    assert all(r["l0_p"] == 1 for r in rows)
    some = [r for r in rows if r["activation"] is not None]
    assert some
    assert all(r["activation_p"] == 1 for r in some)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    where = tmp_path_factory.mktemp("positions") / "planted.atlas"
    Planted(PlantedSettings(seed=1, shared=8, private=12)).write(where).close()
    return where


def test_an_atlas_gets_a_part_and_the_command_prints_it(path):
    (a, *_) = results = activation_by_position(path, "all", settings=PositionSettings(draws=5))
    blocks = [
        b
        for f in sorted(Folder.open(path).codes(a.name).glob("*"))
        if f.suffix == ".arrow"
        for b in read_shard(f)
    ]
    assert sum(a.table("positions")["tokens"].to_pylist()) == sum(len(b) for b in blocks)
    assert len(results) == len(Folder.open(path).sound().saes)
    done = CliRunner().invoke(
        command(), ["positions", "--all", "--draws", "5", "--json", "-q", "-a", str(path)]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["result"] == results.rows
    shown = CliRunner().invoke(
        command(), ["positions", "--all", "--draws", "5", "-q", "-a", str(path)]
    )
    assert shown.stdout.startswith(f"{a.name}: ")
    assert "activation shuffled" in shown.stdout
    assert a["listed"] == a.table("positions").to_pylist()
    assert a["activation_p_last"] == a["listed"][-1]["activation_p"]
