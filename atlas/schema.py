"""The graph's schema: every node, edge and property, with unit, meaning and owner.

The tuples ``NODES`` and ``EDGES`` generate the Parquet schemas, the tables of the
stores, the checks of parts, and the reference in ``docs/schema.md``. Each property is
owned by one kind of part, and only parts of that kind fill it. The kind that owns a
table writes its rows; other kinds add columns.

This module imports nothing heavy, so that commands can list names quickly;
``arrow_schema`` imports pyarrow when it is called.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

from atlas.errors import UnknownName

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "EDGES",
    "NODES",
    "TABLES",
    "Edge",
    "Node",
    "Property",
    "Type",
    "arrow_schema",
    "edge",
    "node",
    "table",
]

Type = Literal["string", "int64", "double", "bool", "string[]", "double[]"]


@dataclass(frozen=True)
class Property:
    """One property of a node or an edge.

    Parameters
    ----------
    name
        Name in Cypher, Parquet and Python.
    type
        Type; ``[]`` marks a list.
    meaning
        Definition, in one line.
    unit
        Unit of the values; empty for names and dimensionless numbers.
    owner
        Kind of part that fills the property; empty for the owner of the table.
    since
        Lowest version of that kind whose values have this meaning. Values of older parts
        are read as null.
    """

    name: str
    type: Type
    meaning: str
    unit: str = ""
    owner: str = ""
    since: int = 1


@dataclass(frozen=True)
class Node:
    """A node table: its label, its key property, and the kind of part that writes its rows.

    ``shared`` nodes (models, tokens, …) belong to no SAE: several SAEs refer to the same
    node. Parts of the kinds in ``also`` write complete rows too.
    """

    label: str
    key: str
    meaning: str
    owner: str
    properties: tuple[Property, ...]
    shared: bool = False
    also: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the table: the label."""
        return self.label

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return (self.key,)


