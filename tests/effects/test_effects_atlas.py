"""The study of effects on a small atlas: parts, messages, counterparts, and `intervene`."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import small_ingest
import small_parts
import torch
from click.testing import CliRunner
from drawn_charts import check_chart
from random_models import random_model, small_tokenizer

import analysis
from analysis.effects.settings import EffectSettings
from analysis.effects.study import EffectStudy
from atlas import Atlas
from atlas.assemble import assemble
from atlas.cli.main import command
from atlas.disk.parts import Manifest, write_part
from atlas.errors import BadInput, Mismatch, UnknownName
from ingest import Settings, ingest, match_saes
from ingest.model.feature_edits import add, scale
from ingest.model.language_model import open_model
from ingest.model.next_token import NextTokenModel
from ingest.sae.autoencoder import open_sae

EARLY, LATE = "blocks.0.hook_resid_post", "blocks.2.hook_resid_post"
SETTINGS = EffectSettings(contexts=24, occurrences=4, min_occurrences=3, directions=60, joint=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return an atlas with two SAEs at an early site and one at a late one, and the inputs of its ingest."""
    causal = random_model("llama")
    tokenizer = small_tokenizer()
    saes = [
        open_sae(small_ingest.topk(seed=seed, hook=hook), name=name)
        for name, hook, seed in (("a", EARLY, 0), ("b", EARLY, 1), ("c", LATE, 2))
    ]
    path = tmp_path_factory.mktemp("effects") / "x.atlas"
    ingest(
        path, saes=saes, model=causal, tokenizer=tokenizer, text=small_ingest.texts(), match=None
    )
    return path, causal, tokenizer, saes


@pytest.fixture(scope="module")
def results(made):
    path, causal, tokenizer, saes = made
    return analysis.measure_effects(
        path, ["a"], settings=SETTINGS, model=causal, tokenizer=tokenizer, opened=saes
    )


def test_a_part_stores_features_and_edges(made, results):
    (result,) = results
    assert result["on"] == "c"
    features = result.to_pandas("Feature")
    assert len(features) == result["features"]
    assert (features["effect_tokens"] >= 3).all()
    assert (features[["effect_kl", "effect_kl_random", "effect_kl_other"]] >= -1e-6).all().all()
    rows = Atlas.open(made[0]).table("Feature").to_pandas().set_index("id")
    np.testing.assert_array_equal(rows.loc[features["id"], "effect_ce"], features["effect_ce"])
    assert rows.filter(like="b/", axis=0)["effect_ce"].isna().all()
    edges = Atlas.open(made[0]).table("AFFECTS")
    assert edges.num_rows == result["edges"]
    assert result["sham"] < 1e-4
    assert any("nats of KL" in sentence for sentence in result.verdict)
    assert f"by target: c ({result['edges']:,})" in result.verdict[1]
    check_chart(result.plot())


def test_stored_results_are_not_computed_again(made, results):
    path, *_ = made
    again = analysis.measure_effects(path, ["a"], on=["c"], settings=SETTINGS)  # no model is needed
    assert again[0].summary == results[0].summary


def test_each_list_of_targets_has_its_own_part(tmp_path):
    causal, tokenizer = random_model("llama"), small_tokenizer()
    saes = [
        open_sae(small_ingest.topk(seed=seed, hook=hook), name=name)
        for name, hook, seed in (("a", EARLY, 0), ("c", LATE, 2), ("d", LATE, 3))
    ]
    path = tmp_path / "x.atlas"
    text = small_ingest.texts()
    ingest(path, saes=saes, model=causal, tokenizer=tokenizer, text=text, match=None)
    settings = EffectSettings(
        contexts=8, occurrences=2, min_occurrences=2, features=4, directions=20, joint=2
    )
    known = {"settings": settings, "model": causal, "tokenizer": tokenizer, "opened": saes}
    found = {}
    for on in (["c"], ["d"], ["d", "c"]):
        (found[tuple(on)],) = analysis.measure_effects(path, ["a"], on=on, **known)
    assert len({one.name for one in found.values()}) == 3
    assert found["d", "c"].name == "a"  # the list of all later SAEs
    for on, one in found.items():
        # No model is needed: nothing was replaced.
        (again,) = analysis.measure_effects(path, ["a"], on=on, settings=settings)
        assert again.summary == one.summary
    assert analysis.measure_effects(path, ["a"], settings=settings)[0].name == "a"
    rows = Atlas.open(path).table("Feature", sae="a").to_pandas()
    assert rows["effect_kl"].notna().sum() == found["c",]["features"]


