"""Cards of features: equal to the tables, readable on a screen, escaped on a page."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import small_parts
from hostile_texts import Scripts
from random_models import random_model, small_tokenizer
from scipy.stats import binom
from small_graph import small_graph
from small_ingest import texts, topk

from analysis.effects.study import EffectStudy
from analysis.splitting.study import SplittingStudy
from atlas import Atlas
from atlas.cli.main import main
from atlas.disk.parts import Manifest, write_part
from atlas.errors import UnknownName
from atlas.features import card as card_module
from atlas.features.card import CardTable, feature_card
from atlas.features.card_screen import print_card
from atlas.features.numbers import feature_numbers
from atlas.features.remarks import about_few_tokens, about_fvu, rarest_seen
from atlas.features.sections import SECTIONS
from atlas.progress import SILENT
from ingest.codes.store import read_shard
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Open an atlas of two SAEs with matches, whose tokenizer has a hostile token."""
    folder = tmp_path_factory.mktemp("cards")
    tokenizer = small_tokenizer(vocabulary=80)
    tokenizer.add_tokens(["<script>alert(1)</script>"])
    random_model("llama").save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    documents = [f"{d} <script>alert(1)</script> end" for d in texts(60)]
    saes = [open_sae(topk(seed=i), name=name) for i, name in enumerate("ab")]
    ingest(folder / "a.atlas", saes=saes, text=documents, model=str(folder / "model"))
    with Atlas.open(folder / "a.atlas") as atlas:
        yield atlas


@pytest.fixture
def run(opened, monkeypatch, capsys):
    monkeypatch.delenv("ATLAS", raising=False)

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main([*words, "--atlas", opened.url, "-q"])
        out = capsys.readouterr()
        return done.value.code, out.out, out.err

    return run


def live(atlas, n=3):
    rows = atlas.features("a").to_pylist()
    return sorted((r for r in rows if not r["dead"]), key=lambda r: -r["active_tokens"])[:n]


def test_a_card_equals_the_tables_of_the_atlas(opened):
    for row in live(opened):
        card = feature_card(opened, row["id"], limit=5)
        for name, value in card.properties.items():
            assert row[name] == value
        edges = [e for e in opened.table("FIRES_ON").to_pylist() if e["source"] == row["id"]]
        texts = {t["id"]: t["text"] for t in opened.table("Token").to_pylist()}
        edges.sort(key=lambda e: e["rank"])
        tables = {t.title: t.rows for t in card.tables}
        assert [(t["token"], t["count"]) for t in tables["Tokens"]] == [
            (texts[e["target"]], e["count"]) for e in edges[:5]
        ]
        matches = [
            e["pearson"]
            for e in opened.table("MATCHES").to_pylist()
            if row["id"] in (e["source"], e["target"])
        ]
        shown = [r["pearson"] for r in tables.get("Matches in other SAEs", [])]
        assert shown == sorted(matches, reverse=True)[:5]
        examples = [
            e
            for e in opened.table("Example").to_pylist()
            if e["idx"] == row["idx"] and e["sae"] == "a"
        ]
        assert len(card.examples) == min(5, sum(e["kind"] == "top" for e in examples)) + sum(
            e["kind"] != "top" for e in examples
        )
        assert card.examples[0].activation == pytest.approx(row["max_activation"])
        assert sum(bin["count"] for bin in card.histogram) == row["active_tokens"]


def card_rows(atlas, feature, title):
    tables = feature_card(atlas, feature, limit=None).tables
    return next(table.rows for table in tables if table.title == title)


