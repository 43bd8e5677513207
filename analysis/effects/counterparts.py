"""Does a feature's counterpart in another SAE have the same effect? By strength of the match."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.effects.questions import correlations, effect_vectors
from analysis.effects.settings import EffectSettings
from analysis.effects.subjects import later_saes, open_subjects
from analysis.statistics.intervals import bootstrap_samples, quantile_interval
from atlas.disk.folder import Folder, Sound
from atlas.errors import BadInput, Mismatch, Missing
from ingest.sae.record import open_sae_record

__all__ = ["by_match_strength", "compare_counterpart_effects", "counterpart_effects"]

#: Lower ends of the bins of match strength (Pearson).
_STRENGTHS = (-1.0, 0.3, 0.5, 0.7, 0.9)

#: The correlation of a pair, and its controls.
_CORRELATIONS = ("own", "shuffled", "random", "other")

#: Shuffled pairings, and draws of the bootstrap over pairs.
_DRAWS, _BOOTSTRAP = 100, 1000


def compare_counterpart_effects(
    atlas: str | Path,
    saes: Sequence[str],
    *,
    on: Sequence[str] | None = None,
    settings: EffectSettings = EffectSettings(),  # noqa: B008 - frozen
) -> list[dict[str, Any]]:
    """Correlate the effects of one-to-one matches of two SAEs, by the strength of the match.

    Parameters
    ----------
    atlas, saes, on, settings
        As for ``counterpart_effects``, which raises the errors.

    Returns
    -------
    list of dict
        See ``by_match_strength``.
    """
    pairs = counterpart_effects(atlas, saes, on=on, settings=settings)
    return by_match_strength(pairs, seed=settings.seed)


def counterpart_effects(
    atlas: str | Path,
    saes: Sequence[str],
    *,
    on: Sequence[str] | None = None,
    features: Sequence[int] | None = None,
    settings: EffectSettings = EffectSettings(),  # noqa: B008 - frozen
) -> list[dict[str, Any]]:
    """Correlate the effects of each one-to-one match of two SAEs, with three controls.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of two SAEs with stored matches.
    on
        SAEs at sites later than those of both; if None, all of the atlas that were trained.
    features
        Features of the first SAE whose matches are compared; if None, a random sample of the matched
        features, or all, by ``settings.features``.
    settings
        The sample; occurrences are drawn for each SAE.

    Returns
    -------
    list of dict
        A row for each kind of effect (``targets``: activations of later SAEs, ``predictions``:
        log-probabilities of the next token) and pair: ``feature``, ``counterpart``, and
        ``pearson``, the strength of the match; ``kl`` and ``counterpart_kl``, the mean KL of both
        ablations, summed over the token and later ones; ``own``, the correlation of the effects
        of both features; ``shuffled``, the mean correlation with the effects of the counterparts of other
        features; ``random``, that of the feature with a random direction of equal norm at the
        counterpart's tokens; ``other``, that with another feature that is active at these tokens,
        NaN without any.

    Raises
    ------
    BadInput
        If there are not two SAEs, or no measured pair.
    Mismatch
        If the SAEs read different models.
    Missing
        If the SAEs were not matched.
    """
    if len(saes) != 2 or saes[0] == saes[1]:
        raise BadInput(f"{', '.join(saes) or 'No SAE'} was passed; expected two different SAEs.")
    folder = Folder.open(Path(atlas))
    sound = folder.sound()
    one, two = (str(open_sae_record(sound, name).model["name"]) for name in saes)
    if one != two:
        raise Mismatch(
            f"{saes[0]} reads {one}, and {saes[1]} reads {two}. Effects are compared between SAEs of one model."
        )
    shared = [set(later_saes(sound, name, on)) for name in saes]
    targets = sorted(set.intersection(*shared))
    matches = _matches(sound, saes)
    vectors, sources = [], []
    only = matches[:, 0]
    if features is not None:
        only = np.intersect1d(only, np.asarray(features, dtype=np.float64))
        settings = replace(settings, features=None)
    for number, name in enumerate(saes):
        opened = open_subjects(
            folder, sound, [name, *targets], settings=settings, only=only.astype(np.int64)
        )
        sources.append(opened.source.features)
        only = matches[np.isin(matches[:, 0], sources[0]), 1]
        vectors.append(
            effect_vectors(
                opened.upper,
                opened.contexts,
                opened.source,
                targets=opened.targets,
                seed=settings.seed + number,
            )
        )
    matches, pairs = _measured(matches, sources)
    if not len(pairs):
        raise BadInput(
            f"No pair of {saes[0]} and {saes[1]} is active at enough tokens of the sample. Use more contexts."
        )
    found = correlations(vectors[0], vectors[1], pairs, draws=_DRAWS, seed=settings.seed)
    return [
        {
            "effect": kind,
            "feature": f"{saes[0]}/{int(a)}",
            "counterpart": f"{saes[1]}/{int(b)}",
            "pearson": float(strength),
            "kl": float(vectors[0]["kl"][one, 0]),
            "counterpart_kl": float(vectors[1]["kl"][other, 0]),
            **{name: float(values[name][number]) for name in _CORRELATIONS},
        }
        for kind, values in found.items()
        for number, ((a, b, strength), (one, other)) in enumerate(zip(matches, pairs, strict=True))
    ]


def _measured(
    matches: NDArray[np.float64], sources: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the matches of which both features were measured, and the positions of both among these."""
    rows = [np.searchsorted(own, matches[:, i]) for i, own in enumerate(sources)]
    known = [
        own[at.clip(max=len(own) - 1)] == matches[:, i]
        for i, (own, at) in enumerate(zip(sources, rows, strict=True))
    ]
    both = known[0] & known[1]
    return matches[both], np.stack(rows, 1)[both].astype(np.int64)


