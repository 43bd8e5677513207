"""Reductions of codes and activations, exact under any division of the work.

To add a reduction, write its module, list it in ``on_codes`` or ``on_activations``, and describe
its columns in ``atlas.schema``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.reduce.protocol import ActivationReduction, CodeReduction
    from ingest.settings import Settings

__all__ = ["on_activations", "on_codes"]


def on_codes(settings: "Settings") -> "tuple[CodeReduction, ...]":
    """Return the reductions over codes that every ingest computes."""
    from ingest.reduce.coactivation import Coactivation
    from ingest.reduce.examples import Examples
    from ingest.reduce.statistics import Statistics
    from ingest.reduce.tokens import TokenCounts

    # Token counts are last: they use the remaining memory, in several passes if it is small.
    return (
        Statistics(),
        Examples(seed=settings.seed),
        Coactivation(k=settings.k, min_count=settings.min_count),
        TokenCounts(),
    )


def on_activations() -> "tuple[ActivationReduction, ...]":
    """Return the reductions over activations that every ingest computes during the forward pass."""
    from ingest.reduce.fidelity import Fidelity

    return (Fidelity(),)
