"""Cosines between the weights of matched features, where both SAEs share a space."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.errors import AtlasError
from atlas.progress import Progress
from ingest.match.inputs import Side
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import reopen_sae, written_hook

__all__ = ["Cosines", "cosines", "decoder_rows", "decoders", "one_space", "undefined"]

# Sites whose vectors are in the residual stream, which all blocks of a model share.
_STREAM = re.compile(r"hook_embed|blocks\.\d+\.hook_(resid_(pre|mid|post)|attn_out|mlp_out)")

# Pairs whose vectors are gathered at once, to limit the memory in addition to the weights.
_CHUNK = 1 << 14


class Cosines(NamedTuple):
    """Cosines of each pair's decoder and encoder vectors; NaN where undefined."""

    decoder: NDArray[np.float64]
    encoder: NDArray[np.float64]


def undefined(pairs: int) -> Cosines:
    """Return cosines that are not computed, for a number of pairs."""
    none = np.full(pairs, np.nan)
    return Cosines(none, none)


def cosines(
    sides: tuple[Side, Side],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    opened: Sequence[Autoencoder] = (),
    progress: Progress,
) -> Cosines:
    """Compute the cosines between the weights of pairs of features.

    Decoder vectors are compared if both SAEs write to one site or to one residual stream.
    Encoder vectors are compared if both read one site.

    Parameters
    ----------
    sides
        The SAEs.
    pairs
        The features of either SAE, one for each pair.
    opened
        SAEs that are already open; others are opened from their stored source.
    progress
        Notified if weights are not available.
    """
    none = np.full(len(pairs[0]), np.nan)
    written, read = one_space(*(side.row for side in sides)), _one_site(sides)
    if not (written or read) or not len(none):
        return undefined(len(none))
    saes = [_reopened(side, opened, progress) for side in sides]
    weights: list[Any] = [sae.sae for sae in saes if sae is not None]
    decoders = [w.W_dec for w in weights if written and hasattr(w, "W_dec")]
    encoders = [w.W_enc.T for w in weights if read and hasattr(w, "W_enc")]
    return Cosines(
        _cosine(decoders, pairs) if len(decoders) == 2 else none,
        _cosine(encoders, pairs) if len(encoders) == 2 else none,
    )


def decoders(
    sides: tuple[Side, Side], *, opened: Sequence[Autoencoder] = (), progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return the decoder vectors of two SAEs, (d_sae, d_in) each; None if they share no space.

    Parameters
    ----------
    sides
        The SAEs.
    opened
        SAEs that are already open; others are opened from their stored source.
    progress
        Notified if weights are not available; then the result is None, too.
    """
    if not one_space(*(side.row for side in sides)):
        return None
    a, b = (decoder_rows(side, opened=opened, progress=progress) for side in sides)
    return None if a is None or b is None else (a, b)


def decoder_rows(
    side: Side, *, opened: Sequence[Autoencoder] = (), progress: Progress
) -> NDArray[np.float32] | None:
    """Return the decoder vectors of an SAE, (d_sae, d_in); None if its weights are not available.

    Parameters
    ----------
    side
        The SAE.
    opened, progress
        As in ``decoders``.
    """
    sae = _reopened(side, opened, progress)
    return None if sae is None else sae.decoder


def one_space(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Return whether decoder vectors can be compared: of one site, or in one residual stream.

    Those of a transcoder are at its output site.

    Parameters
    ----------
    a, b
        Rows of the table SAE.
    """
    sites = [written_hook(row) for row in (a, b)]
    one_stream = all(_STREAM.fullmatch(site) for site in sites)
    return bool(a["model"] == b["model"] and (sites[0] == sites[1] or one_stream))


def _one_site(sides: tuple[Side, Side]) -> bool:
    a, b = (side.row for side in sides)
    return bool(a["model"] == b["model"] and a["hook"] == b["hook"])


def _reopened(side: Side, opened: Sequence[Autoencoder], progress: Progress) -> Autoencoder | None:
    """Return the SAE of a side; None if the ingested weights are not available."""
    try:
        return reopen_sae(side.row, opened)
    except AtlasError as error:
        progress.report(f"Skipped the cosines of weights with {side.name}: {error}")
    return None


def _cosine(
    weights: list[Any], pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.float64]:
    import torch

    cosine = np.full(len(pairs[0]), np.nan)
    for i in range(0, len(cosine), _CHUNK):
        x, y = (
            w.detach()[torch.from_numpy(row[i : i + _CHUNK]).to(w.device)].double().cpu().numpy()
            for w, row in zip(weights, pairs, strict=True)
        )
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        np.divide((x * y).sum(1), norms, out=cosine[i : i + _CHUNK], where=norms > 0)
    return cosine
