"""Training of SAEs: equal to the loop of sae-lens, alone and together; floors, resumption, bad input."""

import copy
import errno
import json
import re
import tempfile
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import sae_lens
import small_training
import torch
from click.testing import CliRunner
from random_models import small_tokenizer
from sae_lens import SAE
from safetensors.torch import load_file
from small_training import SITES, hashes, settings, texts, trained

from atlas.api import Atlas
from atlas.cli.main import command as atlas_command
from atlas.errors import BadActivations, BadInput, OutOfSpace, RequestError, UnknownName
from ingest.sae.autoencoder import open_sae
from ingest.train import job as jobs
from ingest.train import loop, run
from ingest.train.buffer import batches
from ingest.train.saes import centre, freeze, limit_activity, new_sae
from ingest.train.specs import SaeSpec
from ingest.train.trainer import new_trainer, restore, state_of, take_steps

ARCHITECTURES = ("topk", "batchtopk", "jumprelu", "standard", "gated", "matryoshka")


def spec(architecture="topk", role="trained", *, width=32, k=4, seed=0):
    return SaeSpec("one", SITES[0], 24, width, k, architecture, seed, role, None, draw=7)


def untrained(architecture="topk", role="trained", **more):
    one = spec(architecture, role, **more)
    return new_sae(one, sparsity=None, steps=50, metadata={"model_name": "small"})


def inputs(rows=64 * 50, *, seed=0):
    draw = torch.Generator().manual_seed(seed)
    few = torch.randn(rows, 6, generator=draw) @ torch.randn(6, 24, generator=draw)
    return few + 0.1 * torch.randn(rows, 24, generator=draw) + 1


@pytest.mark.filterwarnings("ignore:WARNING")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_steps_equal_the_loop_of_sae_lens(architecture):
    x = inputs()
    mine = untrained(architecture)
    other = copy.deepcopy(mine)
    trainer = new_trainer(mine, steps=50, batch=64, learning_rate=1e-3)
    trainer.activation_scaler.scaling_factor = 0.7
    take_steps(trainer, batches(x, batch=64, seed=3, number=0), after=lambda _: None)
    reference = sae_lens.SAETrainer(
        cfg=copy.deepcopy(trainer.cfg),
        sae=other,
        data_provider=batches(x, batch=64, seed=3, number=0),
    )
    reference.activation_scaler.scaling_factor = 0.7
    reference.fit()
    mine.fold_activation_norm_scaling_factor(0.7)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_restored_trainer_takes_equal_steps(architecture):
    x = inputs()
    steps = list(batches(x, batch=64, seed=0, number=0))
    first = new_trainer(untrained(architecture), steps=50, batch=64, learning_rate=1e-3)
    take_steps(first, steps[:17], after=lambda _: None)
    second = new_trainer(untrained(architecture), steps=50, batch=64, learning_rate=1e-3)
    restore(second, copy.deepcopy(state_of(first)))
    take_steps(first, steps[17:], after=lambda _: None)
    take_steps(second, steps[17:], after=lambda _: None)
    for name, value in first.sae.state_dict().items():
        torch.testing.assert_close(second.sae.state_dict()[name], value, rtol=0, atol=0)


def test_a_buffer_is_read_once_in_an_order_of_the_seed():
    x = torch.arange(512.0)[:, None]
    orders = {}
    for seed in (0, 1):
        parts = list(batches(x, batch=64, seed=seed, number=2))
        assert [len(p) for p in parts] == [64] * 8
        assert sorted(torch.cat(parts).flatten().tolist()) == list(range(512))
        orders[seed] = set(parts[0].flatten().tolist())
    assert orders[0] != orders[1]


