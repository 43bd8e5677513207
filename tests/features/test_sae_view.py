"""``Atlas("…")``, ``atlas["A"]`` and ``atlas["A/5"]``: equal to the tables, codes and weights."""

import shutil

import numpy as np
import pytest
from random_models import random_model, small_tokenizer
from sae_lens import SAE
from small_ingest import texts, topk

import analysis
import atlas as package
from atlas import Atlas
from atlas.errors import BadInput, UnknownName
from atlas.features.card import FeatureCard
from atlas.features.sae_view import SaeView
from ingest.codes.store import read_shard
from ingest.forward.run import ingest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    random_model("llama").save_pretrained(folder / "model")
    small_tokenizer(vocabulary=80).save_pretrained(folder / "model")
    for seed, name in enumerate("ab"):
        topk(seed=seed).save_model(folder / name)
    saes = [folder / "b", folder / "a"]
    ingest(folder / "x.atlas", saes=saes, text=texts(60), model=folder / "model")
    return folder


@pytest.fixture
def opened(folder):
    with Atlas(folder / "x.atlas") as atlas:
        yield atlas


def test_the_class_opens_a_path(folder, tmp_path):
    assert Atlas(str(folder / "x.atlas")).saes == ["a", "b"]
    with pytest.raises(BadInput):
        Atlas(tmp_path / "absent.atlas")
    assert package.__version__.count(".") == 2


def test_an_sae_has_its_table_codes_and_decoder(folder, opened):
    sae = opened["a"]
    complete = opened.features("a")
    stored = [name for name in complete.column_names if complete[name].null_count < len(complete)]
    assert sae.features.equals(complete.select(stored).to_pandas())
    assert not {"degree", "effect_kl"} & set(stored)  # neither study ran
    assert {"id", "frequency", "mean_activation", "top_token"} <= set(stored)
    assert list(opened.frame("Feature", sae="a")) == complete.column_names
    files = sorted((folder / "x.atlas" / "codes" / "a").glob("*.arrow"))
    dense = []
    for block in (b for file in files for b in read_shard(file)):
        rows = np.zeros((len(block), block.d_sae), dtype=np.float32)
        rows[block.rows, block.indices] = block.values
        dense.append(rows)
    dense = np.concatenate(dense)
    assert sae.codes.shape == dense.shape
    assert np.array_equal(sae.codes.toarray(), dense)
    assert np.array_equal((dense > 0).sum(axis=0), sae.features["active_tokens"])
    weights = SAE.load_from_disk(folder / "a").W_dec.detach().numpy()
    assert np.array_equal(sae.decoder, weights)
    assert sae.graph().vcount() == sae.properties["d_sae"]
    assert set(sae.examples["sae"]) == {"a"}


def test_matches_are_the_same_edges_from_both_sides(opened):
    edges = {(e["source"], e["target"]): e["pearson"] for e in opened.table("MATCHES").to_pylist()}
    assert edges
    for name, other, turned in (("a", "b", False), ("b", "a", True)):
        frame = opened[name].matches(other)
        ends = zip(frame["feature"], frame["match"], strict=True)
        pairs = [(b, a) if turned else (a, b) for a, b in ends]
        assert dict(zip(pairs, frame["pearson"], strict=True)) == edges
        assert frame["pearson"].is_monotonic_decreasing
        assert all(f.startswith(f"{name}/") for f in frame["feature"])


def test_matches_take_an_sae_and_refuse_a_pair_that_was_never_matched(folder, opened, tmp_path):
    assert opened["a"].matches(opened["b"]).equals(opened["a"].matches("b"))
    with pytest.raises(BadInput, match="a is named twice"):
        opened["a"].matches("a")
    shutil.copytree(folder / "x.atlas", tmp_path / "x.atlas")
    shutil.rmtree(next((tmp_path / "x.atlas").rglob("a+b")))
    with Atlas(tmp_path / "x.atlas") as without:
        for one, other in ("ab", "ba"):
            with pytest.raises(BadInput, match=f"{one} was never matched with {other}, so"):
                without[one].matches(other)


def test_a_feature_is_its_card(opened):
    card = opened["a/3"]
    assert isinstance(card, FeatureCard)
    assert card.id == "a/3"


