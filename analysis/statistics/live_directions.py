"""The directions of the live features of an SAE of an atlas: rows of its decoder or encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.disk.folder import Sound
from atlas.errors import BadInput
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record, reopen_sae

__all__ = ["LiveDirections", "live_directions"]


@dataclass(frozen=True, eq=False)
class LiveDirections:
    """Weights of the live features of an SAE.

    Parameters
    ----------
    features
        int64, (live,). Indices of the features that are active on some token.
    decoder
        float64, (live, d_in).
    encoder
        float64, (live, d_in): the columns of the encoder. None if the SAE has none.
    """

    features: NDArray[np.int64]
    decoder: NDArray[np.float64]
    encoder: NDArray[np.float64] | None


def live_directions(
    sound: Sound, name: str, *, opened: Sequence[Autoencoder] = ()
) -> LiveDirections:
    """Return the weights of the live features of an SAE.

    Parameters
    ----------
    sound
        The sound parts of the atlas, with the statistics of the SAE.
    name
        Its name.
    opened
        SAEs that are already open; others are opened from their stored source.

    Raises
    ------
    BadInput
        If a weight of a live feature is NaN or Inf, or as ``reopen_sae`` does.
    Mismatch, Missing, OutOfSpace, UnknownName
        As ``reopen_sae`` does.
    """
    sae = reopen_sae(open_sae_record(sound, name).row, opened).sae
    counts = sound.parts[f"statistics/{name}"].table("Feature")
    active = counts["active_tokens"].to_numpy()
    # Rows of the table are in the order of the features.
    live = np.flatnonzero(active > 0)
    matrices = {
        side: getattr(sae, f"W_{side}").detach()
        for side in ("dec", "enc")
        if hasattr(sae, f"W_{side}")
    }
    decoder = matrices["dec"][live].double().cpu().numpy()
    encoder = matrices["enc"][:, live].T.double().cpu().numpy() if "enc" in matrices else None
    for side, weights in (("decoder", decoder), ("encoder", encoder)):
        if weights is not None and not np.isfinite(weights).all():
            raise BadInput(
                f"The {side} of {name} has NaN or Inf in the weights of a live feature. Copy or train the SAE "
                "again, then ingest it with --replace."
            )
    return LiveDirections(live, decoder, encoder)
