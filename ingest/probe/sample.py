"""Cost of probes, measured on a few features, and away from the embedding on a few tokens."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from atlas.disk.folder import Sound
from atlas.progress import Clock
from atlas.studies.forecast import timed
from ingest.probe.settings import ProbeSettings

__all__ = ["FEATURES", "Sampled", "probed_features", "sampled", "sampled_tokens"]

#: Features of the two samples.
FEATURES = (8, 40)

#: Denominator of the share of tokens in the sample, and its fewest tokens.
_SHARE, _LEAST = 50, 8192


@dataclass(frozen=True)
class Sampled:
    """The cost of all runs of one SAE at one site.

    Parameters
    ----------
    setup
        Seconds before features are probed.
    feature
        Seconds of each probed feature.
    """

    setup: float
    feature: float


def sampled_tokens(tokens: int) -> int:
    """Return the number of tokens of a sample."""
    return min(tokens, max(_LEAST, tokens // _SHARE))


def sampled(
    probe: Callable[[int], object], *, features: int, clock: Clock = time.perf_counter
) -> Sampled:
    """Measure all runs on few and on more features.

    Parameters
    ----------
    probe
        Probes the passed number of features in all runs.
    features
        Number of features of the SAE.
    clock
        Returns the time in seconds.
    """
    few, more = (min(number, features) for number in FEATURES)
    first, second = (timed(lambda n=n: probe(n), clock=clock) for n in (few, more))  # type: ignore[misc]
    slope = max(0.0, second - first) / (more - few) if more > few else first / few
    return Sampled(max(0.0, second - more * slope), slope)


def probed_features(sound: Sound, sae: str, settings: ProbeSettings) -> int:
    """Return about how many features have enough active tokens on the smaller side of a split.

    Parameters
    ----------
    sound
        The sound parts of the atlas.
    sae
        Name of the SAE.
    settings
        Settings of the probes.
    """
    (row,) = sound.parts[f"sae/{sae}"].table("SAE").to_pylist()
    requested = min(settings.features or int(row["d_sae"]), int(row["d_sae"]))
    part = sound.parts.get(f"statistics/{sae}")
    if part is None:
        return requested
    least = settings.min_positives / min(settings.train_share, 1 - settings.train_share)
    active = part.table("Feature")["active_tokens"].to_numpy()
    return max(1, round(requested * float((active >= least).mean())))
