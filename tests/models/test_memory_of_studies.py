"""Errors of memory in any step of a study are translated, and the next attempt works."""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import small_ingest
import torch
from random_models import random_model, small_tokenizer
from recording_progress import RecordingProgress

from analysis.effects import study as effects_study
from analysis.effects.ablation import attribution, rows
from analysis.effects.settings import EffectSettings
from analysis.effects.study import measure_effects
from analysis.residual import train as residual_train
from analysis.residual.settings import ResidualSettings
from analysis.residual.study import residual_study
from atlas.errors import OutOfSpace
from atlas.progress import SILENT, Progress
from ingest.forward.run import ingest
from ingest.model import unembedding as unembedding_module
from ingest.model.next_token import NextTokenModel
from ingest.model.unembedding import Unembedding, unembedding
from ingest.probe import schedule
from ingest.probe import study as probe_study
from ingest.probe.logistic_probe import ActiveProbe
from ingest.probe.settings import ProbeSettings
from ingest.probe.study import probe_saes

EARLY, LATE = "blocks.0.hook_resid_post", "blocks.2.hook_resid_post"
PROBES = ProbeSettings(splits=("document",), controls=0, draws=2, min_positives=3, iterations=5)


def fail(*_: Any, **__: Any) -> NoReturn:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "a.atlas"
    model, text = small_ingest.model(), small_ingest.texts(60)
    ingest(path, saes=small_ingest.saes_at(EARLY, LATE), text=text, model=model, match=None)
    return path


def effects(atlas: Path, progress: Progress = SILENT) -> Any:
    settings = EffectSettings(contexts=8, occurrences=3, min_occurrences=3, directions=20, joint=2)
    return measure_effects(
        atlas,
        ["a"],
        settings=settings,
        opened=small_ingest.saes_at(EARLY, LATE),
        model=random_model("llama"),
        tokenizer=small_tokenizer(),
        device="cpu",
        replace=True,
        progress=progress,
    )


def probes(atlas: Path, progress: Progress = SILENT) -> Any:
    return probe_saes(
        atlas,
        ["a"],
        settings=PROBES,
        model=random_model("llama"),
        tokenizer=small_tokenizer(),
        device="cpu",
        replace=True,
        progress=progress,
    )


@pytest.mark.parametrize(
    ("study", "owner", "name", "message"),
    [
        (effects, rows, "_codes", "the contexts without an edit: use a smaller `context_size`"),
        (effects, rows, "_losses", "changes of later features: use a smaller `context_size`"),
        (effects, attribution._Graph, "loss", r"the attributions of \d+ contexts: use a smaller"),
        (effects, attribution, "encoder_rows", r"the attributions of \d+ contexts: use"),
        (effects, effects_study, "pair_measures", "`atlas effects`: use a smaller"),
        (probes, probe_study, "Design", "the vectors of 1 site: use a smaller `memory`"),
        (probes, schedule, "read_site", "the mean and covariance at 1 site: use a smaller"),
        (probes, ActiveProbe, "columns", r"probing \d+ features at once at hook_embed: use"),
    ],
)
def test_every_step_of_a_study_translates_and_the_next_works(
    study: Any,
    owner: Any,
    name: str,
    message: str,
    atlas: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(OutOfSpace, match=f"Memory does not suffice for {message}"):
            study(atlas)
    (result,) = study(atlas)
    assert result.verdict


@pytest.mark.parametrize(
    ("study", "owner", "name"),
    [
        (effects, attribution._Graph, "__init__"),
        (effects, effects_study, "ablation_delta"),
        (probes, probe_study, "Design"),
        (probes, schedule, "_jobs"),
    ],
)
def test_a_forecast_translates(
    study: Any, owner: Any, name: str, atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The forecast is the first step that allocates memory on a device.
    monkeypatch.setattr(owner, name, fail)
    progress = RecordingProgress()
    with pytest.raises(OutOfSpace, match=r"Memory does not suffice for .*: use a s"):
        study(atlas, progress)
    assert not any("of memory beyond the program" in message for message in progress.messages)


def test_residual_training_translates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual_train, "_fit", fail)
    settings = ResidualSettings(
        "hook_embed", EARLY, d_sae=32, k=4, draws=1, epochs=1, batch=64, context=16
    )
    with pytest.raises(OutOfSpace, match=r"training .* on \d+ tokens at a time: use a smaller"):
        residual_study(
            tmp_path / "r.atlas",
            model=small_ingest.model(),
            text=small_ingest.texts(80, seed=2, words=(10, 30)),
            settings=settings,
            device="cpu",
            probe=PROBES,
            match=None,
        )


def test_direct_logits_translate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *_: Any, **__: Any) -> NoReturn:
            fail()

    full = Unembedding(torch.zeros(3, 2).as_subclass(Full), None)
    with pytest.raises(OutOfSpace, match="the direct logits of 4 vectors: use a model with a"):
        full.direct_logits(np.ones((4, 2)))
    model = NextTokenModel("small", random_model("llama"))
    with monkeypatch.context() as patch:
        patch.setattr(unembedding_module, "_scaled", fail)
        with pytest.raises(OutOfSpace, match="the unembedding of small in float32: use a model"):
            unembedding(model)
    assert unembedding(model).direct_logits(np.ones((1, 24))).shape[0] == 1
