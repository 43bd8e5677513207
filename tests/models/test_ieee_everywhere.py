"""No float32 product of an ingest, a study or a training runs while TF32 is allowed, and parts record it."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_ingest
import steered_atlas
import torch
from random_models import WORDS, random_model, small_tokenizer
from small_training import settings as training_settings
from small_training import texts as training_texts
from tf32_products import tf32_allowed, tf32_products

import analysis
import ingest.torch_study
from analysis import AblationSettings, ConceptSettings
from analysis.effects.settings import EffectSettings
from analysis.logits.settings import LogitSettings
from analysis.residual.settings import ResidualSettings
from analysis.residual.study import residual_study
from analysis.state_change.settings import StateSettings
from analysis.steering.settings import SteeringSettings
from analysis.transcoder.settings import TranscoderSettings
from atlas.disk.folder import Folder
from ingest import ProbeSettings, probe_saes
from ingest.forward.run import ingest as run_ingest
from ingest.model.language_model import open_model
from ingest.precision import float32_products, ieee_float32
from ingest.probe.solver.design import Design
from ingest.probe.solver.solve import margins, solve
from ingest.train.run import train_saes

EARLY, LATE = "blocks.0.hook_resid_post", "blocks.2.hook_resid_post"
PROBES = ProbeSettings(splits=("document",), controls=0, draws=5, min_positives=3)
MODEL: Any = {"model": None, "tokenizer": small_tokenizer()}


def lm() -> Any:
    return MODEL | {"model": random_model("llama")}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ieee") / "a.atlas"
    run_ingest(
        path,
        saes=small_ingest.saes_at(EARLY, LATE),
        text=small_ingest.texts(60),
        match=None,
        **lm(),
    )
    return path


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("ieee") / "s.atlas"
    causal, tokenizer, saes = steered_atlas.write(path)
    return path, {"model": causal, "tokenizer": tokenizer, "opened": saes, "device": "cpu"}


def words(folder: Path, name: str, pairs: tuple[tuple[str, str], ...]) -> Path:
    rows = [f"{word} {end},{label},{word}" for word in WORDS[:16] for end, label in pairs]
    path = folder / f"{name}.csv"
    path.write_text("text,label,group\n" + "\n".join(rows) + "\n")
    return path


def _ingest(path: Path, atlas: Path, _: Any) -> None:
    run_ingest(
        path / "n.atlas",
        saes=small_ingest.saes_at(EARLY, LATE),
        text=small_ingest.texts(30),
        **lm(),
    )


def _probes(path: Path, atlas: Path, _: Any) -> None:
    kinds: Any = ("active", "activation", "random-features", "mlp")
    settings = replace(
        PROBES, controls=1, kinds=kinds, iterations=10, random_features=16, hidden=2, draws=2
    )
    probe_saes(atlas, ["a"], sites=[EARLY], settings=settings, device="cpu", replace=True, **lm())


def _effects(path: Path, atlas: Path, _: Any) -> None:
    settings = EffectSettings(contexts=12, occurrences=3, min_occurrences=3, directions=20, joint=4)
    analysis.measure_effects(
        atlas,
        ["a"],
        settings=settings,
        opened=small_ingest.saes_at(EARLY, LATE),
        device="cpu",
        replace=True,
        **lm(),
    )


def _maps(path: Path, atlas: Path, _: Any) -> None:
    for more in ({}, {"method": "adam", "rates": (1e-2,), "epochs": 1}):
        settings = TranscoderSettings(penalties=(1e-3,), draws=3, folds=3, **more)  # type: ignore[arg-type]
        analysis.map_sites(atlas, targets=[LATE], settings=settings, replace=True, **lm())


def _train(path: Path, atlas: Path, _: Any) -> None:
    kinds: Any = ("topk", "jumprelu", "gated", "standard", "batchtopk")
    settings = training_settings(steps=6, architectures=kinds, baselines=("untrained",))
    train_saes(path / "saes", text=training_texts(120), settings=settings, **lm())


def _concepts(path: Path, atlas: Path, _: Any) -> None:
    own = words(path, "own", (("cat", "x"), ("dog", "y")))
    other = words(path, "other", (("sun", "sun"), ("day", "day")))
    how = ConceptSettings(repeats=1, draws=19, probe_draws=1, subsets=1)
    model = open_model(lm()["model"], tokenizer=small_tokenizer(), hooks=[EARLY], device="cpu")
    analysis.study_concepts(
        atlas, own, ["a"], settings=how, opened=small_ingest.saes_at(EARLY, LATE), models=[model]
    )
    settings = AblationSettings(ablated=(1,), random_sets=3, direction_sets=2, others=(str(other),))
    how = ConceptSettings(repeats=1, draws=19, probe_draws=0, subsets=0)
    analysis.ablate_concepts(
        atlas,
        own,
        ["a"],
        settings=settings,
        how=how,
        opened=small_ingest.saes_at(EARLY, LATE),
        device="cpu",
        **lm(),
    )


def _steered(path: Path, atlas: Path, steered: Any) -> None:
    path, model = steered
    analysis.measure_logits(path, ["last"], settings=LogitSettings(features=6), **model)
    steering = SteeringSettings(random=2, strengths=(1.0,), neutral_tokens=64)
    analysis.steer_task(path, "feelings", saes=["last"], settings=steering, **model)
    states = StateSettings(tokens=64, draws=1)
    analysis.compare_states(path, ["middle/3"], settings=states, **model)


def _residual(path: Path, atlas: Path, _: Any) -> None:
    residual_study(
        path / "r.atlas",
        model=small_ingest.model(),
        text=small_ingest.texts(80, seed=2, words=(10, 30)),
        settings=ResidualSettings(
            "hook_embed", EARLY, d_sae=32, k=4, draws=1, epochs=1, batch=64, context=16
        ),
        device="cpu",
        probe=PROBES,
        match=None,
    )


CASES: dict[str, Callable[[Path, Path, Any], None]] = {
    "ingest": _ingest,
    "probes": _probes,
    "effects": _effects,
    "maps": _maps,
    "training": _train,
    "concepts": _concepts,
    "logits, steering and states": _steered,
    "residual": _residual,
}


@pytest.mark.parametrize("name", CASES)
def test_no_product_runs_while_tf32_is_allowed(
    name: str, atlas: Path, steered: Any, tmp_path: Path
) -> None:
    with tf32_allowed(), tf32_products() as (every, found):
        CASES[name](tmp_path, atlas, steered)
    assert len(every) > 5
    assert found == []


def test_the_list_has_products_outside_the_context() -> None:
    x = torch.ones(2, 2, requires_grad=True)
    with tf32_allowed(), tf32_products() as (every, found):
        (x @ x).sum().backward()
        torch.autograd.grad((x @ x).sum(), [x])
        with ieee_float32():
            x @ x
    names = [name.split(" ")[0] for name in found]
    assert names.count("__matmul__") + names.count("matmul") == 2
    assert {"backward", "grad"} <= set(names)
    assert len(every) == len(found) + 1


def test_a_design_and_its_solver_run_in_ieee() -> None:
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.integers(0, 2, size=(200, 3)).astype(np.float32))

    class Doubled:
        width = 5

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (2 * torch.eye(5))

    with tf32_allowed(), tf32_products() as (every, found):
        design = Design(rng.normal(size=(200, 5)).astype(np.float32)).mapped(Doubled())
        margins(design, solve(design, torch.ones(200, 1), target, penalty=1e-3))
    assert len(every) > 5
    assert found == []


@pytest.mark.parametrize(
    ("setting", "name"), [("highest", "ieee"), ("high", "tf32"), ("medium", "bf16")]
)
def test_the_precision_is_read_from_torch(setting: str, name: str) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        assert float32_products() == name
        with ieee_float32():
            assert float32_products() == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)


def recorded(path: Path) -> dict[str, str | None]:
    """Return the recorded precision of each part."""
    parts = Folder.open(path).sound().parts
    return {key: part.manifest.versions.get("float32 products") for key, part in parts.items()}


@pytest.mark.parametrize("name", ["probes", "maps", "effects"])
@pytest.mark.parametrize("pinned", [True, False])
def test_parts_of_studies_record_the_precision_that_torch_had(
    name: str, pinned: bool, atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pinned:
        monkeypatch.setattr(ingest.torch_study, "ieee_float32", nullcontext)
    with tf32_allowed():
        CASES[name](tmp_path, atlas, None)
    kind = {"probes": "probe", "maps": "transcoder", "effects": "effects"}[name]
    found = {value for key, value in recorded(atlas).items() if key.startswith(f"{kind}/")}
    assert found == {"ieee" if pinned else "tf32"}


@pytest.mark.parametrize("pinned", [True, False])
def test_training_records_the_precision_that_torch_had(
    pinned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pinned:
        monkeypatch.setattr("ingest.train.run.ieee_float32", nullcontext)
    with tf32_allowed():
        _train(tmp_path, tmp_path, None)
    notes = [json.loads(p.read_text()) for p in (tmp_path / "saes").rglob("training.json")]
    assert len(notes) > 2
    assert {note["arithmetic"]["float32 products"] for note in notes} == {
        "ieee" if pinned else "tf32"
    }
