"""Concept subspaces: enrichment against loops, planted features, and similarity with three nulls."""

import re

import numpy as np
import pytest
from concept_spaces import row_of, spaces_of
from drawn_charts import check_chart
from probed_text import random_text, write_codes
from scipy.stats import fisher_exact

from analysis.concepts.subspaces.enrichment import (
    Counts,
    Occurrences,
    count_blocks,
    enriched,
    occurrences,
)
from analysis.concepts.subspaces.grid import concept_grid
from analysis.concepts.subspaces.settings import SubspaceSettings
from analysis.concepts.subspaces.study import NULLS, compare_concepts, concept_rows, verdict_of
from analysis.concepts.words.files import Item, WordSet
from analysis.similarity.comparison import Spaces
from atlas.cli.main import main
from atlas.errors import BadInput
from ingest.codes.store import Tokens, read_shard
from ingest.text.corpus import Document


def words_of(name, **labels):
    """A set with the words of each label; a word may have several labels."""
    every = dict.fromkeys(w for words in labels.values() for w in words)
    items = tuple(
        Item(w, tuple(n for n in sorted(labels) if w in labels[n]), w, "", (0, len(w)))
        for w in every
    )
    return WordSet(name, items, "0" * 8)


def tokens_of(documents, cut):
    """Tokens of texts, cut by a pattern; a token includes the space before it."""
    rows = [
        (n, i, m.start(), m.end())
        for n, text in enumerate(documents)
        for i, m in enumerate(re.finditer(cut, text))
    ]
    document, index, start, end = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    small = [a.astype(np.int32) for a in (index, index + 1, start, end)]
    return Tokens(np.zeros(len(rows), dtype=np.int32), document.astype(np.int64), *small)


# ---------------------------------------------------------------- words and tokens


def test_the_last_token_of_each_complete_word_has_its_labels():
    texts = ["The queen saw a king, a kingdom and queens.", "", "queen", "Queen no-one New York"]
    sets = [
        words_of("s", female=["queen"], royal=["king", "queen"]),
        words_of("t", place=["New York"]),
    ]
    found = occurrences([Document(n, text) for n, text in enumerate(texts)], sets)
    assert found.concepts == ("s/female", "s/royal", "t/place")
    tokens = tokens_of(texts, r" ?\w{1,3}|.")
    labels = found.labels(tokens).toarray()
    pieces = [
        texts[d][a:b] for d, a, b in zip(tokens.document, tokens.start, tokens.end, strict=True)
    ]
    marked = {
        concept: [(tokens.document[i], pieces[i]) for i in np.flatnonzero(labels[:, c])]
        for c, concept in enumerate(found.concepts)
    }
    assert marked == {
        "s/female": [(0, "en"), (2, "en")],
        "s/royal": [(0, "en"), (0, "g"), (2, "en")],
        "t/place": [(3, "k")],
    }


def test_text_without_words_or_tokens_has_no_labels():
    found = occurrences([Document(0, "nothing here")], [words_of("s", a=["x"])])
    assert found.labels(tokens_of(["nothing here"], r"\w+")).nnz == 0
    assert found.labels(tokens_of([""], r"\w+")).shape == (0, 1)
    beyond = Occurrences(("s/a",), np.array([0, 7]), np.array([99, 1]), np.array([0, 0]))
    assert beyond.labels(tokens_of(["one two"], r" ?\w+")).nnz == 0


# ---------------------------------------------------------------- enrichment


@pytest.fixture
def coded(tmp_path):
    """Random documents of one-character tokens, with codes and occurrences."""
    rng = np.random.default_rng(0)
    documents = random_text(rng, documents=80, length=30)
    ids = np.concatenate(documents)
    dense = (rng.random((len(ids), 9)) < rng.random(9) / 3) * 1.0
    dense[:, 0] = (ids == 3) * 1.0  # one word of the concept
    dense[:, 1] = np.isin(ids, [3, 5, 8]) & (rng.random(len(ids)) < 0.7)
    dense[:, 2] = 0
    shards = write_codes(tmp_path / "codes", documents, dense)
    blocks = [block for shard in shards for block in read_shard(shard)]
    where = [
        (d, i + 1, 0)
        for d, doc in enumerate(documents)
        for i, t in enumerate(doc)
        if t in (3, 5, 8)
    ]
    where += [
        (d, i + 1, 1) for d, doc in enumerate(documents) for i, t in enumerate(doc) if t == 20
    ]
    table = np.array(sorted(where))
    return blocks, Occurrences(("set/x", "set/y"), *table.T), documents, dense


def test_counts_equal_a_loop_and_halves_share_no_document(coded):
    blocks, found, documents, dense = coded
    counts = count_blocks(blocks, found, d_sae=9, seed=1)
    ids = np.concatenate(documents)
    document = np.repeat(np.arange(80), 30)
    half = np.array([np.random.default_rng([1, 8, d]).integers(2) for d in range(80)])[document]
    assert 20 < half[::30].sum() < 60
    for side in (0, 1):
        own = half == side
        assert counts.tokens[side] == own.sum()
        assert counts.active[side].tolist() == (dense[own] > 0).sum(axis=0).tolist()
        for concept, inside in enumerate((np.isin(ids, [3, 5, 8]), ids == 20)):
            assert counts.labelled[side, concept] == (inside & own).sum()
            joint = (dense[inside & own] > 0).sum(axis=0)
            assert counts.joint[side, concept].tolist() == joint.tolist()


