"""Complete ingests of a small model: results equal a brute force, for any division of the work."""

import dataclasses
import json

import numpy as np
import pytest
from small_ingest import (
    CONTEXT,
    HOOK,
    assert_close,
    brute_force,
    dense,
    jumprelu,
    model,
    named,
    run,
    tables,
    texts,
    topk,
)

from atlas.disk.atomic_files import discard
from atlas.disk.folder import Folder
from atlas.errors import BadActivations, BadInput, Mismatch, OutOfSpace, RequestError
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings


@pytest.fixture(scope="module")
def lm():
    return model()


@pytest.fixture(scope="module")
def documents():
    return texts()


@pytest.fixture(scope="module")
def sae():
    return topk()


def test_codes_and_statistics_equal_a_brute_force(tmp_path, lm, sae, documents):
    atlas = run(tmp_path / "a.atlas", lm, [named(sae, "top")], documents)
    ids, codes, inputs, outputs = brute_force(documents, lm, sae)
    folder = Folder.open(tmp_path / "a.atlas")
    found_ids, found = dense(folder, "top")
    assert found_ids.tolist() == ids.tolist()
    assert ((found > 0) == (codes > 0)).all()
    np.testing.assert_allclose(found, np.maximum(codes, 0), atol=1e-5)

    row = atlas.table("SAE").to_pylist()[0]
    assert row["tokens"] == len(ids)
    assert row["l0"] == pytest.approx((codes > 0).sum() / len(ids))
    fvu = ((inputs - outputs) ** 2).sum() / ((inputs - inputs.mean(0)) ** 2).sum()
    assert row["fvu"] == pytest.approx(fvu, rel=1e-5)

    for feature in atlas.features("top").to_pylist():
        active = codes[codes[:, feature["idx"]] > 0, feature["idx"]]
        assert feature["active_tokens"] == len(active)
        assert feature["frequency"] == pytest.approx(len(active) / len(ids))
        assert feature["dead"] == (len(active) == 0)
        if len(active):
            assert feature["mean_activation"] == pytest.approx(active.mean(), rel=1e-5)
            assert feature["std_activation"] == pytest.approx(active.std(), rel=1e-3, abs=1e-5)
            assert feature["max_activation"] == pytest.approx(active.max(), rel=1e-5)

    for edge in atlas.table("FIRES_ON").to_pylist():
        idx = int(edge["source"].split("/")[1])
        token = int(edge["target"].split("/")[1])
        on = (codes[:, idx] > 0) & (ids == token)
        assert edge["count"] == on.sum()
        assert edge["share"] == pytest.approx(on.sum() / (codes[:, idx] > 0).sum())
        assert edge["rate"] == pytest.approx(on.sum() / (ids == token).sum())

    for example in atlas.table("Example").to_pylist():
        if example["rank"] == 0:
            assert example["activation"] == pytest.approx(codes[:, example["idx"]].max(), rel=1e-5)
            assert example["activations"][example["peak"]] == pytest.approx(example["activation"])
            assert example["text"] == "".join(example["tokens"])


@pytest.fixture(scope="module")
def long_documents():
    return texts(1500, seed=3, words=(50, 120))  # about 10 blocks


@pytest.fixture(scope="module")
def reference(tmp_path_factory, lm, sae, long_documents):
    path = tmp_path_factory.mktemp("reference") / "a.atlas"
    return run(path, lm, [named(sae, "top")], long_documents)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 100])
def test_statistics_do_not_depend_on_the_shards(tmp_path, lm, sae, long_documents, reference, size):
    atlas = run(
        tmp_path / "a.atlas",
        lm,
        [named(sae, "top")],
        long_documents,
        settings=Settings(shard_blocks=size),
    )
    assert_close(tables(atlas), tables(reference))


@pytest.mark.slow
def test_statistics_without_stored_codes_are_the_same(tmp_path, lm, sae, long_documents, reference):
    atlas = run(
        tmp_path / "a.atlas",
        lm,
        [named(sae, "top")],
        long_documents,
        settings=Settings(shard_blocks=2, keep_codes=False),
    )
    folder = Folder.open(tmp_path / "a.atlas")
    assert not folder.codes("top").exists()
    assert folder.runs() == []
    found, wanted = tables(atlas), tables(reference)
    for each in (found, wanted):  # samples need a second pass over the codes
        each["Example"] = [e for e in each["Example"] if e["kind"] == "top"]
        del each["SHOWN_BY"]
    assert_close(found, wanted)


def test_several_saes_in_one_pass_equal_each_alone(tmp_path, lm, documents):
    def saes():
        return [
            named(topk(), "top"),
            named(jumprelu(seed=1), "jump"),
            named(topk(hook="blocks.0.hook_resid_post", seed=2), "early"),
        ]

    together = run(tmp_path / "all.atlas", lm, saes(), documents)
    for i, name in enumerate(["top", "jump", "early"]):
        alone = run(tmp_path / f"{name}.atlas", lm, [saes()[i]], documents)
        assert_close(together.features(name).to_pylist(), alone.features(name).to_pylist())


