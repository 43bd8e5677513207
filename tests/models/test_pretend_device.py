"""The GPU path on a pretend device: every part that touches torch equals the same part on the CPU."""

from typing import Any

import numpy as np
import pytest
import steered_atlas
import torch
from pretend_device import FREE_BYTES, PretendTensor, pretend_gpu, upload
from probed_text import later, probe_data_of, random_text
from random_models import FAMILIES, random_ids, random_model, small_tokenizer
from random_saes import KINDS, metadata, random_sae, vectors
from small_ingest import CONTEXT, HOOK, dense, jumprelu, texts, topk
from small_training import settings as train_settings
from small_training import texts as train_texts

from analysis.logits.settings import LogitSettings
from analysis.logits.study import measure_logits
from analysis.residual.settings import ResidualSettings
from analysis.residual.study import residual_study
from analysis.state_change.settings import StateSettings
from analysis.state_change.study import compare_states
from analysis.steering.settings import SteeringSettings
from analysis.steering.study import steer_task
from analysis.transcoder.moments import Stream
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.study import map_sites
from atlas.disk.folder import Folder
from ingest.forward.run import ingest
from ingest.forward.shards import Group
from ingest.forward.workers import _on_cpu
from ingest.model.feature_edits import FeatureEdits, ablate, add, clamp, randomised
from ingest.model.language_model import open_model
from ingest.model.next_token import NextTokenModel
from ingest.probe.classifiers import classifier, read_site
from ingest.probe.logistic_probe import ActiveProbe
from ingest.probe.probe_data import training
from ingest.probe.ridge_probe import ActivationProbe
from ingest.probe.settings import Kind, ProbeSettings
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.design import Design
from ingest.probe.study import probe_saes
from ingest.reduce.fidelity import Fidelity
from ingest.reduce.protocol import Sizes
from ingest.sae import autoencoder
from ingest.sae.activation_transforms import Components, Map, MapAndTokenMeans, TokenMeans
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.tokenization import ContextSettings
from ingest.train.run import train_saes

PROBE = ProbeSettings(
    splits=("document",), kinds=("active", "activation"), controls=1, draws=5, min_positives=3
)


def lm(device: str, family: str = "llama") -> Any:
    return open_model(
        random_model(family), name="small", tokenizer=small_tokenizer(), device=device
    )


def on(gpu: bool, work: Any) -> Any:
    """Return the result of some work with a device, on the CPU or on the pretend GPU."""
    if not gpu:
        return work("cpu")
    with pretend_gpu():
        return work("cuda")


def both(work: Any) -> tuple[Any, Any]:
    return on(False, work), on(True, work)


# ---------------------------------------------------------------- controls: the device raises


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y: x + y,
        lambda x, y: y + x,
        lambda x, y: torch.cat([x, y]),
        lambda x, y: torch.addmm(x, y[:, None], y[None]),
        lambda x, y: torch.nn.functional.linear(x[None], y[None]),
        lambda x, y: torch.add(x, x, out=y),
        lambda x, y: y[x.long()],
        lambda x, y: x.__setitem__(torch.tensor([0, 1]), y[:2]),
        lambda x, y: y.__setitem__(torch.tensor([0, 1]), x[:2]),
        lambda x, y: y.__setitem__(y > 0, x),
        lambda x, y: y.__setitem__(x.long(), y),
        lambda x, y: x.index_put_((torch.tensor([0, 1]),), y[:2]),
        lambda x, y: torch.where(x > 0, y, x),
    ],
)
def test_mixed_devices_raise(wrong: Any) -> None:
    with pretend_gpu(), pytest.raises(RuntimeError, match="device"):
        wrong(torch.ones(3, device="cuda"), torch.ones(3))


def test_slices_and_single_numbers_are_copied_between_devices() -> None:
    with pretend_gpu():
        x, y = torch.zeros(3, device="cuda"), torch.ones(3)
        y[:2] = x[:2]
        x[torch.tensor([2])] = torch.tensor(5.0)
        assert (x.tolist(), y.tolist()) == ([0, 0, 5], [0, 0, 1])
        assert (x.device.type, y.device.type) == ("cuda", "cpu")


def test_shapes_and_forked_generators() -> None:
    with pretend_gpu():
        assert isinstance(torch.ones(2, 3, device="cuda").shape, torch.Size)
        with torch.random.fork_rng():
            pass