def test_several_saes_equal_one_by_one(tmp_path):
    together = {"seeds": (0, 1), "widths": (32, 40), "baselines": ("frozen-decoder",)}
    rows = trained(tmp_path / "all", **together)
    assert len(rows) == 2 * 2 * 2 * 2
    all_files = hashes(tmp_path / "all")
    for site in SITES:
        for seed in (0, 1):
            for width in (32, 40):
                trained(tmp_path / "one", sites=(site,), seeds=(seed,), widths=(width,))
    for name, value in hashes(tmp_path / "one").items():
        if not name.endswith("quality.json"):
            assert all_files[name] == value, name


def test_seeds_and_widths_start_from_different_weights(tmp_path):
    rows = trained(tmp_path, sites=SITES[:1], seeds=(0, 1), baselines=("untrained",), steps=2)
    weights = {
        r["sae"]: load_file(f"{r['folder']}/sae_weights.safetensors")["W_dec"]
        for r in rows
        if r["role"] == "untrained"
    }
    a, b = weights.values()
    best = (a @ b.T).abs().max(1).values
    assert best.mean() < 0.9  # 32 random directions in 24 dimensions


def test_training_of_a_floor_does_not_change_its_frozen_parameters(tmp_path):
    rows = trained(
        tmp_path,
        sites=SITES[:1],
        architectures=("topk", "jumprelu", "standard", "gated"),
        baselines=("frozen-decoder", "frozen-encoder", "untrained"),
    )
    for architecture in ("topk", "jumprelu", "standard", "gated"):
        of = {r["role"]: r for r in rows if r["architecture"] == architecture}
        w = {role: load_file(f"{r['folder']}/sae_weights.safetensors") for role, r in of.items()}

        def direction(x):
            return x / x.norm(dim=-1, keepdim=True)

        start = direction(w["untrained"]["W_dec"])
        torch.testing.assert_close(direction(w["frozen-decoder"]["W_dec"]), start)
        assert (direction(w["trained"]["W_dec"]) - start).abs().max() > 0.01
        assert (direction(w["frozen-encoder"]["W_dec"]) - start).abs().max() > 0.01
        encoder = direction(w["untrained"]["W_enc"].T)
        torch.testing.assert_close(direction(w["frozen-encoder"]["W_enc"].T), encoder)
        assert (direction(w["frozen-decoder"]["W_enc"].T) - encoder).abs().max() > 0.01
        torch.testing.assert_close(w["frozen-encoder"]["b_dec"], w["untrained"]["b_dec"])
        trained_record = json.loads((tmp_path / of["trained"]["sae"] / "training.json").read_text())
        assert trained_record["role"] == "trained"
        assert trained_record["floor_of"] is None
        for role in ("frozen-decoder", "frozen-encoder", "untrained"):
            record = json.loads((tmp_path / of[role]["sae"] / "training.json").read_text())
            assert (record["role"], record["floor_of"]) == (role, of["trained"]["sae"])
            assert record["steps"] == (0 if role == "untrained" else 40)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("k", [1, 4, 16])
def test_a_random_encoder_has_k_active_features(architecture, k):
    x = inputs(2000)
    one = spec(architecture, "untrained", width=64, k=k)
    sae = new_sae(one, sparsity=None, steps=0, metadata={})
    centre(sae, x.mean(0))
    limit_activity(sae, one, x)
    codes = saved_and_loaded(sae).encode(x)
    assert float((codes > 0).sum(1).float().mean()) == pytest.approx(k, abs=0.02)


def saved_and_loaded(sae):
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        loaded = SAE.load_from_disk(folder)
    # sae-lens folds this at the end of training.
    loaded.cfg.normalize_activations = "none"
    return loaded


def test_frozen_parts_have_no_gradient():
    for role, trainable in (
        ("frozen-decoder", lambda n: n != "W_dec"),
        ("frozen-encoder", lambda n: n == "W_dec"),
    ):
        sae = untrained("gated", role)
        freeze(sae, spec("gated", role))
        assert {n for n, p in sae.named_parameters() if p.requires_grad} == {
            n for n, _ in sae.named_parameters() if trainable(n)
        }


