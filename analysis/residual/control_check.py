"""Whether components take away as much of the target as the map does, to be a control of it."""

from collections.abc import Sequence

__all__ = ["NEARLY", "unlike"]

#: By how much of what the map takes away components may differ from it and be told of as its like.
NEARLY = 0.1


def unlike(shares: Sequence[float], taken: float) -> str:
    """Say why components do not take away as much as the map does; empty if they do.

    Parameters
    ----------
    shares
        Share of the target's variance that each draw takes away.
    taken
        That which the map takes away.
    """
    if taken <= 0:
        return f"the map takes nothing away ({taken:.1%} of the variance)"
    apart = [share for share in shares if abs(share - taken) > NEARLY * taken]
    if not apart:
        return ""
    told = ", ".join(f"{share:.1%}" for share in apart)
    return f"of {len(shares)} draw(s) {len(apart)} take another share of the variance away ({told}, and the map {taken:.1%})"