def test_numbers_leave_the_device_by_a_copy_only() -> None:
    with pretend_gpu():
        x = torch.ones(3, device="cuda")
        for wrong in (x.numpy, lambda: np.asarray(x), lambda: np.ones(3) + x):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, device="cuda", generator=torch.Generator())
        copy = x.cpu()
        copy += 1
        assert copy.numpy().tolist() == [2, 2, 2]
        assert x.tolist() == [1, 1, 1]
    assert type(copy) is torch.Tensor


def test_devices_are_reported() -> None:
    with pretend_gpu():
        x = torch.zeros(2, 3, device="cuda:0")
        layer = torch.nn.Linear(3, 4).to("cuda")
        for value in (x, x.T @ x, layer(x), x[torch.tensor([1])], torch.zeros_like(x), x * 2.0):
            assert value.device == torch.device("cuda:0")
            assert value.is_cuda
        assert torch.zeros_like(x, device="cpu").device.type == "cpu"
        assert isinstance(layer.weight, torch.nn.Parameter)
        layer.to("cpu")
        assert layer.weight.device.type == "cpu"
    assert not torch.cuda.is_initialized()


# ---------------------------------------------------------------- the model


@pytest.mark.parametrize("family", FAMILIES)
def test_sites_of_every_architecture(family: str) -> None:
    ids, mask = random_ids()

    def work(device: str) -> dict[str, torch.Tensor]:
        model = lm(device, family)
        kinds = ("hook_resid_pre", "attn.hook_z", "hook_attn_out", "hook_mlp_out", "mlp.hook_post")
        hooks = ["hook_embed", *(f"blocks.1.{k}" for k in kinds), "blocks.2.hook_resid_post"]
        read = model.run(ids, mask, hooks=hooks)
        assert {x.device.type for x in read.values()} == {device}
        return {hook: x.cpu() for hook, x in read.items()}

    expected, found = both(work)
    for hook, x in expected.items():
        # Padding is at the end of the last context, and its values are undefined.
        assert torch.equal(x[:-1], found[hook][:-1])
        assert torch.equal(x[-1, :-4], found[hook][-1, :-4])


def test_logits_with_an_edited_site() -> None:
    ids, mask = random_ids()

    def work(device: str) -> torch.Tensor:
        model = NextTokenModel("small", random_model("gpt2").to(device))
        return model.logits(ids, mask, edits={HOOK: lambda x: x * 0.5}).cpu()

    expected, found = both(work)
    assert torch.equal(expected[:-1], found[:-1])


def test_edits_of_features() -> None:
    ids, mask = random_ids()

    def work(device: str) -> torch.Tensor:
        model = NextTokenModel("small", random_model("gpt2").to(device))
        theirs = random_sae("standard", metadata=metadata(hook_name=HOOK))
        with torch.no_grad():
            theirs.b_enc[0] = 9.0
        sae = open_sae(theirs, device=device)
        edits = [ablate(0), clamp(1, 3.0, at="last"), randomised(add(2, 1.0), 0)]
        return model.logits(ids, mask, edits=[FeatureEdits(sae, edits)]).cpu()

    expected, found = both(work)
    assert torch.equal(expected[:-1], found[:-1])


def test_logits_steering_and_state_changes(tmp_path: Any) -> None:
    def work(device: str) -> list[Any]:
        path = tmp_path / f"{device}.atlas"
        causal, tokenizer, saes = steered_atlas.write(path)
        options = {"model": causal, "tokenizer": tokenizer, "opened": saes, "device": device}
        few = SteeringSettings(random=2, strengths=(1.0,), neutral_tokens=64)
        return [
            measure_logits(path, ["last"], settings=LogitSettings(features=6), **options)
            .to_pandas("features")
            .drop(columns=["part", "is_floor", "feature"]),
            steer_task(path, "feelings", saes=["last"], settings=few, **options)
            .to_pandas("arms")
            .drop(columns=["part", "is_floor", "arm", "features"]),
            compare_states(
                path, ["middle/3"], settings=StateSettings(tokens=64, draws=1), **options
            ).to_pandas("changes")[["mean_before", "mean_after", "change"]],
        ]

    for expected, found in zip(*both(work), strict=True):
        np.testing.assert_allclose(found.to_numpy(float), expected.to_numpy(float), atol=1e-4)