def test_every_architecture_loads_in_sae_lens_and_here(tmp_path):
    rows = trained(tmp_path, sites=SITES[:1], architectures=ARCHITECTURES)
    x = inputs(50)
    for row in rows:
        theirs = SAE.load_from_disk(row["folder"])
        mine = open_sae(row["folder"])
        torch.testing.assert_close(mine.encode(x), theirs.encode(x))
        assert mine.info.hook == SITES[0]
        assert mine.info.d_sae == 32
        assert mine.info.name == row["sae"]
        assert row["l0"] is not None


def test_every_kind_of_site_can_be_trained_on(tmp_path):
    within = (
        "hook_resid_pre",
        "attn.hook_z",
        "hook_attn_out",
        "hook_resid_mid",
        "mlp.hook_post",
        "hook_mlp_out",
        "hook_resid_post",
    )
    sites = ("hook_embed", *(f"blocks.1.{name}" for name in within))
    rows = trained(tmp_path, sites=sites, widths=(64,), steps=8)
    assert [row["site"] for row in rows] == list(sites)
    for row in rows:
        assert open_sae(row["folder"]).info.hook == row["site"]
        assert row["l0"] == 4
        assert row["ce_error_term"] == pytest.approx(row["ce_model"], abs=1e-6)
        assert row["ce_zero"] != row["ce_model"]


def test_a_run_preserves_checkpoints_of_other_saes(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Stop):
        trained(tmp_path, seeds=(0,), progress=StopAt(60))
    stored = hashes(tmp_path / ".unfinished")
    assert stored
    (tmp_path / ".unfinished" / ".leftover.pt.new").write_bytes(b"of a killed process")
    trained(tmp_path, seeds=(1,))
    assert hashes(tmp_path / ".unfinished") == stored
    trained(tmp_path, seeds=(0,))
    assert not (tmp_path / ".unfinished").exists()


def test_training_reduces_the_error(tmp_path):
    rows = trained(tmp_path, sites=SITES[:1], baselines=("untrained",), steps=150)
    fvu = {r["role"]: r["fvu"] for r in rows}
    assert fvu["trained"] < 0.7 * fvu["untrained"]


def test_finished_saes_are_not_trained_again(tmp_path):
    trained(tmp_path, seeds=(0,))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    rows = trained(tmp_path, seeds=(0, 1))
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(rows) == 4


class Stop(Exception):
    pass


class StopAt:
    """Progress that raises at a step of the training."""

    def __init__(self, step, error=Stop):
        self.step, self.error, self.reports = step, error, []

    @contextmanager
    def stage(self, title, *, total=None, unit=""):
        yield self if unit == "steps" else SimpleNamespace(advance=lambda by=1: None)

    def advance(self, by=1):
        self.step -= by
        if self.step < 0:
            raise self.error

    def report(self, sentence):
        self.reports.append(sentence)


@pytest.mark.parametrize("step", [60, 155, 250, 470])
def test_an_interrupted_run_continues_to_equal_files(tmp_path, monkeypatch, step):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    family = {"architectures": ("topk", "batchtopk", "jumprelu"), "baselines": ("frozen-encoder",)}
    trained(tmp_path / "reference", **family)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "interrupted", progress=StopAt(step, KeyboardInterrupt), **family)
    assert not list((tmp_path / "interrupted").rglob("*.new"))
    progress = StopAt(10**9)
    trained(tmp_path / "interrupted", progress=progress, **family)
    assert hashes(tmp_path / "interrupted") == hashes(tmp_path / "reference")
    assert any("Continuing" in s for s in progress.reports)