@dataclass(frozen=True)
class Edge:
    """An edge table: its type, the labels it joins, and the kind of part that writes its rows.

    Two nodes have at most one edge, or one for each value of the property ``each``.
    Parts of the kinds in ``also`` write complete rows too. With ``largest_part``, several parts may
    compare the same two SAEs, and all rows of these SAEs are those of the part about the most SAEs.
    """

    type: str
    source: str
    target: str
    meaning: str
    owner: str
    properties: tuple[Property, ...] = field(default=())
    each: str = ""
    also: tuple[str, ...] = ()
    largest_part: bool = False

    @property
    def name(self) -> str:
        """Name of the table: the type of the edge."""
        return self.type

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that identify a row: the keys of both ends, and ``each`` if there is one."""
        return ("source", "target", self.each) if self.each else ("source", "target")


P = Property


def _similarities() -> Iterator[Property]:
    """Yield the properties of COMPARED_WITH that the study of similarity fills."""
    decoder = "decoder rows of one-to-one matches"
    features = "activations of one-to-one matches on the same tokens, with features as points"
    tokens = "activations of one-to-one matches, with tokens as points"
    shuffled, shifted = "pairings are shuffled", "each document of the target is shifted"
    of_tokens = ("svcca", "cca", "cka", "procrustes")
    measures = {
        "svcca": "SVCCA (components of 99% of the variance by default)",
        "cca": "mean canonical correlation; null for too few points",
        "cka": "debiased linear CKA of standardised columns",
        "procrustes": "similarity after the best rotation and scaling; 1 minus its square is the residual",
        "rsa": "Spearman correlation of cosine dissimilarities",
        "knn_jaccard": "mean Jaccard index of nearest neighbours (10 by default)",
        "mutual_nearest": "share of pairs that are each other's nearest neighbours; null for different spaces",
    }
    owner = "similarity"
    yield P(
        "similarity_pairs",
        "int64",
        "distinct one-to-one pairs whose activations were compared",
        "edges",
        owner=owner,
    )
    yield P(
        "similarity_draws",
        "int64",
        "draws of each null of similarity: shuffled pairings or, where tokens are points, shifted documents",
        "draws",
        owner=owner,
    )
    yield P(
        "unique_ab",
        "double",
        "different best partners of the features of the source / features with a partner; null in results of version 1, which used the second best",
        owner=owner,
        since=2,
    )
    yield P("unique_ba", "double", "the same from the target", owner=owner, since=2)
    yield P(
        "unique_ab_null",
        "double",
        "`unique_ab` expected if each of these features had a random partner",
        owner=owner,
        since=2,
    )
    yield P("unique_ba_null", "double", "the same from the target", owner=owner, since=2)
    for space in ("decoder", "activation"):
        for name, meaning in measures.items():
            full = f"{space}_{name}"
            moved = space == "activation" and name in of_tokens
            what = tokens if moved else features if space == "activation" else decoder
            null = shifted if moved else shuffled
            yield P(full, "double", f"{meaning}; of the {what}", owner=owner)
            yield P(
                f"{full}_null",
                "double",
                f"mean of `{full}` over draws in which {null}",
                owner=owner,
            )
            yield P(
                f"{full}_p",
                "double",
                f"(1 + draws in which {null} and `{full}` is at least as high) / (1 + draws)",
                owner=owner,
            )


#: Properties of PROMOTES and of SUPPRESSES.
_LOGITS = (
    P(
        "value",
        "double",
        "logit that one unit of activation adds directly to the token, for a stream of scale 1 at the final norm, minus the mean over the vocabulary",
        "logits/activation",
    ),
    P("rank", "int64", "0 is the token with the highest (PROMOTES) or lowest (SUPPRESSES) value"),
    P(
        "ablated_change",
        "double",
        "measured mean change of the token's log-probability when the feature is ablated where it is active; null if it was not ablated",
        "nats",
    ),
)


# fmt: off
NODES: tuple[Node, ...] = (
    Node("Model", "name", "A language model.", "sae", (
        P("name", "string", "name of the model, as transformers loads it"),
        P("source", "string", "hub name or folder of the model, or 'memory'"),
        P("revision", "string", "commit of the hub repository, if any"),
        P("weights", "string", "SHA-256 of its configuration and of a sample of its embedding and first block"),
        P("architecture", "string", "family of the model, as transformers' `model_type`: gemma2, llama, …"),
        P("d_model", "int64", "width of the residual stream", "dimensions"),
        P("layers", "int64", "number of blocks", "blocks"),
        P("dtype", "string", "number format of the computation"),
        P("tokenizer", "string", "first 12 hex digits of the SHA-256 of its tokenizer"),
    ), shared=True),
    Node("Site", "id", "A site in a model at which activations are read.", "sae", (
        P("id", "string", "`model/hook`"),
        P("model", "string", "name of the model"),
        P("hook", "string", "TransformerLens name of the site"),
        P("layer", "int64", "block of the site, from 0; null at the embedding"),
        P("width", "int64", "number of dimensions of its activations", "dimensions"),
    ), shared=True, also=("probe", "transcoder")),
    Node("Corpus", "id", "The text of an atlas.", "sae", (
        P("id", "string", "first 12 hex digits of the SHA-256 of the documents"),
        P("name", "string", "name of the corpus"),
        P("source", "string", "file, folder or data set, or 'memory'"),
        P("revision", "string", "revision of the data set, if any"),
        P("documents", "int64", "number of documents", "documents"),
        P("characters", "int64", "total length of the documents", "characters"),
    ), shared=True),
    Node("SAE", "name", "A sparse autoencoder.", "sae", (
        P("name", "string", "its name in the atlas, a slug"),
        P("atlas", "string", "uuid of the atlas it belongs to"),
        P("source", "string", "`release:sae_id`, folder, or 'memory'"),
        P("release", "string", "release in sae-lens' registry, if any"),
        P("sae_id", "string", "name within the release, if any"),
        P("architecture", "string", "standard, gated, topk, jumprelu, …, as sae-lens names it"),
        P("d_in", "int64", "number of input dimensions", "dimensions"),
        P("d_sae", "int64", "number of features", "features"),
        P("seed", "int64", "training seed, if in its metadata"),
        P("k", "int64", "active features per token of a TopK SAE, or the target of its training; null if not recorded", "features/token"),
        P("role", "string", "how its weights were obtained: 'trained', 'frozen-decoder', 'frozen-encoder' or 'untrained'; null if not recorded"),
        P("floor_of", "string", "name of the trained SAE of which it is a floor; null if none is recorded"),
        P("random_model", "bool", "true if `atlas random-weights` drew the weights of its model; null otherwise"),
        P("neuronpedia_id", "string", "its name at Neuronpedia, if any"),
        P("model", "string", "name of the model it reads"),
        P("hook", "string", "TransformerLens name of the site it reads"),
        P("output_hook", "string", "site that a transcoder predicts from `hook`; its decoder vectors and FVU are of this site. Null for an SAE"),
        P("d_out", "int64", "number of dimensions there; null for an SAE", "dimensions"),
        P("less", "string", "what is subtracted from the activations before the SAE reads them: 'map from <hook>', 'principal components' or 'token means'; null if nothing is"),
        P("context_size", "int64", "tokens of a context, BOS included", "tokens"),
        P("prepend_bos", "bool", "whether each context begins with BOS"),
        P("dtype", "string", "number format of the computation"),
        P("weights", "string", "SHA-256 of its parameters"),
        P("tokens", "int64", "tokens counted, without special tokens", "tokens", "statistics"),
        P("l0", "double", "mean number of active features per token", "features/token", "statistics"),
        P("dead", "int64", "features never active in the tokens counted", "features", "statistics"),
        P("dead_share", "double", "`dead` / `d_sae`", "", "statistics"),
        P("fvu", "double", "fraction of variance unexplained: residual / centred sum of squares; null if the activations do not vary", "", "fidelity"),
        P("decoder_participation_ratio", "double", "(Σλ)² / Σλ² of the variances λ of the live decoder directions (unit length, centred); null for fewer than three", "dimensions", "spectra"),
        P("decoder_participation_p", "double", "two-sided p of it against isotropic directions", "", "spectra"),
        P("decoder_stable_rank", "double", "Σλ / largest λ", "dimensions", "spectra"),
        P("decoder_slope", "double", "slope of log λ against log rank, in the range of ranks of the study", "", "spectra"),
        P("decoder_mean_share", "double", "share of the sum of squares of these directions that is due to their mean", "", "spectra"),
        P("homology_h0", "double", "longest death / median death of H0 of these directions in angular distance, geometric mean over repeats: above the null if there are clusters; null for fewer than ten", "", "topology"),
        P("homology_h1", "double", "longest death / birth of H1, geometric mean over repeats: above the null if there is a loop", "", "topology"),
        P("homology_h2", "double", "as `homology_h1`, of H2: above the null if there is a void", "", "topology"),
        P("homology_p", "double", "p of the largest of the three, in standard deviations of the null, under the null that they exceed least", "", "topology"),
        P("mapper_p", "double", "p of the longest loop and the number of components of Mapper graphs, over a grid of settings, under the null that they exceed least", "", "topology"),
    )),
    Node("Feature", "id", "One feature (latent) of an SAE.", "sae", (
        P("id", "string", "`sae/idx`"),
        P("sae", "string", "name of the SAE"),
        P("idx", "int64", "index in the SAE, from 0"),
        P("neuronpedia", "string", "address of its page at Neuronpedia, if any"),
        P("active_tokens", "int64", "tokens on which it is active (activation > 0)", "tokens", "statistics"),
        P("frequency", "double", "`active_tokens` / tokens counted", "", "statistics"),
        P("mean_activation", "double", "mean over the tokens on which it is active; null if dead", "activation", "statistics"),
        P("std_activation", "double", "standard deviation (population) over the tokens on which it is active; null if dead", "activation", "statistics"),
        P("max_activation", "double", "largest activation; null if dead", "activation", "statistics"),
        P("dead", "bool", "never active in the tokens counted", "", "statistics"),
        P("top_token", "string", "token on which it is active most often; null if dead", "", "tokens"),
        P("wordless_share", "double", "share of its five most frequent tokens without letters and digits, such as punctuation and spaces; null if dead", "", "tokens"),
        P("degree", "int64", "number of features it co-activates with: CO_ACTIVATES edges with at least the minimum count of the graph", "features", "graph"),
        P("strength", "double", "sum of `weight` over these edges", "", "graph"),
        P("clustering", "double", "share of pairs of these features that co-activate with each other; 0 for fewer than two features", "", "graph"),
        P("pagerank", "double", "PageRank (damping 0.85) on the graph with its weights; sums to 1 over the SAE", "", "graph"),
        P("core", "int64", "core number: the largest k for which it belongs to a set of features that all have at least k edges within the set", "", "graph"),
        P("betweenness", "double", "share of unweighted shortest paths between other features that pass through it; estimated from a seeded sample of sources in large graphs", "", "graph"),
        P("component", "int64", "connected component, 0 is the largest; each isolated feature is its own component", "", "graph"),
        P("partners_expected", "double", "`degree` expected under the bipartite null, for the number of tokens on which the feature is among the k most active: mean over drawn graphs; null without codes", "features", "graph"),
        P("partner_diversity", "double", "entropy of its tokens with each partner (by `count`) / log of `degree`; null below two partners", "", "graph"),
        P("community", "int64", "number of its community in the SAE, 0 is the largest; null for isolated features", "", "graph"),
        P("map_x", "double", "horizontal position on the UMAP of its SAE; only distances to near features have a meaning. Null if dead, or without a direction or neighbours", "", "feature_map"),
        P("map_y", "double", "vertical position on that map", "", "feature_map"),
        P("logit_agreement", "double", "Spearman correlation, over the vocabulary, of its direct logits with the measured fall of each token's log-probability when it is ablated where it is active; null if it was not ablated", "", "logits"),
        P("logit_agreement_control", "double", "mean of the same correlation with the direct logits of the other ablated features", "", "logits"),
        P("logit_agreement_p", "double", "(1 + other ablated features whose direct logits correlate at least as highly with the measured change) / (1 + other ablated features)", "", "logits"),
        P("logit_positions", "int64", "tokens on which it was ablated for the measured change", "tokens", "logits"),
        P("top_token_share", "double", "share of its active tokens that have the most frequent id; null before `atlas describe`, or for a feature with few active tokens", "", "interpretability"),
        P("token_entropy", "double", "entropy of the token ids of its active tokens", "bits", "interpretability"),
        P("context_dependence", "double", "1 - the share of tokens on which it is active, among tokens with the id of an active token, mean over active tokens; shares from one half of the documents, active tokens from the other", "", "interpretability"),
        P("example_agreement", "double", "overlap of the token ids of its top examples with those of examples from the middle fifth of its activations", "", "interpretability"),
        P("example_agreement_control", "double", "the same with middle examples of another feature of similar frequency", "", "interpretability"),
        P("detection", "double", "balanced accuracy, on held-out documents, of a description by the most frequent token ids of its top examples", "", "interpretability"),
        P("detection_control", "double", "the same with the description of another feature of similar frequency", "", "interpretability"),
        P("effect_tokens", "int64", "tokens at which the feature was ablated, one at a time; null if its effects were not measured", "tokens", "effects"),
        P("effect_ce", "double", "mean change of the cross-entropy of the next token as the feature is ablated at a token; the last token of a context has no next one and counts 0", "nats", "effects"),
        P("effect_ce_later", "double", "mean change of the cross-entropy summed over later tokens of the context", "nats", "effects"),
        P("effect_kl", "double", "mean KL(model ‖ ablated model) at the token", "nats", "effects"),
        P("effect_kl_later", "double", "mean KL summed over later tokens of the context", "nats", "effects"),
        P("effect_kl_random", "double", "mean of `effect_kl` + `effect_kl_later` of random directions of equal norm at the same tokens", "nats", "effects"),
        P("effect_kl_other", "double", "the same of other features that are active at the same tokens, nearest in frequency and mean activation; null where no other is active", "nats", "effects"),
        P("effect_q", "double", "false discovery rate of features whose KL exceeds that of their random directions by at least as large a factor", "", "effects"),
    )),
    Node("Community", "id", "Features of an SAE that co-activate more with each other than with other features (Leiden's method).", "graph", (
        P("id", "string", "`sae/number`"),
        P("sae", "string", "name of the SAE"),
        P("number", "int64", "0 is the largest; ties go to the community with the lowest feature index"),
        P("size", "int64", "number of features", "features"),
        P("edges", "int64", "edges between its features", "edges"),
        P("inner_share", "double", "weight of its inner edges / weight of all edges of its features, each end counted; weighted as by `weighted_by`"),
        P("conductance", "double", "weight of the edges that leave it / the smaller of the total edge weights of its features and of all others; null if one of these is 0"),
        P("tokens", "string[]", "texts of the tokens that distinguish it most from other communities, most distinctive first"),
        P("weighted_by", "string", "edge weight of the community search: 'total' (`count` × `weight`), 'weight', 'count', or 'none'"),
        P("min_count", "int64", "lowest `count` of the edges in the community search", "tokens"),
        P("stability", "double", "mean, over Leiden runs with other seeds, of the Jaccard overlap with the most similar community"),
        P("stability_halves", "double", "mean, over halves of the documents, of the Jaccard overlap with the most similar community of that half; null without codes or with fewer than 10 documents"),
        P("stability_null", "double", "`stability_halves` of the community nearest in size in a graph drawn by the bipartite null; null if `stability_halves` is null"),
        P("stability_null_high", "double", "highest such value in any null graph, drawn by the bipartite null or within documents. A community exceeds all null graphs if its `stability_halves` is higher. Null in older results: run `atlas communities` again", since=6),
    )),
    Node("Token", "id", "One token of a tokenizer's vocabulary.", "tokens", (
        P("id", "string", "`tokenizer/token_id`"),
        P("tokenizer", "string", "first 12 hex digits of the SHA-256 of the tokenizer"),
        P("token_id", "int64", "number in the vocabulary"),
        P("text", "string", "text of the token, including a leading space"),
    ), shared=True, also=("logits",)),
    Node("Example", "id", "A text excerpt on which a feature is active.", "examples", (
        P("id", "string", "`sae/idx/rank`"),
        P("sae", "string", "name of the SAE"),
        P("idx", "int64", "index of the feature in the SAE"),
        P("rank", "int64", "0 is the highest activation; sampled examples follow the top ones"),
        P("kind", "string", "'top', or 'fifth 1' (lowest) … 'fifth 5': a sample from that fifth of the activation range"),
        P("activation", "double", "activation of the feature on the sampled token", "activation"),
        P("text", "string", "the joined tokens"),
        P("tokens", "string[]", "tokens around the sampled token, within its context"),
        P("activations", "double[]", "activation of the feature on each of these tokens", "activation"),
        P("peak", "int64", "index of the sampled token in `tokens`, from 0; the excerpt was selected for it, and other tokens may be more active"),
        P("document", "int64", "index of the document in the corpus, from 0"),
        P("start", "int64", "offset of the sampled token in the document", "characters"),
    )),
    Node("Concept", "id", "A contrast between two classes of labelled words.", "concepts", (
        P("id", "string", "`name@` and 8 hex digits of the SHA-256 of the words"),
        P("name", "string", "`set/label`"),
        P("words_set", "string", "name of the set of words, from its file"),
        P("positive", "string", "label of the positive class"),
        P("negative", "string", "label of the negative class; 'other' for all other words"),
        P("words", "int64", "words of the set", "words"),
        P("positives", "int64", "words of the positive class", "words"),
    ), shared=True),
)

EDGES: tuple[Edge, ...] = (
    Edge("OF_MODEL", "Site", "Model", "The site belongs to the model.", "sae", also=("probe", "transcoder")),
    Edge("READS", "SAE", "Site", "The SAE was trained on the activations at the site.", "sae"),
    Edge("MEASURED_ON", "SAE", "Corpus", "The SAE's numbers were measured on the corpus.", "sae"),
    Edge("IN_SAE", "Feature", "SAE", "The feature belongs to the SAE.", "sae"),
    Edge("FIRES_ON", "Feature", "Token", "The feature is active on the token; only the most frequent tokens of each feature are stored.", "tokens", (
        P("rank", "int64", "0 is the token on which the feature is active most often"),
        P("count", "int64", "occurrences of the token on which the feature is active", "tokens"),
        P("share", "double", "`count` / `active_tokens` of the feature"),
        P("rate", "double", "`count` / occurrences of the token in the corpus"),
        P("mean_activation", "double", "mean activation over these occurrences", "activation"),
    )),
    Edge("SHOWN_BY", "Feature", "Example", "The example shows what the feature is active on.", "examples"),
    Edge("PROMOTES", "Feature", "Token", "The token is among those with the highest direct logits of the feature: its decoder row through final norm and unembedding. The path through later blocks is not part of it.", "logits", _LOGITS),
    Edge("SUPPRESSES", "Feature", "Token", "The token is among those with the lowest direct logits of the feature; see PROMOTES.", "logits", _LOGITS),
    Edge("NEAR_DIRECTION", "Feature", "Feature", "The decoder row of the target is among the nearest to that of the source, of the live features of one SAE in the same space; found by comparing all pairs.", "near_direction", (
        P("cosine", "double", "cosine of both decoder rows"),
        P("rank", "int64", "0 is the nearest of the target's SAE"),
        P("p", "double", "share of random draws in which the nearest of as many random rows has at least this cosine, pooled over features on which random rows vary similarly; the rows have the mean and covariance of features of similar frequency; null without draws"),
        P("q", "double", "Benjamini-Hochberg value of `p` over the edges of this rank between both SAEs in this direction; null without draws"),
    )),
    Edge("CO_ACTIVATES", "Feature", "Feature", "Both features are among the k most active of the same tokens; stored once, from the lower index; query it undirected.", "coactivation", (
        P("count", "int64", "tokens on which both are among the k most active features", "tokens"),
        P("expected", "double", "`count` expected if both were among the k most active independently, at their observed rates", "tokens"),
        P("weight", "double", "mean over those tokens of the cosine of both activation columns within the token's block of text"),
        P("cosine", "double", "uncentred cosine of both activation columns over all tokens"),
        P("joint_count", "int64", "tokens on which both are active", "tokens"),
        P("jaccard", "double", "`joint_count` / tokens on which either is active"),
        P("phi", "double", "phi coefficient of being active; null where a feature is active on every token"),
        P("lift", "double", "`joint_count` / its expectation under independence; noisy if that is below a few tokens"),
        P("decoder_cosine", "double", "cosine of both decoder rows; null before `atlas directions`, or for a row of zeros", "", "near_direction"),
    )),
    Edge("IN_COMMUNITY", "Feature", "Community", "The feature belongs to the community.", "graph", (
        P("inner_share", "double", "weight of its edges within the community / weight of all its edges, weighted as in the community search"),
        P("inner_degree", "int64", "number of features of the community with which it co-activates", "features"),
    )),
    Edge("MATCHES", "Feature", "Feature", "Features of two SAEs that are active on the same tokens; stored from the SAE whose name sorts first; query it undirected.", "match", (
        P("pearson", "double", "Pearson correlation of both activations over all tokens (or words) of the text"),
        P("phi", "double", "phi coefficient of being active"),
        P("joint_count", "int64", "tokens (or words) on which both are active", "tokens"),
        P("rank_ab", "int64", "0: no feature of the target's SAE correlates better with the source; null if not among the best stored matches"),
        P("rank_ba", "int64", "0: no feature of the source's SAE correlates better with the target; null if not among the best stored matches"),
        P("mutual", "bool", "each is the best match of the other"),
        P("one_to_one", "bool", "partners in the assignment with the highest total correlation of the stored matches; leaving a feature unassigned is worth the threshold of the shifted-documents null (0 without draws)"),
        P("claims_on_source", "int64", "features of the target's SAE whose best match is the source", "features"),
        P("claims_on_target", "int64", "features of the source's SAE whose best match is the target", "features"),
        P("alignment", "string", "'tokens', or 'words' where the tokenizers differ"),
        P("shared_tokens", "int64", "tokens among the five most frequent of both, compared without surrounding spaces", "tokens"),
        P("decoder_cosine", "double", "cosine of the decoder vectors; null if the spaces differ or the weights were not available"),
        P("encoder_cosine", "double", "cosine of the encoder vectors; null if the sites differ or the weights were not available"),
        P("p", "double", "share of draws of the shifted-documents null in which the best match of an end is at least as good; the larger of both ends, and at least 1 / (1 + draws)"),
        P("p_pooled", "double", "as `p`, pooled over features of similar frequency: share of all draws that exceed the other draws of their feature by at least as many standard deviations; the larger of both ends. A pool spans one octave of activation counts, or several octaves, so that 10 matches can be significant"),
        P("p_floor", "double", "lowest possible `p_pooled` of this pair: 1 / (1 + draws × features of the pool); the larger of both ends"),
        P("q", "double", "Benjamini-Hochberg q-value of `p_pooled` over all pairs among the best matches of either end, before filters; a feature without a pair counts as one with p = 1"),
        P("null_pearson", "double", "best correlation of a feature with any feature of the other SAE, as mean over the draws of the shifted-documents null; the higher of both ends. It belongs to the two features and not to the pair, so it may exceed `pearson`"),
        P("token_p", "double", "as `p`, for the null that shuffles activations among occurrences of the same token; tests whether the match exceeds a shared token"),
        P("token_p_pooled", "double", "as `p_pooled`, for that null"),
        P("token_p_floor", "double", "as `p_floor`, for that null"),
        P("token_q", "double", "as `q`, for that null; evidence only if `q` is small too, because unrelated features with bursts in the same documents also get small values"),
        P("token_null_pearson", "double", "as `null_pearson`, for that null: the best that features reach by shared tokens"),
        P("token_document_p", "double", "as `p`, for the null that shuffles activations among occurrences of the same token in the same document; tests whether the match exceeds a shared token in shared documents. This and the other properties of this null are null in older matches"),
        P("token_document_p_pooled", "double", "as `p_pooled`, for that null"),
        P("token_document_p_floor", "double", "as `p_floor`, for that null"),
        P("token_document_q", "double", "as `q`, for that null"),
        P("token_document_null_pearson", "double", "as `null_pearson`, for that null: the best that features reach by shared tokens in shared documents"),
        P("fixed_share", "double", "share of activations on tokens that occur once in their document, which that null cannot move; the larger of both ends. Near 1 the null has no power, and a large `token_document_q` is no evidence"),
    )),
    Edge("COMPARED_WITH", "SAE", "SAE", "The features of both SAEs were matched; stored from the SAE whose name sorts first.", "match", (
        P("alignment", "string", "'tokens', or 'words' where the tokenizers differ"),
        P("tokens", "int64", "tokens (or words) over which they were correlated", "tokens"),
        P("documents", "int64", "documents that contain these tokens", "documents"),
        P("matches", "int64", "MATCHES edges between their features", "edges"),
        P("mutual", "int64", "number of mutual matches", "edges"),
        P("one_to_one", "int64", "number of one-to-one matches", "edges"),
        P("significant", "int64", "one-to-one matches with q <= 0.05 in the shifted-documents null (q is over all pairs, so 5% is only a guide for this subset)", "edges"),
        P("beyond_token", "int64", "one-to-one matches with q <= 0.05 in all three nulls. No null preserves the position in the document, so this is no evidence for features tied to a position. Null in matches older than the third null: run `atlas match --stale`", "edges", since=2),
        P("undecided", "int64", "one-to-one matches with q <= 0.05 in the first two nulls and not in the third, which cannot move more than half of their activations (`fixed_share`)", "edges"),
        P("best_ab", "double", "mean correlation of live features of the source with their best match (0 if there is none)"),
        P("best_ba", "double", "mean correlation of live features of the target with their best match (0 if there is none)"),
        P("null_best_ab", "double", "`best_ab` in the shifted-documents null, without documents of one token"),
        P("null_best_ba", "double", "`best_ba` in the shifted-documents null"),
        P("token_null_best_ab", "double", "`best_ab` in the shuffled-occurrences null"),
        P("token_null_best_ba", "double", "`best_ba` in the shuffled-occurrences null"),
        P("token_document_null_best_ab", "double", "`best_ab` in the null that shuffles within documents"),
        P("token_document_null_best_ba", "double", "`best_ba` in the null that shuffles within documents"),
        P("null_threshold", "double", "95% quantile of the best correlation of a feature under the shifted-documents null, over draws and features of both SAEs with at least the minimum of joint tokens (10 by default)"),
        P("token_null_threshold", "double", "the same under the shuffled-occurrences null"),
        P("token_document_null_threshold", "double", "the same under the null that shuffles within documents"),
        P("draws", "int64", "draws of each null", "draws"),
        P("p_floor", "double", "lowest possible `p`: 1 / (1 + draws); each match stores the floor of its `p_pooled`"),
        P("draws_needed", "int64", "smallest number of draws with which 10 matches at the lowest possible `p_pooled` reach q <= 0.05 in each null; null if no number suffices", "draws"),
        P("matches_needed", "int64", "number of matches at the lowest possible `p_pooled` needed to reach q <= 0.05 in each null with these draws; null if no number suffices", "edges"),
        *_similarities(),
    )),
    Edge("SPLITS_INTO", "Feature", "Feature", "The source, a feature of an SAE, is a parent of the target, a feature of a wider SAE at the same site. Decoder cosine and joint tokens both exceed their nulls, and the source is active on most tokens of the target.", "splitting", (
        P("decoder_cosine", "double", "cosine of the decoder vectors"),
        P("cosine_null", "double", "95% quantile of the highest cosine with any parent, over rotated children of similar frequency"),
        P("joint_count", "int64", "tokens on which both are active", "tokens"),
        P("expected", "double", "mean of `joint_count` over the draws of the shifted-documents null", "tokens"),
        P("parent_given_child", "double", "`joint_count` / tokens on which the child is active"),
        P("child_given_parent", "double", "`joint_count` / tokens on which the parent is active"),
        P("main", "bool", "no child of the parent has a higher Jaccard index of its active tokens with those of the parent"),
        P("main_absent", "int64", "tokens on which both are active and the main child of the parent is not", "tokens"),
        P("coverage", "double", "share of the parent's tokens on which at least one of its children is active"),
        P("coverage_null", "double", "mean of `coverage` over the draws of the shifted-documents null"),
        P("parent_class", "string", "'same', 'split', 'absorbed' or 'partial': see docs/splitting.md"),
        P("child_class", "string", "'same', 'split', 'absorbing' or 'partial'"),
        P("p_cosine", "double", "share of draws whose highest cosine with any parent is at least as high, pooled over children of similar frequency"),
        P("p_joint", "double", "share of draws of the shifted-documents null whose standardised joint count is at least as high, pooled over pairs of similar expected count"),
        P("q", "double", "Benjamini-Hochberg q-value of the larger p, over all candidate pairs"),
    )),
    Edge("SEPARATES", "Feature", "Concept", "The feature has different activations on the two classes of words; stored if `p_max` is at most the level of the study.", "concepts", (
        P("t", "double", "Welch's t over words; above 0 if the activation is higher on the positive class"),
        P("p", "double", "two-sided p of `t`, uncorrected"),
        P("q", "double", "Benjamini-Hochberg value of `p` over the features that vary on the words"),
        P("p_permutation", "double", "share of permutations of the labels in which the |t| of this feature is at least as large"),
        P("p_max", "double", "family-wise p: share of permutations in which the largest |t| of all features is at least as large (max-T)"),
        P("auroc", "double", "share of pairs of a positive and a negative word that the activation ranks correctly, ties count half; on all words"),
        P("auroc_held_out", "double", "mean of the same on held-out words, in the direction of the training words; features are selected on all words, so it is too high for edges"),
        P("effect", "double", "Hedges' g: difference of means / pooled standard deviation", "standard deviations"),
        P("active_positive", "double", "share of the positive words on which the feature is active"),
        P("active_negative", "double", "share of the negative words on which the feature is active"),
        P("direction", "string", "class on which the activation is higher: 'positive' or 'negative'"),
    )),
    Edge("RETAINS", "SAE", "Concept", "How much of what the layer knows about a concept the features of the SAE retain, and in how many features.", "concepts", (
        P("varying", "int64", "features whose activation varies over the words; only these are tested", "features"),
        P("separating", "int64", "of these, features with family-wise p (`p_max`) at most the level of the study", "features"),
        P("auc", "double", "held-out AUROC of a ridge probe of all varying features: mean over repeated splits that divide no group of words"),
        P("auc_low", "double", "lower limit of its 95% interval, for overlapping splits"),
        P("auc_high", "double", "upper limit of that interval"),
        P("layer_auc", "double", "the same of the activations that the SAE reads"),
        P("permuted_auc", "double", "mean of `auc` over permutations of the labels: chance level"),
        P("difference", "double", "`auc` - `layer_auc`, paired by split"),
        P("difference_low", "double", "lower limit of its 95% interval"),
        P("difference_high", "double", "upper limit of that interval"),
        P("retained", "double", "R: (`auc` - .5) / (`layer_auc` - .5); null if the layer does not separate the classes"),
        P("retained_low", "double", "lower limit of its 95% interval"),
        P("retained_high", "double", "upper limit of that interval"),
        P("k90", "int64", "smallest of 1, 2, 5, 10, 20, 50 and all varying features, selected on training words, whose R is at least .9; null if none", "features"),
        P("effective_features", "double", "participation ratio of the rise in held-out loss without each feature; null if no rise is significant", "features"),
        P("area", "double", "mean of R over log k, for k from 1 to 50"),
        P("area_low", "double", "lower limit of its 95% interval"),
        P("area_high", "double", "upper limit of that interval"),
        P("random_area", "double", "`area` of random directions that are active on as many words as the features"),
    )),
    Edge("AFFECTS", "Feature", "Feature", "Ablating the source at a token changes the target, a feature of an SAE at a later site, more than random directions of equal norm and other active features do. Only the strongest targets of each source are stored.", "effects", (
        P("mean", "double", "change of the target's activation, summed over the ablated token and later ones of the context; mean over the ablated tokens; below 0 if the source raises the target", "activation"),
        P("here", "double", "mean change at the ablated token alone, without later ones", "activation"),
        P("low", "double", "lower limit of the 95% interval of `mean`, by a bootstrap over documents", "activation"),
        P("high", "double", "upper limit", "activation"),
        P("share", "double", "share of the tokens at which the change has the sign of `mean` and is larger in size than that of a random direction"),
        P("positions", "int64", "tokens at which the source was ablated", "tokens"),
        P("documents", "int64", "documents of these tokens", "documents"),
        P("attributed", "double", "first-order estimate of `mean`, by gradient attribution", "activation"),
        P("random", "double", "mean size of the same sum, over random directions of equal norm, at the same tokens", "activation"),
        P("other", "double", "the same sum, as other features that are active at the same tokens are ablated; mean over these tokens", "activation"),
        P("p", "double", "share of the random directions of all sources whose largest effect on any target is at least as large; effects are divided by the usual size for the target and for the source"),
        P("p_other", "double", "one-sided p that its size exceeds that of the other features, at tokens where one is active, under random signs of documents"),
        P("q", "double", "Benjamini-Hochberg value of `p` over the sources"),
        P("rank", "int64", "0 is the strongest target of the source"),
    ), largest_part=True),
    Edge("PREDICTED_FROM", "Feature", "Site", "A probe predicts, from the activations at the site, on which tokens the feature is active (or how strongly).", "probe", (
        P("run", "string", "id of the probe: `split/kind/l2=penalty`, and other settings that differ from the defaults"),
        P("split", "string", "split of tokens into training and validation: by 'document', 'sample' or token 'type'; or 'corpus': validated on another text"),
        P("kind", "string", "what is predicted, and how: whether the feature is active, by logistic regression ('active'), by logistic regression with random features ('random-features') or by a network with one hidden layer ('mlp'); or its activation, by ridge regression ('activation')"),
        P("penalty", "double", "λ of mean loss + λ‖w‖² (w: all weights, without intercepts); for kind 'activation' the loss is the mean squared error in units of the activations' mean square on training"),
        P("balance", "string", "'weight': both classes have the same total weight; 'subsample': inactive tokens are sampled down to the number of active ones; null for kind 'activation'"),
        P("threshold", "double", "activation above which the feature counts as active", "activation"),
        P("train_tokens", "int64", "training tokens (the sampled ones, if by subsample)", "tokens"),
        P("train_positives", "int64", "training tokens on which the feature is active", "tokens"),
        P("tokens", "int64", "validation tokens", "tokens"),
        P("positives", "int64", "validation tokens on which the feature is active", "tokens"),
        P("balanced_accuracy", "double", "mean of the recalls of active and inactive tokens, on validation; 0.5 is chance"),
        P("low", "double", "lower limit of the 95% interval of `balanced_accuracy`: bootstrap over documents with a fixed probe"),
        P("high", "double", "upper limit of that interval"),
        P("train_balanced_accuracy", "double", "the same on the training tokens"),
        P("auroc", "double", "area under the ROC curve, on validation; ties count half"),
        P("accuracy", "double", "share of validation tokens predicted correctly, at natural prevalence: high for any rare feature"),
        P("precision", "double", "share of true positives among tokens predicted active; null if there are none"),
        P("recall", "double", "share of active tokens predicted active"),
        P("balanced_precision", "double", "precision at equal numbers of active and inactive tokens; null if no token is predicted active"),
        P("true_positives", "int64", "active tokens predicted active, on validation", "tokens"),
        P("false_positives", "int64", "inactive tokens predicted active", "tokens"),
        P("false_negatives", "int64", "active tokens predicted inactive", "tokens"),
        P("true_negatives", "int64", "inactive tokens predicted inactive", "tokens"),
        P("train_loss", "double", "class-weighted mean logistic loss or (kind 'activation') mean squared error, without the penalty, on the training tokens", "nats or activation²"),
        P("loss", "double", "the same on validation", "nats or activation²"),
        P("gap", "double", "`loss` - `train_loss`", "nats or activation²"),
        P("token_table", "double", "balanced accuracy of a table of training counts by token id, which predicts active if the id's share of active tokens exceeds its share of inactive ones; unseen ids and ties count half"),
        P("token_table_low", "double", "lower limit of its 95% interval"),
        P("token_table_high", "double", "upper limit of its 95% interval"),
        P("token_ceiling", "double", "balanced accuracy of the best function of the token id, fitted to the validation counts: an upper bound for probes at the embedding"),
        P("token_ceiling_low", "double", "lower limit of its 95% interval, with that function fixed"),
        P("token_ceiling_high", "double", "upper limit of its 95% interval"),
        P("train_token_ceiling", "double", "as `token_ceiling`, fitted to the training counts and scored on them"),
        P("seen_share", "double", "share of validation tokens whose id occurs in training"),
        P("position_table", "double", "as `token_table`, by position in the context"),
        P("position_ceiling", "double", "as `token_ceiling`, by position in the context"),
        P("bigram_table", "double", "as `token_table`, by this token and the preceding one"),
        P("bigram_ceiling", "double", "as `token_ceiling`, by this token and the preceding one; near 1 for rare pairs of any feature"),
        P("control", "double", "balanced accuracy of control-task probes on validation tokens of seen ids: each id gets the expected rate of another id of similar count in training and validation; mean over draws"),
        P("selectivity", "double", "balanced accuracy of the probe on those tokens - `control`"),
        P("shuffled", "double", "balanced accuracy of a probe trained on labels shuffled among the training tokens: chance level"),
        P("r2", "double", "kind 'activation': explained share of the variance of the activation on validation, all tokens; activations up to `threshold` count as 0"),
        P("r2_token_table", "double", "the same for training means of each token id; unseen ids get the overall mean"),
        P("r2_token_ceiling", "double", "the same for validation means of each token id: in sample, an upper bound for probes at the embedding"),
        P("r2_active", "double", "as `r2`, trained and validated on active tokens only"),
        P("r2_active_token_table", "double", "as `r2_token_table`, on active tokens only"),
        P("r2_active_token_ceiling", "double", "as `r2_token_ceiling`, on active tokens only; near 1 if most ids occur once"),
        P("verdict", "string", "'token' if the lower limit of `token_table` reaches `tau`; 'beyond token' if the lower limit of the probe exceeds `token_ceiling` (later sites only); 'context' if the upper limit of `token_ceiling` is below `tau`; else 'undecided'"),
        P("how", "string", "for verdict 'token': 'linear' (kind 'active') or 'non-linear' if this probe, at this penalty, is within `delta` of the token table, else 'lookup'"),
        P("context_by", "string", "for verdict 'context': 'position' or 'bigram' if that table reaches `tau`; else null"),
        P("generalises", "bool", "whether the lower limit of a probe trained on other token ids still reaches `tau`; null if that split was not run"),
        P("tau", "double", "balanced accuracy required for a verdict"),
        P("delta", "double", "tolerance of the comparison with the token table"),
        P("iterations", "int64", "steps of the solver"),
        P("converged", "bool", "whether the solver reached its tolerance, a share of λ, which bounds the distance to the optimum"),
    ), each="run"),
    Edge("MAPS_TO", "Site", "Site", "An affine map (transcoder) predicts the activations at the target from those at the source.", "transcoder", (
        P("run", "string", "id of the map: `method/corpus`, and the documents if not all"),
        P("method", "string", "'closed form' (ridge regression from streamed moments) or 'adam'"),
        P("penalty", "double", "ridge λ, added to the diagonal of the source covariance (scikit-learn's `alpha` / tokens), of the map on all tokens; chosen by cross-validation over folds. Held-out scores choose it without the scored fold. Null for 'adam'"),
        P("corpus", "string", "id of the text"),
        P("tokens", "int64", "number of tokens, without BOS and padding", "tokens"),
        P("fit_tokens", "int64", "training tokens of the maps with held-out scores; mean over folds", "tokens"),
        P("folds", "int64", "folds of documents, each scored by a map trained on other documents; scores are over the tokens of all folds together"),
        P("r2", "double", "held out by document: 1 - squared error / centred sum of squares of each dimension, mean over dimensions that vary"),
        P("r2_weighted", "double", "held out: the same with both sums taken over all dimensions (variance-weighted)"),
        P("r2_low", "double", "lower limit of the 95% interval of `r2_weighted`: bootstrap over documents with a fixed map"),
        P("r2_high", "double", "upper limit of that interval"),
        P("r2_in_sample", "double", "`r2` on the training tokens"),
        P("r2_in_sample_weighted", "double", "`r2_weighted` on the training tokens"),
        P("r2_with_bos", "double", "held out: `r2` with BOS tokens in training and scoring; null if contexts have no BOS"),
        P("r2_with_bos_weighted", "double", "held out: `r2_weighted` with BOS tokens in training and scoring"),
        P("r2_published", "double", "as in the original study: one mean for all dimensions, with BOS tokens (if contexts have them), in sample"),
        P("mse", "double", "held out: mean squared error per token and dimension", "activation²"),
        P("mse_with_bos", "double", "held out: `mse` with BOS tokens in training and scoring", "activation²"),
        P("mse_in_sample", "double", "`mse` on the training tokens", "activation²"),
        P("bos_share", "double", "share of BOS tokens in the in-sample squared error of the map with BOS; null without BOS"),
        P("variance", "double", "mean variance of the target dimensions on the training tokens", "activation²"),
        P("token_r2", "double", "held out: `r2` of the training means of each token id (unseen ids get the overall mean)"),
        P("token_r2_weighted", "double", "the same, variance-weighted"),
        P("token_r2_low", "double", "lower limit of its 95% interval: bootstrap over documents with fixed means"),
        P("token_r2_high", "double", "upper limit of that interval"),
        P("token_difference", "double", "`r2_weighted` - `token_r2_weighted`; below 0, the token id predicts more than the map"),
        P("token_difference_low", "double", "lower limit of its 95% interval: bootstrap over documents, paired between the map and the token means, both fixed"),
        P("token_difference_high", "double", "upper limit of that interval"),
        P("token_eta2_weighted", "double", "in-sample η² of the token id, variance-weighted: in sample, an upper bound for maps from the embedding"),
        P("token_omega2_weighted", "double", "the same, corrected for the number of distinct ids (ω²), because η² of noise is above 0"),
        P("seen_share", "double", "share of held-out tokens whose id occurs in training"),
        P("constant_dimensions", "int64", "dimensions of the target that do not vary; excluded from means over dimensions", "dimensions"),
        P("rank", "int64", "rank of the centred second moments of the source", "dimensions"),
        P("steps", "int64", "steps of Adam; null for 'closed form'"),
        P("rate", "double", "learning rate of Adam with the lowest error on separate documents, used neither for training nor for scores; null for 'closed form'"),
    ), each="run"),
)
# fmt: on

TABLES: tuple[Node | Edge, ...] = (*NODES, *EDGES)

_BY_NAME = {spec.name: spec for spec in TABLES}


def table(name: str) -> Node | Edge:
    """Return the node or edge table of this name.

    Raises
    ------
    UnknownName
        If the schema has no table of this name.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UnknownName("table", name, known=_BY_NAME) from None