# ---------------------------------------------------------------- SAEs and fidelity


@pytest.mark.parametrize("sparse", [0, 10**9], ids=["sparse", "dense"])
@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_reconstruction(kind: str, sparse: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHUNK_BYTES", "GPU_CHUNK_BYTES"):  # products of the same shapes
        monkeypatch.setattr(autoencoder, name, 16 * 40 * 7)
    monkeypatch.setattr(autoencoder, "SPARSE", sparse)

    def work(device: str) -> list[Any]:
        sae = open_sae(random_sae(kind), device=device)
        *codes, back = sae.codes_and_reconstruction(vectors().to(device))
        assert back.device.type == device
        return [*codes, back.cpu().numpy()]

    for expected, found in zip(*both(work), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("free", "total", "expected"),
    [
        (70, 80, 2.5),  # a share of the card
        (130, 141, 4),  # the limit
        (4, 80, 1.25),  # other programs use the card
        (0, 80, 0.15625),  # no less than half of what a processor takes
    ],
)
def test_chunks_depend_on_the_card_unless_its_memory_is_used(
    free: float, total: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretend_gpu():
        sae = open_sae(random_sae("topk"), device="cuda")
        sizes = (int(free * 2**30), int(total * 2**30))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: sizes)
        assert sae._chunk_bytes() == expected * 2**30
    assert open_sae(random_sae("topk"))._chunk_bytes() == autoencoder.CHUNK_BYTES


@pytest.mark.parametrize("kind", ["map", "components", "token-means", "map-and-token-means"])
def test_subtractions(kind: str) -> None:
    x, other = vectors(30), vectors(30, seed=5)
    ids, counted = torch.arange(30)[None] % 7, torch.ones(1, 30, dtype=torch.bool)
    mean, table = x.mean(0), vectors(3, seed=6)
    known, source = torch.tensor([1, 3, 6]), "hook_embed"
    less: Any = {
        "map": Map(source, vectors(24, seed=7), mean),
        "components": Components(mean, torch.linalg.qr(vectors(24, seed=8)[:, :4])[0]),
        "token-means": TokenMeans(known, table, mean),
        "map-and-token-means": MapAndTokenMeans(source, vectors(24, seed=7), mean, known, table),
    }[kind]

    def work(device: str) -> Any:
        sae = open_sae(random_sae("topk"), less=less, device=device)
        at = {HOOK: x[None].to(device), source: other[None].to(device)}
        return sae.reads(at, counted, ids).cpu().numpy()

    expected, found = both(work)
    np.testing.assert_array_equal(found, expected)


def test_fidelity() -> None:
    x, y = vectors(3000), vectors(3000, seed=4)

    def work(device: str) -> Any:
        sizes = Sizes(d_in=24, d_sae=1, tokens=0, l0=0.0, vocabulary=0, codes_stored=False)
        state = Fidelity().start(sizes)
        Fidelity().update(state, x.to(device), y.to(device))
        return state

    expected, found = both(work)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-13, atol=1e-10)


# ---------------------------------------------------------------- probes


def probed(device: str, tmp_path: Any, kind: Kind) -> Any:
    rng = np.random.default_rng(0)
    documents = random_text(rng, documents=40, length=20)
    tokens = sum(map(len, documents))
    values = rng.normal(size=(24, 6))
    acts = np.maximum(rng.normal(size=(tokens, 5)) - 0.3, 0)
    data = probe_data_of(tmp_path / device, documents, acts)
    cpu = later(data, values)
    x = (values[data.ids[data.type]] + 0.1 * rng.normal(size=(tokens, 6))).astype(np.float32)
    site = SiteDesign("later", Design(x, device=device), cpu.row, cpu.row_type, at_embedding=False)
    train = training(data, "document", share=0.8, seed=0)
    probe: Any
    if kind == "activation":
        probe = ActivationProbe(site, data, train, settings=PROBE)
    else:
        by, read = classifier(kind, PROBE), read_site(site, kind, PROBE)
        probe = ActiveProbe(read, data, train, settings=PROBE, split="document", by=by)
    features = np.arange(5)
    return probe.columns(data.occurrences(features, threshold=0.0), features)


