"""``fire`` equals an ingest of the text, with ranks by quantiles of the corpus."""

import json
import re
from dataclasses import replace
from importlib.resources import files as files_of

import numpy as np
import pytest
from random_models import random_model, small_tokenizer
from small_ingest import texts, topk

import analysis
from atlas import Atlas
from atlas.cli.main import main
from atlas.errors import BadInput, UnknownName
from ingest.codes.store import read_shard
from ingest.fire.screen import _conclusion, about_few_active_tokens, about_omitted
from ingest.fire.text_features import FireSettings, _quantiles, fire
from ingest.forward.run import ingest
from ingest.settings import Settings

TEXT = texts(3)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a model, two SAEs and an atlas of other texts."""
    folder = tmp_path_factory.mktemp("fire")
    random_model("llama").save_pretrained(folder / "model")
    small_tokenizer(vocabulary=80).save_pretrained(folder / "model")
    for seed, name in enumerate("ab"):
        topk(seed=seed).save_model(folder / name)
    options = {"saes": [folder / "a", folder / "b"], "model": folder / "model", "match": None}
    ingest(folder / "corpus.atlas", text=texts(80), **options)
    ingest(folder / "text.atlas", text=[TEXT], **options)
    return folder


@pytest.fixture
def opened(folder):
    with Atlas.open(folder / "corpus.atlas") as atlas:
        yield atlas


def stored_codes(folder, sae):
    """Return {(position, feature): activation} of the ingest of the text alone."""
    files = sorted((folder / "text.atlas" / "codes" / sae).glob("*.arrow"))
    (block,) = [block for file in files for block in read_shard(file)]
    return {
        (row, int(feature)): float(value)
        for row, feature, value in zip(block.rows, block.indices, block.values, strict=True)
    }


def test_activations_equal_an_ingest_of_the_text(folder, opened):
    found = fire(opened, TEXT, FireSettings(top=10_000))
    for sae in "ab":
        fired = {
            (row["position"], int(row["feature"].split("/")[1])): row["activation"]
            for row in found.rows
            if row["sae"] == sae
        }
        assert fired == stored_codes(folder, sae)


@pytest.mark.slow
def test_activations_equal_an_ingest_in_an_atlas_of_two_models(tmp_path, capsys):
    """With SAEs of two models, which read an MLP and residual sites, in the demo's contexts."""
    text = 'Once upon a time there was a dragon. She said, "Hello, Tom!" and went home.'
    path = tmp_path / "two.atlas"
    saes = {"tiny-a": ("tiny-a-l1-s0", "tiny-a-l1-mlp"), "tiny-b": ("tiny-b-l1-s0",)}
    settings = Settings(device="cpu")
    for names in saes.values():
        ingest(path, saes=names, text=[text, "A dog."], settings=settings, match=None).close()
    found = fire(path, text, FireSettings(top=10_000, device="cpu"))
    assert {(row["model"], row["sae"]) for row in found.rows} == {
        (model, name) for model, names in saes.items() for name in names
    }
    for name in (*saes["tiny-a"], *saes["tiny-b"]):
        files = sorted((path / "codes" / name).glob("*.arrow"))
        stored, first = {}, 0
        for block in (block for file in files for block in read_shard(file)):
            document = np.asarray(block.tokens.document)
            for row, feature, value in zip(block.rows, block.indices, block.values, strict=True):
                if document[row] == 0:
                    stored[first + int(row), int(feature)] = float(value)
            first += len(block)
        fired = {
            (row["position"], int(row["feature"].rpartition("/")[2])): row["activation"]
            for row in found.rows
            if row["sae"] == name
        }
        assert fired.keys() == stored.keys() != set()
        assert fired == pytest.approx(stored, rel=1e-5)
    # Without --sae, one folder cannot be the model of all SAEs.
    model = str(files_of("ingest.demo") / "models" / "tiny-a")
    words = ["fire", text, "--atlas", str(path), "--model", model, "-q", "--device", "cpu"]
    for more, code in (([], 2), (["--sae", "tiny-a-l1-s0"], 0)):
        with pytest.raises(SystemExit) as done:
            main([*words, *more])
        out = capsys.readouterr()
        assert (done.value.code, "Traceback" in out.err) == (code, False), out.err
        assert ("tiny-a-l1-s0/" in out.out) == (code == 0)


