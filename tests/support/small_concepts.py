"""Concepts of the small graphs: nodes, SEPARATES and RETAINS, written by hand and random, with ties and nulls."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

Row = dict[str, object]


@dataclass(frozen=True)
class MadeConcept:
    """A concept: its name, the hash of its words, and its classes."""

    name: str
    hash: str = "0" * 8
    positive: str = "female"
    negative: str = "male"

    @property
    def id(self) -> str:
        return f"{self.name}@{self.hash}"

    @property
    def row(self) -> Row:
        return {
            "id": self.id,
            "name": self.name,
            "words_set": self.name.split("/")[0],
            "positive": self.positive,
            "negative": self.negative,
            "words": 40,
            "positives": 20,
        }


@dataclass(frozen=True)
class MadeSeparation:
    """A feature that separates a concept; a negative effect is higher on the negative class."""

    feature: str
    concept: MadeConcept
    held_out: float
    effect: float = 1.0

    @property
    def row(self) -> Row:
        return {
            "source": self.feature,
            "target": self.concept.id,
            "t": 4 * self.effect,
            "p": 0.001,
            "q": 0.03125,
            "p_permutation": 0.0625,
            "p_max": 0.125,
            "auroc": self.held_out + 0.0625,
            "auroc_held_out": self.held_out,
            "effect": self.effect,
            "active_positive": 0.75,
            "active_negative": 0.25,
            "direction": "positive" if self.effect > 0 else "negative",
        }


@dataclass(frozen=True)
class MadeRetention:
    """What an SAE retains of a concept."""

    sae: str
    concept: MadeConcept
    area: float | None
    k90: int | None = None

    @property
    def row(self) -> Row:
        area = self.area
        return {
            "source": self.sae,
            "target": self.concept.id,
            "varying": 30,
            "separating": 2,
            "auc": 0.75,
            "layer_auc": 0.875,
            "permuted_auc": 0.5,
            "difference": -0.125,
            "k90": self.k90,
            "retained": None if area is None else area + 0.25,
            "area": area,
            "area_low": None if area is None else area - 0.125,
            "area_high": None if area is None else area + 0.125,
            "effective_features": None if self.k90 is None else 2.5,
            "random_area": 0.25,
        }


GENDER = MadeConcept("gender/female")
OLDER = MadeConcept("gender/female", "1" * 8)  # other words of the same name
KIND = MadeConcept("kinds/animal", positive="animal", negative="other")

BY_HAND: tuple[MadeSeparation | MadeRetention, ...] = (
    MadeSeparation("tiny-a-l1-s0/7", GENDER, 0.875),
    MadeSeparation("tiny-a-l1-s0/7", OLDER, 0.875),
    MadeSeparation("tiny-a-l1-s0/7", KIND, 0.75, -0.5),
    MadeSeparation("tiny-a-l1-s0/0", GENDER, 0.875, -1.0),  # as good as 7
    MadeSeparation("tiny-a-l1-s0/1", KIND, 0.625),
    MadeSeparation("tiny-a-l1-s1/0", GENDER, 0.75),
    MadeSeparation("tiny-a-l1-s1/3", GENDER, 0.75, -0.5),
    MadeSeparation("tiny-a-l1-s1/3", KIND, 0.75, -0.5),
    MadeSeparation("tiny-b-l0/1", KIND, 1.0),
    MadeRetention("tiny-a-l1-s0", GENDER, 0.5, 5),
    MadeRetention("tiny-a-l1-s1", GENDER, 0.5),
    MadeRetention("tiny-a-l1-s1", OLDER, 0.75, 1),
    MadeRetention("tiny-b-l0", GENDER, None),
    MadeRetention("tiny-b-l0", KIND, -0.25),
)


def random_concepts(
    rng: random.Random, live: dict[str, list[int]]
) -> Iterable[MadeSeparation | MadeRetention]:
    """Assign some concepts to the live features of each SAE, with few distinct scores."""
    for sae, features in live.items():
        for concept in (GENDER, OLDER, KIND):
            yield MadeRetention(sae, concept, rng.choice([None, 0.25, 0.5]), rng.choice([None, 2]))
            for i in features:
                if rng.random() < 0.5:
                    yield MadeSeparation(
                        f"{sae}/{i}", concept, rng.choice([0.5, 0.75]), rng.choice([-1.0, 1.0])
                    )


def add_concepts(
    rows: dict[str, list[Row]], made: Iterable[MadeSeparation | MadeRetention]
) -> None:
    """Add the rows of concepts and of both kinds of edges."""
    found = list(made)
    for concept in dict.fromkeys(one.concept for one in found):
        rows["Concept"].append(concept.row)
    for one in found:
        rows["SEPARATES" if isinstance(one, MadeSeparation) else "RETAINS"].append(one.row)