@pytest.mark.parametrize("kind", ["active", "activation", "random-features", "mlp"])
def test_probes(tmp_path: Any, kind: Kind) -> None:
    expected, found = both(lambda device: probed(device, tmp_path, kind))
    assert found["converged"].all()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if value.dtype.kind in "OUb":
            assert (found[name] == value).all()
        else:  # the passes over the vectors are divided differently
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


# ---------------------------------------------------------------- maps and training


def test_moments_of_maps() -> None:
    x, y = vectors(200), vectors(200, seed=4)

    def work(device: str) -> Any:
        stream = Stream(24, {"y": 24}, device=torch.device(device))
        for a, b in zip(x.split(64), y.split(64), strict=True):
            stream.add(a.to(device), {"y": b.to(device)})
        moments = stream.moments("y")
        return {k: v.cpu() for k, v in vars(moments).items() if isinstance(v, torch.Tensor)}

    expected, found = both(work)
    assert expected
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


TRAINED = {"architectures": ("topk", "jumprelu", "gated"), "steps": 16, "widths": (32,)}


@pytest.mark.slow
def test_training(tmp_path: Any) -> None:
    def work(device: str) -> Any:
        train_saes(
            tmp_path / device,
            model=random_model("llama"),
            tokenizer=small_tokenizer(),
            text=train_texts(120),
            settings=train_settings(device=device, **TRAINED),
        )
        return None

    both(work)
    from safetensors.torch import load_file

    files = sorted(
        p.relative_to(tmp_path / "cpu") for p in (tmp_path / "cpu").rglob("*.safetensors")
    )
    assert len(files) >= 6
    for file in files:
        expected, found = load_file(tmp_path / "cpu" / file), load_file(tmp_path / "cuda" / file)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- complete runs


@pytest.fixture(scope="module")
def atlases(tmp_path_factory: Any) -> Any:
    """Return two atlases of the same ingest, on the CPU and on the pretend GPU."""
    folder = tmp_path_factory.mktemp("atlases")

    def work(device: str) -> Any:
        with torch.device("cpu"):
            saes = [
                open_sae(topk(), name="top"),
                open_sae(jumprelu(), name="jump"),
            ]
        path = folder / f"{device}.atlas"
        ingest(path, saes=saes, text=texts(), model=lm(device), settings=Settings(device=device))
        return path

    return both(work)


def test_an_ingest_has_the_same_codes_and_tables(atlases: Any) -> None:
    cpu, gpu = map(Folder.open, atlases)
    for sae in ("top", "jump"):
        for expected, found in zip(dense(cpu, sae), dense(gpu, sae), strict=True):
            np.testing.assert_array_equal(found, expected)
    parts = cpu.sound().parts
    assert parts.keys() == gpu.sound().parts.keys()
    different = set()
    for key, part in parts.items():
        for name, table in part.manifest.tables.items():
            if gpu.sound().parts[key].manifest.tables[name].sha256 != table.sha256:
                different.add(key.split("/")[0])
    # Sums over a batch have another order on a GPU; the table of an SAE has the id of its atlas.
    assert different <= {"fidelity", "sae"}
    fvu = [f.sound().parts["fidelity/top"].table("SAE").to_pylist()[0]["fvu"] for f in (cpu, gpu)]
    assert fvu[1] == pytest.approx(fvu[0], rel=1e-12)
    assert gpu.sound().parts["sae/top"].manifest.dtypes["device"] == "cuda"


@pytest.mark.slow
def test_probes_of_an_atlas(atlases: Any) -> None:
    def work(device: str) -> Any:
        path = atlases[device == "cuda"]
        return probe_saes(
            path,
            ["top"],
            sites=["hook_embed", HOOK],
            settings=PROBE,
            model=lm(device),
            device=device,
        )

    expected, found = both(work)
    assert len(found) == len(expected) == 4
    for a, b in zip(expected, found, strict=True):
        numbers = {k: v for k, v in a.items() if isinstance(v, float)}
        assert {k: b[k] for k in numbers} == pytest.approx(numbers, rel=1e-3, abs=1e-3)