def test_quantiles_are_bounds_by_the_codes_of_the_corpus(folder, opened):
    found = fire(opened, TEXT, FireSettings(saes=("a",), top=10_000))
    files = sorted((folder / "corpus.atlas" / "codes" / "a").glob("*.arrow"))
    blocks = [block for file in files for block in read_shard(file)]
    features = np.concatenate([b.indices for b in blocks])
    values = np.concatenate([b.values for b in blocks])
    tested = 0
    for row in found.rows:
        own = values[features == int(row["feature"].split("/")[1])]
        if not len(own):
            assert row["quantile"] is row["quantile_low"] is None
            continue
        # Within a bin of half an octave the position is interpolated.
        x = row["activation"]
        assert (
            (own < x / 2**0.5).mean() - 1e-9 <= row["quantile"] <= (own <= x * 2**0.5).mean() + 1e-9
        )
        assert row["quantile_low"] <= min((own < x).mean(), row["quantile"]) + 1e-9
        assert row["quantile_low"] >= (own < x / 2**0.5).mean() - 1e-9
        tested += 1
    assert tested > 20


def test_the_largest_activation_of_a_feature_has_the_quantile_1(folder, opened):
    largest = opened.features("a")["max_activation"].to_numpy()
    active = np.flatnonzero(largest > 0)
    ends, lows = _quantiles(opened, "a", active, largest[active].astype(np.float32))
    assert len(ends) > 5
    np.testing.assert_allclose(ends, 1)
    assert (lows < 1).all()  # the largest activation is not above itself
    above = _quantiles(opened, "a", active, 3 * largest[active].astype(np.float32))
    np.testing.assert_allclose(above, 1)
    below = _quantiles(opened, "a", active, np.full(len(active), 1e-9, dtype=np.float32))
    np.testing.assert_allclose(below, 0)


def test_rows_have_the_number_of_active_tokens_of_the_corpus(folder, opened):
    found = fire(opened, TEXT, FireSettings(saes=("a",), top=10_000))
    files = sorted((folder / "corpus.atlas" / "codes" / "a").glob("*.arrow"))
    features = np.concatenate([block.indices for file in files for block in read_shard(file)])
    for row in found.rows:
        assert row["active_tokens"] == (features == int(row["feature"].split("/")[1])).sum()


def test_a_quantile_from_few_active_tokens_has_a_remark():
    def row(feature, active, quantile=1.0):
        return {"feature": feature, "quantile": quantile, "active_tokens": active}

    enough = [row("a/0", 20), row("a/1", None), row("a/2", 0, None)]
    assert about_few_active_tokens(enough) == ""
    few = [row("a/3", 19), row("a/4", 1), row("a/4", 1)]
    assert about_few_active_tokens([*enough, *few]) == (
        "Quantiles from fewer than 20 active tokens are not reliable: a/4 (1 token), a/3 (19 tokens)."
    )
    many = [row(f"a/{i}", i) for i in range(5, 15)]
    assert about_few_active_tokens(many).endswith("a/7 (7 tokens) and 7 more.")


def test_each_token_has_its_strongest_features_in_order(opened):
    every = fire(opened, TEXT, FireSettings(saes=("b",), top=10_000)).rows
    few = fire(opened, TEXT, FireSettings(saes=("b",), top=2)).rows
    for position in {row["position"] for row in every}:
        own = [row for row in every if row["position"] == position]
        ranked = sorted(own, key=lambda r: (-(r["quantile"] or 0), -r["activation"]))
        assert [r["feature"] for r in few if r["position"] == position] == [
            r["feature"] for r in ranked[:2]
        ]


