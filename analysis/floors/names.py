"""Names of statistics for readers: of properties, of probes, and of numbers of other studies."""

from functools import cache

__all__ = ["statistic_name"]

#: Names that their words do not explain.
_NAMES = {
    "best_match": "correlation of the best match",
    "mutual_match": "correlation of the mutual best match",
    "matched_decoder_cosine": "decoder cosine of matches",
    "matched_encoder_cosine": "encoder cosine of matches",
    "std_activation": "standard deviation of activation",
    "core": "core number",
    "detection": "balanced accuracy of the description",
    "logit_agreement": "agreement of direct logits and ablation",
    "top_token_share": "share of the top token",
    "effect_ce": "change of the loss by ablation",
    "effect_ce_later": "change of the loss at later tokens",
    "effect_kl": "KL by ablation",
    "effect_kl_later": "KL at later tokens",
    "decoder_slope": "slope of the decoder spectrum",
    "decoder_mean_share": "share of the decoder in its mean direction",
    "homology_h0": "longest death / birth in H0",
    "homology_h1": "longest death / birth in H1",
    "homology_h2": "longest death / birth in H2",
    "communities": "number of communities",
    "linked": "features with an edge",
    "largest": "size of the largest community",
    "in_communities": "share in communities of 3 or more",
    "ami_runs": "agreement of Leiden runs (AMI)",
    "ami_halves": "agreement of halves (AMI)",
    "partners_rho": "rank correlation of partners and frequency",
    "partners_ratio_rho": "rank correlation of partners / expected and frequency",
    "rank_correlation_ce": "rank correlation for the loss",
    "additivity_ce": "additivity for the loss",
    "additivity_targets": "additivity for later features",
    "joint_kl_ratio": "KL together / sum of KL alone",
    "seeds_correlation": "correlation of maps of other seeds",
    "seeds_overlap": "neighbours shared by maps of other seeds",
    "overlap": "neighbours that the map preserves",
    "pca_overlap": "neighbours that PCA preserves",
    "significant": "significant edges",
    "median_cosine": "median cosine of the nearest direction",
}

#: Words of names that are written otherwise.
_WORDS = {"kl": "KL", "l0": "L0", "fvu": "FVU", "pca": "PCA", "ce": "loss"}


def statistic_name(statistic: str) -> str:
    """Return the name of a statistic for readers.

    Parameters
    ----------
    statistic
        A property of a feature or an SAE; ``probe from SITE, RUN``; or ``kind.number`` for a number of
        the summary of a study.

    Returns
    -------
    str
        The name, after the command of the study for a number of its summary.

    Examples
    --------
    >>> statistic_name("max_activation"), statistic_name("fvu")
    ('max activation', 'FVU')
    >>> statistic_name("graph.ami_halves"), statistic_name("near_direction.median_cosine")
    ('communities: agreement of halves (AMI)', 'directions: median cosine of the nearest direction')
    """
    if statistic.startswith("probe from "):
        return statistic.replace("/", " / ")  # a run of probes has a long name, which wraps
    kind, dot, name = statistic.rpartition(".")
    words = " ".join(_WORDS.get(word, word) for word in name.split("_"))
    shown = _NAMES.get(name, words)
    return f"{_commands().get(kind, kind.replace('_', ' '))}: {shown}" if dot else shown


@cache
def _commands() -> dict[str, str]:
    """Return the name of the command of each kind of study."""
    from atlas.plugins import study_commands

    return {kind: str(command.name) for kind, command in study_commands().items()}
