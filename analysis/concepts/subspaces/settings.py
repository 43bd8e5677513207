"""Settings of the study of concept subspaces."""

from dataclasses import dataclass

from analysis.similarity.settings import SimilaritySettings
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["SubspaceSettings"]


@documented
@dataclass(frozen=True)
class SubspaceSettings:
    """Settings of ``compare_concepts``."""

    draws: int = setting(
        99, "Draws of each of the three nulls; the lowest p is 1 / (1 + draws).", least=1, paper=999
    )
    pairs: int = setting(
        30, "Fewest matched pairs of a concept; with fewer it is refused.", least=4, metavar="N"
    )
    lift: float = setting(
        2.0,
        "How many times more often a feature of a concept is active on its words than on the "
        "other tokens, on both halves of the documents.",
        least=1,
    )
    q: float = setting(0.05, "Largest q-value of the enrichment, on both halves.", above=0, most=1)
    activations: bool = setting(
        False, "Also compare activations on the same tokens, which is slower."
    )
    tokens: int = setting(
        20_000,
        "With --activations: largest number of tokens of which activations are compared.",
        least=2,
    )
    neighbours: int = setting(10, "Number of nearest neighbours for kNN-Jaccard.", least=1)
    variance: float = setting(
        0.99, "Share of the variance that the components of SVCCA reach.", above=0, most=1
    )
    subset_pairs: int = setting(
        500, "Largest number of pairs of a concept; more pairs are sampled.", least=2
    )
    seed: int = setting(0, "Seed of the halves of documents and of all draws.", least=0)

    @property
    def similarity(self) -> SimilaritySettings:
        """The settings of the measures."""
        return SimilaritySettings(
            draws=self.draws,
            seed=self.seed,
            neighbours=self.neighbours,
            variance=self.variance,
            tokens=self.tokens,
            subset_pairs=self.subset_pairs,
            frequency_draws=self.draws,
        )

    def __post_init__(self) -> None:
        check_settings(self)
