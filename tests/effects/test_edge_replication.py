"""Replication of edges between halves of the documents: by hand, on a circuit, and without effects."""

from dataclasses import replace

import numpy as np
import pytest
from circuit_effects import contexts_of, effects_of
from circuit_model import CIRCUIT, circuit_model, circuit_saes

from analysis.effects.ablation.replication import Replication, half_arm, replicated
from analysis.effects.ablation.sample import first_half
from analysis.effects.settings import EffectSettings
from analysis.effects.tables import explained, summary_of
from analysis.effects.verdict import verdict


@pytest.fixture(scope="module")
def found():
    return effects_of(circuit_model(), circuit_saes(), contexts=contexts_of())


def test_halves_are_of_complete_documents_and_of_equal_number():
    document = np.random.default_rng(0).integers(5, 16, 200)
    half = first_half(document, seed=3)
    by_document = {one: set(half[document == one].tolist()) for one in np.unique(document)}
    assert all(len(one) == 1 for one in by_document.values())
    assert sum(True in one for one in by_document.values()) == 6  # of 11
    assert (first_half(document, seed=4) != half).any()


def test_the_mean_of_a_half_is_that_of_its_tokens(found):
    source, first = found.source, first_half(found.document, seed=0)
    sources = np.arange(1, len(source.features))
    for half in (first, ~first):
        rows = np.flatnonzero(half & (source.row >= 1))
        for arm in (found.own, found.random[1]):
            (total,) = half_arm(arm, source, rows, sources=sources, first=first).total
            for i, s in enumerate(sources):
                own = arm.values[0][rows][source.row[rows] == s].mean(axis=0)
                columns = found.candidates[0][s]
                np.testing.assert_allclose(total[i, columns], own, atol=1e-4)


def test_edges_of_a_circuit_replicate(found):
    edges, again = found.replication.edges, found.replication.replicated
    assert len(CIRCUIT) <= edges <= 2 * len(CIRCUIT)
    assert again == edges
    summary = summary_of(found, "a", ["b"]) | explained(found, [])
    assert (summary["half_edges"], summary["half_edges_replicated"]) == (edges, again)
    from analysis.effects.tables import effect_tables

    rows = dict(effect_tables(found, "a", ["b"]))["AFFECTS"]
    sentence = verdict(summary, q=0.05, edges=rows)[2]
    assert f"of {edges} edges found in one half of the documents alone, {again} (100%)" in sentence
    without = summary | {"half_edges": 0, "half_edges_replicated": 0}
    assert "Half of the documents alone give no edge" in verdict(without, q=0.05, edges=rows)[2]


def test_effects_of_one_half_do_not_replicate(found):
    """The effects in the second half have the opposite sign."""
    first = first_half(found.document, seed=0)
    rows = np.where(first, 1.0, -1.0)[:, None].astype(np.float32)
    counts = [
        np.bincount(found.source.row[half], minlength=len(found.source.features))[:, None]
        for half in (first, ~first)
    ]
    own = found.own
    second = [
        (sum(counts) * t - counts[0] * f) / counts[1]
        for t, f in zip(own.total, own.first, strict=True)
    ]
    total = [
        (counts[0] * f - counts[1] * s) / sum(counts)
        for f, s in zip(own.first, second, strict=True)
    ]
    changed = replace(own, total=total, values=[one * rows for one in own.values])
    result = replicated(
        found.source,
        found.document,
        [changed, found.other, *found.random],
        candidates=found.candidates,
        first=first,
        sham=found.sham,
        settings=EffectSettings(directions=400),
    )
    assert result.edges >= len(CIRCUIT)
    assert result.replicated == 0


def test_one_document_has_no_second_half(found):
    result = replicated(
        found.source,
        np.zeros_like(found.document),
        [found.own, found.other, *found.random],
        candidates=found.candidates,
        first=np.ones(len(found.document), bool),
        sham=found.sham,
        settings=EffectSettings(directions=400),
    )
    assert result == Replication(0, 0)