def test_edges_of_two_saes_are_those_of_the_longest_list_with_both(tmp_path):
    folder = small_parts.small_atlas(tmp_path / "x.atlas")
    small_parts.write_sae(folder, "three", 2)
    for name, on, edges in (
        ("one", ("two", "three"), {"two/0": 1.0, "three/0": 2.0}),
        ("one@0", ("two",), {"two/0": 3.0, "two/1": 4.0}),
        ("one@1", ("three",), {"three/0": 5.0, "three/1": 6.0}),
    ):
        rows = [{"source": "one/0", "target": to, "mean": mean} for to, mean in edges.items()]
        data = small_parts.filled("AFFECTS", "effects", rows)
        manifest = Manifest("effects", name, saes=("one", *on), version=EffectStudy.version)
        write_part(folder.part("effects", name), manifest, [("AFFECTS", data)])
    stored = assemble(folder).tables["AFFECTS"].to_pylist()
    assert {edge["target"]: edge["mean"] for edge in stored} == {
        "two/0": 1.0,
        "three/0": 2.0,
    }  # The longest list rejected two/1 and three/1.


def test_a_longer_list_without_an_edge_removes_the_edges_of_a_shorter_list(tmp_path):
    folder = small_parts.small_atlas(tmp_path / "x.atlas")
    for name in ("three", "four"):
        small_parts.write_sae(folder, name, 2)
    for name, on, edges in (
        ("one@0", ("two", "three"), {"three/1": 1.0}),
        ("one@1", ("two",), {"two/0": 2.0}),
        ("one@2", ("four",), {"four/1": 3.0}),
    ):
        rows = [{"source": "one/0", "target": to, "mean": mean} for to, mean in edges.items()]
        data = small_parts.filled("AFFECTS", "effects", rows)
        manifest = Manifest("effects", name, saes=("one", *on), version=EffectStudy.version)
        write_part(folder.part("effects", name), manifest, [("AFFECTS", data)])
    stored = assemble(folder).tables["AFFECTS"].to_pylist()
    assert {edge["target"]: edge["mean"] for edge in stored} == {"three/1": 1.0, "four/1": 3.0}


def test_last_sae_has_effects_on_the_loss_alone(made):
    path, causal, tokenizer, saes = made
    (result,) = analysis.measure_effects(
        path, ["c"], settings=SETTINGS, model=causal, tokenizer=tokenizer, opened=saes
    )
    assert (result["on"], result["edges"], result["rank_correlation"]) == ("", 0, None)
    with pytest.raises(BadInput, match="has an attribution from c, so there is nothing to plot"):
        result.plot()


def test_messages(made):
    path, causal, tokenizer, saes = made

    def run(*names, **more):
        known = {"settings": SETTINGS, "model": causal, "tokenizer": tokenizer, "opened": saes}
        return analysis.measure_effects(path, list(names), replace=True, **(known | more))

    with pytest.raises(
        Mismatch, match=r"of c cannot affect those of a: it reads blocks\.0.* not after"
    ):
        run("c", on=["a"])
    with pytest.raises(Mismatch, match=r"of a cannot affect those of b: .* not after"):
        run("a", on=["b"])
    with pytest.raises(UnknownName, match="'nothing'"):
        run("a", on=["nothing"])
    with pytest.raises(BadInput, match=r"on= is empty"):
        run("a", on=[])
    with pytest.raises(BadInput, match="was in memory when"):
        run("a", model=None)
    with pytest.raises(Mismatch, match="its weights differ"):
        run("a", model=random_model("llama", seed=5))
    with pytest.raises(BadInput, match="active at 999 or more tokens"):
        run("a", settings=EffectSettings(min_occurrences=999))
    with pytest.raises(BadInput, match="directions is 3; expected a whole number, 19 or more"):
        EffectSettings(directions=3)


def test_a_feature_instead_of_an_sae_names_the_command_for_a_feature(made):
    path, *_ = made
    for words, expected in (
        (["effects", "a/3"], r"for a feature: `atlas changes a/3`\."),
        (["effects", "a", "--on", "c/3"], r"for a feature: `atlas changes c/3`\."),
        (["changes", "a/3", "--on", "c/3"], r"`atlas show c/3` shows the feature\."),
    ):
        done = CliRunner().invoke(command(), [*words, "-q", "-a", str(path)])
        assert isinstance(done.exception, UnknownName)
        assert re.search(expected, str(done.exception))
    with pytest.raises(UnknownName, match="`atlas show a/3` shows the feature"):
        analysis.measure_effects(path, ["a/3"])


def test_an_empty_list_in_a_difference_of_settings_is_named():
    part = SimpleNamespace(manifest=SimpleNamespace(settings={"floors": ["f"], "on": []}))
    task = SimpleNamespace(stored_settings={"floors": [], "on": ["c"]})
    found = EffectStudy(SETTINGS).difference(part, task)
    assert found == "other settings (floors f, now none; on none, now c)"


