"""Mean effects of each kind of edit, measured in steps of some features that are stored as they finish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.effects.ablation.rows import LOSSES, Edits, measured
from analysis.effects.ablation.sample import Contexts, first_half
from analysis.effects.ablation.source import (
    Source,
    ablation_delta,
    random_delta,
    random_directions,
)
from atlas.studies.steps import Steps

if TYPE_CHECKING:
    from atlas.progress import Stage
    from ingest.model.upper_blocks import UpperBlocks
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["Arm", "measured_arms"]

#: Features of a step. The unedited contexts are run once for each step.
_FEATURES = 64

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Arm:
    """Mean effects of one kind of edit on every source's tokens.

    Parameters
    ----------
    loss
        float64, (occurrences, 4); see ``LOSSES``.
    total
        By target SAE, float32, (sources, features): mean over the ablated tokens of
        the change of the target, summed over the token and later ones.
    first
        By target SAE, float32, (sources, features): the same as ``total`` over the tokens of the first
        half of the documents, 0 without any; see ``first_half``.
    here
        By target SAE, float32, (sources, features): the same at the token alone. Of the ablation
        of the features themselves only; empty for controls.
    values
        By target SAE, float32, (occurrences, candidates): total change of the candidates.
    """

    loss: Floats
    total: list[Floats32]
    first: list[Floats32]
    here: list[Floats32]
    values: list[Floats32]


def measured_arms(
    upper: "UpperBlocks",
    contexts: Contexts,
    source: Source,
    *,
    targets: "Sequence[Autoencoder]",
    candidates: Sequence[Ints],
    draws: int,
    seed: int,
    steps: Steps,
    stage: "Stage",
) -> list[Arm]:
    """Measure the ablation of each feature and its controls.

    Parameters
    ----------
    upper, contexts, source
        The model from the site on, the contexts, and the features with their tokens.
    targets
        SAEs at later sites.
    candidates
        By target SAE, int64, (sources, candidates): targets whose change at each occurrence is
        returned.
    draws, seed
        Number of random directions of each feature, and their seed.
    steps
        The finished steps.
    stage
        Advanced by the number of edits.

    Returns
    -------
        The ablation of the feature, that of another active feature, and one arm for each draw of
        random directions.
    """
    unit = random_directions(source, draws, seed=seed)
    number, sources = draws + 2, len(source.features)
    arms = [_empty(source, candidates, targets, here=arm == 0) for arm in range(number)]
    row = source.row
    first = first_half(contexts.document[source.chosen.context], seed=seed)
    for start in range(0, sources, _FEATURES):
        some = slice(start, min(start + _FEATURES, sources))
        rows = np.flatnonzero((row >= some.start) & (row < some.stop))
        part = source.take(some)
        known = [one[some] for one in candidates]

        def compute(
            *,
            part: Source = part,
            some: slice = some,
            known: Sequence[Ints] = known,
            half: NDArray[np.bool_] = first[rows],
        ) -> dict[str, NDArray[Any]]:
            deltas = [
                ablation_delta(part, part.chosen),
                ablation_delta(part, part.other),
                *(random_delta(part, one[some]) for one in unit),
            ]
            return _step(
                upper,
                contexts,
                part,
                deltas=deltas,
                targets=targets,
                candidates=known,
                first=half,
            )

        shapes: dict[str, tuple[int, ...]] = {"loss": (number, len(rows), len(LOSSES))}
        for i, one in enumerate(known):
            width = targets[i].info.d_sae
            shapes[f"total-{i}"] = (number, len(part.features), width)
            shapes[f"first-{i}"] = (number, len(part.features), width)
            shapes[f"here-{i}"] = (len(part.features), width)
            shapes[f"values-{i}"] = (number, len(rows), one.shape[1])
        found = steps.get(f"ablation-{start}", compute, shapes=shapes)
        for arm, mean in enumerate(arms):
            _fill(mean, found, arm, some=some, rows=rows)
        stage.advance(number * len(rows))
    return arms


def _empty(
    source: Source,
    candidates: Sequence[Ints],
    targets: "Sequence[Autoencoder]",
    *,
    here: bool,
) -> Arm:
    occurrences, sources = len(source.chosen), len(source.features)
    shapes = [(sources, sae.info.d_sae) for sae in targets]
    return Arm(
        np.zeros((occurrences, len(LOSSES))),
        [np.zeros(shape, np.float32) for shape in shapes],
        [np.zeros(shape, np.float32) for shape in shapes],
        [np.zeros(shape, np.float32) for shape in shapes] if here else [],
        [np.zeros((occurrences, one.shape[1]), np.float32) for one in candidates],
    )


def _fill(
    arm: Arm, found: Mapping[str, NDArray[Any]], number: int, *, some: slice, rows: Ints
) -> None:
    """Write the part of an arm that a step has measured."""
    arm.loss[rows] = found["loss"][number]
    for i, (total, first, values) in enumerate(zip(arm.total, arm.first, arm.values, strict=True)):
        total[some] = found[f"total-{i}"][number]
        first[some] = found[f"first-{i}"][number]
        values[rows] = found[f"values-{i}"][number]
    for i, here in enumerate(arm.here):
        here[some] = found[f"here-{i}"]


def _step(
    upper: "UpperBlocks",
    contexts: Contexts,
    part: Source,
    *,
    deltas: Sequence[torch.Tensor],
    targets: "Sequence[Autoencoder]",
    candidates: Sequence[Ints],
    first: NDArray[np.bool_],
) -> dict[str, NDArray[Any]]:
    """Measure all arms of some features; ``first`` marks the occurrences of the first half.

    Returns
    -------
        ``loss``, (arms, occurrences, 4); by target SAE ``total-i`` and ``first-i``, (arms, features, targets),
        ``here-i``, (features, targets), and ``values-i``, (arms, occurrences, candidates).
    """
    number, sources, occurrences = len(deltas), len(part.features), len(part.chosen)
    edits = Edits(
        np.tile(part.chosen.context, number),
        np.tile(part.chosen.position, number),
        torch.cat(list(deltas)),
    )
    row = part.row
    total = [torch.zeros(number * sources, sae.info.d_sae) for sae in targets]
    halves = [torch.zeros(number * sources, sae.info.d_sae) for sae in targets]
    here = [torch.zeros(sources, sae.info.d_sae) for sae in targets]
    values = [np.zeros((number * occurrences, one.shape[1]), np.float32) for one in candidates]
    loss = np.zeros((number * occurrences, len(LOSSES)))
    for changes in measured(upper, contexts, edits, targets=targets):
        loss[changes.rows] = changes.loss
        arm, which = np.divmod(changes.rows, occurrences)
        at = torch.from_numpy(arm * sources + row[which])
        own, half = torch.from_numpy(arm == 0), torch.from_numpy(first[which])
        for i, (every, single) in enumerate(zip(changes.total, changes.here, strict=True)):
            total[i].index_add_(0, at, every)
            halves[i].index_add_(0, at[half], every[half])
            here[i].index_add_(0, at[own], single[own])
            wanted = candidates[i][row[which]]
            values[i][changes.rows] = np.take_along_axis(every.numpy(), wanted, 1)
    counts = np.bincount(row, minlength=sources)[:, None].astype(np.float32)
    of_first = np.bincount(row[first], minlength=sources)[:, None].clip(min=1).astype(np.float32)
    found: dict[str, NDArray[Any]] = {"loss": loss.reshape(number, occurrences, -1)}
    for i, one in enumerate(values):
        found[f"total-{i}"] = total[i].numpy().reshape(number, sources, -1) / counts
        found[f"first-{i}"] = halves[i].numpy().reshape(number, sources, -1) / of_first
        found[f"here-{i}"] = here[i].numpy() / counts
        found[f"values-{i}"] = one.reshape(number, occurrences, -1)
    return found
