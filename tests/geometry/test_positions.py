"""Activations by position: a brute-force reference, degenerate input, a planted trend and none."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.positions.settings import PositionSettings
from analysis.positions.study import activation_by_position, by_position
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
    assert more[0]["p"] == 0.01
    assert more[0]["l0"] > more[0]["null_high"]
    low = [
        by_position(*where, l0=l0, total=l0 * 1.0, draws=19, seed=s)[0]["p"]
        for s in range(100)
        for *where, l0 in [tokens(np.random.default_rng(s))]
    ]
    assert np.mean(np.array(low) <= 0.1) <= 0.2  # 0.1 expected; above 0.2 in 1 of 1,000 sets


@pytest.mark.parametrize("l0", [[0], [3]])
def test_documents_of_one_token(l0):
    one, document, l0s, total = (np.array(x) for x in ([1], [0], l0, [0.0]))
    (row,) = by_position(one, document, l0=l0s, total=total, draws=3, seed=0)
    assert row["p"] == 1
    assert row["null_low"] == row["null_high"] == row["l0"] == l0[0]
    assert (row["activation"] is None) == (l0 == [0])


def test_no_tokens_and_constant_values():
    none = np.empty(0, dtype=np.int64)
    assert by_position(none, none, l0=none, total=none * 1.0, draws=3, seed=0) == []
    position, document, _ = tokens(np.random.default_rng(2))
    rows = by_position(position, document, l0=document, total=document * 1.0, draws=3, seed=0)
    assert all(r["p"] == 1 for r in rows)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    where = tmp_path_factory.mktemp("positions") / "planted.atlas"
    Planted(PlantedSettings(seed=1, shared=8, private=12)).write(where).close()
    return where


def test_an_atlas_gets_a_part_and_the_command_prints_it(path):
    (a, *_) = results = activation_by_position(path, settings=PositionSettings(draws=5))
    blocks = [
        b
        for f in sorted(Folder.open(path).codes(a.name).glob("*"))
        if f.suffix == ".arrow"
        for b in read_shard(f)
    ]
    assert sum(a.table("positions")["tokens"].to_pylist()) == sum(len(b) for b in blocks)
    assert len(results) == len(Folder.open(path).sound().saes)
    done = CliRunner().invoke(
        command(), ["positions", "--draws", "5", "--json", "-q", "-a", str(path)]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["result"] == results.rows
    shown = CliRunner().invoke(command(), ["positions", "--draws", "5", "-q", "-a", str(path)])
    assert shown.stdout.startswith(f"{a.name}: ")
