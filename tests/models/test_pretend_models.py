"""Effects, edits, concepts, their ablation and ``fire`` are equal with model and SAEs on the pretend GPU."""

from typing import Any

import numpy as np
import pytest
import small_ingest
import torch
from pretend_device import on_both_devices
from random_models import WORDS, random_model, small_tokenizer

import analysis
from analysis.effects.settings import EffectSettings
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.study import map_sites
from atlas import Atlas
from ingest import ingest
from ingest.fire.text_features import FireSettings, fire
from ingest.model.language_model import open_model
from ingest.sae.autoencoder import open_sae

EARLY, LATE = "blocks.0.hook_resid_post", "blocks.2.hook_resid_post"
EFFECTS = EffectSettings(contexts=12, occurrences=3, min_occurrences=3, directions=20, joint=4)
CONCEPTS = analysis.ConceptSettings(repeats=1, draws=19, probe_draws=1, subsets=1)


def saes() -> list[Any]:
    with torch.device("cpu"):
        return [
            open_sae(small_ingest.topk(seed=seed, hook=hook), name=name)
            for name, hook, seed in (("a", EARLY, 0), ("c", LATE, 2))
        ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Any:
    path = tmp_path_factory.mktemp("models") / "x.atlas"
    text, tokenizer = small_ingest.texts(40), small_tokenizer()
    ingest(
        path, saes=saes(), model=random_model("llama"), tokenizer=tokenizer, text=text, match=None
    )
    return path


def equal_tables(expected: Any, found: Any) -> None:
    assert list(found.columns) == list(expected.columns)
    assert len(found) == len(expected) > 0
    for name in expected:
        if expected[name].dtype.kind in "fi":
            values = found[name].to_numpy(float)
            np.testing.assert_allclose(
                values, expected[name].to_numpy(float), atol=1e-4, err_msg=name
            )


def test_effects(made: Any) -> None:
    def work(device: str) -> Any:
        (result,) = analysis.measure_effects(
            made,
            ["a"],
            settings=EFFECTS,
            model=random_model("llama"),
            tokenizer=small_tokenizer(),
            opened=saes(),
            device=device,
            replace=True,
        )
        return result.to_pandas("Feature"), result.to_pandas("calibration")

    for expected, found in zip(*on_both_devices(work), strict=True):
        equal_tables(expected, found)


def test_an_edited_model(made: Any) -> None:
    def work(device: str) -> Any:
        causal = random_model("llama").to(device)
        edits = {f"a/{feature}": 2.0 for feature in range(8)}
        own = [sae.to(device) for sae in saes()]
        with analysis.intervene(causal, edits, saes=own, tokenizer=small_tokenizer()) as edited:
            return edited.logits("the cat saw the dog").cpu()

    expected, found = on_both_devices(work)
    torch.testing.assert_close(found, expected)


def test_fire(made: Any) -> None:
    text = small_ingest.texts(3)[1]

    def work(device: str) -> Any:
        own = {sae.info.name: sae for sae in saes()}
        with (
            Atlas.open(made) as atlas,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr("ingest.sae.record.reopen_sae", lambda row: own[row["name"]])
            model = open_model(
                random_model("llama"), tokenizer=small_tokenizer(), hooks=[LATE], device=device
            )
            return fire(atlas, text, FireSettings(top=50, device=device), model=model).to_pandas()

    expected, found = on_both_devices(work)
    equal_tables(expected, found)
    assert found["feature"].tolist() == expected["feature"].tolist()


def test_concepts(made: Any, tmp_path: Any) -> None:
    rows = [
        f"{word} {ending},{label},{word}"
        for word in WORDS[:12]
        for ending, label in (("cat", "x"), ("dog", "y"))
    ]
    (tmp_path / "words.csv").write_text("text,label,group\n" + "\n".join(rows) + "\n")

    def work(device: str) -> Any:
        model = open_model(
            random_model("llama"), tokenizer=small_tokenizer(), hooks=[EARLY], device=device
        )
        (result,) = analysis.study_concepts(
            made,
            tmp_path / "words.csv",
            ["a"],
            settings=CONCEPTS,
            opened=[sae.to(device) for sae in saes()],
            models=[model],
            replace=True,
        )
        return result.to_pandas("units")

    equal_tables(*on_both_devices(work))


def test_ablated_concepts(made: Any, tmp_path: Any) -> None:
    for name, endings in (("words", ("cat", "dog")), ("more", ("sun", "day"))):
        rows = [f"{word} {end},{end},{word}" for word in WORDS[:16] for end in endings]
        (tmp_path / f"{name}.csv").write_text("text,label,group\n" + "\n".join(rows) + "\n")
    others = (str(tmp_path / "more.csv"),)
    settings = analysis.AblationSettings(
        ablated=(1,), random_sets=3, direction_sets=2, others=others
    )

    def work(device: str) -> Any:
        (result,) = analysis.ablate_concepts(
            made,
            tmp_path / "words.csv",
            ["a"],
            settings=settings,
            how=analysis.ConceptSettings(repeats=1, draws=19, probe_draws=0, subsets=0),
            opened=saes(),
            model=random_model("llama"),
            tokenizer=small_tokenizer(),
            device=device,
            replace=True,
        )
        return result.to_pandas("summary"), result.to_pandas("measured")

    for expected, found in zip(*on_both_devices(work), strict=True):
        equal_tables(expected, found)


def test_maps_by_adam(made: Any) -> None:
    settings = TranscoderSettings(method="adam", draws=3, folds=3, rates=(1e-2,), epochs=2)

    def work(device: str) -> Any:
        model = open_model(
            random_model("llama"), tokenizer=small_tokenizer(), hooks=[LATE], device=device
        )
        (row,) = map_sites(
            made, targets=[LATE], settings=settings, model=model, device=device, replace=True
        )
        return {name: value for name, value in row.items() if isinstance(value, float)}

    expected, found = on_both_devices(work)
    assert expected
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
