"""Measure the effects of the features of one SAE: attribution, ablation, controls and edges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.effects.ablation.arms import Arm, measured_arms
from analysis.effects.ablation.attribution import Attribution, attribute
from analysis.effects.ablation.replication import Replication, replicated
from analysis.effects.ablation.rows import LOSSES, Edits, measured
from analysis.effects.ablation.sample import Contexts, first_half
from analysis.effects.ablation.selection import SIGNS, selected_edges, tested
from analysis.effects.ablation.source import Source, ablation_delta
from analysis.effects.inference import decoy_q, feature_mean_interval
from analysis.effects.settings import EffectSettings
from atlas.progress import SILENT, Progress
from atlas.studies.steps import NOT_STORED, Steps

if TYPE_CHECKING:
    from ingest.model.upper_blocks import UpperBlocks
    from ingest.sae.autoencoder import Autoencoder

__all__ = [
    "BATCH",
    "Effects",
    "above_all_random",
    "draws_of",
    "feature_q",
    "kl_above",
    "measure",
]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

#: Contexts of a batch of attribution.
BATCH = 32

#: Least rounding of KL, in nats: its terms are sums in float32.
_ROUNDING = 1e-7


@dataclass(frozen=True, eq=False)
class Effects:
    """The effects of the features of an SAE.

    Parameters
    ----------
    source
        The features and tokens.
    document
        (occurrences,). Document of each chosen occurrence.
    attribution
        First-order effects.
    own, other
        Real ablation of the feature, and of another active feature.
    random
        Random directions of equal norm, one arm for each draw.
    candidates
        By target SAE, (sources, candidates): the targets that can become edges.
    p, q
        By target SAE, (sources, features); q over the sources, adjusted for all targets.
    edges
        A row for each edge.
    replication
        Edges of one half of the documents that replicate in the other half.
    sham, sham_kl
        Largest change of a target, and largest KL, of an edit that changes nothing.
    additivity
        Of joint ablations: see ``additivity``.
    """

    source: Source
    document: Ints
    attribution: Attribution
    own: Arm
    other: Arm
    random: list[Arm]
    candidates: list[Ints]
    p: list[Floats]
    q: list[Floats]
    edges: list[dict[str, Any]]
    replication: Replication
    sham: float
    sham_kl: float
    additivity: Mapping[str, float | None]

    @property
    def targets_per_source(self) -> int:
        """Number of targets for which each p is adjusted."""
        return sum(one.shape[1] for one in self.p)

    def loss_of(self, arm: Arm) -> Floats:
        """Return the mean changes of the loss and of KL by source, (sources, 4).

        The means of other features are over tokens at which another feature is active, and NaN
        without one.
        """
        return _means(arm.loss, self.source, self.source.has_other if arm is self.other else None)

    @property
    def kl_of_random(self) -> Floats:
        """The KL of each random direction, summed over the token and later ones, (draws, sources)."""
        return np.stack([self.loss_of(arm)[:, 2:].sum(1) for arm in self.random])


def measure(
    upper: "UpperBlocks",
    contexts: Contexts,
    source: Source,
    *,
    targets: "Sequence[Autoencoder]",
    settings: EffectSettings,
    steps: Steps = NOT_STORED,
    progress: Progress = SILENT,
) -> Effects:
    """Measure the effects of features on the loss and on the features of later SAEs.

    Parameters
    ----------
    upper
        The model from the site of the source on.
    contexts, source
        The contexts, and the features and tokens of ``source_of``.
    targets
        SAEs at later sites; none for the loss alone.
    settings
        Draws, candidates and thresholds.
    steps
        The finished steps.
    progress
        Reports progress.
    """
    with progress.stage("attribution of all pairs", total=len(contexts), unit="contexts") as stage:
        attribution = attribute(
            upper,
            contexts,
            source.chosen,
            vectors=source.vectors,
            targets=targets,
            sources=source.features,
            batch=BATCH,
            steps=steps,
            stage=stage,
        )
    candidates = [_candidates(one, settings.candidates) for one in attribution.effect]
    draws = draws_of(settings, len(source.features))
    rows = len(source.chosen) * (2 + draws)
    with progress.stage("ablation and controls", total=rows, unit="edits") as stage:
        arms = measured_arms(
            upper,
            contexts,
            source,
            targets=targets,
            candidates=candidates,
            draws=draws,
            seed=settings.seed,
            steps=steps,
            stage=stage,
        )
    own, other, *random = arms
    sham, sham_kl = _sham(upper, contexts, source, targets=targets)
    p, q = tested(own, random, sham)
    document = contexts.document[source.chosen.context]
    edges = selected_edges(
        source, document, arms, candidates=candidates, p=p, q=q, sham=sham, settings=settings
    )
    first = first_half(document, seed=settings.seed)
    replication = replicated(
        source, document, arms, candidates=candidates, first=first, sham=sham, settings=settings
    )
    added = additivity(upper, contexts, source, targets=targets, settings=settings)
    return Effects(
        source,
        document,
        attribution,
        own,
        other,
        random,
        candidates,
        p,
        q,
        edges,
        replication,
        sham,
        sham_kl,
        added,
    )


def draws_of(settings: EffectSettings, features: int) -> int:
    """Return the number of random directions of each feature."""
    return max(settings.decoys, -(-settings.directions // features))


def additivity(
    upper: "UpperBlocks",
    contexts: Contexts,
    source: Source,
    *,
    targets: "Sequence[Autoencoder]",
    settings: EffectSettings,
) -> dict[str, float | None]:
    """Compare the joint ablation of all features at a token with the sum of single ablations.

    Returns
    -------
        ``targets`` and ``ce``: 1 - Σ (joint - sum)² / Σ joint², over tokens and targets; 1 if
        single effects add up, None without an effect. ``kl_ratio``: KL of the joint ablation /
        sum of the KL of the single ones. ``tokens``: number of tokens.
    """
    every = source.every
    span = int(every.position.max(initial=0)) + 1
    token, group = np.unique(every.context * span + every.position, return_inverse=True)
    rng = np.random.default_rng(settings.seed)
    tokens = rng.permutation(len(token))[: settings.joint]
    inside = np.isin(group, tokens)
    single = every.take(inside)
    number = np.unique(group[inside], return_inverse=True)[1]
    delta = ablation_delta(source, single)
    joint = torch.zeros(len(tokens), delta.shape[1]).index_add_(
        0, torch.from_numpy(number), delta.cpu()
    )
    context, position = (np.empty(len(tokens), dtype=np.int64) for _ in range(2))
    context[number], position[number] = single.context, single.position
    sums: list[list[Any]] = []
    for edits, to in (
        (Edits(context, position, joint), np.arange(len(tokens))),
        (Edits(single.context, single.position, delta), number),
    ):
        total = [np.zeros((len(tokens), sae.info.d_sae)) for sae in targets]
        loss = np.zeros((len(tokens), len(LOSSES)))
        for changes in measured(upper, contexts, edits, targets=targets):
            np.add.at(loss, to[changes.rows], changes.loss)
            for one, change in zip(total, changes.total, strict=True):
                np.add.at(one, to[changes.rows], change.numpy())
        sums.append([np.concatenate(total, axis=1) if total else np.zeros((0, 0)), loss])
    (joint_change, joint_loss), (sum_change, sum_loss) = sums
    kl = [one[:, 2:].sum() for one in (joint_loss, sum_loss)]
    return {
        "tokens": float(len(tokens)),
        "targets": _share_explained(joint_change, sum_change),
        "ce": _share_explained(joint_loss[:, :2].sum(1), sum_loss[:, :2].sum(1)),
        "kl_ratio": float(kl[0] / kl[1]) if kl[1] > 0 else None,
    }


def _share_explained(joint: Floats, total: Floats) -> float | None:
    squares = float(np.square(joint).sum())
    return 1 - float(np.square(joint - total).sum()) / squares if squares > 0 else None


def _candidates(effect: Floats32, most: int) -> Ints:
    """Return the targets with the largest attribution of each source, (sources, most)."""
    most = min(most, effect.shape[1])
    return np.argpartition(-np.abs(effect), most - 1, axis=1)[:, :most].astype(np.int64)


def _means(values: Floats, source: Source, use: NDArray[np.bool_] | None) -> Floats:
    """Return means by source over some occurrences (all if None); NaN without any."""
    row = source.row
    if use is not None:
        values, row = values[use], row[use]
    sums = np.zeros((len(source.features), values.shape[1]))
    np.add.at(sums, row, values)
    counts = np.bincount(row, minlength=len(sums))[:, None]
    means: Floats = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means


def _sham(
    upper: "UpperBlocks", contexts: Contexts, source: Source, *, targets: "Sequence[Autoencoder]"
) -> tuple[float, float]:
    """Return the largest change of a target, and KL, by edits that change nothing: rounding."""
    some = source.chosen.take(np.arange(min(64, len(source.chosen))))
    edits = Edits(some.context, some.position, torch.zeros(len(some), source.vectors.shape[1]))
    largest, divergence = 0.0, 0.0
    for changes in measured(upper, contexts, edits, targets=targets):
        largest = max(largest, *(float(change.abs().max()) for change in changes.total), 0.0)
        divergence = max(divergence, float(np.abs(changes.loss[:, 2:].sum(1)).max()))
    return largest, divergence


def feature_q(effects: Effects) -> Floats:
    """Return the q-value of each source that its KL exceeds that of random directions.

    KL of the size of rounding is none: all are raised to three times the largest KL of a sham
    edit, and to 1e-7 nats at least.
    """
    own, random = _raised_kl(effects)
    return decoy_q(own, random)


def above_all_random(effects: Effects) -> NDArray[np.bool_]:
    """Return which sources have a larger KL than all their random directions, apart from rounding."""
    own, random = _raised_kl(effects)
    found: NDArray[np.bool_] = own > random.max(axis=0)
    return found


def kl_above(effects: Effects, control: Literal["random", "other"]) -> tuple[float, float, float]:
    """Return the mean over features of KL minus that of a control, with its 95% interval over documents.

    Parameters
    ----------
    effects
        The effects. For ``other``, another feature is active at one of their tokens at least.
    control
        Random directions at the same tokens, or other features at the tokens with one.
    """
    source = effects.source
    arms = effects.random if control == "random" else [effects.other]
    use = np.ones(len(source.chosen), bool) if control == "random" else source.has_other
    kl = [arm.loss[use, 2:].sum(1) for arm in (effects.own, *arms)]
    return feature_mean_interval(
        kl[0] - np.mean(kl[1:], axis=0),
        source.row[use],
        effects.document[use],
        draws=SIGNS,
        seed=0,
    )


def _raised_kl(effects: Effects) -> tuple[Floats, Floats]:
    """Return the KL of sources and of random directions, raised to that of rounding."""
    floor = max(3 * effects.sham_kl, _ROUNDING)
    own = effects.loss_of(effects.own)[:, 2:].sum(1)
    return np.maximum(own, floor), np.maximum(effects.kl_of_random, floor)