def test_the_verdict_has_what_is_expected_of_so_many_activations(folder, opened):
    found = fire(opened, TEXT, FireSettings(top=1))
    number = sum(len(stored_codes(folder, sae)) for sae in "ab")
    assert sum(found.active.values()) == number
    assert f"for the highest of {number} activations: in a text like the corpus" in found.verdict
    assert found.verdict in found.to_html().replace("&#39;", "'").replace("&#34;", '"')


@pytest.mark.parametrize(
    ("quantile", "active", "special"),
    [(0.958, 160, "nothing special"), (0.9999, 160, "unusual"), (0.99, 2, "unusual")],
)
def test_the_verdict_states_whether_the_highest_quantile_is_unusual(quantile, active, special):
    found = _conclusion(quantile, 100_000, active)
    assert found.startswith(f"This is {special} for the highest of {active} activations: ")
    # The highest of so many uniform quantiles, by simulation.
    drawn = np.random.default_rng(0).random((20_000, active)).max(1)
    p = (drawn >= quantile).mean()
    assert (p <= 0.05) == (special == "unusual")
    if p < 0.99:
        printed = float(re.search(r"probability ([\d.]+)%", found)[1]) / 100
        assert printed == pytest.approx(p, abs=0.004)


def test_a_quantile_of_few_tokens_is_never_certain():
    """Above all 9 activations of a feature: one in ten is as high, so 20 of them nearly always are."""
    assert "nothing special" in _conclusion(1.0, 9, 20)
    assert "probability 87.8%" in _conclusion(1.0, 9, 20)
    assert "unusual" in _conclusion(1.0, None, 20)


