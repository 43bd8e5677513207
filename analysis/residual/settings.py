"""Settings of a residual study, frozen, and stored in its part."""

from dataclasses import dataclass

from atlas.errors import BadInput
from atlas.studies.settings import check_settings, documented, setting
from ingest.match.settings import MatchSettings
from ingest.probe.settings import ProbeSettings

__all__ = ["ALL_PRIOR", "DEMO_TEXT", "MATCH", "PROBE", "SHRINKAGES", "ResidualSettings"]

#: Default number of features for each dimension of the target, and its maximum.
EXPANSION, MOST_FEATURES = 8, 16_384

#: A weight of the prior, in tokens, at which every token mean equals its prior.
ALL_PRIOR = 1e12

#: Default settings of probes. Arms are compared with each other, so control tasks are omitted;
#: they would multiply the cost by six.
PROBE = ProbeSettings(splits=("document",), controls=0)

#: Default settings of matches.
MATCH = MatchSettings(draws=10)

#: Name of the package's text in a study's part, since its path differs between machines.
DEMO_TEXT = "atlas demo"

#: Weights of the prior in each token mean to choose from, in tokens.
SHRINKAGES = (0.0, *(2.0**i for i in range(-3, 15)), ALL_PRIOR)


@documented
@dataclass(frozen=True)
class ResidualSettings:
    """Settings to train SAEs on a site minus the prediction of an affine map from another site.

    Documents that neither the map nor the SAEs are fitted on become the corpus of the atlas.
    If the atlas already has a corpus, both shares are scaled to cover all documents outside
    it.
    """

    source: str = setting("hook_embed", "Site that the map reads.", flag="from", metavar="SITE")
    target: str = setting(
        "",
        "Site that the SAEs read, minus the prediction of the map: blocks.1.hook_resid_post.",
        flag="to",
        metavar="SITE",
        shown="required",
    )
    d_sae: int | None = setting(
        None,
        "Features of each SAE.",
        least=1,
        metavar="N",
        shown="8 for each dimension, 16,384 at most",
    )
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
        None,
        "Number of tokens of the text; the document that reaches it is the last.",
        flag=None,
        least=1,
    )
    train_tokens: int | None = setting(
        None,
        "Tokens that each SAE is trained on, with repetitions.",
        least=1,
        metavar="N",
        shown="five epochs of its documents",
    )
    epochs: int = setting(
        5, "Epochs over the training documents where train_tokens is None.", flag=None, least=1
    )
    map_share: float = setting(
        0.2,
        "Share of the documents that the map is fitted on, with means and components.",
        flag=None,
        above=0,
        below=1,
    )
    train_share: float = setting(
        0.5, "Share of the documents that the SAEs are trained on.", flag=None, above=0, below=1
    )
    split_seed: int = setting(
        0, "Seed of the split of documents and of the drawn components.", least=0
    )
    folds: int = setting(5, "Folds of documents of the map.", flag=None, least=3)
    penalties: tuple[float, ...] = setting(
        (0.0, *(10.0**i for i in range(-8, 2))),
        "Penalties of the map to choose from; see TranscoderSettings.",
        flag=None,
        least=0,
    )
    batch: int = setting(1024, "Tokens of a training step.", least=1)
    learning_rate: float = setting(
        1e-3,
        "Learning rate of Adam: it rises over the first tenth of the steps (100 at most) and "
        "falls to 0 over the last half.",
        above=0,
    )
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
        """Number of SAEs: for each seed a baseline, a residual, a token-means one and the draws."""
        return self.seeds * (3 + self.draws)

    def features(self, width: int) -> int:
        """Return the features of each SAE at a target of some width.

        Raises
        ------
        BadInput
            If the number of features is below the number of active features per token.
        """
        d_sae = self.d_sae or min(EXPANSION * width, max(MOST_FEATURES, width))
        if d_sae < self.k:
            raise BadInput(
                f"SAEs of {d_sae} features cannot have {self.k} active features per token. Choose a larger d_sae or "
                "a smaller k."
            )
        return d_sae

    def steps(self, tokens: int) -> int:
        """Return the training steps of each SAE for documents with ``tokens`` tokens."""
        return max(1, (self.train_tokens or self.epochs * tokens) // min(self.batch, tokens))
