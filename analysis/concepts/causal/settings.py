"""Settings of the causal check of concepts."""

from dataclasses import dataclass

from analysis.concepts.settings import ConceptSettings
from atlas.errors import BadInput
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["AblationSettings", "word_settings"]

MOST_UNITS = 10_000


@documented
@dataclass(frozen=True)
class AblationSettings:
    """Settings of ``analysis.concepts.causal.study.ablate_concepts``."""

    ablated: tuple[int, ...] = setting(
        (1, 5, 20), "With --ablate: numbers of features that are ablated together."
    )
    random_sets: int = setting(
        99,
        "With --ablate: sets of random features of equal frequency; the lowest p is "
        "1 / (1 + sets).",
        least=1,
        most=1000,
    )
    direction_sets: int = setting(
        19,
        "With --ablate: changes of equal norm along random directions, instead of the decoder "
        "vectors.",
        least=1,
        most=1000,
    )
    others: tuple[str, ...] | None = setting(
        None,
        "With --ablate: files or lists whose concepts are also measured.",
        metavar="FILE",
        shown="the other lists of this program",
    )
    neutral_tokens: int = setting(
        1000,
        "With --ablate: tokens of the text of the atlas on which the change of the predictions is "
        "measured; 0 for none.",
        least=0,
        most=100_000,
    )
    ablation_repeats: int = setting(
        2, "With --ablate: repetitions of cross-validation with other folds.", least=1
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.ablated or min(self.ablated) < 1 or max(self.ablated) > MOST_UNITS:
            raise BadInput(
                f"ablated is {list(self.ablated)}; expected one or more whole numbers from 1 to {MOST_UNITS:,}."
            )


def word_settings(settings: ConceptSettings) -> dict[str, object]:
    """Return the settings of concepts that the causal check uses, for the manifest."""
    return {
        name: getattr(settings, name)
        for name in ("pool", "carrier", "in_corpus", "split_by", "folds", "seed")
    }