def test_print_shows_what_the_command_prints(folder, opened, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    for names, options in (((), ()), (("a",), ("--sae", "a"))):
        found = fire(opened, TEXT, FireSettings(saes=names))
        with pytest.raises(SystemExit):
            main(["fire", TEXT, "--atlas", opened.url, "-q", *options])
        lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
        assert str(found).splitlines() == [line.rstrip() for line in lines]
        assert "\n" not in repr(found)
        assert "<p>" in found._repr_html_()
    nothing = replace(found, rows=[], active={"a": 0})
    assert str(nothing) == nothing.verdict == "No feature is active on this text."
    assert "No feature is active on this text." in nothing.to_html()


def test_a_folder_is_opened_and_the_public_name_is_the_function(folder, opened):
    settings = FireSettings(top=2)
    assert analysis.fire is fire
    assert analysis.fire(opened.url, TEXT, settings) == fire(opened, TEXT, settings)


def test_requests_without_an_answer_are_messages(opened):
    with pytest.raises(BadInput, match="has no tokens"):
        fire(opened, "")
    with pytest.raises(UnknownName):
        fire(opened, TEXT, FireSettings(saes=("absent",)))


def test_the_command_prints_tokens_and_features(folder, capsys):
    for words, check in (
        (["--rows"], lambda out: "\na\n" in out and "\nb\n" in out),
        (["--sae", "a"], lambda out: "\na\n" in out and "\nb\n" not in out),
        ([], lambda out: "The strongest feature is " in out.splitlines()[0]),
        (["--json"], lambda out: {r["sae"] for r in json.loads(out)["result"]} == {"a", "b"}),
        (["--json"], lambda out: "The strongest feature is " in json.loads(out)["verdict"][0]),
    ):
        with pytest.raises(SystemExit) as done:
            main(["fire", TEXT, "--atlas", str(folder / "corpus.atlas"), "-q", *words])
        out = capsys.readouterr()
        assert done.value.code == 0, out.err
        assert check(out.out)


def test_one_row_per_token_has_the_strongest_feature_of_all_saes(folder, opened, capsys):
    rows = fire(opened, TEXT, FireSettings(top=10_000)).rows
    with pytest.raises(SystemExit):
        main(["fire", TEXT, "--atlas", str(folder / "corpus.atlas"), "-q"])
    lines = capsys.readouterr().out.splitlines()[2:]
    positions = sorted({row["position"] for row in rows})
    assert len(lines) == len(positions)
    for line, position in zip(lines, positions, strict=True):
        (name,) = re.findall(r"(?<!\S)[ab]/\d+(?!\S)", line)
        best = max(
            (row for row in rows if row["position"] == position),
            key=lambda row: (-1 if row["quantile"] is None else row["quantile"], row["activation"]),
        )
        (shown,) = [r for r in rows if r["position"] == position and r["feature"] == name]
        assert (shown["quantile"], shown["activation"]) == (best["quantile"], best["activation"])


def test_the_page_shades_every_token_by_its_quantile(opened, folder, tmp_path, monkeypatch, capsys):
    found = fire(opened, TEXT, FireSettings(top=2))
    page = found.to_html()
    assert "<script" not in page
    spans = re.findall(r'<span style="background: rgba\(var\(--on\), ([0-9.]+)\)" [^>]*>', page)
    assert len(spans) == sum(map(len, found.tokens.values())) > 4
    highest = {}
    for row in found.rows:
        key = row["sae"], row["position"]
        highest[key] = max(highest.get(key, 0.0), row["quantile"] or 0.0)
    expected = [
        0.85 * highest.get((sae, i), 0.0)
        for sae in dict.fromkeys(row["sae"] for row in found.rows)
        for i in range(len(found.tokens[sae]))
    ]
    assert [float(shade) for shade in spans] == pytest.approx(expected, abs=6e-4)
    hostile = replace(found, tokens={s: ["<script>x</script>"] for s in found.tokens})
    assert "<script" not in hostile.to_html()
    with pytest.raises(SystemExit) as done:
        main(["fire", TEXT, "--html", str(tmp_path / "absent" / "x.html"), "--atlas", opened.url])
    assert done.value.code == 2
    assert "There is no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        main(["fire", TEXT, "--html", str(tmp_path / "x.html"), "--atlas", opened.url, "-q"])
    assert done.value.code == 0
    assert (tmp_path / "x.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_floors_are_used_only_if_they_are_named(folder, opened, tmp_path, monkeypatch, capsys):
    rows = {"a": {"name": "a"}, "b": {"name": "b", "role": "untrained"}}
    floors = "ingest.fire.text_features.stored_floors"
    monkeypatch.setattr(floors, lambda sound: list(rows.values()))
    assert set(fire(opened, TEXT).tokens) == {"a"}
    assert set(fire(opened, TEXT, FireSettings(saes=("b",))).tokens) == {"b"}
    printed = []
    for words in ([], ["--sae", "b"]):
        with pytest.raises(SystemExit):
            main(["fire", TEXT, "--atlas", opened.url, *words])
        printed.append(capsys.readouterr().err)
    assert "Floors are not used unless `--sae` names them: b." in printed[0]
    assert "Floors" not in printed[1]
    monkeypatch.setattr(
        floors, lambda sound: [row | {"role": "untrained"} for row in rows.values()]
    )
    assert set(fire(opened, TEXT).tokens) == {"a", "b"}  # only floors: all are used


def test_the_remark_counts_the_active_features_that_are_not_printed(folder, opened):
    found = fire(opened, TEXT, FireSettings(saes=("a",), top=2))
    codes, tokens = stored_codes(folder, "a"), len(found.tokens["a"])
    shown = sum(min(2, sum(at == i for at, _ in codes)) for i in range(tokens))
    assert about_omitted(found, top=None) == (
        f"Shown: {shown / tokens:.3g} of {len(codes) / tokens:.3g} active features per token and SAE, "
        "on average. --top shows more."
    )
    assert f"of {len(codes):,} activations of 1 SAE" in about_omitted(found, top=2)
