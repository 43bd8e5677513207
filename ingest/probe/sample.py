"""Cost of probes, measured on a few features, and away from the embedding on a few tokens."""

from collections.abc import Callable
from dataclasses import dataclass

from atlas.disk.folder import Sound
from ingest.probe.settings import ProbeSettings

__all__ = ["FEATURES", "Sampled", "probed_features", "sampled", "sampled_tokens"]

#: Features of the two blocks of a sample.
FEATURES = (4, 48)

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


def sampled(block: Callable[[int], float], *, setup: float, features: int, at_once: int) -> Sampled:
    """Measure a block of few features and one of more.

    A block has a cost of its own, which does not depend on the number of its features.

    Parameters
    ----------
    block
        Probes the passed number of features in all runs, and returns the seconds.
    setup
        Seconds before features are probed.
    features
        Number of features to probe.
    at_once
        Largest number of features of a block.

    Examples
    --------
    >>> sampled(lambda n: 1.0 + 0.5 * n, setup=2.0, features=1000, at_once=512)
    Sampled(setup=4.0, feature=0.5)
    """
    few, more = (max(1, min(number, features)) for number in FEATURES)
    first = block(few)
    if more == few:
        return Sampled(setup, first / few)
    second = block(more)
    slope = max(0.0, second - first) / (more - few)
    blocks = -(-features // at_once)
    return Sampled(setup + blocks * max(0.0, second - more * slope), slope)


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