def test_totals_are_the_numbers_of_edges_whatever_the_limit(opened, run):
    row = live(opened)[0]
    edges = {
        "Tokens": "FIRES_ON",
        "Matches in other SAEs": "MATCHES",
        "Features active on the same tokens": "CO_ACTIVATES",
    }
    stored = {
        title: sum(row["id"] in (e["source"], e["target"]) for e in opened.table(name).to_pylist())
        for title, name in edges.items()
    }
    assert max(stored.values()) > 2
    shown_by = [e for e in opened.table("SHOWN_BY").to_pylist() if e["source"] == row["id"]]
    for limit in (1, 2, None):
        card = feature_card(opened, row["id"], limit=limit)
        tables = {t.title: t for t in card.tables}
        for title, count in stored.items():
            assert tables[title].row_count == card.to_dict()["row_counts"][title] == count
            assert len(tables[title].rows) == (count if limit is None else min(limit, count))
        assert card.example_count == len(shown_by)
        if limit is None:
            assert len(card.examples) == len(shown_by)
    page = feature_card(opened, row["id"], limit=1).to_html()
    _, out, _ = run("show", row["id"])
    for title, count in stored.items():
        assert (f'>{title} <span class="note">1 of {count}</span>' in page) == (count > 1)
    lines = [line.split() for line in out.splitlines()]
    for label, title in (
        ("Tokens", "Tokens"),
        ("Neighbours", "Features active on the same tokens"),
    ):
        assert [label, str(stored[title])] in [line[:2] for line in lines]
    count = stored["Matches in other SAEs"]
    assert (f"Matches in other SAEs (3 of {count})" in out) == (count > 3)
    _, out, _ = run("show", row["id"], "--rows")
    found = [
        t["feature"] for t in card_rows(opened, row["id"], "Features active on the same tokens")
    ]
    lines = out.splitlines()
    first = lines.index("Features active on the same tokens") + 2
    assert [line.split()[0] for line in lines[first : first + len(found)]] == found
    assert len(found) == stored["Features active on the same tokens"] > 3


def test_the_verdict_states_frequency_and_most_frequent_token(opened):
    row = live(opened)[0]
    verdict = " ".join(feature_card(opened, row["id"]).verdict)
    assert f"({row['active_tokens']:,})" in verdict
    assert repr(row["top_token"]) in verdict


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (
            0.09,
            "No token dominates: the most frequent is ' to', with 9% of its active tokens (2.5% of all tokens), and ",
        ),
        (
            0.24,
            "No token dominates: the most frequent is ' to', with 24% of its active tokens (2.5% of all tokens), and ",
        ),
        (
            0.25,
            "Its most frequent token is ' to', with 25% of its active tokens (2.5% of all tokens); ",
        ),
        (
            1.0,
            "Its most frequent token is ' to', with 100% of its active tokens (2.5% of all tokens); ",
        ),
    ],
)
def test_a_rare_token_does_not_lead_the_verdict(share, expected):
    token = {"token": " to", "share": share, "expected_share": 0.025, "rate": 0.0014}
    sentence = card_module._about_token(token)
    assert sentence.startswith(f"{expected}the feature is active on 0.14% of the occurrences")
    assert ("Its examples show" in sentence) == (share < 0.25)


def test_the_expected_share_of_a_token_is_its_share_of_the_text(opened):
    """The text has the codes of all tokens, so occurrences are counted from the codes of the SAE."""
    path = Path(opened.url)
    blocks = [b for file in sorted(path.glob("codes/a/*.arrow")) for b in read_shard(file)]
    ids = [int(i) for block in blocks for i in block.tokens.token_id]
    texts_of = {row["token_id"]: row["text"] for row in opened.table("Token").to_pylist()}
    row = live(opened)[0]
    for token in card_rows(opened, row["id"], "Tokens"):
        number = sum(texts_of.get(i) == token["token"] for i in ids)
        assert token["expected_share"] == pytest.approx(number / len(ids), abs=1e-8)


def test_few_active_tokens_have_a_remark():
    assert card_module._about_few_active(19)[0].startswith("19 active tokens: too few")
    assert card_module._about_few_active(1)[0].startswith("1 active token: too few")
    for number in (None, 0, 20):
        assert card_module._about_few_active(number) == []


def test_a_dead_feature_has_a_card(opened):
    dead = next(r for r in opened.features("a").to_pylist() if r["dead"])
    card = feature_card(opened, dead["id"])
    about = next(one for one in opened.table("SAE").to_pylist() if one["name"] == "a")
    assert list(card.verdict)[:2] == [
        f"{dead['id']} is dead: it is active on none of the tokens counted.",
        *about_few_tokens(about["tokens"]),
    ]
    worse = any("a reconstructs worse than the mean" in sentence for sentence in card.verdict)
    assert worse == (about["fvu"] > 1)
    assert not card.examples
    assert not card.histogram
    assert "dead" in card.to_html()