def test_counterparts_by_strength(made, monkeypatch):
    path, causal, tokenizer, saes = made
    from analysis.effects import counterparts

    def opening(*args, **more):
        return open_subjects(*args, **more, model=causal, tokenizer=tokenizer, opened=saes)

    open_subjects = counterparts.open_subjects
    monkeypatch.setattr(counterparts, "open_subjects", opening)
    with pytest.raises(BadInput, match="expected two different SAEs"):
        analysis.compare_counterpart_effects(path, ["a"], settings=SETTINGS)
    from atlas.errors import Missing

    with pytest.raises(Missing, match="`atlas match a b` does it"):
        analysis.compare_counterpart_effects(path, ["a", "b"], settings=SETTINGS)
    match_saes(path, ["a", "b"])
    rows = analysis.compare_counterpart_effects(path, ["b", "a"], settings=SETTINGS)
    (all_,) = [r for r in rows if (r["effect"], r["match"]) == ("targets", "all")]
    assert all_["pairs_with_other"] > 0
    assert all_["other_low"] <= all_["above_other"] <= all_["other_high"]
    parts = [r for r in rows if r["effect"] == "targets" and r["match"] != "all"]
    assert sum(r["pairs"] for r in parts) == all_["pairs"]
    assert all_["low"] <= all_["above_random"] <= all_["high"]
    assert {r["effect"] for r in rows} == {"targets", "predictions"}
    every = counterparts.counterpart_effects(path, ["b", "a"], settings=SETTINGS)
    few = sorted({int(pair["feature"].removeprefix("b/")) for pair in every})[:3]
    some = counterparts.counterpart_effects(path, ["b", "a"], features=few, settings=SETTINGS)
    assert {pair["feature"] for pair in some} == {f"b/{i}" for i in few}
    by_pair = {(pair["effect"], pair["feature"]): pair for pair in every}
    for pair in some:
        complete = by_pair[pair["effect"], pair["feature"]]
        for key in ("counterpart", "pearson"):
            assert pair[key] == complete[key]
        for key in ("kl", "counterpart_kl", "own"):
            assert pair[key] == pytest.approx(complete[key], abs=1e-4)


def test_counterparts_of_two_models_are_refused(made, tmp_path):
    _, causal, tokenizer, saes = made
    path = tmp_path / "two.atlas"
    another = open_sae(small_ingest.topk(hook=EARLY), name="d")
    for sae, name, model in (
        (saes[0], "small", causal),
        (another, "large", random_model("llama", seed=1, vocab_size=128)),
    ):
        language = open_model(model, name=name, tokenizer=tokenizer)
        ingest(path, saes=[sae], model=language, text=small_ingest.texts(), match=None)
    with pytest.raises(Mismatch, match=r"a reads small, and d reads large\. Effects are compared"):
        analysis.compare_counterpart_effects(path, ["a", "d"], settings=SETTINGS)


def test_intervene_edits_the_model_within_the_block(made):
    _, causal, tokenizer, saes = made
    plain = NextTokenModel("small", causal, (0, 1, 2))
    ids = torch.tensor([[0, *tokenizer("the cat saw the dog")["input_ids"]]])
    before = plain.logits(ids, torch.ones_like(ids))[0]
    _, read = plain.run(ids, torch.ones_like(ids), hooks=[EARLY])
    feature = int((saes[0].encode(read[EARLY][0, 1:]) > 0).sum(0).argmax())
    key = f"a/{feature}"
    with analysis.intervene(causal, {key: 0}, saes=saes, tokenizer=tokenizer) as edited:
        after = edited.logits("the cat saw the dog")
        with torch.no_grad():
            direct = causal(ids).logits[0]
        text = edited.generate("the cat", new_tokens=5)
        top = edited.next_tokens("the cat saw the dog", most=3)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(direct, after)
    assert isinstance(text, str)
    assert [p for _, p in top] == sorted((p for _, p in top), reverse=True)
    torch.testing.assert_close(plain.logits(ids, torch.ones_like(ids))[0], before)
    both = {key: scale(feature, 2.0), "c/3": add(3, 2.0)}
    with analysis.intervene(causal, both, saes=saes, tokenizer=tokenizer) as edited:
        assert not torch.equal(edited.logits("the cat saw the dog"), before)


