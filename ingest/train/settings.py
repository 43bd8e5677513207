"""Settings of the training of SAEs, recorded with each SAE."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atlas.errors import BadInput
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["Architecture", "Floor", "TrainSettings"]

Architecture: TypeAlias = Literal[
    "topk", "batchtopk", "jumprelu", "standard", "gated", "matryoshka"
]

Floor: TypeAlias = Literal["frozen-decoder", "frozen-encoder", "untrained"]


@documented
@dataclass(frozen=True)
class TrainSettings:
    """Settings of ``train_saes``.

    One SAE is trained for each combination of site, width, k, architecture and seed, and
    one floor of it for each baseline.
    """

    sites: tuple[str, ...] = setting(
        (),
        "Site that the SAEs read: blocks.2.hook_resid_post.",
        flag="site",
        metavar="SITE",
        shown="required",
    )
    widths: tuple[int, ...] | None = setting(
        None, "Number of features.", flag="width", least=1, shown="8 for each dimension"
    )
    seeds: tuple[int, ...] = setting(
        (0,), "Seed of the initial weights and of the order of tokens.", flag="seed", least=0
    )
    architectures: tuple[Architecture, ...] = setting(
        ("topk",),
        "Architecture in training. sae-lens saves batchtopk and matryoshka as jumprelu.",
        flag="architecture",
    )
    k: tuple[int, ...] = setting(
        (32,),
        "Active features per token: exact for topk, the mean of a batch for batchtopk and "
        "matryoshka, the target of the loss for jumprelu. In standard and gated SAEs it sets the L0 "
        "of floors only.",
        aliases=("l0",),
        least=1,
    )
    baselines: tuple[Floor, ...] | None = setting(
        None,
        "Floor to add for each SAE: the same training with a frozen random decoder or encoder, "
        "or no training.",
        flag="baseline",
        shown="none",
    )
    tokens: int | None = setting(
        None, "Tokens that each SAE is trained on.", least=1, shown="all of the text"
    )
    steps: int | None = setting(
        None, "Training steps, instead of a number of tokens.", least=1, shown="from the tokens"
    )
    epochs: int = setting(1, "Passes over the text.", least=1)
    batch: int = setting(1024, "Tokens of a training step.", least=1)
    learning_rate: float = setting(
        1e-3,
        "Learning rate of Adam: it rises over the first tenth of the steps (100 at most) and "
        "falls to 0 over the last half.",
        above=0,
    )
    sparsity: float | None = setting(
        None,
        "Coefficient of the sparsity loss of jumprelu (quadratic in L0), standard and gated "
        "(L1) SAEs.",
        least=0,
        shown="1 for jumprelu, 4 for standard, 5 for gated",
    )
    buffer: int = setting(131_072, "Tokens in memory, among which the order is random.", least=1)
    order_seed: int = setting(0, "Seed of the order of the text, common to all SAEs.", least=0)
    context: int | None = setting(
        None, "Tokens of a context, BOS included.", least=2, shown="256 at most"
    )
    held_out: int = setting(
        20,
        "One document in this many is used for the quality table and not for training.",
        least=2,
    )
    quality_tokens: int = setting(
        20_000, "Tokens of the quality table, at most; 0 for no table.", least=0
    )
    device: str = setting("auto", "Device of model and SAEs: auto, cpu, cuda, cuda:1 or mps.")
    batch_tokens: int = setting(4096, "Padded tokens of a forward pass.", flag=None, least=1)

    def __post_init__(self) -> None:
        if not self.sites:
            raise BadInput(
                "No site is named; name one with --site, as in --site blocks.0.hook_resid_post."
            )
        check_settings(self)
        for name in ("sites", "widths", "seeds", "architectures", "k", "baselines"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise BadInput(f"{name} is {values}; expected each value once.")
        if self.tokens is not None and self.steps is not None:
            raise BadInput(
                f"tokens is {self.tokens} and steps is {self.steps}; expected one of them, since a step "
                f"has {self.batch} tokens."
            )
        if self.tokens is not None and self.tokens < self.batch:
            raise BadInput(
                f"tokens is {self.tokens}, less than the {self.batch} of one step. Pass more tokens, or a "
                "smaller batch."
            )