def test_an_sae_is_added_later_without_the_text(tmp_path, lm, documents):
    run(tmp_path / "a.atlas", lm, [named(topk(), "one")], documents)
    before = Folder.open(tmp_path / "a.atlas").sound().parts
    atlas = run(tmp_path / "a.atlas", lm, [named(topk(seed=1), "two")], None)
    assert atlas.saes == ["one", "two"]
    after = Folder.open(tmp_path / "a.atlas").sound().parts
    for key, part in before.items():
        assert after[key].manifest.hash == part.manifest.hash


def test_repeating_an_ingest_has_no_effect(tmp_path, lm, sae, documents):
    sentences = []

    class RecordingProgress:
        def report(self, sentence):
            sentences.append(sentence)

        def stage(self, title, **_):
            raise AssertionError(f"work was begun: {title}")

    run(tmp_path / "a.atlas", lm, [named(sae, "top")], documents)
    run(tmp_path / "a.atlas", lm, [named(sae, "top")], None, progress=RecordingProgress())
    assert sentences == ["top is already in the atlas, with the same text and settings."]


def test_another_sae_of_the_same_name_needs_replace(tmp_path, lm, documents):
    path = tmp_path / "a.atlas"
    run(path, lm, [named(topk(), "top")], documents)
    with pytest.raises(RequestError, match=r"a different SAE top \(sources sae.weights"):
        run(path, lm, [named(topk(seed=1), "top")], None)
    atlas = run(path, lm, [named(topk(seed=1), "top")], None, replace=True)
    assert Folder.open(path).sound().stale == {}
    alone = run(tmp_path / "b.atlas", lm, [named(topk(seed=1), "top")], documents)
    assert_close(tables(atlas), tables(alone))


def test_another_corpus_is_refused_without_loss(tmp_path, lm, documents):
    path = tmp_path / "a.atlas"
    run(path, lm, [named(topk(), "one")], documents)
    with pytest.raises(Mismatch, match="is another one"):
        run(path, lm, [named(topk(seed=1), "two")], documents[1:])
    assert run(path, lm, [named(topk(seed=1), "two")], documents).saes == ["one", "two"]


def test_an_sae_of_another_width_is_refused_before_any_work(tmp_path, lm, documents):
    path = tmp_path / "a.atlas"
    with pytest.raises(Mismatch, match="24"):
        run(path, lm, [named(topk(d_in=16), "narrow")], documents)
    assert not path.exists()


def test_nan_is_reported_with_sae_and_shard(tmp_path, lm, documents):
    import torch

    broken = named(topk(), "broken")
    with torch.no_grad():
        broken.sae.W_dec[3] = float("nan")  # once opened, since a damaged file is refused
    with pytest.raises(BadActivations, match=r"NaN or Inf .*\(SAE broken, shard 0;"):
        run(
            tmp_path / "a.atlas",
            lm,
            [named(topk(seed=1), "good"), broken],
            documents,
        )
    assert run(tmp_path / "a.atlas", lm, [named(topk(seed=1), "good")], None).saes == ["good"]


def test_a_damaged_sae_is_refused_before_any_work(tmp_path, lm, documents):
    import torch

    damaged = topk()
    with torch.no_grad():
        damaged.W_dec[0, 0] = float("nan")
    with pytest.raises(BadInput, match=r"W_dec\[0, 0\] is nan"):
        run(tmp_path / "a.atlas", lm, {"damaged": damaged}, documents)
    assert not (tmp_path / "a.atlas").exists()


def test_another_hook_is_another_sae(tmp_path, lm, documents):
    path = tmp_path / "a.atlas"
    run(path, lm, [open_sae(topk(), name="top")], documents)
    with pytest.raises(
        RequestError, match=r"sources sae.hook: blocks.1.hook_resid_post stored, blocks.0"
    ):
        run(path, lm, [open_sae(topk(), name="top", hook="blocks.0.hook_resid_post")], None)


