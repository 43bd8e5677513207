"""Distances between the spectra of the SAEs of an atlas: other seeds, widths, sites and floors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.spectra.spectrum import spectrum_distance
from analysis.spectra.study import SpectrumStudy
from atlas.disk.folder import Folder
from atlas.studies.floors import floors_of, is_floor
from ingest.sae.record import written_hook

__all__ = ["compare_spectra"]


def compare_spectra(
    atlas: str | Path, saes: Sequence[str] | None = None, *, matrix: str = "decoder"
) -> list[dict[str, Any]]:
    """Return the distances between stored spectra of SAEs.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs; pairs without any of them are excluded. Default: all pairs.
    matrix
        One of ``analysis.spectra.study.MATRICES``.

    Returns
    -------
    list of dict
        A row for each pair of SAEs with stored spectra, nearest first: ``one``, ``other``,
        ``relation``, ``distance`` (Wasserstein-1 between the normalised spectra) and
        ``sampling``. The last is the larger distance of the two SAEs that 2.5% of random splits
        of its features into halves exceed: a smaller distance is within sampling error.
        ``relation`` is ``floor``, ``seed`` (same site, number of features and architecture),
        ``floor of another seed``, ``site``, ``model``, or ``other model``. The site of a transcoder is the one it predicts,
        and for the encoder the one it reads.
    """
    sound = Folder.open(Path(atlas)).sound()
    by_name = sound.sae_rows
    rows = list(by_name.values())
    stored: dict[str, tuple[NDArray[np.float64], float | None]] = {}
    for part in sound.of("spectra"):
        if part.manifest.version != SpectrumStudy.version:
            continue
        values = [row for row in part.table("spectra").to_pylist() if row["matrix"] == matrix]
        if values:
            (own,) = (r for r in part.table("matrices").to_pylist() if r["matrix"] == matrix)
            singular = np.array([row["singular_value"] for row in values])
            stored[part.manifest.saes[0]] = singular, own["sampling"]
    names = sorted(stored)
    site = _read_hook if matrix == "encoder" else written_hook
    found = [
        {
            "one": one,
            "other": other,
            "relation": _relation(by_name[one], by_name[other], rows, site=site),
            "distance": spectrum_distance(stored[one][0], stored[other][0]),
            "sampling": max((v for v in (stored[one][1], stored[other][1]) if v), default=None),
        }
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        if saes is None or one in saes or other in saes
    ]
    return sorted(found, key=lambda row: (row["distance"], row["one"], row["other"]))


def _read_hook(row: Mapping[str, Any]) -> str:
    return str(row["hook"])


def _relation(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    site: Callable[[Mapping[str, Any]], str],
) -> str:
    a, b = one["name"], other["name"]
    if b in floors_of(rows, a) or a in floors_of(rows, b):
        return "floor"
    if one["model"] != other["model"]:
        return "other model"
    if site(one) != site(other):
        return "model"
    if any(one[key] != other[key] for key in ("d_sae", "architecture", "less")):
        return "site"
    return "seed" if is_floor(one) == is_floor(other) else "floor of another seed"
