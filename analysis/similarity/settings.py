"""Settings of the study of similarity."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["RawSite", "SimilaritySettings"]

RawSite: TypeAlias = Literal["site", "stream", "mlp", "neurons"]


@documented
@dataclass(frozen=True)
class SimilaritySettings:
    """Settings of ``analysis.similarity.study.compare_spaces``."""

    draws: int = setting(
        200, "Shuffled pairings; the lowest p is 1 / (1 + draws).", least=1, paper=999
    )
    seed: int = setting(0, "Seed of all random draws.", least=0)
    neighbours: int = setting(10, "Number of nearest neighbours for kNN-Jaccard.", least=1)
    variance: float = setting(
        0.99, "Share of the variance that the components of SVCCA reach.", above=0, most=1
    )
    tokens: int = setting(
        50_000,
        "Largest number of tokens for activations, from the beginning of the text.",
        least=2,
        paper=100_000,
    )
    columns: int = setting(
        128,
        "Largest number of pairs for measures of activations with tokens as points; more "
        "pairs are sampled.",
        least=1,
        paper=256,
    )
    subset_pairs: int = setting(
        500, "Largest number of pairs of a subset; more pairs are sampled.", least=2
    )
    frequency_draws: int = setting(
        49,
        "Draws of the nulls that preserve frequency: pairs shuffled within bins of frequency, and, for "
        "subsets, random matched pairs of equal number and frequency; 0 for neither.",
        least=0,
        paper=199,
    )
    frequency_bins: int = setting(
        10, "Quantiles of frequency within which pairs are shuffled or drawn.", flag=None, least=1
    )
    raw: RawSite | None = setting(
        None,
        "Also compare activations of the models without SAEs: at the SAE's own site, the "
        "residual stream after its block, the output of its MLP, or the neurons of its MLP. The "
        "models are run.",
        shown="none",
    )

    def __post_init__(self) -> None:
        check_settings(self)
