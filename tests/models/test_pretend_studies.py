"""Studies of directions with SAEs on the pretend GPU: the same results as with SAEs on the CPU."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pretend_device import pretend_gpu
from random_models import WORDS
from small_ingest import model, texts, topk
from small_synthetic import small_synthetic

from analysis.concepts.subspaces.settings import SubspaceSettings
from analysis.concepts.subspaces.study import compare_concepts
from analysis.feature_map.settings import MapSettings
from analysis.feature_map.study import map_features
from analysis.ground_truth.settings import GroundTruthSettings
from analysis.ground_truth.study import compare_with_truth
from analysis.near_direction.settings import DirectionSettings
from analysis.near_direction.study import nearest_directions
from analysis.similarity.settings import SimilaritySettings
from analysis.similarity.study import compare_spaces
from analysis.spectra.settings import SpectrumSettings
from analysis.spectra.study import measure_spectra
from analysis.splitting.settings import SplittingSettings
from analysis.splitting.study import find_splits
from analysis.topology.settings import TopologySettings
from analysis.topology.study import measure_topology
from ingest import save_synthetic
from ingest.forward.run import ingest
from ingest.match.settings import MatchSettings
from ingest.match.study import match_saes
from ingest.model.synthetic_features import SUM_HOOK
from ingest.sae.autoencoder import open_sae

WIDTHS = {"narrow": 40, "wide": 80}


def saes(device: str) -> list[Any]:
    """Return two SAEs; the wide one has the features of the narrow one twice."""
    with torch.device("cpu"):
        narrow, wide = topk(d_sae=40), topk(d_sae=80, k=10)
    with torch.no_grad():
        for name in ("W_enc", "b_enc", "W_dec"):
            dim = 0 if name == "W_dec" else -1
            twice = torch.cat([getattr(narrow, name)] * 2, dim=dim)
            getattr(wide, name).copy_(twice + 0.01 * torch.randn(twice.shape))
        wide.b_dec.copy_(narrow.b_dec)
    return [open_sae(narrow, name="narrow").to(device), open_sae(wide, name="wide").to(device)]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: Any) -> Any:
    path = tmp_path_factory.mktemp("studies") / "a.atlas"
    torch.manual_seed(1)
    match = MatchSettings(draws=3)
    ingest(path, saes=saes("cpu"), text=texts(120, words=(10, 40)), model=model(), match=match)
    return path


def with_saes(atlas: Any, study: Any, settings: Any, *, gpu: bool, names: Any = None) -> Any:
    """Return the tables of a study, of SAEs on the CPU or on the pretend GPU."""
    torch.manual_seed(1)
    if not gpu:
        found = study(atlas, names, settings=settings, opened=saes("cpu"), replace=True)
    else:
        with pretend_gpu():
            opened = saes("cuda")
            assert {str(sae.device) for sae in opened} == {"cuda:0"}
            found = study(atlas, names, settings=settings, opened=opened, replace=True)
    assert len(found)
    return [(name, one.table(name).to_pylist()) for one in found for name in one.tables]


CASES = {
    "similarity": (compare_spaces, SimilaritySettings(draws=5, frequency_draws=19), None),
    "nearest": (nearest_directions, DirectionSettings(draws=2), None),
    "splitting": (find_splits, SplittingSettings(draws=3, min_joint=2), ["narrow", "wide"]),
    "spectra": (measure_spectra, SpectrumSettings(draws=20), None),
    "topology": (
        measure_topology,
        TopologySettings(
            landmarks=10,
            void_landmarks=6,
            draws=19,
            mapper_draws=19,
            points=20,
            repeats=1,
            cubes=(3,),
            overlap=(0.3,),
            eps=(1.0,),
            subsamples=2,
        ),
        ["narrow"],
    ),
    "map": (map_features, MapSettings(), ["narrow"]),
    "match": (match_saes, MatchSettings(draws=3), None),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in ("map", "topology") else n for n in CASES],
)
def test_a_study_reads_saes_on_a_gpu(atlas: Any, name: str) -> None:
    if name == "topology":
        pytest.importorskip("ripser")
    study, settings, names = CASES[name]
    expected = with_saes(atlas, study, settings, gpu=False, names=names)
    found = with_saes(atlas, study, settings, gpu=True, names=names)
    assert_equal(expected, found)


def test_subspaces_of_concepts(atlas: Any, tmp_path: Any) -> None:
    words = sorted(set(WORDS))
    rows = [f"{word},{'first' if 2 * i < len(words) else 'second'}" for i, word in enumerate(words)]
    (tmp_path / "halves.csv").write_text("text,label\n" + "\n".join(rows))

    def study(*args: Any, **named: Any) -> Any:
        return compare_concepts(*args, words=[tmp_path / "halves.csv"], **named)

    settings = SubspaceSettings(draws=9, pairs=4, lift=1, q=1.0, neighbours=2, activations=True)
    names = ["narrow", "wide"]
    expected, found = (
        with_saes(atlas, study, settings, gpu=gpu, names=names) for gpu in (False, True)
    )
    assert_equal(expected, found)
    compared = {row["space"] for row in dict(expected)["rows"] if row["measure"]}
    assert compared == {"decoder", "activations"}


def test_recovery_of_known_features(tmp_path: Any) -> None:
    synthetic = save_synthetic(tmp_path / "synth", small_synthetic(width=32, tokens=2000))

    def work(device: str) -> Any:
        with torch.device("cpu"):
            theirs = topk(d_in=32, d_sae=24, hook=SUM_HOOK)
            theirs.cfg.metadata.model_name = "synth"
        sae = open_sae(theirs, name="learned").to(device)
        path = tmp_path / f"{device}.atlas"
        own = {"text": synthetic / "text.jsonl", "model": synthetic, "match": None}
        ingest(path, saes=[str(synthetic / "truth"), sae], **own).close()
        settings = GroundTruthSettings(draws=3)
        (one,) = compare_with_truth(path, ["learned"], opened=[sae], settings=settings)
        return [(name, one.table(name).to_pylist()) for name in one.tables]

    torch.manual_seed(1)
    expected = work("cpu")
    torch.manual_seed(1)
    with pretend_gpu():
        found = work("cuda")
    assert_equal(expected, found)


def assert_equal(expected: Any, found: Any) -> None:
    """Assert that two lists of tables are equal."""
    assert [table for table, _ in found] == [table for table, _ in expected]
    assert sum(len(rows) for _, rows in expected) > 0
    for (table, rows), (_, others) in zip(expected, found, strict=True):
        assert len(rows) == len(others), table
        for row, other in zip(rows, others, strict=True):
            assert row.keys() == other.keys()
            for column, value in row.items():
                assert equal(other[column], value), (table, column, value, other[column])


def equal(a: Any, b: Any) -> bool:
    """Return whether two values of a table are equal, numbers to 1e-9."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list) and isinstance(b, list) and a and isinstance(a[0], float):
        return bool(np.allclose(a, b, rtol=1e-9, atol=1e-12))
    return bool(a == b)
