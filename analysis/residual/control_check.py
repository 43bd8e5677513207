"""Check that the components control removes as much variance of the target as the map."""

from collections.abc import Sequence

__all__ = ["NEARLY", "unlike"]

#: Largest relative difference between the variance removed by components and by the map.
NEARLY = 0.1


def unlike(shares: Sequence[float], taken: float) -> str:
    """Return why components are not a valid control of the map; empty if they are.

    Parameters
    ----------
    shares
        Share of the target's variance that each draw removes.
    taken
        Share that the map removes.
    """
    if taken <= 0:
        return f"the map removes no variance ({taken:.1%})"
    apart = [share for share in shares if abs(share - taken) > NEARLY * taken]
    if not apart:
        return ""
    listed = ", ".join(f"{share:.1%}" for share in apart)
    return (
        f"{len(apart)} of {len(shares)} draw(s) remove a different share of the variance than the map ({listed}; "
        f"the map removes {taken:.1%})"
    )
