"""Planted SAEs have the specified rates, pairs and independence, counted by numpy on dense codes."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.errors import BadInput, UnknownName
from ingest.match.align import align
from ingest.settings import Settings
from ingest.synthetic import KINDS, Planted, PlantedSettings
from ingest.synthetic.activation_patterns import AfterTriggers, InBursts, Index
from ingest.text.corpus import Corpus


def dense(rows):
    out = np.zeros((len(rows), rows.d_sae), dtype=np.float32)
    out[np.repeat(np.arange(len(rows)), np.diff(rows.indptr)), rows.indices] = rows.values
    return out


def correlations(a, b):
    """Return the Pearson correlation of every column of a with every column of b, by numpy."""
    return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]


@pytest.fixture(scope="module")
def example():
    """Plant several features of each kind on about 45,000 tokens in several blocks."""
    numbers = dict.fromkeys(KINDS, 5) | {"private": 8}
    planted = Planted.make(1, documents=300, document_length=150, rates={"bursty": 0.03}, **numbers)
    assert planted.text.blocks > 2
    return planted


@pytest.fixture(scope="module")
def codes(example):
    return {sae: dense(example.rows(sae)) for sae in ("a", "b")}


@pytest.mark.parametrize("sae", ["a", "b"])
def test_features_have_the_specified_rates(example, codes, sae):
    tokens, rates = len(example.units), example.rates(sae)
    kinds = example.kinds(sae)
    assert {k: (kinds == k).sum() for k in KINDS} == dict.fromkeys(KINDS, 5) | {"private": 8}
    np.testing.assert_array_equal(rates, np.where(kinds == "bursty", 0.03, 0.05))
    counts = (codes[sae] > 0).sum(0)
    # A count thinned from a set of positions varies less than a binomial count.
    deviation = np.sqrt(tokens * rates * (1 - rates))
    assert (np.abs(counts - tokens * rates) < 4 * deviation).all()


def test_rates_have_the_specified_spread_and_pairs_have_equal_rates():
    planted = Planted.make(2, documents=200, shared=300, private=300, spread=1.0, rate=0.02)
    a, b = (planted.rates(sae) for sae in ("a", "b"))
    for kind in KINDS:
        i, j = planted.pairs(kind).T
        np.testing.assert_array_equal(a[i], b[j])
    log = np.log(a[planted.kinds("a") == "private"])
    assert np.std(log) == pytest.approx(1, abs=0.15)
    assert np.mean(log) == pytest.approx(np.log(0.02) - 0.5, abs=0.25)
    counts = (dense(planted.rows("b")) > 0).sum(0)
    tokens = len(planted.units)
    assert (np.abs(counts - tokens * b) < 5 * np.sqrt(tokens * b) + 1).all()


def test_only_planted_pairs_are_correlated(example, codes):
    found = correlations(codes["a"], codes["b"])
    truth = {tuple(pair) for pair in example.truth.tolist()}
    assert len(truth) == 10
    related = {
        tuple(pair)
        for kind in ("token", "position", "bursty", "token_document")
        for pair in example.pairs(kind).tolist()
    }
    assert min(found[pair] for pair in truth) > 0.8
    assert all(0.01 < found[pair] < 0.6 for pair in related)
    rest = np.ones_like(found, dtype=bool)
    for pair in truth | related:
        rest[pair] = False
    # Shared and private patterns are independent of all others; two token features may share
    # a word, and two bursty ones a document.
    alone = [np.isin(example.kinds(sae), ["shared", "private"]) for sae in ("a", "b")]
    rest &= alone[0][:, None] | alone[1]
    assert np.abs(found[rest]).max() < 5 / np.sqrt(len(example.units))


def test_a_common_pattern_is_missed_at_the_specified_rate(example, codes):
    for a, b in example.truth:
        x, y = codes["a"][:, a] > 0, codes["b"][:, b] > 0
        seen = (x & y).sum() / x.sum()
        assert seen == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / x.sum()))
        both = x & y
        ratio = np.log(codes["a"][both, a] / codes["b"][both, b])
        assert np.std(ratio) == pytest.approx(0.2 * np.sqrt(2), rel=0.1)


def test_token_features_are_independent_given_the_word(example, codes):
    type = example.units.type
    for a, b in example.pairs("token"):
        x, y = codes["a"][:, a] > 0, codes["b"][:, b] > 0
        occurrences = np.bincount(type)
        n, on_a, on_b = (np.bincount(type[m], minlength=len(occurrences)) for m in (x | True, x, y))
        common = (on_a > 0) & (n > 40)
        assert common.any()
        assert (on_b[common] > 0).all()
        assert n[on_a > 0].sum() < 0.25 * len(type)
        # The two features are independent given the word.
        together = np.bincount(type[x & y], minlength=len(n))
        expected = on_a * on_b / n
        variance = on_a * on_b * (n - on_a) * (n - on_b) / (n**2 * np.maximum(n - 1, 1))
        assert abs((together - expected).sum()) < 4 * np.sqrt(variance.sum())


def test_token_document_features_are_independent_given_word_and_document(example, codes):
    type, document = example.units.type, example.units.document
    site = np.unique(np.stack([type, document]), axis=1, return_inverse=True)[1].ravel()
    n = np.bincount(site)
    for a, b in example.pairs("token_document"):
        x, y = codes["a"][:, a] > 0, codes["b"][:, b] > 0
        # Both have the same words and the same documents, about half of all.
        for values in (type, document):
            on_x, on_y = (set(values[m].tolist()) for m in (x, y))
            assert len(on_x & on_y) / len(on_x | on_y) > 0.75
        assert 0.3 < len(set(document[x].tolist())) / len(example.text.lengths) < 0.6
        # The two features are independent given the word and the document.
        on_a, on_b = (np.bincount(site[m], minlength=len(n)) for m in (x, y))
        together = np.bincount(site[x & y], minlength=len(n))
        variance = on_a * on_b * (n - on_a) * (n - on_b) / (n**2 * np.maximum(n - 1, 1))
        assert abs((together - on_a * on_b / n).sum()) < 4 * np.sqrt(variance.sum())


def test_position_features_are_active_at_some_positions(example, codes):
    index = example.text.complete.index
    for a, b in example.pairs("position"):
        at_a, at_b = (set(index[codes[s][:, f] > 0].tolist()) for s, f in (("a", a), ("b", b)))
        assert len(at_a ^ at_b) <= 0.1 * len(at_a | at_b)
        assert np.isin(index, list(at_a)).mean() < 0.3


def test_bursty_features_share_documents(example, codes):
    document = example.units.document
    for a, b in example.pairs("bursty"):
        x, y = codes["a"][:, a] > 0, codes["b"][:, b] > 0
        assert set(document[x].tolist()) == set(document[y].tolist())
        assert (x & y).mean() / (x.mean() * y.mean()) > 2


def test_bursty_pairs_have_uniform_p_under_shifts_of_documents():
    """The p-value of a bursty pair under random shifts of documents is uniform."""
    numbers = dict.fromkeys(KINDS, 0) | {"bursty": 300}
    planted = Planted.make(3, **numbers)
    a, b = (dense(planted.rows(sae)) for sae in ("a", "b"))
    i, j = planted.pairs("bursty").T
    a, b = a[:, i].astype(np.float64), b[:, j].astype(np.float64)
    text, rng = planted.text.complete, np.random.default_rng(0)
    seen = (a * b).sum(0)  # shifts change neither mean nor variance
    reached = np.zeros(len(i))
    for _ in range(19):
        by = rng.integers(0, text.lengths)[text.document]
        lengths, begins = text.lengths[text.document], text.starts[text.document]
        reached += (a * b[begins + (text.index + by) % lengths]).sum(0) >= seen
    p = (1 + reached) / 20
    assert np.mean(p <= 0.1) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 300))
    assert np.mean(p) == pytest.approx(0.525, abs=4 * np.sqrt(1 / 12 / 300))


def test_positions_after_triggers_equal_a_loop_over_tokens():
    planted = Planted.make(4, documents=20, document_length=30, vocabulary=12)
    words = [np.array([1, 5]), np.array([0]), np.array([], dtype=int)]
    pattern = AfterTriggers(Index(words, 12), 4, np.ones(3))
    text = planted.text.complete
    token, feature = pattern.positions(text)
    expected = {
        (t, f)
        for t in range(len(text))
        for f, mine in enumerate(words)
        if any(
            t - back >= 0
            and text.document[t - back] == text.document[t]
            and text.type[t - back] in mine
            for back in range(1, 5)
        )
    }
    found = list(zip(token.tolist(), feature.tolist(), strict=True))
    assert len(found) == len(expected)
    assert set(found) == expected


def test_bursts_begin_uniformly_and_wrap_around():
    planted = Planted.make(5, documents=4000, document_length=9)
    text = planted.text.complete
    pattern = InBursts(Index([np.arange(4000)], 4000), 0.5, np.ones(1))
    token, _ = pattern.draw(text, np.random.default_rng(0))
    active = np.zeros(len(text), dtype=bool)
    active[token] = True
    assert active.sum() == len(token) == np.ceil(text.lengths / 2).sum()
    begins = np.zeros(9)
    for begin, length in zip(text.starts, text.lengths, strict=True):
        one = active[begin : begin + length]
        starts = np.flatnonzero(one & ~np.roll(one, 1))
        assert len(starts) == 1  # one burst, cyclic
        if length == 9:
            begins[starts] += 1
    share = 1 / 9
    bound = 4 * np.sqrt(begins.sum() * share * (1 - share))
    assert (np.abs(begins - begins.sum() * share) < bound).all()


def test_equal_settings_plant_equal_codes(example, codes):
    again = Planted(example.settings)
    for sae in ("b", "a"):  # in reverse order
        np.testing.assert_array_equal(dense(again.rows(sae)), codes[sae])
    np.testing.assert_array_equal(again.truth, example.truth)
    other = Planted.make(example.settings.seed + 1)
    assert not np.array_equal(other.pairs("private"), Planted.make(1).pairs("private"))
    assert len(other.units) != len(Planted.make(1).units)


def test_blocks_contain_the_rows(example, codes):
    documents = list(example.text.documents())
    rows, units = example.rows("a"), example.units
    assert sorted(set(units.type.tolist())) == list(range(units.type.max() + 1))
    assert (units.document.dtype, units.type.dtype) == (np.int64, np.int32)
    row = 0
    ids = []
    for number, block in enumerate(example.blocks("a")):
        tokens = block.tokens
        assert block.number == number
        assert (block.indptr.dtype, block.indices.dtype, block.values.dtype) == (
            np.int64,
            np.uint32,
            np.float32,
        )
        np.testing.assert_array_equal(units.document[row : row + len(block)], tokens.document)
        for t in range(0, len(block), 97):
            entries = slice(block.indptr[t], block.indptr[t + 1])
            np.testing.assert_array_equal(
                block.indices[entries], np.flatnonzero(codes["a"][row + t])
            )
            text = documents[tokens.document[t]]
            word = text[tokens.start[t] : tokens.end[t]]
            assert word == example.text.words[tokens.token_id[t]] == text.split()[tokens.index[t]]
        assert (np.diff(block.location) > 0).all()
        fresh = np.flatnonzero(np.diff(block.context, prepend=-1))
        np.testing.assert_array_equal(tokens.index[fresh] % example.settings.context_size, 0)
        ids.append(tokens.token_id)
        row += len(block)
    assert row == len(units) == len(rows) == len(example.text)
    pairs = set(zip(np.concatenate(ids).tolist(), units.type.tolist(), strict=True))
    assert len(pairs) == units.type.max() + 1


def test_three_saes_have_counterparts_in_each():
    planted = Planted.make(6, saes=("x", "y", "z"), documents=200, token=0, position=0, bursty=0)
    codes = {sae: dense(planted.rows(sae)) for sae in planted.settings.saes}
    for a, b in [("x", "y"), ("x", "z"), ("z", "y")]:
        found = correlations(codes[a], codes[b])
        pairs = planted.pairs("shared", "context", saes=(a, b))
        assert found[pairs[:, 0], pairs[:, 1]].min() > 0.75
        private = planted.pairs("private", saes=(a, b))
        assert np.abs(found[private[:, 0], private[:, 1]]).max() < 0.06


@pytest.mark.parametrize(
    "values",
    [
        {"rate": 0.0},
        {"rates": {"shared": 0.9}},
        {"rates": {"shard": 0.1}},
        {"documents": 0},
        {"miss": 0.9},
        {"saes": ("a", "a")},
        {"saes": ("A b",)},
        {"saes": ()},
        dict.fromkeys(KINDS, 0),
    ],
)
def test_impossible_settings_are_rejected(values):
    with pytest.raises(BadInput, match=r"; expected "):
        PlantedSettings(**values)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("bursty", {"burst": 0.01}), ("context", {"document_length": 1})],
)
def test_too_few_positions_are_rejected(kind, settings):
    with pytest.raises(BadInput, match=f"too few positions for a {kind} feature of the rate"):
        Planted.make(rates={kind: 0.25}, miss=0.5, **settings)


def test_unknown_names_are_rejected():
    planted = Planted.make()
    with pytest.raises(UnknownName, match="No SAE is named 'c'"):
        planted.blocks("c")
    with pytest.raises(UnknownName, match="Nearest: shared"):
        planted.pairs("shard")


@pytest.fixture(scope="module")
def written(tmp_path_factory, example):
    path = tmp_path_factory.mktemp("planted") / "planted.atlas"
    return path, example.write(path, settings=Settings(shard_blocks=2))


def test_the_written_atlas_has_the_planted_features(written, example, codes):
    path, atlas = written
    assert [sae["name"] for sae in atlas.table("SAE").to_pylist()] == ["a", "b"]
    assert not Folder.open(path).sound().stale
    assert not Folder.open(path).sound().broken
    for sae in ("a", "b"):
        active = codes[sae] > 0
        (row,) = [r for r in atlas.table("SAE").to_pylist() if r["name"] == sae]
        assert (row["tokens"], row["d_sae"]) == active.shape
        assert row["fvu"] is None
        assert row["l0"] == pytest.approx(active.sum() / len(active))
        rows = {r["idx"]: r for r in atlas.table("Feature").to_pylist() if r["sae"] == sae}
        for i in range(active.shape[1]):
            assert rows[i]["active_tokens"] == active[:, i].sum()
            assert rows[i]["max_activation"] == pytest.approx(codes[sae][:, i].max())
    assert atlas.table("Corpus")["documents"].to_pylist() == [300]


def test_the_written_atlas_counts_words(written, example, codes):
    _, atlas = written
    ids = np.concatenate([b.tokens.token_id for b in example.blocks("a")])
    text = {r["id"]: r["text"] for r in atlas.table("Token").to_pylist()}
    fires = [r for r in atlas.table("FIRES_ON").to_pylist() if r["source"].startswith("a/")]
    assert fires
    for row in fires[::7]:
        on = codes["a"][:, int(row["source"].removeprefix("a/"))] > 0
        word = np.array(example.text.words)[ids] == text[row["target"]]
        assert row["count"] == (on & word).sum()


@pytest.mark.parametrize("how", ["tokens", "words"])
def test_the_written_codes_align(written, example, codes, how):
    path, _ = written
    folder = Folder.open(path)
    corpus = Corpus.open(folder.corpus_file)
    assert len(corpus) == example.text.blocks
    shards = {sae: sorted(folder.codes(sae).glob("*.arrow")) for sae in ("a", "b")}
    assert len(shards["a"]) == -(-example.text.blocks // 2)
    found = align(shards["a"], shards["b"], corpus, how=how)
    np.testing.assert_array_equal(found.units.document, example.units.document)
    assert (
        len(set(zip(found.units.type, example.units.type, strict=True)))
        == found.units.type.max() + 1
    )
    np.testing.assert_array_equal(dense(found.a), codes["a"])
    np.testing.assert_array_equal(dense(found.b), codes["b"])


def test_an_atlas_is_written_into_a_new_folder(tmp_path):
    (tmp_path / "there").touch()
    with pytest.raises(BadInput, match="is not empty; name a new or empty folder"):
        Planted.make().write(tmp_path)


def test_a_planted_atlas_of_one_kind_opens(tmp_path):
    planted = Planted.make(7, **dict.fromkeys(KINDS, 0) | {"private": 3}, saes=("one",))
    planted.write(tmp_path / "one.atlas")
    atlas = Atlas.open(tmp_path / "one.atlas")
    assert atlas.table("Feature").num_rows == 3
    assert all(a <= b for a, b in pairwise(planted.units.document))


@pytest.mark.slow
def test_the_code_of_the_page_prints_the_documented_output(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "planted.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (expected,) = re.findall(r"It prints:\n\n```\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/planted.md", "exec"), {})
    assert capsys.readouterr().out == expected


def test_planted_is_public():
    import ingest

    assert ingest.Planted is Planted
    assert ingest.PlantedSettings is PlantedSettings