def test_a_run_continues_with_more_saes_than_before(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    trained(tmp_path / "reference", seeds=(0, 1), widths=(32, 40))
    with pytest.raises(Stop):
        trained(tmp_path / "interrupted", seeds=(0,), progress=StopAt(60))
    trained(tmp_path / "interrupted", seeds=(0, 1), widths=(32, 40))
    assert hashes(tmp_path / "interrupted") == hashes(tmp_path / "reference")


def test_a_full_disk_preserves_the_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    trained(tmp_path / "reference")
    save, calls = torch.save, []

    def full(content, stream):
        calls.append(1)
        if len(calls) > 5:
            stream.write(b"some")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, stream)

    monkeypatch.setattr(jobs.torch, "save", full)
    with pytest.raises(OutOfSpace, match=r"The disk is full.*run the same command again"):
        trained(tmp_path / "interrupted")
    monkeypatch.setattr(jobs.torch, "save", save)
    progress = StopAt(10**9)
    trained(tmp_path / "interrupted", progress=progress)
    assert any("Continuing" in s for s in progress.reports)
    assert hashes(tmp_path / "interrupted") == hashes(tmp_path / "reference")


def test_nan_stops_the_training_with_a_message(tmp_path):
    with pytest.raises(
        BadActivations, match=r"NaN or Inf between steps 0 and 8 of 40.*`learning_rate`"
    ):
        trained(tmp_path, learning_rate=1e30)


def test_a_damaged_checkpoint_is_a_message(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Stop):
        trained(tmp_path, progress=StopAt(60))
    (file, *_) = (tmp_path / ".unfinished").glob("*.pt")
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(BadInput, match=r"The checkpoint .* cannot be read .*Remove it"):
        trained(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"sites": ()}, BadInput, "No site is named"),
        ({"sites": ("blocks.9.hook_resid_post",)}, UnknownName, "blocks.9.hook_resid_post"),
        ({"widths": (16,)}, BadInput, "The width is 16, but .* has 24 dimensions"),
        ({"k": (33,)}, BadInput, "k is 33, but the width is 32"),
        ({"steps": 10**6}, BadInput, r"has [\d,]+ training tokens .* 1,000,000 steps of 64"),
        ({"steps": None, "tokens": 10}, BadInput, "tokens is 10, less than the 64 of one step"),
        ({"tokens": 5000}, BadInput, "expected one of them"),
        ({"seeds": (0, 0)}, BadInput, "expected each value once"),
        ({"learning_rate": 0.0}, BadInput, "learning_rate is 0.0; expected"),
        ({"documents": ["the cat"]}, BadInput, "has 0 training tokens"),
    ],
)
def test_bad_input_is_a_message(tmp_path, wrong, error, message):
    with pytest.raises(error, match=message):
        trained(tmp_path / "out", **wrong)


def test_a_folder_of_other_saes_is_refused_and_replaced_on_request(tmp_path):
    trained(tmp_path)
    before = hashes(tmp_path)
    with pytest.raises(
        RequestError, match=r"trained otherwise \(settings.steps: 40 stored, 30 now"
    ):
        trained(tmp_path, steps=30)
    assert hashes(tmp_path) == before
    trained(tmp_path, steps=30, replace=True)
    assert hashes(tmp_path).keys() == before.keys()
    with pytest.raises(BadInput, match="is the folder of an SAE"):
        trained(next(tmp_path.glob("*topk*")))


def test_epochs_repeat_the_text_in_another_order(tmp_path):
    few = texts(60)
    with pytest.raises(BadInput, match="more `epochs`"):
        trained(tmp_path, documents=few)
    trained(tmp_path, documents=few, epochs=10)


def test_held_out_documents_are_not_trained_on(tmp_path, monkeypatch):
    seen = []
    original = run.read_text

    def read(*args, **named):
        text = original(*args, **named)
        for block in range(len(text.corpus)):
            seen.extend(d.number for d in text.training(block))
        seen.append({d.number for d in text.held_out_documents()})
        return text

    monkeypatch.setattr(run, "read_text", read)
    trained(tmp_path)
    *training, held_out = seen
    assert held_out.isdisjoint(training)
    assert held_out
    assert np.all(np.array(sorted(held_out)) % 20 == 0)