@pytest.mark.parametrize("name", ["a/9999", "a/x", "z/0", "a", "a/-1", "' OR 1=1 //"])
def test_an_unknown_feature_is_one_message(opened, run, name):
    with pytest.raises(UnknownName):
        feature_card(opened, name)
    code, out, err = run("show", name)
    assert code == 2
    assert out == ""
    assert err.startswith("atlas: ")
    assert "Traceback" not in err


def test_the_command_prints_one_screen_json_and_a_page(opened, run, tmp_path):
    feature = live(opened)[0]["id"]
    code, out, _ = run("show", feature)
    assert code == 0
    assert out.startswith(f"{feature} is active on ")
    code, out, _ = run("show", feature, "--json", "--html", str(tmp_path / "f.html"))
    result = json.loads(out)["result"]
    assert (code, result["feature"]) == (0, feature)
    page = (tmp_path / "f.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    code, _, err = run("show", feature, "--html", str(tmp_path / "absent" / "f.html"))
    assert code == 2
    assert "There is no folder" in err


def test_pages_and_notebooks_escape_tokens(opened):
    fires = opened.table("FIRES_ON").to_pylist()
    texts = {t["id"]: t["text"] for t in opened.table("Token").to_pylist()}
    hostile = next(e["source"] for e in fires if "<script>" in texts[e["target"]])
    card = feature_card(opened, hostile)
    for text in (card.to_html(), card._repr_html_()):
        found = Scripts()
        found.feed(text)
        assert (found.scripts, found.handlers) == ([], [])
        assert "&lt;script&gt;" in text


def test_every_token_of_an_example_is_on_the_page_and_active_ones_are_shaded(opened):
    card = feature_card(opened, live(opened)[0]["id"])

    class Spans(HTMLParser):
        def __init__(self):
            super().__init__()
            self.examples, self.open = [], False

        def handle_starttag(self, tag, attrs):
            attrs = dict(attrs)
            if tag == "div" and attrs.get("class") == "example":
                self.examples.append([])
            self.open = tag == "span" and attrs.get("class") != "value"
            if self.open and self.examples:
                self.examples[-1].append([attrs, ""])

        def handle_data(self, data):
            if self.open and self.examples:
                self.examples[-1][-1][1] += data

        def handle_endtag(self, tag):
            self.open = False

    page = Spans()
    page.feed(card._repr_html_().split('<div class="columns">')[0])
    assert len(page.examples) == len(card.examples)
    for shown, example in zip(page.examples, card.examples, strict=True):
        assert [t for _, t in shown] == [t.replace("\n", "↵") for t in example.tokens]
        assert ["style" in attrs for attrs, _ in shown] == [v > 0 for v in example.activations]
        assert [attrs.get("class") == "peak" for attrs, _ in shown].index(True) == example.peak


def test_the_best_counterpart_does_not_depend_on_names_and_limits(opened):
    matches = opened.table("MATCHES").to_pylist()
    for row in live(opened, 20):
        own = [m["pearson"] for m in matches if row["id"] in (m["source"], m["target"])]
        if own:
            for limit in (1, 10):
                verdict = " ".join(feature_card(opened, row["id"], limit=limit).verdict)
                assert f"(Pearson {max(own):.2f})" in verdict


def test_missing_parts_are_named_with_their_command(opened, run):
    feature = live(opened)[0]["id"]
    card = feature_card(opened, feature)
    named = f"atlas logits a -a {opened.url}"
    assert card.empty["Promoted tokens"] == named
    assert named in card.to_html()
    _, out, _ = run("show", feature)
    assert "Promoted tokens; " in out
    _, out, _ = run("show", feature, "--rows")
    assert f"Promoted tokens ({named})" in out


def test_commands_for_missing_parts_name_an_atlas_that_is_not_the_default(opened, monkeypatch):
    feature = live(opened)[0]["id"]
    folder = Path(opened.url).resolve()
    # The only atlas in the current folder is the default; so is $ATLAS.
    monkeypatch.delenv("ATLAS", raising=False)
    monkeypatch.chdir(folder.parent)
    assert len(list(folder.parent.glob("*.atlas/atlas.json"))) == 1
    assert feature_card(opened, feature).empty["Community"] == "atlas communities a"
    monkeypatch.chdir(folder)
    assert " -a " in feature_card(opened, feature).empty["Community"]
    monkeypatch.setenv("ATLAS", str(folder))
    assert feature_card(opened, feature).empty["Community"] == "atlas communities a"


def test_numbers_are_next_to_their_controls_and_ranks(opened):
    row = live(opened)[0]
    stored = {
        "degree": 12,
        "partners_expected": 9.5,
        "logit_agreement": 0.5,
        "logit_agreement_control": 0.25,
        "effect_kl": 1.0,
        "effect_kl_later": 2.0,
        "effect_kl_random": 0.75,
        "effect_q": 0.04,
        "example_agreement": 0.5,
        "example_agreement_control": 0.1,
        "detection": 0.8,
        "detection_control": 0.6,
    }
    numbers = {one.name: one for one in feature_numbers(opened, "a", {**row, **stored})}
    assert numbers["degree"].controls == {"null graphs": 9.5}
    assert numbers["logit_agreement"].controls == {"other features": 0.25}
    assert numbers["example_agreement"].controls == {"other features": 0.1}
    assert numbers["detection"].controls == {"other features": 0.6}
    assert numbers["effect_kl_with_later"].value == 3.0
    assert numbers["effect_kl_with_later"].controls == {
        "random directions": 0.75,
        "q, random directions": 0.04,
    }
    assert not {"partners_expected", "detection_control", "effect_q", "dead", "idx", "sae"} & set(
        numbers
    )
    alive = [r["frequency"] for r in opened.features("a").to_pylist() if not r["dead"]]
    smaller = sum(value < row["frequency"] for value in alive)
    assert numbers["frequency"].share_below == pytest.approx(smaller / len(alive))
    assert numbers["degree"].share_below is None  # the atlas has no degrees
    page = feature_card(opened, row["id"]).to_html()
    assert "<summary>Definitions of the numbers</summary><p><b>active tokens</b>: " in page
    assert "controls where there are any" not in page  # the numbers of this atlas have none
    assert f"above {100 * smaller / len(alive):.0f}%" in page


def test_the_command_prints_the_numbers_next_to_their_ranks(opened, run):
    row = live(opened)[0]
    _, out, _ = run("show", row["id"])
    alive = [r["max_activation"] for r in opened.features("a").to_pylist() if not r["dead"]]
    rank = round(100 * sum(value < row["max_activation"] for value in alive) / len(alive))
    assert f"max activation {row['max_activation']:.3g} (above {rank}%)" in out
    stored = opened.table("histogram", sae="a").to_pylist()
    bins = [one for one in stored if one["idx"] == row["idx"]]
    edges = min(one["lower"] for one in bins), max(one["upper"] for one in bins)
    assert edges[0] <= row["max_activation"] < edges[1]
    assert f"\nActivations, in bins from {edges[0]:.3g} to {edges[1]:.3g}: " in out


@pytest.mark.parametrize(
    ("runs", "shown"),
    [
        ([], []),
        (["document/active/l2=1"], ["document"]),
        (["document/active/l2=1", "document/amount/l2=1"], ["document/active", "document/amount"]),
        (["a/b/c", "a/b/d"], ["a/b/c", "a/b/d"]),
        (["a/b/c", "a"], ["a/b", "a"]),
    ],
)
def test_shown_runs_stay_distinct(runs, shown):
    table = CardTable("", [{"run": run, "verdict": None} for run in runs])
    assert [row["run"] for row in table.shown_rows()] == shown


@pytest.mark.parametrize(
    ("q", "by_token", "expected"),
    [
        (
            0.001,
            0.93,
            ", significantly more than shared tokens alone give (mean best of either feature under the null within documents: 0.93).",
        ),
        (
            0.2,
            0.95,
            ", not significantly more than shared tokens alone could give (mean best of either feature under the null within documents: 0.95).",
        ),
        (0.001, None, ", significantly more than shared tokens alone give."),
    ],
)
def test_the_verdict_on_a_match_has_the_best_under_the_null_within_documents(q, by_token, expected):
    match = {"match": "b/1", "pearson": 0.96, "q": 0.001, "token_q": 0.001}
    match |= {"token_document_q": q, "token_document_null_pearson": by_token}
    assert card_module._about_match(match) == f"Its best match is b/1 (Pearson 0.96){expected}"


def test_the_verdict_states_the_one_to_one_counterpart_if_it_is_not_the_best_match():
    rows = [
        {"match": "b/1", "pearson": 0.9, "one_to_one": False},
        {"match": "c/3", "pearson": 0.8, "one_to_one": True},
        {"match": "b/7", "pearson": 0.4, "one_to_one": True},
    ]
    for row, null in zip(rows, (0.5, None, 0.61), strict=True):
        row["token_document_null_pearson"] = null
    say = card_module._about_counterpart
    assert list(say(rows[0], rows)) == [
        "Its one-to-one counterpart in b is b/7 (Pearson 0.40; under the null within documents, 0.61)."
    ]
    assert list(say(rows[0], rows[:2])) == ["It has no one-to-one counterpart in b."]
    assert list(say(rows[1], rows)) == []


def test_empty_tables_are_distinguished_from_missing_ones(opened):
    """A match is stored for both SAEs, but a dead feature has no row."""
    dead = next(r for r in opened.features("a").to_pylist() if r["dead"])
    card = feature_card(opened, dead["id"])
    assert "Matches in other SAEs" in card.none
    assert "Matches in other SAEs" not in card.empty
    assert card.empty["Community"].startswith("atlas communities a")
    assert "Stored, without a row of this feature: Matches" in card.to_html()


def test_empty_tables_are_distinguished_from_missing_ones_without_a_folder(store):
    graph = small_graph(shuffled=1)
    store.sync(store.plan(graph), SILENT)
    atlas = Atlas("server", store=store)
    tables = {name: table.to_pylist() for name, table in graph.tables.items()}
    ablated = "What its ablation changes in later features"
    ends = {
        "Matches in other SAEs": ("COMPARED_WITH", "source target"),
        "Community": ("IN_COMMUNITY", "source"),
        "Predicted from sites of the model": ("PREDICTED_FROM", "source"),
        "Promoted tokens": ("PROMOTES", "source"),
        "Suppressed tokens": ("PROMOTES", "source"),
        "Features whose ablation changes it": ("AFFECTS", "target"),
        "Concepts that it separates": ("SEPARATES", "source"),
        "Nearest decoder directions": ("NEAR_DIRECTION", "source"),
        "Parents in narrower SAEs": ("SPLITS_INTO", "target"),
        "Children in wider SAEs": ("SPLITS_INTO", "source"),
    }
    missing = {}
    for sae in sorted(row["name"] for row in tables["SAE"]):
        card = feature_card(atlas, f"{sae}/0")
        stored = {
            title
            for title, (name, columns) in ends.items()
            for edge in tables[name]
            if any(edge[c].rpartition("/")[0] == sae or edge[c] == sae for c in columns.split())
        }
        if any(row["sae"] == sae and row["effect_kl"] is not None for row in tables["Feature"]):
            stored.add(ablated)
        shown = {table.title for table in card.tables}
        assert set(card.none) == stored - shown
        assert set(card.empty) == {*ends, ablated} - stored - {"Features whose ablation changes it"}
        missing[sae] = len(card.empty)
    assert missing["tiny-a-l1-s0"] == 0
    assert max(missing.values()) > 3


def test_a_folder_and_its_graph_have_the_same_card(opened, capsys):
    without = Atlas(opened.url, store=opened.store)
    dead = next(r for r in opened.features("a").to_pylist() if r["dead"])
    for row in (*live(opened), dead):
        there, here = (feature_card(one, row["id"]).to_dict() for one in (without, opened))
        for name in there.keys() - {"histogram", "origin"}:
            assert there[name] == here[name]
    pages = [feature_card(one, live(opened)[0]["id"]).to_html() for one in (without, opened)]
    assert ["Only the folder of an atlas" in page for page in pages] == [True, False]
    print_card(feature_card(without, live(opened)[0]["id"]))
    assert "only the folder of an atlas has their histogram" in capsys.readouterr().out


def test_the_card_of_a_floor_states_it(tmp_path, opened):
    folder = tmp_path / "f.atlas"
    saes = [open_sae(topk(seed=0), name="t"), open_sae(topk(seed=1), name="f")]
    model = random_model("llama")
    settings = Settings(role="untrained", floor_of="t")
    common = {"text": texts(30), "model": model, "tokenizer": small_tokenizer(vocabulary=80)}
    ingest(folder, saes=saes[:1], match=None, **common)
    ingest(folder, saes=saes[1:], match=None, settings=settings, **common)
    with Atlas(folder) as atlas:
        assert "f is a floor of t (untrained)" in " ".join(feature_card(atlas, "f/0").verdict)
        assert "floor" not in " ".join(feature_card(atlas, "t/0").verdict)


@pytest.mark.parametrize("tokens", [1, 2, 188, 99_999])
def test_rates_below_the_stated_one_are_unseen_with_more_than_5_percent(tokens: int) -> None:
    rate = rarest_seen(tokens)
    assert binom.pmf(0, tokens, rate) == pytest.approx(0.05)
    assert binom.pmf(0, tokens, rate * 0.99) > 0.05


def test_remarks_on_few_tokens_and_on_a_reconstruction_worse_than_the_mean() -> None:
    assert "about 1 in 63 tokens may look dead" in about_few_tokens(188)[0]
    assert "about 1 in 33,000 " in about_few_tokens(99_999)[0]
    assert about_few_tokens(100_000) == about_few_tokens(None) == []
    assert about_fvu("a", 1.0) == about_fvu("a", None) == []
    assert about_fvu("a", 2.04)[0].startswith(
        "a reconstructs worse than the mean does (FVU 2.04): "
    )


@pytest.mark.parametrize("alone", [True, False])
def test_a_comparison_is_offered_for_two_saes(alone: bool) -> None:
    section = next(one for one in card_module.SECTIONS if one.kind == "match")
    command = card_module._command(section, "mine", "x.atlas", alone=alone)
    assert command.endswith("atlas match mine OTHER_SAE -a x.atlas")
    assert command.startswith("needs a second SAE: atlas ingest ") == alone
    other = next(one for one in card_module.SECTIONS if one.kind == "logits")
    assert (
        card_module._command(other, "mine", "x.atlas", alone=alone)
        == "atlas logits mine -a x.atlas"
    )


@pytest.fixture
def targeted(tmp_path):
    """Return an atlas in which features of ``one`` were ablated, with targets in ``two``."""
    folder = small_parts.small_atlas(tmp_path / "x.atlas")
    row = {"id": "one/0", "effect_ce": 0.1, "effect_kl": 0.5, "effect_q": 0.01}
    kl = small_parts.filled("Feature", "effects", [row])
    edge = {"source": "one/0", "target": "two/1", "mean": 2.0}
    edges = small_parts.filled("AFFECTS", "effects", [edge])
    manifest = Manifest("effects", "one", saes=("one", "two"), version=EffectStudy.version)
    write_part(folder.part("effects", "one"), manifest, [("Feature", kl), ("AFFECTS", edges)])
    pair = Manifest("splitting", "one+two", saes=("one", "two"), version=SplittingStudy.version)
    split = small_parts.filled("SPLITS_INTO", "splitting", [{"source": "one/1", "target": "two/1"}])
    write_part(folder.part("splitting", "one+two"), pair, [("SPLITS_INTO", split)])
    return tmp_path / "x.atlas"


def test_an_sae_that_was_only_a_target_was_not_measured(targeted):
    ablated, changed = (
        "What its ablation changes in later features",
        "Features whose ablation changes it",
    )
    parents, children = "Parents in narrower SAEs", "Children in wider SAEs"
    with Atlas(targeted) as folder:
        for atlas in (folder, Atlas(folder.url, store=folder.store)):
            one, two = (feature_card(atlas, f"{sae}/1") for sae in ("one", "two"))
            assert ablated in one.none
            assert changed not in {*one.none, *one.empty}
            assert two.empty[ablated].startswith("atlas effects two")
            assert changed in {table.title for table in two.tables}
            assert changed in feature_card(atlas, "two/0").none
            assert one.empty[parents].startswith("atlas splitting OTHER_SAE one")
            assert children not in {*one.none, *one.empty}
            assert two.empty[children].startswith("atlas splitting two OTHER_SAE")
            assert parents in feature_card(atlas, "two/0").none


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("effects_of_feature", "--feature", "two/1"), "two was not measured: run `atlas effects two`."),
        (("effect_by_frequency", "--sae", "two"), "two was not measured: run `atlas effects two`."),
        (("frequent_features_without_effect", "--sae", "two"), "run `atlas effects two`."),
        (("drivers_of_feature", "--feature", "one/1"), "run `atlas effects A --on one`, where A is the name of an SAE at an earlier site."),
        (("parents_of_feature", "--feature", "one/1"), "run `atlas splitting OTHER_SAE one`."),
        (("effects_of_feature", "--feature", "one/1"), ""),
        (("drivers_of_feature", "--feature", "two/0"), ""),
        (("frequent_features_without_effect", "--sae", "one"), ""),
    ],
)  # fmt: skip
def test_no_rows_name_the_study_that_did_not_measure_the_sae(targeted, capsys, words, sentence):
    with pytest.raises(SystemExit) as done:
        main(["query", *words, "--atlas", str(targeted)])
    out = capsys.readouterr()
    assert done.value.code == 0
    assert "0 rows" in out.err
    assert sentence in out.err
    assert ("run `" in out.err) == bool(sentence)


