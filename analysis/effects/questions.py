"""Which measures of pairs go with effects, and whether counterparts in another SAE have the same effect."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.effects.ablation.attribution import encoder_rows
from analysis.effects.ablation.rows import Edits, measured
from analysis.effects.ablation.sample import Contexts
from analysis.effects.ablation.source import Source, ablation_delta, random_delta, random_directions

if TYPE_CHECKING:
    from ingest.model.upper_blocks import UpperBlocks
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["correlations", "effect_vectors", "pair_measures"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pair_measures(
    upper: "UpperBlocks", contexts: Contexts, source: Source, *, targets: "Sequence[Autoencoder]"
) -> list[tuple[Floats, Floats]]:
    """Return the co-activation and the virtual weight of all pairs.

    Parameters
    ----------
    upper, contexts, source, targets
        As for ``analysis.effects.measure.measure``.

    Returns
    -------
        By target SAE, two arrays of shape (sources, features): the phi coefficient of being
        active at the same token of the contexts, 0 where a feature is always or never active;
        and the virtual weight, the product of the decoder row of the source with the encoder
        column of the target (0 if the target is never active, or its site has another width).
    """
    hooks = list(dict.fromkeys(sae.info.hook for sae in targets))
    _, _, read = upper.below(contexts.ids, contexts.mask, hooks=hooks)
    number = int(contexts.read.sum())
    span = contexts.read.shape[1]
    token_of = np.full(contexts.read.numel(), -1)
    token_of[np.flatnonzero(contexts.read.flatten().numpy())] = np.arange(number)
    every = source.every
    there = np.isin(every.feature, source.features)
    own = np.zeros((number, len(source.features)), np.float32)
    own[
        token_of[every.context[there] * span + every.position[there]],
        np.searchsorted(source.features, every.feature[there]),
    ] = 1.0
    found = []
    for sae in targets:
        x = read[sae.info.hook]
        x = x[contexts.read.to(x.device)].float()
        codes = sae.encode(x)
        rows = encoder_rows(sae, x, codes)
        vectors = source.vectors[torch.from_numpy(source.features)]
        virtual = np.zeros((len(source.features), sae.info.d_sae))
        if vectors.shape[1] == rows.shape[1]:
            virtual = (vectors @ rows.T.to(vectors.device)).cpu().numpy().astype(np.float64)
        found.append((_phi(own, (codes > 0).float().cpu().numpy()), virtual))
    return found


def _phi(a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
    """Return the phi coefficients of the columns of two arrays of 0 and 1."""
    number = len(a)
    joint = (a.T @ b).astype(np.float64)
    one, two = (part.sum(0, dtype=np.float64) for part in (a, b))
    scale = np.sqrt(np.outer(one * (number - one), two * (number - two)))
    difference = number * joint - np.outer(one, two)
    phi: Floats = np.divide(difference, scale, out=np.zeros_like(joint), where=scale > 0)
    return phi


def effect_vectors(
    upper: "UpperBlocks",
    contexts: Contexts,
    source: Source,
    *,
    targets: "Sequence[Autoencoder]",
    seed: int,
) -> dict[str, Floats]:
    """Return the mean effect of each source, as vectors that can be compared between SAEs.

    Parameters
    ----------
    upper, contexts, source, targets
        As for ``analysis.effects.measure.measure``.
    seed
        Seed of the random directions.

    Returns
    -------
        ``targets``, ``targets_random`` and ``targets_other``, (sources, features of all targets):
        mean change of the targets, summed over the token and later ones, by the ablation, by a random
        direction of equal norm, and by the ablation of another feature that is active at the
        token (over tokens with one; NaN without any). ``predictions``, ``predictions_random``
        and ``predictions_other``, (sources, vocabulary): mean change of the log-probabilities of
        the next token. ``kl``, ``kl_random`` and ``kl_other``, (sources, 1): mean KL,
        summed over the token and later ones.
    """
    (unit,) = random_directions(source, 1, seed=seed)
    every = np.arange(len(source.chosen))
    deltas = {
        "": (every, ablation_delta(source, source.chosen)),
        "_random": (every, random_delta(source, unit)),
        "_other": (
            with_other := np.flatnonzero(source.has_other),
            ablation_delta(source, source.other.take(with_other)),
        ),
    }
    found: dict[str, Floats] = {}
    for name, (rows, delta) in deltas.items():
        edits = Edits(source.chosen.context[rows], source.chosen.position[rows], delta)
        row = source.row[rows]
        counts = np.bincount(row, minlength=len(source.features))[:, None]
        sums: dict[str, Floats] = {}
        for changes in measured(upper, contexts, edits, targets=targets, predictions=True):
            kl = torch.from_numpy(changes.loss[:, 2:].sum(1, keepdims=True))
            parts = {"predictions": changes.predictions, "kl": kl}
            if targets:
                parts["targets"] = torch.cat(changes.total, 1)
            for part, values in parts.items():
                assert values is not None
                total = sums.setdefault(part, np.zeros((len(counts), values.shape[1])))
                np.add.at(total, row[changes.rows], values.cpu().numpy())
        for part, total in sums.items():
            missing = np.full_like(total, np.nan)
            found[part + name] = np.divide(total, counts, out=missing, where=counts > 0)
    return found


def correlations(
    a: Mapping[str, Floats], b: Mapping[str, Floats], pairs: Ints, *, draws: int, seed: int
) -> dict[str, Any]:
    """Correlate the effect vectors of pairs of features, with three controls.

    Parameters
    ----------
    a, b
        ``effect_vectors`` of two SAEs on the same targets.
    pairs
        int64, (pairs, 2). Rows of both that belong together.
    draws, seed
        Number of shuffled pairings, and their seed.

    Returns
    -------
        By kind of vector, arrays of one value for each pair: ``own``, the Pearson correlation of
        both effects; ``shuffled``, the mean correlation with the effects of other pairs' features;
        ``random``, the correlation with random directions of equal norm at the counterpart's
        tokens; ``other``, the correlation with the ablation of another feature at these tokens,
        NaN where none is active.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for kind in [name for name in ("predictions", "targets") if name in a]:
        other = b.get(kind + "_other", np.full_like(b[kind], np.nan))
        one, two, random, others = (
            _standardised(values)
            for values in (
                a[kind][pairs[:, 0]],
                b[kind][pairs[:, 1]],
                b[kind + "_random"][pairs[:, 1]],
                other[pairs[:, 1]],
            )
        )
        shuffled = np.mean(
            [(one * two[rng.permutation(len(two))]).sum(1) for _ in range(draws)], axis=0
        )
        found[kind] = {
            "own": (one * two).sum(1),
            "shuffled": shuffled,
            "random": (one * random).sum(1),
            "other": np.where(np.isnan(other[pairs[:, 1]]).any(1), np.nan, (one * others).sum(1)),
        }
    return found


def _standardised(values: Floats) -> Floats:
    """Return rows with mean 0 and norm 1; 0 for constant rows."""
    centred = values - values.mean(1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    scaled: Floats = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 1e-12)
    return scaled
