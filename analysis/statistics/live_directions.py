"""The directions of the live features of an SAE of an atlas: rows of its decoder or encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.disk.folder import Sound
from atlas.errors import AtlasError, BadInput
from atlas.studies.study import Task, TaskContext
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record, reopen_sae

__all__ = ["LiveDirections", "live_directions", "no_decoder", "without_weights"]


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
        If the SAE has no decoder matrix, if a weight of a live feature is NaN or Inf, or as
        ``reopen_sae`` does.
    Mismatch, Missing, OutOfSpace, UnknownName
        As ``reopen_sae`` does.
    """
    sae = reopen_sae(open_sae_record(sound, name).row, opened)
    counts = sound.parts[f"statistics/{name}"].table("Feature")
    active = counts["active_tokens"].to_numpy()
    # Rows of the table are in the order of the features.
    live = np.flatnonzero(active > 0)
    if sae.decoder is None:
        raise no_decoder(name)
    decoder = sae.decoder[live].astype(np.float64)
    encoder = None if sae.encoder is None else sae.encoder[live].astype(np.float64)
    for side, weights in (("decoder", decoder), ("encoder", encoder)):
        if weights is not None and not np.isfinite(weights).all():
            raise BadInput(
                f"The {side} of {name} has NaN or Inf in the weights of a live feature. Copy or train the SAE "
                "again, then ingest it with `replace=True`."
            )
    return LiveDirections(live, decoder, encoder)


def no_decoder(name: str) -> BadInput:
    """Return the error of an SAE without a decoder matrix."""
    return BadInput(
        f"The SAE {name} has no decoder matrix, so its features have no directions; name another SAE."
    )


def without_weights(
    tasks: Sequence[Task], at: TaskContext, *, opened: Sequence[Autoencoder] = ()
) -> dict[str, AtlasError]:
    """Return the tasks of which an SAE has no decoder at hand, with the reason.

    Its weights were in memory at ingest, or its source was removed, changed or cannot be reached.

    Parameters
    ----------
    tasks
        Tasks of a study of decoder directions.
    at
        The atlas.
    opened
        SAEs that are already open.
    """
    known: dict[str, AtlasError | None] = {}
    for name in dict.fromkeys(name for task in tasks for name in task.saes):
        try:
            sae = reopen_sae(open_sae_record(at.sound, name).row, opened)
            known[name] = no_decoder(name) if sae.decoder is None else None
        except AtlasError as error:
            known[name] = error
    found: dict[str, AtlasError] = {}
    for task in tasks:
        for reason in (known[name] for name in task.saes):
            if reason is not None:
                found.setdefault(task.name, reason)
    return found
