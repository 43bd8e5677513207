"""The study of concepts on small atlases: parts, edges, floors, messages, command, plot."""

import json
import shutil
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from drawn_charts import check_chart, marks
from random_models import WORDS, random_model, small_tokenizer
from recording_progress import RecordingProgress
from scipy import stats
from small_ingest import texts, topk

from analysis import ConceptSettings, rank_saes, read_words, study_concepts
from analysis.concepts.plots import draw
from analysis.concepts.report import concept_page
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.errors import BadInput, UnknownName
from ingest import Settings, ingest
from ingest.model.language_model import open_model
from ingest.sae.autoencoder import open_sae

SETTINGS = ConceptSettings(repeats=2, draws=99, probe_draws=3, subsets=1)
OPTIONS = ["--repeats", "2", "--draws", "99", "--probe-draws", "3", "--subsets", "1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An atlas of two SAEs and a floor, and a file of words that one token of the vocabulary labels."""
    folder = tmp_path_factory.mktemp("concepts")
    random_model("llama").save_pretrained(folder / "small")
    small_tokenizer().save_pretrained(folder / "small")
    for seed, name in enumerate(("one", "two", "floor")):
        topk(seed=seed).save_model(folder / name)
    for names, settings in (
        (("one", "two"), Settings()),
        (("floor",), Settings(role="untrained", floor_of="one")),
    ):
        ingest(
            folder / "a.atlas",
            saes=[str(folder / n) for n in names],
            text=texts(10),
            model=str(folder / "small"),
            match=None,
            settings=settings,
        ).close()
    rows = [
        f"{word} {ending},{label},{word}"
        for word in WORDS[:16]
        for ending, label in (("cat", "x"), ("dog", "y"))
    ]
    (folder / "words.csv").write_text("text,label,group\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def results(world):
    return study_concepts(world / "a.atlas", world / "words.csv", "all", settings=SETTINGS)


def test_tables_equal_the_activations_by_hand(world, results):
    one = next(r for r in results if r["sae"] == "one")
    words = read_words(world / "words.csv")
    lm = open_model(str(world / "small"))
    import torch

    codes, layer = [], []
    for item in words.items:
        ids = [
            lm.tokenizer.bos_token_id,
            *lm.tokenizer(item.text, add_special_tokens=False)["input_ids"],
        ]
        with torch.no_grad():
            x = lm.base(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0, -1]
            codes.append(topk(seed=0).encode(x[None])[0].numpy())
            layer.append(x.numpy())
    labels = words.labels_of(words.concepts[0])
    arms = {row["arm"]: row for row in one.table("arms").to_pylist()}
    x = np.array(codes, dtype=np.float64)
    live = np.ptp(x, axis=0) > 0
    assert arms["features"]["varying"] == live.sum()
    assert arms["features"]["units"] == 40
    units = {r["unit"]: r for r in one.table("units").to_pylist() if r["arm"] == "features"}
    assert sorted(units) == np.flatnonzero(live).tolist()
    with np.errstate(all="ignore"):
        welch = stats.ttest_ind(x[labels], x[~labels], equal_var=False)
    for unit, row in units.items():
        if np.isfinite(welch.statistic[unit]):
            assert row["t"] == pytest.approx(welch.statistic[unit], abs=1e-2)
    # The last token alone decides the label, and the model reads it.
    assert arms["layer"]["auc"] > 0.95
    assert arms["layer"]["retained"] == pytest.approx(1)
    for row in arms.values():  # the last number of k90 is all features together
        if row["retained"] is not None and row["retained"] >= 0.9:
            assert row["k90"] <= row["varying"]
    assert arms["features"]["permuted_auc"] == pytest.approx(0.5, abs=0.25)
    assert {row["arm"] for row in one.table("curve").to_pylist()} >= {"features", "random", "error"}


def test_edges_and_concepts_are_in_the_graph(world, results):
    with Atlas.open(str(world / "a.atlas")) as atlas:
        concepts = atlas.table("Concept").to_pylist()
        edges = atlas.table("SEPARATES").to_pylist()
        retains = {e["source"]: e for e in atlas.table("RETAINS").to_pylist()}
    words = read_words(world / "words.csv")
    (concept,) = concepts
    assert concept["id"] == f"words/x@{words.hash}"
    assert (concept["words"], concept["positives"], concept["negative"]) == (32, 16, "y")
    one = next(r for r in results if r["sae"] == "one")
    units = [r for r in one.table("units").to_pylist() if r["arm"] == "features"]
    expected = {f"one/{r['unit']}" for r in units if r["p_max"] <= 0.05}
    own = [e for e in edges if e["source"].startswith("one/")]
    assert {e["source"] for e in own} == expected
    assert expected
    arm = next(row for row in one.table("arms").to_pylist() if row["arm"] == "features")
    assert arm["max_t_units"] == len(expected)  # the verdict, the list and the graph count the same
    for edge in own:
        higher = edge["direction"] == "positive"
        assert higher == (edge["t"] > 0)
        assert 0 <= edge["active_negative"] <= 1
    assert set(retains) == {"one", "two", "floor"}
    assert retains["one"]["area"] == one["area"]


def test_an_sae_alone_has_the_same_numbers_as_with_others(world, results):
    """Arms of the model are scored once for all SAEs at one site."""
    two = next(r for r in results if r["sae"] == "two")
    before = {name: two.table(name).to_pylist() for name in ("arms", "curve", "splits", "units")}
    path, words = world / "a.atlas", world / "words.csv"
    alone = study_concepts(path, words, ["two"], settings=SETTINGS, replace=True)[0]
    for name, rows in before.items():
        assert alone.table(name).to_pylist() == rows, name


def test_floors_are_returned_with_their_sae_and_results_are_stored(world, results):
    found = study_concepts(world / "a.atlas", world / "words.csv", ["one"], settings=SETTINGS)
    assert [(r["sae"], r.floor) for r in found] == [("one", False), ("floor", True)]
    assert found[0].summary == next(r for r in results if r["sae"] == "one").summary
    assert any("floor is a floor (untrained)" in sentence for sentence in found.verdict)


def test_other_words_of_the_same_name_are_another_concept(world, results):
    path = world / "other" / "words.csv"
    path.parent.mkdir()
    path.write_text((world / "words.csv").read_text().replace("x,", "z,"))
    study_concepts(world / "a.atlas", path, ["two"], settings=SETTINGS)
    with Atlas.open(str(world / "a.atlas")) as atlas:
        assert {c["name"] for c in atlas.table("Concept").to_pylist()} == {"words/x", "words/y"}
    study_concepts(world / "a.atlas", world / "words.csv", ["two"], settings=SETTINGS)


def test_a_request_of_fewer_arms_reads_the_stored_part(world, results):
    recorded, brief = RecordingProgress(), replace(SETTINGS, raw=("embedding",), subsets=0)
    words = world / "words.csv"
    read = study_concepts(world / "a.atlas", words, ["one"], settings=brief, progress=recorded)
    assert any("already stored with the same settings" in line for line in recorded.messages)
    (one,) = (result for result in results if result["sae"] == "one")
    assert read[0].table("arms").equals(one.table("arms"))


def test_scores_do_not_depend_on_further_arms(world, results, tmp_path):
    shutil.copytree(world / "a.atlas", tmp_path / "a.atlas")
    brief = replace(SETTINGS, raw=("embedding",), subsets=0)
    (found, *_) = study_concepts(
        tmp_path / "a.atlas", world / "words.csv", ["one"], settings=brief, replace=True
    )
    (one,) = (result for result in results if result["sae"] == "one")
    rows = {(r["concept"], r["arm"]): r for r in one.table("arms").to_pylist()}
    arms = found.table("arms").to_pylist()
    assert {"layer", "features", "random"} <= {row["arm"] for row in arms}
    assert len(arms) < len(rows)
    for row in arms:
        assert row == rows[row["concept"], row["arm"]]


def test_the_ranking_states_its_concepts_and_splits(world):
    arguments = ["concepts", str(world / "words.csv"), *OPTIONS, "-q", "-a", str(world / "a.atlas")]
    shown = CliRunner().invoke(command(), [*arguments, "--rank", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)["result"]
    assert {one["sae"] for one in found["results"]} == {"one", "two", "floor"}
    (basis,) = [line for line in found["rank_verdict"] if line.startswith("Areas are means")]
    assert f"{SETTINGS.repeats} repetitions" in basis


def test_the_ranking_names_arms_that_no_result_was_computed_with(world, results, tmp_path):
    options = [*OPTIONS[:-2], "--rank", "--json", "-q"]
    shutil.copytree(world / "a.atlas", tmp_path / "a.atlas")

    def verdict(*more):
        words = ["concepts", str(world / "words.csv"), *options, *more]
        shown = CliRunner().invoke(command(), [*words, "-a", str(tmp_path / "a.atlas")])
        assert shown.exit_code == 0, shown.output
        return [
            line for line in json.loads(shown.stdout)["result"]["rank_verdict"] if "--full" in line
        ]

    assert verdict() == []  # the stored results have neurons and a subset
    assert verdict("--replace") == [
        "Neurons and subsets of features are not scored; --full scores them too."
    ]
    assert verdict("--subsets", "0") == []


def test_the_command_prints_sentences_tables_rank_and_json(world, results, tmp_path):
    arguments = ["concepts", str(world / "words.csv"), *OPTIONS, "-q", "-a", str(world / "a.atlas")]
    out = tmp_path / "front.html"
    shown = CliRunner().invoke(command(), [*arguments, "--rank", "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    ranking = shown.stdout.index("SAEs by mean area; low, high: ")
    assert ranking < shown.stdout.index("one, words/x: ")
    assert ranking < shown.stdout.index("floor, words/x: ")
    found = next(one for one in results if one["sae"] == "one").table("SEPARATES").to_pylist()
    best = max(found, key=lambda row: row["auroc_held_out"])
    assert best["source"] in shown.stdout
    assert shown.stdout.count("auroc_held_out: on held-out words") == 1
    assert "random: random directions that are active as often" in shown.stdout
    assert "area: mean R over the number of features" in shown.stdout
    assert out.stat().st_size > 10_000
    done = CliRunner().invoke(command(), [*arguments, "one", "--json"])
    found = json.loads(done.stdout)["result"]
    assert [one["sae"] for one in found["results"]] == ["one", "floor"]
    assert found["results"][0]["arms"][0]["arm"] == "layer"


def test_a_pipe_has_all_features_and_a_terminal_the_best(world, results, monkeypatch):
    from analysis.concepts import commands

    one = next(one for one in results if one["sae"] == "one")
    found = {row["source"] for row in one.table("SEPARATES").to_pylist()}
    assert len(found) > 2
    arguments = [
        "concepts",
        str(world / "words.csv"),
        *OPTIONS,
        "one",
        "-a",
        str(world / "a.atlas"),
    ]
    monkeypatch.setattr(commands, "_BEST", 2)
    done = CliRunner().invoke(command(), arguments)
    assert f"{len(found)} features separate the classes (p_max ≤ 0.05), best first" in done.stdout
    assert {word for word in done.stdout.split() if word.startswith("one/")} == found
    monkeypatch.setattr(commands, "prints_all", lambda: False)
    done = CliRunner().invoke(command(), arguments)
    assert len({word for word in done.stdout.split() if word.startswith("one/")}) == 2
    assert f"{len(found)} features separate the classes (p_max ≤ 0.05), the 2 best" in done.stdout
    assert f"2 of {len(found)} features; --rows or" in done.stderr


def test_without_a_file_the_lists_of_the_package_are_named(world):
    done = CliRunner().invoke(command(), ["concepts", "-a", str(world / "a.atlas")])
    assert isinstance(done.exception, BadInput)
    assert "one of the lists feelings, gender, kinds" in str(done.exception)


def test_plot_has_the_values_of_the_tables(results):
    one = next(r for r in results if r["sae"] == "one")
    drawn = [row for mark in marks(check_chart(one.plot())) for row in mark.rows]
    curve = {(r["arm"], r["k"]): r["retained"] for r in one.table("curve").to_pylist()}
    shown = {(r["arm"], r["k"]): r["retained"] for r in drawn if "retained" in r}
    assert shown
    assert all(curve[key] == pytest.approx(value) for key, value in shown.items())


def test_each_kind_of_plot_has_the_values_of_one_table(results):
    one = next(r for r in results if r["sae"] == "one")
    splits = {(r["arm"], r["split"]): r for r in one.table("splits").to_pylist() if r["k"] == 0}
    ticks = next(m for m in marks(check_chart(draw(one, kind="selectivity"))) if m.type == "tick")
    for row in ticks.rows:
        of = splits[row["arm"], row["split"]]
        assert row["selectivity"] == pytest.approx(of["auc"] - (of["permuted_auc"] or 0.5))
    (steps,) = marks(check_chart(draw(one, kind="p-values")))
    for arm in {row["arm"] for row in steps.rows}:
        bins = {row["bin"]: row["share"] for row in steps.rows if row["arm"] == arm}
        assert sum(bins.values()) == pytest.approx(1)


def test_the_page_lists_arms_of_the_model_once_and_escapes_names(results):
    hostile = "<script>alert(1)</script>"
    shown = [copy(one) for one in results]
    shown[0].summary = {**shown[0].summary, "sae": hostile}
    text = concept_page(shown, rank=rank_saes(shown), command=f"atlas concepts {hostile}")
    assert hostile not in text
    assert "&lt;script&gt;alert(1)" in text
    assert text.count("<figure>") == 1 + 3 * len(results)
    units = text[text.index("1. Are features") : text.index("2. What is lost")]
    assert units.count(">layer<") == 1  # all read one site
    assert units.count(">features<") == len(results)
    assert "(at blocks.1.hook_resid_post)" in units


def test_the_page_lists_two_saes_with_equal_rows(results):
    """Two SAEs without live features have equal rows; both are listed."""
    one = results[0]
    other = copy(one)
    other.summary = {**one.summary, "sae": "another"}
    text = concept_page([one, other], command="atlas concepts")
    units = text[text.index("1. Are features") : text.index("2. What is lost")]
    assert units.count(">layer<") == 1
    assert units.count(">features<") == 2
    assert ">another<" in units


def test_bad_words_get_messages_and_the_rest_continues(world, tmp_path):
    special = small_tokenizer().eos_token
    rows = [f"{w},a" for w in WORDS[:12]] + [f"{w},b" for w in WORDS[12:24]]
    rows += [f"{special},a", f"{WORDS[0]},b", f"{WORDS[25]},b|rare"]
    path = tmp_path / "odd.csv"
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    progress = RecordingProgress()
    found = study_concepts(world / "a.atlas", path, ["two"], settings=SETTINGS, progress=progress)
    messages = "\n".join(progress.messages)
    assert "different labels in different rows" in messages
    assert "Excluded 1 word without a token" in messages
    assert "with fewer than 20" in messages
    assert "odd/rare is skipped: it has 1 positive" in messages
    assert found[0]["concepts"] == ["odd/a", "odd/b"]
    assert any("odd/rare: skipped" in sentence for sentence in found.verdict)
    arms = found[0].table("arms").to_pylist()
    assert all(row["smallest_effect"] > 0.9 for row in arms)


def test_all_contexts_and_probes(world):
    settings = ConceptSettings(
        repeats=1,
        draws=19,
        probe_draws=2,
        subsets=0,
        in_corpus=3,
        pool="mean",
        split_by="family",
        raw=("embedding", "stream", "mlp", "neurons"),
        probe=("elastic net", "mlp", "random features"),
    )
    labels = ["x" if i % 2 else "y" for i in range(24)]
    path = world / "single.csv"
    path.write_text("text,label\n" + "\n".join(map(",".join, zip(WORDS[:24], labels, strict=True))))
    (found,) = study_concepts(world / "a.atlas", path, ["two"], settings=settings)
    arms = {row["arm"]: row for row in found.table("arms").to_pylist()}
    assert {"embedding", "mlp", "neurons", "features"} <= set(arms)
    assert "stream" not in arms  # the site of the SAE itself
    assert arms["layer"]["selectivity"] is not None  # words have several contexts
    probes = {(r["arm"], r["probe"]) for r in found.table("probes").to_pylist()}
    assert len(probes) == 6
    contexts = found.table("words").column("contexts").to_pylist()
    assert max(contexts) == 3


def test_unequal_classes_are_reported_and_roles_are_in_the_rank(world, tmp_path):
    rows = [f"{a} {b},{'x' if i < 4 else 'y'}" for i, a in enumerate(WORDS[:25]) for b in WORDS[:5]]
    path = tmp_path / "unequal.csv"
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    progress = RecordingProgress()
    settings = ConceptSettings(repeats=1, draws=19, probe_draws=0, subsets=0)
    saes = ["one", "floor"]
    found = study_concepts(world / "a.atlas", path, saes, settings=settings, progress=progress)
    assert any("20 positive and 105 negative words" in message for message in progress.messages)
    ranked = {row["sae"]: row for row in rank_saes(found)}
    assert ranked["floor"]["role"] == "untrained"
    assert ranked["one"]["role"] != "untrained"
    assert {row["permuted_auc"] for row in found[0].table("arms").to_pylist()} == {None}


def test_words_without_any_token_give_a_result_without_concepts(world, tmp_path):
    lm_tokens = small_tokenizer()
    path = tmp_path / "none.csv"
    path.write_text(f"text,label\n{lm_tokens.eos_token},a\n{lm_tokens.bos_token},b\n")
    (found,) = study_concepts(world / "a.atlas", path, ["two"], settings=SETTINGS)
    assert found["concepts"] == []
    assert "skipped" in found.verdict[0]
    with pytest.raises(BadInput, match="nothing to plot"):
        found.plot()


def test_wrong_requests(world):
    with pytest.raises(UnknownName):
        study_concepts(world / "a.atlas", world / "words.csv", ["none"])
    with pytest.raises(BadInput, match="once"):
        study_concepts(
            world / "a.atlas", world / "words.csv", "all", settings=ConceptSettings(carrier=("x",))
        )
    with pytest.raises(BadInput, match="neither a list"):
        study_concepts(world / "a.atlas", "nothing", "all")


def test_an_sae_in_memory_is_passed_open(tmp_path, world):
    lm = open_model(random_model("llama"), name="small", tokenizer=small_tokenizer())
    sae = open_sae(topk(), name="top")
    path = tmp_path / "m.atlas"
    ingest(path, saes=[sae], text=texts(5), model=lm, match=None).close()
    words = read_words(world / "words.csv")
    with pytest.raises(BadInput, match="in memory"):
        study_concepts(path, words, "all", settings=SETTINGS)
    (found,) = study_concepts(path, words, "all", settings=SETTINGS, opened=[sae], models=[lm])
    assert found["auc"] is not None