def _matches(sound: Sound, saes: Sequence[str]) -> NDArray[np.float64]:
    """Return the features and the Pearson correlation of one-to-one matches, (pairs, 3)."""
    for a, b in (tuple(saes), tuple(reversed(saes))):
        part = sound.parts.get(f"match/{a}+{b}")
        if part is None:
            continue
        table = part.table("MATCHES")
        table = table.filter(table["one_to_one"])
        ends = [
            [int(key.rpartition("/")[2]) for key in table[end].to_pylist()]
            for end in (("source", "target") if a == saes[0] else ("target", "source"))
        ]
        strength = pc.fill_null(table["pearson"], 0.0).to_pylist()
        return np.array([*ends, strength], dtype=np.float64).T
    raise Missing(
        f"{saes[0]} and {saes[1]} were not matched; `atlas match {saes[0]} {saes[1]}` does it."
    )


def by_match_strength(pairs: Sequence[dict[str, Any]], *, seed: int) -> list[dict[str, Any]]:
    """Return means over pairs of features, for all pairs and by the strength of the match.

    Parameters
    ----------
    pairs
        See ``counterpart_effects``.
    seed
        Seed of the bootstrap over pairs.

    Returns
    -------
    list of dict
        A row for each kind of effect and range of match strength: ``pairs``; the means of ``own``,
        ``shuffled`` and ``random``; ``other``, the mean over the ``pairs_with_other``, None without
        any. ``above_random``, the mean of own - random, with its 95% interval over pairs, ``low``
        and ``high``; ``above_other``, the same for other features, with ``other_low`` and
        ``other_high``.
    """
    bins = [("all", -np.inf, np.inf)]
    for least, most in zip(_STRENGTHS, (*_STRENGTHS[1:], np.inf), strict=True):
        label = f"below {most:g}" if least < 0 else f"{least:g} to {min(most, 1):g}"
        bins.append((label, least, most))
    rows = []
    for kind in dict.fromkeys(pair["effect"] for pair in pairs):
        for label, least, most in bins:
            some = [p for p in pairs if p["effect"] == kind and least <= p["pearson"] < most]
            if some:
                rows.append({"effect": kind, "match": label} | _means_of(some, seed=seed))
    return rows


def _means_of(pairs: Sequence[dict[str, Any]], *, seed: int) -> dict[str, Any]:
    own, shuffled, random, other = (
        np.array([pair[name] for pair in pairs]) for name in _CORRELATIONS
    )
    there = ~np.isnan(other)
    above, low, high = _above(own, random, seed=seed)
    above_other, other_low, other_high = _above(own[there], other[there], seed=seed)
    return {
        "pairs": len(own),
        "own": float(own.mean()),
        "shuffled": float(shuffled.mean()),
        "random": float(random.mean()),
        "above_random": above,
        "low": low,
        "high": high,
        "pairs_with_other": int(there.sum()),
        "other": float(other[there].mean()) if there.any() else None,
        "above_other": above_other,
        "other_low": other_low,
        "other_high": other_high,
    }


def _above(
    own: NDArray[np.float64], control: NDArray[np.float64], *, seed: int
) -> tuple[float | None, float | None, float | None]:
    """Return the mean of own - control, and its 95% interval over pairs; None without pairs."""
    if not len(own):
        return None, None, None
    difference = own - control
    drawn = bootstrap_samples(len(own), _BOOTSTRAP, seed=seed)
    low, high = quantile_interval(difference[drawn].mean(1))
    return float(difference.mean()), float(low), float(high)