def test_intervene_messages(made):
    _, causal, tokenizer, saes = made

    def edited(edits, prompt="the cat"):
        with analysis.intervene(causal, edits, saes=saes, tokenizer=tokenizer) as model:
            model.logits(prompt)

    for bad in ("a", "/3", "a/x", "a/-1"):
        with pytest.raises(BadInput, match="is no feature; expected the name of an SAE"):
            edited({bad: 0})
    with pytest.raises(BadInput, match="a has features 0 to 39, and 99 was passed"):
        edited({"a/99": 0})
    with pytest.raises(BadInput, match="expected a number, or an edit"):
        edited({"a/1": "0"})
    with pytest.raises(BadInput, match="was passed an edit of feature 2; pass one of 1"):
        edited({"a/1": scale(2, 0)})
    with pytest.raises(BadInput, match="No feature was passed"):
        edited({})
    with pytest.raises(UnknownName, match="'nothing'"):
        edited({"nothing/1": 0})
    with pytest.raises(BadInput, match="takes contexts of at most 64 tokens"):
        edited({"a/1": 2.0}, prompt="the cat " * 90)
    silent = next(f for f in range(40) if not _active(made, f))
    with pytest.raises(BadInput, match=f"The edit of a/{silent} changes nothing"):
        edited({f"a/{silent}": 0})


def _active(made, feature):
    _, causal, tokenizer, saes = made
    ids = torch.tensor([[0, *tokenizer("the cat")["input_ids"]]])
    _, read = NextTokenModel("small", causal).run(ids, torch.ones_like(ids), hooks=[EARLY])
    return bool((saes[0].encode(read[EARLY][0, 1:])[:, feature] > 0).any())


def cells_of(table):
    """Return the header and rows of a table of Markdown."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [head, *rows]


def test_the_report_has_a_row_of_each_feature_with_its_controls(made, monkeypatch, capsys):
    import importlib.util
    from functools import partial
    from pathlib import Path

    path, causal, tokenizer, saes = made
    file = Path(__file__).parents[2] / "examples" / "what_features_do.py"
    spec = importlib.util.spec_from_file_location("what_features_do", file)
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    match_saes(path, ["a", "b"])
    for of, seed in (("a", 7), ("b", 8)):
        floor = open_sae(small_ingest.topk(seed=seed, hook=EARLY), name=f"{of}-floor")
        ingest(
            path,
            saes=[floor],
            model=causal,
            tokenizer=tokenizer,
            settings=Settings(role="untrained", floor_of=of),
            match=None,
        )
        saes = [*saes, floor]
    match_saes(path, ["a-floor", "b-floor"])
    opened = {"model": causal, "tokenizer": tokenizer, "opened": saes}
    for name in ("measure_effects", "measure_logits", "measure_feature_logits"):
        monkeypatch.setattr(report, name, partial(getattr(report, name), **opened))
    from analysis.effects import counterparts

    opening = partial(counterparts.open_subjects, **opened)
    monkeypatch.setattr(counterparts, "open_subjects", opening)
    words = [
        str(path),
        "a",
        "b",
        "--contexts",
        "24",
        "--occurrences",
        "4",
        "--logits",
        "5",
        "--floors",
    ]
    monkeypatch.setattr("sys.argv", ["what_features_do.py", *words])
    report.main()
    shown = capsys.readouterr().out
    tables = {part.split("\n")[0]: part for part in shown.split("### ")[1:]}
    settings = EffectSettings(contexts=24, occurrences=4)
    effects = analysis.measure_effects(path, ["a"], settings=settings)[0]
    title = "The same features: effect, and effect of the counterpart"
    head, *rows = cells_of(tables[title])
    features = effects.to_pandas("Feature").set_index("id")
    kl = features["effect_kl"] + features["effect_kl_later"]
    assert len(rows) == min(10, len(features))
    assert [f"a/{row[0]}" for row in rows[:5]] == kl.nlargest(5).index.tolist()
    for row in rows:
        assert row[head.index("KL")] == f"{kl['a/' + row[0]]:.2g}"
    assert {"random", "q", "its KL", "random r"} <= set(head)
    (logits,) = [part for name, part in tables.items() if name == "Ten features of a: logits"]
    assert "| agreement | others |" in logits
    for part in (tables[title], logits):
        widths = {len(line) for line in part.splitlines() if line.startswith("|")}
        assert len(widths) == 1  # aligned
        assert max(widths) <= 80
    head, *rows = cells_of(tables["Effects"])
    assert [row[head.index("role")] for row in rows] == ["trained", "untrained"]
    _, *rows = cells_of(tables["Effects of counterparts: SAEs and floors, all pairs"])
    assert {row[0] for row in rows} == {"trained", "untrained"}
    trained, floor = analysis.measure_effects(path, ["a", "a-floor"], settings=settings)
    assert ("role" in trained.summary, floor["role"]) == (False, "untrained")
    first = floor.verdict[0]
    number = floor["features_above_all_random"]
    assert first.startswith(f"a-floor (floor, untrained): ablating {number} of ")
    assert "changes predictions more than each of 20 random directions of equal norm" in first
    assert "Effects of counterparts" in tables
    assert any("Calibration" in title for title in tables)