@pytest.mark.parametrize("name", ["c", "a/9999", "", "c/1"])
def test_unknown_names_are_refused(opened, name):
    with pytest.raises(UnknownName):
        opened[name]
    with pytest.raises(UnknownName):
        opened["a"].matches("absent")


def test_representations_name_the_sae_and_escape(opened):
    assert repr(opened["a"]).startswith("<SAE a: ")
    assert "<table" in opened["a"]._repr_html_()


def test_a_frame_is_a_table_an_answer_or_cypher(opened):
    assert opened.frame("Feature", sae="a").equals(opened.table("Feature", sae="a").to_pandas())
    rows = opened.ask("tokens_of_feature", feature="a/3", limit=2).to_pandas()
    assert opened.frame("tokens_of_feature", feature="a/3", limit=2).equals(rows)
    cypher = "MATCH (s:SAE {name: $name}) RETURN s.d_sae AS n"
    assert opened.frame(cypher, name="a")["n"].tolist() == [opened["a"].properties["d_sae"]]
    with pytest.raises(UnknownName, match="No table is named 'Featur'"):
        opened.frame("Featur")
    with pytest.raises(UnknownName, match="No query is named 'tokens_of_featur'"):
        opened.frame("tokens_of_featur", feature="a/3")
    with pytest.raises(BadInput, match="takes sae= only; limit was passed"):
        opened.frame("Feature", limit=2)


def test_an_atlas_shows_its_saes_in_a_notebook(opened):
    html = opened._repr_html_()
    assert html.count("<tr") == 1 + len(opened)
    assert "<td>a</td>" in html


def test_an_atlas_is_a_collection_of_its_saes(opened):
    assert "a" in opened
    assert "c" not in opened
    assert list(opened) == ["a", "b"]
    assert len(opened) == 2
    with pytest.raises(BadInput, match="3 was passed"):
        opened[3]


def test_notebooks_show_no_control_characters(opened, monkeypatch):
    hostile = "\x1b[31m\u202e<b>"
    frame = opened.frame("SAE").assign(model=hostile)
    properties = {**opened["a"].properties, "model": hostile}
    monkeypatch.setattr(opened, "frame", lambda name: frame)
    monkeypatch.setattr(SaeView, "properties", properties)
    for html in (opened._repr_html_(), opened["a"]._repr_html_()):
        assert "␛[31m\\u202e&lt;b&gt;" in html
        assert "\x1b" not in html
        assert "\u202e" not in html


def test_a_feature_by_its_index(opened):
    assert opened["a"][3].id == "a/3"
    for index in (-1, 9999):
        with pytest.raises(UnknownName, match="The features of a are"):
            opened["a"][index]
    with pytest.raises(TypeError):
        iter(opened["a"])


@pytest.mark.parametrize("url", [3, None, ""])
def test_values_that_are_no_path_are_one_message(url):
    with pytest.raises(BadInput, match="was passed as an atlas"):
        Atlas(url)


def test_an_unknown_graph_library_is_one_message(opened):
    with pytest.raises(BadInput, match="kind is 'nx'; expected 'igraph' or 'networkx'"):
        opened["a"].graph(kind="nx")


def test_a_single_sae_name_is_not_read_as_letters(folder):
    settings = analysis.PositionSettings(draws=2)
    path = folder / "x.atlas"
    one = analysis.activation_by_position(path, "a", settings=settings)
    assert one.rows == analysis.activation_by_position(path, ["a"], settings=settings).rows
    with pytest.raises(UnknownName, match="'absent'"):
        analysis.activation_by_position(path, "absent", settings=settings)


def test_a_notebook_shows_only_the_message_of_an_error():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shown = []
    shell._showtraceback = lambda kind, error, lines: shown.append(lines)
    shell.run_cell("from atlas import Atlas\nAtlas('/no/such.atlas')")
    (lines,) = shown
    assert len(lines) == 1
    assert lines[0].startswith("BadInput: There is no atlas at /no/such.atlas.")


def test_python_suggests_names_of_the_analysis():
    with pytest.raises(AttributeError) as raised:
        analysis.graph_statistic  # noqa: B018 - the access raises
    assert (raised.value.name, raised.value.obj) == ("graph_statistic", analysis)
