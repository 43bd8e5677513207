"""Settings of the study of concepts."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["ConceptSettings", "Pool", "ProbeKind", "RawArm"]

Pool: TypeAlias = Literal["last", "first", "mean", "max"]

RawArm: TypeAlias = Literal["stream", "mlp", "neurons", "embedding"]

ProbeKind: TypeAlias = Literal["elastic net", "mlp", "random features"]


@documented
@dataclass(frozen=True)
class ConceptSettings:
    """Settings of ``analysis.concepts.study.study_concepts``."""

    pool: Pool = setting(
        "last",
        "How the tokens of a word are combined: its last token, its first, their mean or their "
        "maximum. Each token is encoded before they are combined.",
    )
    raw: tuple[RawArm, ...] = setting(
        ("neurons", "embedding"),
        "Also read the model without SAE: the residual stream after the block, the output of its "
        "MLP, its neurons, or the embedding. The site of the SAE is always read.",
    )
    carrier: tuple[str, ...] | None = setting(
        None,
        "Sentence with {} where the word is inserted; text after the word has no effect.",
        shown="the word alone, or the carrier of its row",
    )
    in_corpus: int = setting(
        0,
        "Read each word where it occurs in the text of the atlas, at most this many times, one "
        "occurrence per document; 0 reads words without the text.",
        least=0,
        most=100,
    )
    split_by: Literal["group", "family"] = setting(
        "group",
        "Column of the file whose values are never split between training and test; words "
        "without one are their own.",
    )
    repeats: int = setting(10, "Repetitions of cross-validation with other folds.", least=1)
    folds: int = setting(5, "Folds of cross-validation.", least=2, most=50)
    draws: int = setting(
        1000,
        "Permutations of the labels for the tests of units; the lowest p is 1 / (1 + draws).",
        least=19,
        paper=9999,
    )
    probe_draws: int = setting(
        19, "Permutations of the labels for each probe; 0 for none.", least=0, paper=99
    )
    subsets: int = setting(
        3,
        "Random subsets of the features that vary on the words, as many as the site has dimensions; 0 for none.",
        least=0,
    )
    probe: tuple[ProbeKind, ...] | None = setting(
        None,
        "Further probes of the layer and the features, compared with ridge logistic regression.",
        shown="ridge alone",
    )
    level: float = setting(
        0.05, "Highest family-wise p (p_max) of a unit that separates a concept.", above=0, below=1
    )
    seed: int = setting(0, "Seed of all random draws.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