def node(label: str) -> Node:
    """Return the node table of this label."""
    found = table(label)
    if not isinstance(found, Node):
        raise UnknownName("node label", label, known=(n.label for n in NODES))
    return found


def edge(type: str) -> Edge:
    """Return the edge table of this type."""
    found = table(type)
    if not isinstance(found, Edge):
        raise UnknownName("edge type", type, known=(e.type for e in EDGES))
    return found


def columns(of: Node | Edge, *, owner: str | None = None) -> Iterator[Property]:
    """Yield the columns of a table; an edge table begins with the keys of its ends.

    Parameters
    ----------
    of
        The table.
    owner
        Yield only the key and the columns that parts of this kind fill; all if None.
    """
    if isinstance(of, Edge):
        yield Property("source", "string", f"key of the {of.source}")
        yield Property("target", "string", f"key of the {of.target}")
    makes_rows = owner in (None, of.owner, *of.also)
    for p in of.properties:
        if owner is None or p.name in of.keys or (p.owner == owner if p.owner else makes_rows):
            yield p


def owners(of: Node | Edge) -> frozenset[str]:
    """Return the kinds of parts that fill columns of a table."""
    return frozenset({of.owner, *(p.owner for p in of.properties if p.owner)})


@cache
def arrow_schema(name: str, owner: str | None = None) -> "pa.Schema":
    """Return the Arrow schema of a table, or of the columns that one kind of part fills."""
    import pyarrow as pa

    kinds: dict[Type, pa.DataType] = {
        "string": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "string[]": pa.list_(pa.string()),
        "double[]": pa.list_(pa.float64()),
    }
    spec = table(name)
    return pa.schema(
        [
            pa.field(p.name, kinds[p.type], nullable=p.name not in spec.keys)
            for p in columns(spec, owner=owner)
        ]
    )
