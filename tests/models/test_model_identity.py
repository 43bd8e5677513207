"""Identity of models: another value of any parameter that a site depends on is another model."""

import shutil

import pytest
import torch
from edited_models import FIRST, LAST, edited, negate
from random_models import random_gemma3_with_vision, random_model, small_tokenizer
from recording_progress import RecordingProgress
from small_ingest import model, named, run, texts, topk

from analysis.residual.activations import Reader
from analysis.residual.settings import ResidualSettings
from analysis.residual.study import residual_study
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.study import map_sites
from atlas.disk.folder import Folder
from atlas.disk.parts import differ, stored_digests
from atlas.errors import Mismatch, RequestError
from ingest.forward.part_writer import PartWriter
from ingest.forward.shards import Group
from ingest.model.identity import without_digests
from ingest.model.language_model import open_model
from ingest.probe.study import probe_saes
from ingest.sae.autoencoder import open_sae
from ingest.text.tokenization import ContextSettings


@pytest.fixture(scope="module")
def lm():
    return model()


@pytest.fixture(scope="module")
def upper(lm):
    """Return the model with one weight matrix of its last block negated."""
    return edited(lm, negate("layers.1.mlp.down_proj.weight"))


@pytest.fixture
def path(lm, tmp_path):
    path = tmp_path / "a.atlas"
    run(path, lm, [named(topk(), "top")], texts(), match=None)
    return path


def test_digests_but_not_the_sample_cover_an_upper_block(lm, upper):
    assert upper.weights == lm.weights
    assert upper.parameters([FIRST]) == lm.parameters([FIRST])
    assert upper.parameters([LAST]) != lm.parameters([LAST])
    assert upper.differs_from(lm.parameters([LAST]))
    assert not upper.differs_from(lm.parameters([FIRST]))
    assert not lm.differs_from(())


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "gpt_neox", "gemma2", "phi", "qwen3", "gpt_neo"]
)
def test_digests_cover_every_parameter_except_the_final_norm(family):
    lm = open_model(random_model(family), name="m", tokenizer=small_tokenizer())
    last = [f"blocks.{lm.layers - 1}.hook_resid_post"]
    norms = {"norm", "ln_f", "final_layer_norm", "final_layernorm"}
    for name, parameter in lm.base.named_parameters():
        changed = edited(lm, lambda b, n=name: b.get_parameter(n).view(-1)[-1].add_(1))
        same = changed.parameters(last) == lm.parameters(last)
        assert same == (name.partition(".")[0] in norms), (name, parameter.shape)


def test_the_input_of_a_block_does_not_depend_on_it(lm, upper):
    hook = ["blocks.1.hook_resid_pre"]
    assert lm.parameters(hook) == lm.parameters([FIRST]) == upper.parameters(hook)
    assert len(lm.parameters(["hook_embed"])) == 1


def test_a_model_opened_less_deeply_has_a_prefix_of_the_digests(lm, tmp_path):
    lm.base.save_pretrained(tmp_path / "m")
    lm.tokenizer.save_pretrained(tmp_path / "m")
    shallow = open_model(tmp_path / "m", hooks=[FIRST])
    assert shallow.parameters([LAST]) == lm.parameters([FIRST])
    assert not shallow.differs_from(lm.parameters([LAST]))
    assert open_model(tmp_path / "m").parameters([LAST]) == lm.parameters([LAST])


def test_chains_are_compared_on_their_common_blocks():
    assert not differ("abc", "ab")
    assert not differ("abc", ())
    assert differ("abc", "aX")
    assert differ("abX", "abc")