def test_the_same_text_under_another_path_is_the_same_corpus(tmp_path, lm, documents, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.jsonl").write_text("\n".join(json.dumps({"text": d}) for d in documents))
    run("a.atlas", lm, [named(topk(), "one")], "s.jsonl")
    atlas = run("a.atlas", lm, [named(topk(seed=1), "two")], str(tmp_path / "s.jsonl"))
    assert atlas.table("Corpus")["source"].to_pylist() == ["s.jsonl"]
    assert atlas.table("SAE").num_rows == 2


def test_another_model_of_the_same_name_is_refused_before_any_work(tmp_path, lm, documents):
    path = tmp_path / "a.atlas"
    run(path, lm, [named(topk(), "one")], documents)
    with pytest.raises(Mismatch, match="another model named small"):
        run(path, model(seed=1), [named(topk(seed=1), "two")], None)
    assert Folder.open(path).runs() == []


def test_missing_parts_are_computed_from_stored_codes(tmp_path, lm, documents, monkeypatch):
    path = tmp_path / "a.atlas"
    before = tables(run(path, lm, [named(topk(), "top")], documents))
    discard(Folder.open(path).part("examples", "top"))
    monkeypatch.setattr("ingest.forward.run.ShardRunner", None)  # no pass
    assert_close(tables(run(path, lm, [named(topk(), "top")], None)), before)


def test_changed_settings_of_a_reduction_recompute_its_part(tmp_path, lm, documents):
    path = tmp_path / "a.atlas"
    before = run(path, lm, [named(topk(), "top")], documents).folder.sound().parts
    run(path, lm, [named(topk(), "top")], None, settings=Settings(seed=5))
    after = Folder.open(path).sound().parts
    assert after["examples/top"].manifest.seed == 5
    assert after["statistics/top"].manifest.created == before["statistics/top"].manifest.created


def test_dropping_codes_later_makes_no_part_stale(tmp_path, lm, documents):
    path = tmp_path / "a.atlas"
    run(path, lm, [named(topk(), "top")], documents)
    run(
        path,
        lm,
        [named(topk(seed=1), "top")],
        None,
        replace=True,
        settings=Settings(keep_codes=False),
    )
    assert Folder.open(path).sound().stale == {}
    assert not Folder.open(path).codes("top").exists()


def test_too_little_memory_is_reported_before_the_work(tmp_path, lm, documents):
    with pytest.raises(OutOfSpace, match="memory"):
        run(
            tmp_path / "a.atlas",
            lm,
            [named(topk(), "top")],
            documents,
            settings=Settings(memory=1000),
        )
    assert Folder.open(tmp_path / "a.atlas").runs() == []


def test_a_missing_text_or_sae_is_refused(tmp_path, lm):
    with pytest.raises(BadInput, match="has no text yet; name one with `text`"):
        run(tmp_path / "a.atlas", lm, [named(topk(), "one")], None)
    with pytest.raises(BadInput, match="No SAE was named"):
        run(tmp_path / "a.atlas", lm, [], ["text"])
    with pytest.raises(BadInput, match="the name 'one'; give one another"):
        run(tmp_path / "a.atlas", lm, [named(topk(), "one"), named(topk(), "one")], ["text"])


def test_more_tokens_than_the_text_has_are_refused(tmp_path, lm, documents):
    with pytest.raises(BadInput, match=r"1,?000,?000.*\d"):
        run(
            tmp_path / "a.atlas",
            lm,
            [named(topk(), "one")],
            documents,
            settings=Settings(tokens=1_000_000),
        )


def test_tokens_limit_the_text(tmp_path, lm, documents):
    atlas = run(
        tmp_path / "a.atlas", lm, [named(topk(), "one")], documents, settings=Settings(tokens=100)
    )
    corpus = atlas.table("Corpus").to_pylist()[0]
    first = documents[: corpus["documents"]]
    special = set(lm.tokenizer.all_special_ids)
    counts = [
        sum(t not in special for t in lm.tokenizer(d, add_special_tokens=False)["input_ids"])
        for d in first
    ]
    assert sum(counts) >= 100 > sum(counts[:-1])
    assert atlas.table("SAE")["tokens"].to_pylist() == [sum(counts)]


def test_the_manifest_records_the_sources(reference, lm):
    part = reference.folder.sound().parts["sae/top"].manifest
    assert part.settings == {"context_size": CONTEXT, "prepend_bos": True, "batch_tokens": 4096}
    assert part.sources["model"]["weights"] == lm.weights
    assert part.dtypes["model"] == "float32"
    assert part.versions["torch"]
    assert json.loads((reference.folder.part("sae", "top") / "manifest.json").read_text())[
        "created"
    ]
    assert HOOK in reference.table("Site")["hook"].to_pylist()
    assert dataclasses.asdict(Settings())["seed"] == 0


def test_objects_in_memory_can_be_ingested(tmp_path, documents):
    """The objects: a transformers model and tokenizer, an SAE of sae-lens, and a list of strings."""
    from random_models import random_model, small_tokenizer

    from ingest import Settings as Same
    from ingest import ingest as by_name

    assert Same is Settings
    lm, sae = random_model("gpt2"), topk()
    atlas = by_name(
        tmp_path / "n.atlas", saes=[sae], model=lm, tokenizer=small_tokenizer(), text=documents
    )
    (row,) = atlas.table("SAE").to_pylist()
    assert row["source"] == "memory"
    features = atlas.features(row["name"]).to_pandas()
    assert len(features) == 40
    assert features["active_tokens"].sum() == round(row["l0"] * row["tokens"])
    card = atlas.ask("feature_card", feature=f"{row['name']}/0").to_pylist()
    assert card[0]["model"].startswith("gpt2-")
    assert f"{row['name']}" in repr(atlas)


def test_a_mapping_names_saes(tmp_path, documents, lm):
    topk().save_model(tmp_path / "saved")
    saes = {"mine": topk(seed=1), "other": tmp_path / "saved"}
    atlas = ingest(tmp_path / "n.atlas", saes=saes, text=documents, model=lm)
    assert atlas.saes == ["mine", "other"]
    with pytest.raises(BadInput, match="not a valid name"):
        ingest(tmp_path / "o.atlas", saes={"Not Valid": topk()}, text=documents, model=lm)
