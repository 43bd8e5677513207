"""Does a feature's counterpart in another SAE have the same effect? By strength of the match."""

from collections.abc import Sequence
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

__all__ = ["compare_counterpart_effects"]

#: Lower ends of the bins of match strength (Pearson).
_STRENGTHS = (-1.0, 0.3, 0.5, 0.7, 0.9)

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
    atlas
        The folder of the atlas.
    saes
        Names of two SAEs with stored matches.
    on
        SAEs at sites later than those of both; if None, all of the atlas that are no floors.
    settings
        The sample; occurrences are drawn for each SAE.

    Returns
    -------
    list of dict
        A row for each kind of effect (``targets``: activations of later SAEs, ``predictions``:
        log-probabilities of the next token) and range of match strength: ``pairs``; ``own``, the
        mean correlation of the effects of both features; ``shuffled``, that of other pairs;
        ``random``, that of the source with random directions at the counterpart's tokens, of
        equal norm; ``other``, that with another feature that is active at these tokens (mean over
        the ``pairs_with_other``, None without any). ``above_random``, the mean of own - random,
        with its 95% interval over pairs, ``low`` and ``high``; ``above_other``, the same for
        other features, with ``other_low`` and ``other_high``.

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
    for number, name in enumerate(saes):
        opened = open_subjects(folder, sound, [name, *targets], settings=settings)
        sources.append(opened.source.features)
        vectors.append(
            effect_vectors(
                opened.upper,
                opened.contexts,
                opened.source,
                targets=opened.targets,
                seed=settings.seed + number,
            )
        )
    rows = [np.searchsorted(own, matches[:, i]) for i, own in enumerate(sources)]
    known = [
        own[at.clip(max=len(own) - 1)] == matches[:, i]
        for i, (own, at) in enumerate(zip(sources, rows, strict=True))
    ]
    measured = known[0] & known[1]
    if not measured.any():
        raise BadInput(
            f"No pair of {saes[0]} and {saes[1]} is active at enough tokens of the sample. Use more contexts."
        )
    pairs = np.stack(rows, 1)[measured].astype(np.int64)
    strength = matches[measured, 2]
    found = correlations(vectors[0], vectors[1], pairs, draws=_DRAWS, seed=settings.seed)
    return [
        row
        for kind, values in found.items()
        for row in _rows(kind, values, strength, seed=settings.seed)
    ]


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


def _rows(
    kind: str, values: dict[str, Any], strength: NDArray[np.float64], *, seed: int
) -> list[dict[str, Any]]:
    """Return the row of all pairs, then one for each range of match strength."""
    bins = [("all", np.ones(len(strength), bool))]
    for least, most in zip(_STRENGTHS, (*_STRENGTHS[1:], 1.0 + 1e-9), strict=True):
        label = f"below {most:g}" if least < 0 else f"{least:g} to {min(most, 1):g}"
        bins.append((label, (strength >= least) & (strength < most)))
    rows = []
    for label, inside in bins:
        if not inside.any():
            continue
        own, shuffled, random, other = (
            values[n][inside] for n in ("own", "shuffled", "random", "other")
        )
        there = ~np.isnan(other)
        above, low, high = _above(own, random, seed=seed)
        above_other, other_low, other_high = _above(own[there], other[there], seed=seed)
        rows.append(
            {
                "effect": kind,
                "pearson": label,
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
        )
    return rows


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