def test_maps_of_an_atlas(atlases: Any) -> None:
    settings = TranscoderSettings(penalties=(1e-3,), draws=3, folds=3)

    def work(device: str) -> Any:
        (row,) = map_sites(
            atlases[device == "cuda"],
            targets=[HOOK],
            settings=settings,
            model=lm(device),
            device=device,
        )
        return row

    expected, found = both(work)
    numbers = {k: v for k, v in expected.items() if isinstance(v, float)}
    assert {k: found[k] for k in numbers} == pytest.approx(numbers, rel=1e-6, abs=1e-6)


@pytest.mark.slow
def test_a_residual_study(tmp_path: Any) -> None:
    settings = ResidualSettings(
        "hook_embed", HOOK, d_sae=32, k=4, draws=1, epochs=1, batch=64, context=CONTEXT
    )
    documents = texts(80, seed=2, words=(10, 30))
    probe = ProbeSettings(splits=("document",), controls=0, draws=5, min_positives=3)

    def work(device: str) -> Any:
        found = residual_study(
            tmp_path / f"{device}.atlas",
            model=lm(device),
            text=documents,
            settings=settings,
            device=device,
            probe=probe,
            match=None,
        )
        return found["arms"]

    expected, found = both(work)
    for a, b in zip(expected, found, strict=True):
        assert b["fvu"] == pytest.approx(a["fvu"], rel=1e-3)
        assert b["l0"] == pytest.approx(a["l0"], rel=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, i: torch.zeros_like(x).index_add_(0, i, x),
        lambda x, i: torch.zeros_like(x).scatter_add_(0, i[:, None], x),
        lambda x, i: torch.bincount(i),
        lambda x, i: torch.sparse.mm(x.to_sparse(), x),
        lambda x, i: x.to_sparse() @ x,
    ],
)
def test_sums_whose_order_differs_between_two_runs_raise(wrong: Any) -> None:
    x, i = torch.eye(3), torch.tensor([0, 0, 1])
    wrong(x, i)
    with pretend_gpu(), pytest.raises(RuntimeError, match="may have another result in each run"):
        wrong(upload(x), upload(i))


def test_products_of_integers_raise() -> None:
    i = torch.eye(3, dtype=torch.int64)
    assert torch.equal(i @ i, i)
    with pretend_gpu(), pytest.raises(RuntimeError, match="not implemented for"):
        upload(i) @ upload(i)


def test_tensors_are_copied_to_the_device() -> None:
    x = torch.zeros(3)
    on_gpu = upload(x)
    x += 1
    assert isinstance(on_gpu, PretendTensor)
    assert on_gpu.tolist() == [0, 0, 0]


# ---------------------------------------------------------------- memory


def test_splits_and_kinds_share_one_array_on_the_device() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 8)).astype(np.float32)
    rows = np.flatnonzero(rng.random(1000) < 0.6)

    def work(device: str) -> Any:
        design = Design(x, device=device, per_chunk=64)
        some = design.take(rows)
        parts = [some, design.take(~np.isin(np.arange(1000), rows)), some.take(np.array([5, 1, 1]))]
        assert {part._stored.data_ptr() for part in parts} == {design._stored.data_ptr()}
        return [torch.cat([x for _, x in part.chunks()]).cpu().numpy() for part in parts]

    for found in both(work):
        np.testing.assert_array_equal(found[0], x[rows])
        np.testing.assert_array_equal(found[1], np.delete(x, rows, axis=0))
        np.testing.assert_array_equal(found[2], x[rows][[5, 1, 1]])


def test_blocks_of_features_fit_into_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretend_gpu():
        design = Design(np.ones((10, 4), np.float32), device="cuda", per_chunk=10)
        assert design.free_bytes(2**40) == int(0.8 * FREE_BYTES) - 160
        assert design.free_bytes(1000) == 1000
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 2**40))
        assert design.free_bytes(1000) == 0
    assert Design(np.ones((10, 4), np.float32)).free_bytes(2**40) == 2**40


def test_the_driver_releases_its_cache_before_workers_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pretend_gpu():
        group = Group(lm("cuda"), (open_sae(topk(), device="cuda"),), ContextSettings(16, True), 64)
        released = []
        # What the allocator could still hold when the cache is released.
        monkeypatch.setattr(
            torch.cuda, "empty_cache", lambda: released.append(group.model.base.device.type)
        )
        with _on_cpu(group):
            assert released == ["cpu"]
            assert group.saes[0].device.type == "cpu"
        assert group.model.base.device.type == "cuda"
        assert released == ["cpu"]
