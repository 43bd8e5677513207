"""Matches in an atlas: edges equal NumPy's correlations; staleness, filters, the command."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from recording_progress import RecordingProgress
from small_ingest import model, texts, topk

from atlas.api import Atlas
from atlas.cli.main import command
from atlas.disk.atomic_files import discard
from atlas.disk.folder import Folder
from atlas.disk.parts import write_part
from atlas.errors import BadInput, Missing, UnknownName
from ingest import MatchSettings, Settings, doctor_checks, ingest, match_saes
from ingest.codes.store import read_shard
from ingest.match.study import _verdict
from ingest.sae.autoencoder import open_sae

FEW = MatchSettings(draws=5, min_joint=3)


@pytest.fixture(scope="module")
def lm():
    return model()


@pytest.fixture(scope="module")
def saes():
    return [
        open_sae(topk(seed=s, d_sae=d), name=n)
        for n, s, d in (("one", 0, 40), ("two", 1, 30), ("three", 0, 40))
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory, lm, saes):
    """An atlas of three SAEs, the third equal to the first."""
    path = tmp_path_factory.mktemp("match") / "a.atlas"
    ingest(path, saes=saes, text=texts(60), model=lm, match=FEW).close()
    return path


@pytest.fixture
def copied(tmp_path, made):
    import shutil

    return shutil.copytree(made, tmp_path / "copy.atlas")


def dense(path, name):
    blocks = [
        b for s in sorted(Folder.open(path).codes(name).glob("*.arrow")) for b in read_shard(s)
    ]
    codes = np.zeros((sum(map(len, blocks)), blocks[0].d_sae))
    row = 0
    for block in blocks:
        codes[row + block.rows, block.indices] = block.values
        row += len(block)
    return codes


def matches(path, a, b):
    table = Atlas.open(path).table("MATCHES").to_pylist()
    return {
        (int(m["source"].split("/")[1]), int(m["target"].split("/")[1])): m
        for m in table
        if (m["source"].split("/")[0], m["target"].split("/")[0]) == (a, b)
    }


def best(r, n):
    """Return the n best partners of each row; ties go to the lower index."""
    return [[j for j in np.argsort(-row, kind="stable")[:n] if row[j] > 0] for row in r]


def correlations(x, y, min_joint):
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
    joint = (x > 0).T.astype(int) @ (y > 0).astype(int)
    return np.where((joint >= min_joint) & (r > 0), r, -1.0), joint


def test_edges_equal_numpy(made):
    x, y = dense(made, "one"), dense(made, "two")
    r, joint = correlations(x, y, FEW.min_joint)
    ab, ba = best(r, 3), best(r.T, 3)
    wanted = {(i, j) for i, js in enumerate(ab) for j in js}
    wanted |= {(i, j) for j, rows in enumerate(ba) for i in rows}
    found = matches(made, "one", "two")
    assert found.keys() == wanted
    for (i, j), m in found.items():
        assert m["pearson"] == pytest.approx(r[i, j], abs=1e-9)
        assert m["joint_count"] == joint[i, j]
        on = np.corrcoef(x[:, i] > 0, y[:, j] > 0)[0, 1]
        assert m["phi"] == pytest.approx(on, abs=1e-9)
        assert m["rank_ab"] == (ab[i].index(j) if j in ab[i] else None)
        assert m["rank_ba"] == (ba[j].index(i) if i in ba[j] else None)
        assert m["mutual"] == (ab[i][:1] == [j] and ba[j][:1] == [i])
        assert m["claims_on_target"] == sum(js[:1] == [j] for js in ab)
        assert m["claims_on_source"] == sum(rows[:1] == [i] for rows in ba)
        assert m["alignment"] == "tokens"


def test_one_to_one_is_an_assignment_above_the_null(made):
    for a, b in itertools.combinations(sorted(["one", "two", "three"]), 2):
        chosen = [k for k, m in matches(made, a, b).items() if m["one_to_one"]]
        assert chosen
        assert len({i for i, _ in chosen}) == len({j for _, j in chosen}) == len(chosen)
        row = next(
            r
            for r in Atlas.open(made).table("COMPARED_WITH").to_pylist()
            if (r["source"], r["target"]) == (a, b)
        )
        assert all(matches(made, a, b)[k]["pearson"] > row["null_threshold"] for k in chosen)


def test_an_equal_sae_is_matched_completely(made, saes):
    found = matches(made, "one", "three")
    live = {i for i, column in enumerate(dense(made, "one").T) if (column > 0).sum() >= 3}
    twins = {i for (i, j), m in found.items() if i == j and m["pearson"] > 1 - 1e-9}
    varies = {i for i in live if np.ptp(dense(made, "one")[:, i]) > 0}
    assert twins == varies
    for i in twins:
        assert found[i, i]["decoder_cosine"] == pytest.approx(1)
        assert found[i, i]["encoder_cosine"] == pytest.approx(1)


def test_cosines_equal_numpy(made, saes):
    w = {s.info.name: s.sae.W_dec.detach().double().numpy() for s in saes}
    e = {s.info.name: s.sae.W_enc.detach().double().numpy().T for s in saes}
    for (i, j), m in matches(made, "one", "two").items():
        for key, v in (("decoder_cosine", w), ("encoder_cosine", e)):
            x, y = v["one"][i], v["two"][j]
            assert m[key] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_comparison_counts_its_edges(made):
    for row in Atlas.open(made).table("COMPARED_WITH").to_pylist():
        edges = matches(made, row["source"], row["target"]).values()
        assert row["matches"] == len(edges)
        assert row["mutual"] == sum(m["mutual"] for m in edges)
        one = [m for m in edges if m["one_to_one"]]
        assert row["one_to_one"] == len(one)
        assert row["significant"] == sum(m["q"] <= 0.05 for m in one)
        assert row["beyond_token"] == sum(
            max(m["q"], m["token_q"], m["token_document_q"]) <= 0.05 for m in one
        )
        assert row["undecided"] == sum(
            max(m["q"], m["token_q"]) <= 0.05 < m["token_document_q"] and m["fixed_share"] > 0.5
            for m in one
        )
        assert row["draws"] == 5
        assert row["p_floor"] == pytest.approx(1 / 6)
        assert row["tokens"] == len(dense(made, "one"))
        assert all(m["p"] >= row["p_floor"] - 1e-12 for m in edges)
        for null in ("", "token_", "token_document_"):
            assert all(m[f"{null}p_pooled"] >= m[f"{null}p_floor"] for m in edges)
            assert all(0 < m[f"{null}p_floor"] < 1 / 6 for m in edges)
        # With fewer draws than needed, all octaves of an SAE form one pool.
        if row["draws"] <= row["draws_needed"]:
            assert len({m["p_floor"] for m in edges}) == 1


def test_the_part_does_not_depend_on_memory(made, copied):
    (before,) = (p for p in Folder.open(made).sound().of("match") if p.manifest.name == "one+two")
    match_saes(copied, ["two", "one"], settings=FEW, memory=158_000, replace=True)
    (after,) = (p for p in Folder.open(copied).sound().of("match") if p.manifest.name == "one+two")
    for name in ("MATCHES", "COMPARED_WITH"):
        a, b = before.table(name), after.table(name)
        # The SAEs were in memory, so their weights are no longer available.
        skip = {"decoder_cosine", "encoder_cosine"} & set(a.column_names)
        assert a.drop_columns(list(skip)).equals(b.drop_columns(list(skip)))


def test_an_sae_ingested_again_makes_its_matches_stale(copied, lm):
    other = open_sae(topk(seed=5, d_sae=40), name="one")
    ingest(copied, saes=[other], model=lm, replace=True).close()
    sound = Folder.open(copied).sound()
    assert {k for k in sound.stale if k.startswith("match/")} == {
        "match/one+two",
        "match/one+three",
    }
    assert {m["source"].split("/")[0] for m in Atlas.open(copied).table("MATCHES").to_pylist()} == {
        "three"
    }
    rows = match_saes(copied, stale=True, settings=FEW)
    assert {(r["a"], r["b"]) for r in rows} == {("one", "two"), ("one", "three")}
    assert not Folder.open(copied).sound().stale
    assert match_saes(copied, stale=True) == []


def rewrite_as_version_1(path, name, monkeypatch):
    """Write a match of schema version 1, which had two nulls and fewer columns."""
    monkeypatch.setattr("atlas.disk.parts._checked_table", lambda kind, name, data: data)
    folder = Folder.open(path)
    (part,) = (p for p in folder.sound().of("match") if p.manifest.name == name)
    new = ("token_document", "fixed_share", "undecided", "token_p_floor", "draws_", "matches_")
    tables = []
    for table in ("MATCHES", "COMPARED_WITH"):
        data = part.table(table)
        added = [c for c in data.column_names if c.startswith(new)]
        added += ["p_floor"] if table == "MATCHES" else []
        tables.append((table, data.drop_columns(added)))
    write_part(folder.part("match", name), replace(part.manifest, version=1), tables)
    monkeypatch.undo()


def test_a_match_of_version_1_opens_and_claims_nothing_beyond_the_token(copied, monkeypatch):
    before = matches(copied, "one", "two")
    rewrite_as_version_1(copied, "one+two", monkeypatch)
    with Atlas.open(copied) as atlas:
        rows = {(r["source"], r["target"]): r for r in atlas.table("COMPARED_WITH").to_pylist()}
        old, new = rows["one", "two"], rows["one", "three"]
        assert old["significant"] is not None
        assert old["beyond_token"] is old["undecided"] is old["token_document_null_best_ab"] is None
        assert new["beyond_token"] is not None
        found = matches(copied, "one", "two")
        assert {k: m["token_q"] for k, m in found.items()} == {
            k: m["token_q"] for k, m in before.items()
        }
        assert all(m["token_document_q"] is m["fixed_share"] is None for m in found.values())
        assert all(m["p_floor"] is m["token_p_floor"] is None for m in found.values())
        assert old["p_floor"] == pytest.approx(1 / 6)
        assert old["draws_needed"] is old["matches_needed"] is None
        parameters = {"sae_a": "one", "sae_b": "two", "limit": 1000, "max_q": 1.0}
        assert atlas.ask("matches_beyond_token", **parameters).num_rows == 0
    (note,) = (c for c in doctor_checks.checks(copied) if c.about.endswith(": matches"))
    assert "1 of an older version" in note.message
    assert note.remedy == "Run `atlas match --stale`."
    (row,) = match_saes(copied, stale=True)
    assert row["beyond_token"] is not None
    assert matches(copied, "one", "two").keys() == before.keys()
    assert not [c for c in doctor_checks.checks(copied) if c.about.endswith(": matches")]


def test_stored_matches_are_not_computed_again(copied, lm, saes):
    path = Folder.open(copied).part("match", "one+two") / "manifest.json"
    before = path.stat().st_ino
    match_saes(copied, ["one", "two"], settings=FEW)
    assert path.stat().st_ino == before
    match_saes(copied, ["one", "two"], settings=replace(FEW, draws=4))
    assert json.loads(path.read_text())["settings"]["draws"] == 4
    # An ingest that names both does not replace a match of other settings.
    ingest(copied, saes=saes[:2], model=lm, match=FEW).close()
    assert json.loads(path.read_text())["settings"]["draws"] == 4


def test_a_command_without_draws_reads_the_stored_match_and_one_with_draws_replaces_it(copied):
    path = Folder.open(copied).part("match", "one+two") / "manifest.json"
    before = path.stat().st_ino
    words = ["match", "one", "two", "--min-joint", "3", "--atlas", str(copied)]
    done = CliRunner().invoke(command(), words)
    assert done.exit_code == 0
    assert path.stat().st_ino == before
    assert "already stored with 5 draws; --draws 20 measures again." in done.stderr
    assert CliRunner().invoke(command(), [*words, "--draws", "20"]).exit_code == 0
    assert json.loads(path.read_text())["settings"]["draws"] == 20


def test_wordless_features_are_excluded_on_request(copied):
    parts = Folder.open(copied).sound().parts
    wordless = {
        name: {
            i
            for i, s in enumerate(
                parts[f"tokens/{name}"].table("Feature")["wordless_share"].to_pylist()
            )
            if s
        }
        for name in ("one", "two")
    }
    (row,) = match_saes(copied, ["one", "two"], settings=replace(FEW, wordless=False))
    found = matches(copied, "one", "two")
    assert not {i for i, _ in found} & wordless["one"]
    assert not {j for _, j in found} & wordless["two"]
    assert row["excluded"]["wordless features of a"] == len(wordless["one"])


def test_all_reports_skipped_saes(copied):
    discard(Folder.open(copied).codes("two"))
    recorded = RecordingProgress()
    rows = match_saes(copied, "all", settings=FEW, progress=recorded)
    assert [(r["a"], r["b"]) for r in rows] == [("one", "three")]
    assert any(m.startswith("Skipped two: its codes are not stored.") for m in recorded.messages)


def test_filters_report_excluded_pairs(copied):
    settings = replace(FEW, min_pearson=0.3)
    (row,) = match_saes(copied, ["one", "two"], settings=settings)
    retained = matches(copied, "one", "two")
    assert all(m["pearson"] >= 0.3 for m in retained.values())
    manifest = json.loads(
        (Folder.open(copied).part("match", "one+two") / "manifest.json").read_text()
    )
    x, y = dense(copied, "one"), dense(copied, "two")
    r, _ = correlations(x, y, 3)
    candidates = {(i, j) for i, js in enumerate(best(r, 3)) for j in js}
    candidates |= {(i, j) for j, rows in enumerate(best(r.T, 3)) for i in rows}
    assert row["matches"] == len(retained)
    assert manifest["sources"]["left_out"]["pairs below min_pearson"] == len(candidates) - len(
        retained
    )
    assert row["excluded"]["pairs in all"] == len(candidates) - len(retained)


def test_shared_tokens_and_wordless_are_filters(copied):
    atlas = Atlas.open(copied)
    tops: dict[str, set[str]] = {}
    text = {t["id"]: t["text"].strip() for t in atlas.table("Token").to_pylist()}
    for e in atlas.table("FIRES_ON").to_pylist():
        if e["rank"] < 5:
            tops.setdefault(e["source"], set()).add(text[e["target"]])
    for m in atlas.table("MATCHES").to_pylist():
        both = (tops[m["source"]] & tops[m["target"]]) - {""}
        assert m["shared_tokens"] == len(both)
    match_saes(copied, ["one", "two"], settings=replace(FEW, min_shared=2))
    assert all(m["shared_tokens"] >= 2 for m in matches(copied, "one", "two").values())


def test_without_draws_there_is_no_p(copied):
    (row,) = match_saes(copied, ["one", "two"], settings=replace(FEW, draws=0))
    assert row["significant"] is None
    assert row["null_best_ab"] is None
    assert row["p_floor"] is None
    assert row["draws_needed"] > 2
    assert row["matches_needed"] is None
    assert all(
        m["p"] is None and m["token_q"] is None for m in matches(copied, "one", "two").values()
    )


def test_bad_requests_give_clear_messages(copied):
    with pytest.raises(UnknownName, match="No SAE is named 'four'"):
        match_saes(copied, ["one", "four"])
    with pytest.raises(BadInput, match="one is named twice"):
        match_saes(copied, ["one", "one"])
    with pytest.raises(BadInput, match="needs at least two SAEs; there is one"):
        match_saes(copied, ["one"])
    discard(Folder.open(copied).codes("two"))
    with pytest.raises(Missing, match="codes of two"):
        match_saes(copied, ["one", "two"])


def test_codes_that_are_not_stored_are_reported(tmp_path, lm, saes):
    recorded = RecordingProgress()
    path = tmp_path / "dropped.atlas"
    ingest(
        path,
        saes=saes[:2],
        text=texts(20),
        model=lm,
        settings=Settings(keep_codes=False),
        progress=recorded,
    ).close()
    assert any(
        t.startswith("Not matched, since the codes are not stored: one, two")
        for t in recorded.messages
    )


def test_the_command_prints_json(copied):
    done = CliRunner().invoke(
        command(),
        [
            "match",
            "one",
            "three",
            "--draws",
            "2",
            "--min-joint",
            "3",
            "--atlas",
            str(copied),
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["result"]
    assert (row["a"], row["b"], row["draws"]) == ("one", "three", 2)


def test_the_command_warns_where_draws_are_too_few_for_any_match(copied):
    def output(draws):
        words = ["match", "one", "two", "--draws", str(draws), "--min-joint", "3", "--replace"]
        done = CliRunner().invoke(command(), [*words, "--atlas", str(copied)])
        assert done.exit_code == 0, done.output
        return done.stdout

    (row,) = match_saes(copied, ["one", "two"], settings=FEW)
    needed = row["draws_needed"]
    assert f"With 2 draws no match can reach q ≤ 0.05; use --draws {needed}." in output(2)
    recorded = RecordingProgress()
    match_saes(copied, ["one", "two"], settings=replace(FEW, draws=3), progress=recorded)
    (row,) = match_saes(copied, ["one", "two"], settings=replace(FEW, draws=3))
    assert row["matches_needed"] > 10
    sentence = (
        f"With 3 draws no match can reach q ≤ 0.05 unless at least {row['matches_needed']} features "
        "match; use"
    )
    assert f"one and two: {sentence} `draws={needed}`." in recorded.messages
    assert f"one and two: {sentence} --draws {needed}." in output(3)
    assert "no match can reach" not in output(needed)
    assert "no match can reach" not in output(0)


VERDICTS = [
    (
        {"draws": 10, "beyond_token": 248},
        511,
        "463 of 511 active features of a have a one-to-one counterpart in b. 248 exceed what tokens and documents alone "
        "give, at a false discovery rate of 5% over all pairs before filters (as a guide, at most about 12 by chance); 31 are "
        "undecided.",
    ),
    (
        {"draws": 10, "beyond_token": 3},
        None,
        "463 features of a have a one-to-one counterpart in b. 3 exceed what tokens and documents alone give, at a false "
        "discovery rate of 5% over all pairs before filters (as a guide, fewer than 1 by chance); 31 are undecided.",
    ),
    (
        {"draws": 0},
        511,
        "463 of 511 active features of a have a one-to-one counterpart in b; no null was drawn.",
    ),
]


@pytest.mark.parametrize(("row", "active", "expected"), VERDICTS)
def test_the_verdict_states_how_many_are_expected_by_chance(row, active, expected):
    row = {"a": "a", "b": "b", "one_to_one": 463, "undecided": 31, "matches": 2148} | row
    assert _verdict(row, active=active) == [expected]


def test_the_command_prints_the_active_features_and_the_legend_of_the_nulls(copied):
    done = CliRunner().invoke(
        command(), ["match", "one", "two", "--min-joint", "3", "--atlas", str(copied)]
    )
    assert done.exit_code == 0, done.output
    active = (dense(copied, "one") > 0).any(axis=0).sum()
    (row,) = match_saes(copied, ["one", "two"], settings=FEW)
    assert f"{row['one_to_one']} of {active} active features of one have" in done.stdout
    assert "best_ab: mean correlation of a feature of a with its best match in b." in done.stdout


@pytest.mark.parametrize("words", [["one", "two", "--all"], ["--all", "--stale"]])
def test_the_command_takes_one_selection(copied, words):
    done = CliRunner().invoke(command(), ["match", *words, "--atlas", str(copied)])
    assert done.exit_code != 0
    assert " --all" in str(done.exception or done.output)


def test_workers_match_as_one_process(copied):
    """Two processes that match three pairs write the same bytes."""
    keys = ["match/one+two", "match/one+three", "match/three+two"]
    match_saes(copied, "all", settings=FEW, replace=True)
    alone = {key: Folder.open(copied).sound().parts[key].manifest.hash for key in keys}
    rows = match_saes(copied, "all", settings=FEW, replace=True, workers=2)
    assert {key: Folder.open(copied).sound().parts[key].manifest.hash for key in keys} == alone
    assert len(rows) == 3
