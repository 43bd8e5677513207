"""Settings of steering."""

from dataclasses import dataclass
from typing import Literal

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["SteeringSettings"]


@documented
@dataclass(frozen=True)
class SteeringSettings:
    """Settings of ``steer_task``."""

    strengths: tuple[float, ...] = setting(
        (0.25, 0.5, 1.0, 2.0, 4.0),
        "With --task: strength of the edit, in multiples of the maximum activation of the first feature.",
        flag="strength",
        above=0,
    )
    at: Literal["all", "last"] = setting(
        "all",
        "Tokens that are edited: all, or the last token of a prompt and each token after it.",
    )
    find: int = setting(
        5,
        "With --task and without --feature: number of features with the largest difference between the "
        "contrasting prompts.",
        least=1,
    )
    random: int = setting(
        39,
        "With --task: random features of similar frequency that are steered at equal norm; a verdict "
        "needs 39 or more.",
        least=1,
        paper=99,
    )
    most_kl: float = setting(
        1.0,
        "With --task: largest KL on neutral text of a strength that can be chosen, in nats per token.",
        above=0,
    )
    neutral_tokens: int = setting(
        2048,
        "Tokens of neutral text, from the text of the atlas; the last batch is read completely.",
        least=16,
    )
    seed: int = setting(
        0,
        "Seed of the random features, of the halves of the prompts, and of the neutral text.",
        least=0,
    )

    def __post_init__(self) -> None:
        check_settings(self)
