"""The settings of a residual study, frozen, and recorded in its part."""

from dataclasses import dataclass

from atlas.errors import BadInput
from atlas.settings import check_settings, documented, setting
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


@documented
@dataclass(frozen=True)
class ResidualSettings:
    """How SAEs are trained on a site less what an affine map from another site predicts of it.

    Documents that neither the map nor the SAEs are fitted on are the corpus of the atlas.
    Where the atlas has a corpus already, both shares are scaled to make up all documents
    that are not in it.
    """

    source: str = setting("hook_embed", "Site that the map reads.", flag="from", metavar="SITE")
    target: str = setting(
        "", "Site that the SAEs read, less the prediction of the map: blocks.1.hook_resid_post.",
        flag="to", metavar="SITE", shown="required",
    )  # fmt: skip
    d_sae: int | None = setting(
        None, "Features of each SAE.", least=1, metavar="N",
        shown="8 for each dimension, 16,384 at most",
    )  # fmt: skip
    k: int = setting(20, "Active features per token of each SAE (TopK).", least=1)
    seeds: int = setting(
        1, "Training seeds of every SAE; six or more for a test over seeds.", least=1, metavar="N"
    )
    draws: int = setting(
        5,
        "Draws of principal components for the controls, each for every seed.",
        least=0,
        metavar="N",
    )
    text_tokens: int | None = setting(
        None, "Number of tokens of the text; the document that reaches it is the last.",
        flag=None, least=1,
    )  # fmt: skip
    train_tokens: int | None = setting(
        None, "Tokens that each SAE is trained on, with repetitions.", least=1, metavar="N",
        shown="five epochs of its documents",
    )  # fmt: skip
    epochs: int = setting(
        5, "Epochs over the training documents where train_tokens is None.", flag=None, least=1
    )
    map_share: float = setting(
        0.2, "Share of the documents that the map is fitted on, with means and components.",
        flag=None, above=0, below=1,
    )  # fmt: skip
    train_share: float = setting(
        0.5, "Share of the documents that the SAEs are trained on.", flag=None, above=0, below=1
    )
    split_seed: int = setting(
        0, "Seed of the split of documents and of the drawn components.", least=0
    )
    folds: int = setting(5, "Folds of documents of the map.", flag=None, least=3)
    penalties: tuple[float, ...] = setting(
        (0.0, *(10.0**i for i in range(-8, 2))), "Penalties of the map to choose from; see "
        "TranscoderSettings.", flag=None, least=0,
    )  # fmt: skip
    batch: int = setting(1024, "Tokens of a training step.", least=1)
    learning_rate: float = setting(
        1e-3, "Learning rate of Adam: it rises over the first tenth of the steps (100 at most) and "
        "falls to 0 over the last half.", above=0,
    )  # fmt: skip
    context: int | None = setting(
        None, "Tokens of a context, BOS included.", least=2, shown="256 at most"
    )
    batch_tokens: int = setting(4096, "Padded tokens of a forward pass.", flag=None, least=1)

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.target:
            raise BadInput("No target is named; name the site that the SAEs read with --to.")
        if self.source == self.target:
            raise BadInput(
                f"Source and target are both {self.source}, so the residual is 0 and there is nothing to "
                "train an SAE on; name an earlier site as the source."
            )
        if self.map_share + self.train_share >= 1:
            raise BadInput(
                f"map_share is {self.map_share} and train_share is {self.train_share}; expected a sum below "
                "1, since the SAEs are measured on the other documents."
            )

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