def test_planted_features_are_enriched_and_random_ones_are_not(coded):
    blocks, found, *_ = coded
    x, y = enriched(count_blocks(blocks, found, d_sae=9, seed=1), lift=2, q=0.05)
    assert x.features.tolist() == [0, 1]
    assert y.features.tolist() == []
    assert np.isinf(x.lift).tolist() == [True, True]


def by_fisher(counts, side, concept, feature):
    k, n = counts.joint[side, concept, feature], counts.active[side, feature]
    marked, total = counts.labelled[side, concept], counts.tokens[side]
    table = [[k, marked - k], [n - k, total - marked - (n - k)]]
    inside, outside = k / marked, (n - k) / (total - marked)
    return fisher_exact(table, alternative="greater")[1], inside / outside


def adjusted(p):
    """Benjamini-Hochberg, step by step."""
    order = np.argsort(p)
    found, least = np.empty(len(p)), 1.0
    for rank in range(len(p), 0, -1):
        least = min(least, p[order[rank - 1]] * len(p) / rank)
        found[order[rank - 1]] = least
    return found


def test_enrichment_equals_fishers_test_on_both_halves():
    rng = np.random.default_rng(2)
    active = rng.integers(50, 400, (2, 30))
    joint = np.array(
        [[rng.binomial(a, 0.02 + 0.06 * (i % 3 == 0)) for i, a in enumerate(row)] for row in active]
    )
    counts = Counts(np.array([5000, 6000]), np.array([[150], [160]]), active, joint[:, None])
    (own,) = enriched(counts, lift=1.5, q=0.05)
    features = list(range(30))
    for side in (0, 1):
        p, lift = map(
            np.array, zip(*(by_fisher(counts, side, 0, f) for f in features), strict=True)
        )
        q = adjusted(p)
        confirmed = (q <= 0.05) & (lift >= 1.5)
        features = [f for f, good in zip(features, confirmed, strict=True) if good]
        lift, q = lift[confirmed], q[confirmed]
    assert 3 <= len(features) < 15
    assert own.features.tolist() == features
    assert own.lift == pytest.approx(lift)
    assert own.q == pytest.approx(q)


def test_enrichment_of_zero_counts():
    zero = Counts(
        np.zeros(2, int), np.zeros((2, 1), int), np.zeros((2, 4), int), np.zeros((2, 1, 4), int)
    )
    (own,) = enriched(zero, lift=1, q=1)
    assert len(own.features) == 0


def test_few_random_features_are_enriched():
    """Under the null, features of 40 random concepts are confirmed in far fewer than 5% of tests."""
    rng = np.random.default_rng(3)
    active = rng.integers(20, 2000, (2, 200))
    joint = np.array(
        [[rng.hypergeometric(100, 9900, active[s]) for _ in range(40)] for s in (0, 1)]
    )
    labelled = np.full((2, 40), 100)
    own = enriched(Counts(np.full(2, 10_000), labelled, active, joint), lift=1, q=0.05)
    assert sum(len(one.features) for one in own) <= 4


# ---------------------------------------------------------------- similarity