def saved(transformer, folder, **how):
    """Save a model as users do, and return its folder, which has the name of the model."""
    transformer.save_pretrained(folder, **how)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Save two models named small: the second has one upper weight matrix negated."""
    path, transformer = tmp_path_factory.mktemp("models"), random_model("llama")
    original = saved(transformer, path / "original" / "small")
    with torch.no_grad():
        transformer.get_parameter("model.layers.1.mlp.down_proj.weight").neg_()
    return original, saved(transformer, path / "changed" / "small")


def not_loaded_again(lm, monkeypatch):
    def refuse(blocks):
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr(lm.digests, "_deeper", refuse)


@pytest.mark.parametrize("how", [{}, {"max_shard_size": "20KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_blocks_that_are_not_loaded_are_compared_in_the_files(tmp_path, how, dtype, monkeypatch):
    transformer = random_model("llama")
    path = saved(transformer, tmp_path / "small", **how)
    deepest = f"blocks.{transformer.config.num_hidden_layers - 1}.hook_resid_post"
    stored = open_model(path, dtype=dtype).parameters([deepest])
    shallow = open_model(path, hooks=["hook_embed"], dtype=dtype)
    not_loaded_again(shallow, monkeypatch)
    assert shallow.base.config.num_hidden_layers == 1
    assert len(stored) == 4
    assert not shallow.differs_from(stored)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "phi", "qwen3", "vision"])
def test_files_of_every_family_are_understood(tmp_path, family, monkeypatch):
    transformer = random_gemma3_with_vision() if family == "vision" else random_model(family)
    path = saved(transformer, tmp_path / "small")
    stored = open_model(path).parameters(["blocks.2.hook_resid_post"])
    shallow = open_model(path, hooks=["hook_embed"])
    not_loaded_again(shallow, monkeypatch)
    assert len(stored) == 4
    assert not shallow.differs_from(stored)


def test_a_model_is_loaded_deeper_where_its_files_are_not_understood(folders, monkeypatch):
    original, changed = folders
    stored = open_model(original).parameters([LAST])
    for path in folders:
        shallow = open_model(path, hooks=["hook_embed"])
        assert shallow.differs_from(stored) == (path == changed)
        monkeypatch.setattr(shallow.digests, "_files", None)
        assert shallow.differs_from(stored) == (path == changed)


def test_a_part_that_reads_a_lower_site_refuses_a_changed_model(folders, tmp_path):
    """The site does not depend on the changed parameter; the SAE that is probed does."""
    original, changed = map(str, folders)
    path, other = tmp_path / "a.atlas", tmp_path / "b.atlas"
    run(path, original, [named(topk(), "top")], texts(), match=None)
    with pytest.raises(Mismatch, match="its weights differ"):
        probe_saes(path, ["top"], model=changed)
    probe_saes(path, ["top"], model=original)
    with pytest.raises(Mismatch, match="its weights differ"):
        probe_saes(path, ["top"], model=changed)  # probed already
    with pytest.raises(Mismatch, match="another model named small"):
        run(path, changed, [named(topk(hook=FIRST), "low")], texts(), match=None)
    plain = TranscoderSettings(penalties=(1e-3,), draws=0, folds=3)
    with pytest.raises(Mismatch, match="weights"):
        map_sites(path, targets=[FIRST], settings=plain, model=changed)
    run(other, original, [named(topk(hook=FIRST), "low")], texts(), match=None)
    run(other, changed, [named(topk(hook=FIRST), "low")], None, match=None)  # nothing goes deeper


def test_a_changed_folder_is_another_model(folders, tmp_path):
    """Without --model, the folder that the atlas records is opened."""
    here = tmp_path / "small"
    shutil.copytree(folders[0], here)
    path = tmp_path / "a.atlas"
    run(path, str(here), [named(topk(), "top")], texts(), match=None)
    shutil.copy(folders[1] / "model.safetensors", here)
    with pytest.raises(Mismatch, match="its weights differ"):
        probe_saes(path, ["top"])


def test_a_residual_study_refuses_a_changed_model_before_it_trains(folders, tmp_path, monkeypatch):
    original, changed = map(str, folders)
    path = tmp_path / "a.atlas"
    run(path, original, [named(topk(), "top")], texts(), match=None)
    monkeypatch.setattr("analysis.residual.study.train_all", None)
    settings = ResidualSettings(source="hook_embed", target=LAST, seeds=1, draws=1)
    with pytest.raises(Mismatch, match="another model named small"):
        residual_study(path, model=changed, text=texts(), settings=settings)


def test_ingest_refuses_a_changed_model(path, upper):
    with pytest.raises(RequestError, match=r"sources model\.parameters"):
        run(path, upper, [named(topk(), "top")], texts(), match=None)
    with pytest.raises(Mismatch, match="another model named small"):
        run(path, upper, [named(topk(seed=1), "other")], texts(), match=None)


def test_a_changed_upper_block_is_the_same_model_for_an_sae_below_it(path, upper, lm):
    """No part of the atlas depends on that block until a part reads a deeper site."""
    low = path.parent / "low.atlas"
    run(low, lm, [named(topk(hook=FIRST), "low")], texts(), match=None)
    run(low, upper, [named(topk(hook=FIRST), "low")], texts(), match=None)
    with pytest.raises(Mismatch, match="another model named small"):
        run(path, upper, [named(topk(hook=FIRST), "low")], texts(), match=None)


def test_probe_and_map_refuse_a_changed_model(path, upper):
    with pytest.raises(Mismatch, match="its weights differ"):
        probe_saes(path, ["top"], sites=[LAST], model=upper)
    plain = TranscoderSettings(penalties=(1e-3,), draws=0, folds=3)
    with pytest.raises(Mismatch, match="weights"):
        map_sites(path, targets=[LAST], settings=plain, model=upper)


def test_a_map_that_reads_deeper_extends_the_stored_digests(lm, upper, tmp_path):
    low = tmp_path / "low.atlas"
    run(low, lm, [named(topk(hook=FIRST), "low")], texts(), match=None)
    assert (
        len(stored_digests([p.manifest for p in Folder.open(low).sound().parts.values()], "small"))
        == 2
    )
    plain = TranscoderSettings(penalties=(1e-3,), draws=0, folds=3)
    map_sites(low, targets=[LAST], settings=plain, model=lm)
    with pytest.raises(Mismatch, match="weights"):
        map_sites(low, targets=["blocks.1.hook_mlp_out"], settings=plain, model=upper)


def test_activations_of_a_residual_study_depend_on_every_parameter(lm, upper):
    def origin(of):
        return Reader(of, FIRST, LAST, contexts_of(of), 64).origin()

    assert origin(lm) != origin(upper)
    assert origin(lm) == origin(edited(lm, lambda base: None))


def contexts_of(lm):
    return ContextSettings(16, prepend_bos=True)


def test_an_interrupted_run_is_not_resumed_with_a_changed_model(lm, upper):
    sae = open_sae(topk(), name="top")

    class Corpus:
        id, source = "c", "memory"

    origins = {
        PartWriter(None, None, Group(m, (sae,), contexts_of(m), 64), Corpus())
        .sae_manifest(sae.info)
        .origin
        for m in (lm, upper)
    }
    assert len(origins) == 2


def test_an_atlas_without_digests_works_and_reports_the_incomplete_check_once(
    lm, tmp_path, monkeypatch
):
    """The manifest has the form of the previous version, without name and digests of the model."""
    path, now = tmp_path / "a.atlas", PartWriter.sae_manifest
    with monkeypatch.context() as before:
        before.setattr(PartWriter, "sae_manifest", lambda d, info: without_digests(now(d, info)))
        run(path, lm, [named(topk(), "top")], texts(), match=None)
    written = [p.manifest.sources.get("model", {}) for p in Folder.open(path).sound().of("sae")]
    assert all({"name", "parameters"}.isdisjoint(m) for m in written)
    progress = RecordingProgress()
    run(path, lm, [named(topk(), "top")], None, match=None, progress=progress)
    assert ["is already in the atlas" in s for s in progress.messages] == [True, False]
    assert "could not be checked completely" in progress.messages[1]
    progress = RecordingProgress()
    probe_saes(path, ["top"], sites=[LAST], model=lm, progress=progress)
    assert sum("could not be checked completely" in s for s in progress.messages) == 1
    progress = RecordingProgress()
    run(path, lm, [named(topk(seed=1), "new")], None, match=None, progress=progress)
    assert sum("could not be checked completely" in s for s in progress.messages) == 1
    assert Folder.open(path).sound().stale == {}