def test_the_package_exports_the_training():
    import ingest

    assert ingest.train_saes is run.train_saes
    assert isinstance(settings(), ingest.TrainSettings)
    assert small_training.model() is not None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the folder of the tiny model, and a text file."""
    folder = tmp_path_factory.mktemp("saved")
    small_training.model().save_pretrained(folder / "model")
    small_tokenizer().save_pretrained(folder / "model")
    lines = [json.dumps({"text": text}) for text in texts()]
    (folder / "text.jsonl").write_text("\n".join(lines), "utf-8")
    return folder / "model", folder / "text.jsonl"


def command(saved, out, *more):
    model, text = saved
    args = ["train", "--model", str(model), "--text", str(text), "--out", str(out)]
    small = ["--batch", "64", "--buffer", "512", "--context", "16", "--device", "cpu"]
    return CliRunner().invoke(atlas_command(), [*args, *small, *more])


def test_the_command_trains_and_ingests(saved, tmp_path):
    options = [
        "--site",
        SITES[0],
        "--width",
        "32",
        "--k",
        "4",
        "--steps",
        "20",
        "--baseline",
        "untrained",
    ]
    atlas = tmp_path / "small.atlas"
    done = command(saved, tmp_path / "saes", *options, "--ingest", str(atlas), "--json")
    assert done.exit_code == 0, done.output
    assert re.search(
        r"held-out text: \d+ documents with [\d,]+ tokens, one document in 20", done.stderr
    )
    rows = json.loads(done.stdout)["result"]
    assert [row["role"] for row in rows] == ["trained", "untrained"]
    assert rows[1]["floor_of"] == rows[0]["sae"]
    assert all(row["ce_error_term"] == pytest.approx(row["ce_model"], abs=1e-6) for row in rows)
    with Atlas.open(atlas) as opened:
        assert opened.saes == [row["sae"] for row in rows]
        found = {row["name"]: row for row in opened.table("SAE").to_pylist()}
    # The corpus is the held-out text, so the numbers are those of the table.
    for row in rows:
        assert found[row["sae"]]["l0"] == row["l0"] == 4
        assert found[row["sae"]]["fvu"] == pytest.approx(row["fvu"], rel=1e-6)
    again = command(saved, tmp_path / "saes", *options, "--ingest", str(atlas))
    assert again.exit_code == 0, again.output
    assert rows[0]["sae"] in again.stdout
    assert "ce model" in again.stdout
    assert f"Measured on {rows[0]['tokens']:,} held-out tokens" in again.stdout
    same = ["--l0" if option == "--k" else option for option in options]
    bare = command(saved, tmp_path / "saes", *same, "--quality-tokens", "0")
    assert "2 of 2 SAEs are trained already" in bare.stderr
    assert "untrained" in bare.stdout
    assert "fvu" not in bare.stdout  # a column that was not measured
    assert "--quality-tokens is 0" in bare.stdout


def test_the_command_reports_what_is_missing(saved, tmp_path):
    done = command(saved, tmp_path / "saes", "--width", "32")
    assert done.exit_code == 1
    assert "No site is named" in str(done.exception)
    done = command(saved, tmp_path / "saes", "--site", SITES[0], "--width", "none")
    assert done.exit_code == 2


def test_the_forecast_is_printed_before_the_training(saved, tmp_path):
    model, text = saved
    progress = StopAt(0)
    with pytest.raises(Stop):
        run.train_saes(
            tmp_path,
            model=str(model),
            text=str(text),
            settings=settings(baselines=("untrained",)),
            progress=progress,
        )
    (forecast,) = [s for s in progress.reports if s.startswith("Forecast for 4 SAEs of 40 steps")]
    assert "MiB of disk during the training" in forecast


def test_a_disk_that_is_too_small_is_reported_before_the_training(tmp_path, monkeypatch):
    import atlas.disk.temp_storage

    monkeypatch.setattr(
        atlas.disk.temp_storage.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000)
    )
    with pytest.raises(OutOfSpace, match=r"4 SAEs and their checkpoints need .* `out`"):
        trained(tmp_path, seeds=(0, 1))