def test_a_card_states_text_model_atlas_version_and_date(opened, capsys):
    (sae,) = (row for row in opened.table("SAE").to_pylist() if row["name"] == "a")
    (corpus,) = opened.table("Corpus").to_pylist()
    manifest = opened.folder.sound().parts["sae/a"].manifest
    card = feature_card(opened, live(opened)[0]["id"])
    in_graph = {
        "model": sae["model"],
        "atlas": opened.folder.uuid,
        "corpus": corpus["name"],
        "corpus_id": corpus["id"],
    }
    dated = {"version": manifest.versions["feature-atlas"], "date": manifest.created[:10]}
    assert card.origin == in_graph | dated
    assert all(value in card.origin_line for value in card.origin.values())
    assert card.origin_line in card.to_html()
    print_card(card, rows=3)
    assert card.origin_line in capsys.readouterr().out
    without = feature_card(Atlas(opened.url, store=opened.store), card.id)
    assert without.origin == in_graph


def test_the_row_of_a_community_begins_with_its_number(opened, capsys):
    card = feature_card(opened, live(opened)[0]["id"])
    row = {"community": 12, "tokens": ["and"], "stability_halves": 0.5, "stability_null": 0.1}
    row["stability_null_high"] = 0.2
    (section,) = (one for one in SECTIONS if one.label == "Community")
    assert section.columns[0] == "community"
    table = CardTable(section.title, [row], label="Community", scores=section.scores)
    print_card(replace(card, tables=[table]))
    out = capsys.readouterr().out
    line = "Community #12 'and' stability halves 0.5 (stability null 0.1, stability null high 0.2)"
    assert line in " ".join(out.split())


def test_a_lift_is_next_to_the_count_that_it_is_of(opened):
    for row in opened.query(
        "MATCH (f:Feature)-[e:CO_ACTIVATES]->(g:Feature) RETURN e.joint_count AS n, e.lift AS lift, "
        "f.active_tokens AS a, g.active_tokens AS b, f.frequency AS share"
    ).to_pylist()[:20]:
        tokens = row["a"] / row["share"]
        assert row["lift"] == pytest.approx(row["n"] / (row["a"] * row["b"] / tokens))
    card = feature_card(opened, live(opened)[0]["id"])
    (table,) = (one for one in card.tables if one.label == "Neighbours")
    columns = list(table.rows[0])
    assert columns.index("lift") == columns.index("joint_count") + 1
    assert "not count / expected" in table.note