@pytest.fixture(scope="module")
def planted():
    """200 pairs: of the first 50 the decoder rows are shared, of the others half of their variance is."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 12))
    y = x + rng.normal(size=(200, 12))
    y[:50] = x[:50] + 0.1 * rng.normal(size=(50, 12))
    members = {
        "shared": (np.arange(50), np.arange(40)),
        "half": (np.arange(50, 110), np.arange(50, 100)),
        "other half": (np.zeros(0, dtype=int), np.arange(110, 180)),
        "few": (np.arange(185, 200), np.arange(180, 190)),
    }
    settings = SubspaceSettings(draws=49, neighbours=5)
    return list(concept_rows(spaces_of(x, y, rng=rng), members, settings))


@pytest.mark.parametrize("measure", ["rsa", "knn_jaccard", "procrustes"])
def test_a_concept_with_shared_geometry_is_above_all_nulls(planted, measure):
    shared, half = (row_of(planted, name, measure) for name in ("shared", "half"))
    assert (shared["pairs"], half["pairs"]) == (50, 60)  # at least one feature is of the concept
    for prefix in NULLS:
        assert shared[f"{prefix}p"] == 1 / 50
        assert shared["value"] > shared[f"{prefix}null_high"]
    assert half["p"] == 1 / 50  # above a shuffled pairing, but not above random matched pairs
    assert half["matched_p"] > 0.05
    assert half["other_p"] > 0.05
    assert shared["null"] < half["other_null"]


def test_few_pairs_are_refused(planted):
    (row,) = (r for r in planted if r["concept"] == "few")
    assert row["available"] == 20
    assert "20 matched pairs are too few; 30" in row["note"]
    assert row.get("measure") is None


def test_too_few_pairs_of_other_concepts_have_no_third_null():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(80, 6))
    members = {"a": (np.arange(60), np.arange(60)), "b": (np.arange(60, 80),) * 2}
    rows = list(concept_rows(spaces_of(x, x, rng=rng), members, SubspaceSettings(draws=5)))
    row = row_of(rows, "a")
    assert row["other_p"] is None
    assert row["matched_p"] is not None
    assert row["value"] == pytest.approx(1)


def test_weights_that_are_not_available_are_reported():
    rng = np.random.default_rng(6)
    spaces = spaces_of(*rng.normal(size=(2, 40, 5)), rng=rng)
    without = Spaces(spaces.directions, None, True, spaces.codes, spaces.lengths, spaces.wordless)
    members = {"a": (np.arange(35), np.arange(35))}
    (row,) = concept_rows(without, members, SubspaceSettings(draws=3))
    assert "`activations=True`" in row["note"]
    rows = list(concept_rows(without, members, SubspaceSettings(draws=3, activations=True)))
    assert {row["space"] for row in rows if row.get("value")} == {"activations"}


# ---------------------------------------------------------------- an atlas


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    from small_ingest import model, named, run, texts, topk

    from ingest.match.settings import MatchSettings

    folder = tmp_path_factory.mktemp("concepts")
    saes = [named(topk(seed=i), name) for i, name in enumerate(("one", "other"))]
    run(folder / "a.atlas", model(), saes, texts(), match=MatchSettings(draws=2))
    vocabulary = sorted({w for text in texts() for w in re.findall(r"\w+", text)})
    half = len(vocabulary) // 2
    rows = [f"{w},{'first' if i < half else 'second'}" for i, w in enumerate(vocabulary)]
    (folder / "halves.csv").write_text("text,label\n" + "\n".join(rows))
    return folder, saes


def compared(atlas, **more):
    folder, saes = atlas
    opened = [sae for _, sae in saes] if isinstance(saes[0], tuple) else saes
    settings = SubspaceSettings(draws=9, pairs=4, lift=1, q=1.0, neighbours=2)
    return compare_concepts(
        folder / "a.atlas",
        "all",
        words=[folder / "halves.csv"],
        settings=settings,
        opened=opened,
        **more,
    )


def test_a_study_stores_members_rows_and_a_verdict(atlas):
    results = compared(atlas)
    (result,) = results
    members = result.to_pandas("members")
    assert set(members["sae"]) == {"one", "other"}
    assert set(members["concept"]) <= {"halves/first", "halves/second"}
    assert (members["lift"] >= 1).all()
    assert result["concepts"] == 2
    assert result["compared"] + result["refused"] == 2
    assert "of 2 concepts were compared" in result.verdict[0]
    rows = concept_grid(results)
    for prefix in NULLS:
        for measure in {row["measure"] for row in rows}:
            own = [r for r in rows if r["measure"] == measure and r[f"{prefix}p"] is not None]
            q = adjusted(np.array([r[f"{prefix}p"] for r in own]))
            assert [r[f"{prefix}q"] for r in own] == pytest.approx(q.tolist())
    assert check_chart(result.plot()).to_dict()


def test_the_verdict_counts_concepts_by_q():
    """Five p of .04 among ten have q = .08, by Benjamini and Hochberg; the p of .001 have q ≤ .01."""
    row = {"space": "decoder", "measure": "rsa", "value": 0.5, "p": 0.04, "other_p": 0.001}
    p = [0.001, 0.04, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, None]  # q of the first two: .009, .18
    rows = [row | {"concept": f"c{n}", "matched_p": one} for n, one in enumerate(p)]
    rows = [each | {"p": 0.04 if n < 5 else 0.9} for n, each in enumerate(rows)]
    summary = {"a": "one", "b": "two", "compared": 10, "concepts": 10}
    first, rsa = verdict_of(summary, rows)
    assert first == "one and two: 10 of 10 concepts were compared."
    assert "0 exceed shuffled pairing, 1 exceed random matched pairs, 10 exceed pairs" in rsa
    assert rsa.endswith("Above all three nulls: none.")
    rows = [each | {"p": 0.001} for each in rows]
    assert verdict_of(summary, rows)[1].endswith("Above all three nulls: c0.")


def test_words_of_equal_names_and_missing_files_are_refused(atlas, tmp_path):
    folder, _ = atlas
    again = tmp_path / "halves.csv"
    again.write_text((folder / "halves.csv").read_text())
    with pytest.raises(BadInput, match="Two files of words have the name 'halves'"):
        compare_concepts(folder / "a.atlas", "all", words=[folder / "halves.csv", again])
    with pytest.raises(BadInput, match="neither a list"):
        compare_concepts(folder / "a.atlas", "all", words=["nothing"])


def test_the_command_takes_saes_or_all(atlas, capsys):
    folder, _ = atlas
    with pytest.raises(SystemExit) as ended:
        main(["subspaces", "one", "other", "--all", "--atlas", str(folder / "a.atlas")])
    assert ended.value.code == 2
    assert "--all" in capsys.readouterr().err
