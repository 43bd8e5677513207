"""The settings of a residual study, frozen, and recorded in its part."""

from dataclasses import dataclass

from atlas.errors import BadInput
from ingest.match.settings import MatchSettings
from ingest.probe.settings import ProbeSettings

__all__ = ["ALL_PRIOR", "DEMO_TEXT", "MATCH", "PROBE", "SHRINKAGES", "ResidualSettings"]

#: Features for each dimension of the target, unless it is said, and the most by that rule.
EXPANSION, MOST_FEATURES = 8, 16_384

#: So many tokens of the prior that they leave nothing else of the mean of any id.
ALL_PRIOR = 1e12

#: How features are probed unless it is said. Arms are compared with arms, so control tasks, which
#: would cost as much again five times, are left out.
PROBE = ProbeSettings(splits=("document",), controls=0)

#: How SAEs are matched, unless it is said.
MATCH = MatchSettings(draws=10)

#: What a study's part calls the text of the package, whose path is another on each machine.
DEMO_TEXT = "atlas demo"

#: Tokens of the prior that may be mixed into the mean of each id.
SHRINKAGES = (0.0, *(2.0**i for i in range(-3, 15)), ALL_PRIOR)


@dataclass(frozen=True)
class ResidualSettings:
    """How SAEs are trained on a place less what another tells of it.

    Parameters
    ----------
    source
        Hook that the map reads: ``"hook_embed"``.
    target
        Hook whose activations the SAEs read: ``"blocks.1.hook_resid_post"``.
    d_sae
        Features of each SAE; None: eight for each dimension of the target, 16,384 at most.
    k
        Active features per token of each SAE (TopK).
    seeds
        How many training seeds, from 0 on: each sets weights and order of the tokens.
    draws
        How many draws of principal components, each an arm of its own for every seed.
    text_tokens
        Stop the text after the document in which this many tokens are reached; None: all.
    train_tokens
        Tokens that each SAE is trained on, with repetitions; None: ``epochs`` times those
        of its documents.
    epochs
        Looks at the training documents where ``train_tokens`` is None.
    map_share, train_share
        Shares of the documents that the map (with means and components) is fitted on, and
        that the SAEs are trained on. The rest is the atlas' corpus; where the atlas has one
        already, both are scaled to make up all documents that are not in it.
    split_seed
        Seed of the division of documents, and of the drawn components.
    folds, penalties
        Of the map: folds of documents, and penalties to choose from by them; see
        ``TranscoderSettings``.
    batch
        Tokens of a training step.
    learning_rate
        Of Adam; it warms up over a tenth of the steps, 100 at most, and falls to nothing
        over the last half.
    context
        Tokens of a context, BOS included; None: 256, or as many as the model takes.
    batch_tokens
        Padded tokens of a forward pass.
    """

    source: str
    target: str
    d_sae: int | None = None
    k: int = 20
    seeds: int = 1
    draws: int = 5
    text_tokens: int | None = None
    train_tokens: int | None = None
    epochs: int = 5
    map_share: float = 0.2
    train_share: float = 0.5
    split_seed: int = 0
    folds: int = 5
    penalties: tuple[float, ...] = (0.0, *(10.0**i for i in range(-8, 2)))
    batch: int = 1024
    learning_rate: float = 1e-3
    context: int | None = None
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise BadInput(
                f"Source and target are both {self.source}: nothing is left of a place less itself, so there is "
                "nothing to train an SAE on; name an earlier place as the source."
            )
        for name, least in (
            ("k", 1), ("seeds", 1), ("draws", 0), ("epochs", 1), ("batch", 1), ("folds", 3),
            ("d_sae", 1), ("text_tokens", 1), ("train_tokens", 1), ("split_seed", 0),
            ("context", 2), ("batch_tokens", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadInput(f"{name}={value} was asked for; {least} or more is possible.")
        shares = self.map_share, self.train_share
        if not (min(shares) > 0 and sum(shares) < 1):
            raise BadInput(
                f"map_share={self.map_share} and train_share={self.train_share} were asked for; both are above "
                "0, and together below 1: the rest of the documents is what the SAEs are measured on."
            )
        if not 0 < self.learning_rate < float("inf"):
            raise BadInput(
                f"learning_rate={self.learning_rate} was asked for; it is a number above 0."
            )
        if not self.penalties or not all(0 <= p < float("inf") for p in self.penalties):
            raise BadInput(f"penalties={self.penalties} was asked for; each is a number from 0 on.")

    @property
    def saes(self) -> int:
        """How many SAEs are trained: a baseline, a residual, a token-means one and the draws, by seed."""
        return self.seeds * (3 + self.draws)

    def features(self, width: int) -> int:
        """Return the features of each SAE at a target of some width.

        Raises
        ------
        BadInput
            If fewer features were asked for than are active on each token.
        """
        d_sae = self.d_sae or min(EXPANSION * width, max(MOST_FEATURES, width))
        if d_sae < self.k:
            raise BadInput(
                f"SAEs of {d_sae} features cannot have {self.k} active on each token: ask for a larger d_sae or "
                "a smaller k."
            )
        return d_sae

    def steps(self, tokens: int) -> int:
        """Return the training steps of each SAE, of documents of so many tokens."""
        return max(1, (self.train_tokens or self.epochs * tokens) // min(self.batch, tokens))
