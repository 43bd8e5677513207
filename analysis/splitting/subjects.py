"""The pairs of SAEs of a study of splitting, and the codes and directions of a pair."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.splitting.containment import ActiveTokens
from analysis.statistics.live_directions import no_decoder
from atlas.disk.folder import Folder, Sound
from atlas.errors import BadInput, Mismatch
from atlas.studies.floors import is_floor
from atlas.studies.study import check_saes
from ingest.match.align import align
from ingest.match.inputs import open_side
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import reopen_sae, written_hook
from ingest.text.corpus import Corpus

__all__ = ["active_tokens", "decoder_vectors", "equal_width", "pairs_of"]

# Codes of this size or less are aligned in memory, others in a scratch folder.
_SMALL = 1 << 30


def pairs_of(
    rows: Mapping[str, Mapping[str, Any]], sound: Sound, saes: Sequence[str] | None
) -> list[tuple[str, str]]:
    """Return the pairs (narrow, wider) of two or three SAEs, after a check.

    Raises
    ------
    BadInput
        If there are not two or three different SAEs, the narrowest first.
    Mismatch
        If they read different sites.
    """
    order = "name two or three SAEs of one site, the narrowest first"
    if not saes:
        raise BadInput(f"No SAE was named, and splitting cannot use all; {order}.")
    if not 2 <= len(saes) <= 3:
        raise BadInput(
            f"Splitting compares two or three SAEs, but these were named: {', '.join(saes)}; {order}."
        )
    names = check_saes(sound, saes)
    if len(names) < len(saes):
        raise BadInput(f"{', '.join(saes)} names an SAE twice; {order}.")
    for a, b in itertools.pairwise(names):
        one, two = rows[a], rows[b]
        if (one["model"], one["hook"]) != (two["model"], two["hook"]):
            raise Mismatch(
                f"{a} reads {one['model']}/{one['hook']}, and {b} reads {two['model']}/{two['hook']}. "
                "Features split between SAEs of one site only; `atlas match` compares features across sites."
            )
        if written_hook(one) != written_hook(two):
            raise Mismatch(
                f"The decoder vectors of {a} are at {written_hook(one)}, those of {b} at {written_hook(two)}, so "
                "they cannot be compared. Name SAEs that read and predict one site each."
            )
        if one["d_sae"] > two["d_sae"]:
            raise BadInput(
                f"{a} has {one['d_sae']:,} features and {b} has {two['d_sae']:,}; {order}."
            )
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def equal_width(
    rows: Mapping[str, Mapping[str, Any]], sound: Sound, narrow: str, *, without: Sequence[str]
) -> str | None:
    """Return another SAE of the same site and width that has codes and is no floor.

    SAEs of the same architecture come first, then those of the lowest name.

    Parameters
    ----------
    rows, sound
        The SAEs of the atlas, and its sound parts.
    narrow
        Name of the SAE.
    without
        Names of SAEs to skip.
    """
    own = rows[narrow]
    by_likeness = sorted(rows, key=lambda n: (rows[n]["architecture"] != own["architecture"], n))
    for name in by_likeness:
        row = rows[name]
        same = all(row[key] == own[key] for key in ("model", "hook", "d_sae", "less"))
        same = same and written_hook(row) == written_hook(own)
        usable = f"codes/{name}" in sound.parts and not is_floor(row)
        if same and usable and name != narrow and name not in without:
            return name
    return None


def active_tokens(
    folder: Folder,
    sound: Sound,
    saes: tuple[str, ...],
    *,
    scratch: Path,
    documents: NDArray[np.int64] | None = None,
) -> ActiveTokens:
    """Read the codes of a narrow and of a wider SAE.

    Parameters
    ----------
    folder, sound
        The atlas, and its sound parts.
    saes
        Names of the narrow and of the wider SAE.
    scratch
        A folder for codes that do not fit into memory.
    documents
        Numbers of the documents; all if None.
    """
    a, b = (open_side(folder, sound, name) for name in saes)
    small = a.bytes + b.bytes <= _SMALL
    return ActiveTokens.of(
        align(
            a.shards,
            b.shards,
            Corpus.open(folder.corpus_file),
            how="tokens",
            documents=documents,
            scratch=None if small else scratch,
        )
    )


def decoder_vectors(
    row: Mapping[str, Any], opened: Sequence[Autoencoder] = ()
) -> NDArray[np.float32]:
    """Return the decoder vectors of an SAE, (features, dimensions).

    Parameters
    ----------
    row
        Its row of the table SAE.
    opened
        SAEs that are already open.

    Raises
    ------
    BadInput
        If its weights are not available, or it has no decoder.
    Mismatch
        If its source now has other weights.
    """
    vectors = reopen_sae(row, opened).decoder
    if vectors is None:
        raise no_decoder(row["name"])
    return vectors
