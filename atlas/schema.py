"""The graph's schema: every node, edge and property, with unit, meaning and owner.

Parquet schemas, the tables of the stores, the checks of parts and the reference
in ``docs/schema.md`` are made from the two tuples ``NODES`` and ``EDGES``. A
property is owned by exactly one kind of part: only parts of that kind may fill
it. The kind that owns a table makes its rows; the others add columns to them.

This module imports nothing heavy, so that commands may list names cheaply;
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
        Its name in Cypher, Parquet and Python alike.
    type
        Its type; ``[]`` marks a list.
    meaning
        What it says, in one line.
    unit
        The unit it is counted in; empty for names and ratios that say it themselves.
    owner
        The kind of part that fills it; empty means the owner of the table.
    since
        The lowest version of that kind of part whose values have this meaning. Values of older
        parts are read as null.
    """

    name: str
    type: Type
    meaning: str
    unit: str = ""
    owner: str = ""
    since: int = 1


@dataclass(frozen=True)
class Node:
    """A node table: its label, the property that is its key, and who makes its rows.

    ``shared`` nodes (models, tokens, …) belong to no SAE: several refer to the same one.
    Parts of the kinds in ``also`` make rows of it too, each of them whole.
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
        """The table's name: the label."""
        return self.label

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return (self.key,)


@dataclass(frozen=True)
class Edge:
    """An edge table: its type, the labels it joins, and who makes its rows.

    Two nodes are joined once, or once for each value of the property ``each``.
    Parts of the kinds in ``also`` make rows of it too, each of them whole.
    """

    type: str
    source: str
    target: str
    meaning: str
    owner: str
    properties: tuple[Property, ...] = field(default=())
    each: str = ""
    also: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The table's name: the type of the edge."""
        return self.type

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that identify a row: the keys of both ends, and what tells edges between them apart."""
        return ("source", "target", self.each) if self.each else ("source", "target")


P = Property

# fmt: off
NODES: tuple[Node, ...] = (
    Node("Model", "name", "A language model.", "sae", (
        P("name", "string", "name of the model, as transformers loads it"),
        P("source", "string", "hub name or folder it came from, or 'memory'"),
        P("revision", "string", "commit of the hub repository, where there is one"),
        P("weights", "string", "SHA-256 of its configuration and of a sample of its embedding and first block"),
        P("architecture", "string", "family of the model, as transformers' `model_type`: gemma2, llama, …"),
        P("d_model", "int64", "width of the residual stream", "dimensions"),
        P("layers", "int64", "number of blocks", "blocks"),
        P("dtype", "string", "number format it was run in"),
        P("tokenizer", "string", "first 12 hex digits of the SHA-256 of its tokenizer"),
    ), shared=True),
    Node("Site", "id", "A place in a model where activations are read.", "sae", (
        P("id", "string", "`model/hook`"),
        P("model", "string", "name of the model"),
        P("hook", "string", "TransformerLens name of the place"),
        P("layer", "int64", "block it belongs to, from 0; null at the embedding"),
        P("width", "int64", "length of the vectors there", "dimensions"),
    ), shared=True, also=("probe", "transcoder")),
    Node("Corpus", "id", "The text an atlas is about.", "sae", (
        P("id", "string", "first 12 hex digits of the SHA-256 of the documents"),
        P("name", "string", "its name"),
        P("source", "string", "file, folder or data set it was read from, or 'memory'"),
        P("revision", "string", "revision of the data set, where there is one"),
        P("documents", "int64", "number of documents", "documents"),
        P("characters", "int64", "length of all documents", "characters"),
    ), shared=True),
    Node("SAE", "name", "A sparse autoencoder.", "sae", (
        P("name", "string", "its name in the atlas, a slug"),
        P("atlas", "string", "uuid of the atlas it belongs to"),
        P("source", "string", "`release:sae_id`, folder, or 'memory'"),
        P("release", "string", "release in sae-lens' registry, if any"),
        P("sae_id", "string", "name within the release, if any"),
        P("architecture", "string", "standard, gated, topk, jumprelu, …, as sae-lens names it"),
        P("d_in", "int64", "width of what it reads", "dimensions"),
        P("d_sae", "int64", "number of features", "features"),
        P("seed", "int64", "training seed, if its metadata says"),
        P("neuronpedia_id", "string", "its name at Neuronpedia, if any"),
        P("model", "string", "name of the model it reads"),
        P("hook", "string", "TransformerLens name of the place it reads"),
        P("less", "string", "what is taken from the activations before it reads them: 'map from <hook>', 'principal components' or 'token means'; null if nothing is"),
        P("context_size", "int64", "tokens of a context, BOS included", "tokens"),
        P("prepend_bos", "bool", "whether each context begins with BOS"),
        P("dtype", "string", "number format it was run in"),
        P("weights", "string", "SHA-256 of its parameters"),
        P("tokens", "int64", "tokens counted (special tokens are not)", "tokens", "statistics"),
        P("l0", "double", "mean number of active features per token", "features/token", "statistics"),
        P("dead", "int64", "features never active in the tokens counted", "features", "statistics"),
        P("dead_share", "double", "`dead` / `d_sae`", "", "statistics"),
        P("fvu", "double", "fraction of variance unexplained: residual / centred sum of squares; null where nothing varies", "", "fidelity"),
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
        P("top_token", "string", "the token it is active on most often; null if dead", "", "tokens"),
        P("wordless_share", "double", "share of its five commonest tokens that hold no letter and no digit, such as punctuation and spaces; null if dead", "", "tokens"),
        P("degree", "int64", "features it co-activates with: edges CO_ACTIVATES at or above the count the graph was made with", "features", "graph"),
        P("strength", "double", "sum of `weight` over these edges", "", "graph"),
        P("clustering", "double", "share of pairs of these features that co-activate too; 0 below two", "", "graph"),
        P("pagerank", "double", "PageRank (damping 0.85) on the graph with its weights; sums to 1 over the SAE", "", "graph"),
        P("core", "int64", "core number: the largest k such that it belongs to a set of features with k edges each within the set", "", "graph"),
        P("betweenness", "double", "share of shortest paths of other features that lead over it, without weights; estimated from a seeded sample of sources where the graph is large", "", "graph"),
        P("component", "int64", "connected component, 0 is the largest; features without an edge are one each", "", "graph"),
        P("partners_expected", "double", "`degree` expected by chance for the number of tokens among whose k most active it is: mean over graphs drawn by the bipartite null; null without codes", "features", "graph"),
        P("partner_diversity", "double", "entropy of its tokens with each partner (by `count`) / log of `degree`; null below two partners", "", "graph"),
        P("community", "int64", "number of its community in the SAE, 0 is the largest; null without an edge", "", "graph"),
    )),
    Node("Community", "id", "Features of an SAE that co-activate more with each other than with the rest (Leiden's method).", "graph", (
        P("id", "string", "`sae/number`"),
        P("sae", "string", "name of the SAE"),
        P("number", "int64", "0 is the largest; ties to the one that holds the lowest feature"),
        P("size", "int64", "features in it", "features"),
        P("edges", "int64", "edges between its features", "edges"),
        P("inner_share", "double", "weight of the edges within it / weight of all edges its features have, each end counted; weighted as communities were"),
        P("conductance", "double", "weight of the edges that leave it / the lesser weight of its and the others' edges; null where one has none"),
        P("tokens", "string[]", "texts of the tokens that set it apart from the other communities, most first"),
        P("weighted_by", "string", "what an edge weighed where it was sought: 'total' (`count` × `weight`), 'weight', 'count', or 'none'"),
        P("min_count", "int64", "only edges of at least so many tokens together were taken", "tokens"),
        P("stability", "double", "mean, over Leiden runs of other seeds, of the Jaccard overlap with the likest community there"),
        P("stability_halves", "double", "mean, over halves of the documents, of the Jaccard overlap with the likest community of the graph of that half; null without codes or with fewer than 10 documents"),
        P("stability_null", "double", "`stability_halves` by chance: of the community nearest in size of a graph drawn by the bipartite null, with halves of that graph; null where `stability_halves` is"),
    )),
    Node("Token", "id", "One token of a tokenizer's vocabulary.", "tokens", (
        P("id", "string", "`tokenizer/token_id`"),
        P("tokenizer", "string", "first 12 hex digits of the SHA-256 of the tokenizer"),
        P("token_id", "int64", "number in the vocabulary"),
        P("text", "string", "the text it stands for, its leading space kept"),
    ), shared=True),
    Node("Example", "id", "A stretch of text on which a feature is active.", "examples", (
        P("id", "string", "`sae/idx/rank`"),
        P("sae", "string", "name of the SAE"),
        P("idx", "int64", "index of the feature in the SAE"),
        P("rank", "int64", "0 is the highest activation; sampled examples follow the top ones"),
        P("kind", "string", "'top', or 'fifth 1' (lowest) … 'fifth 5': a sample from that fifth of the activation range"),
        P("activation", "double", "the feature's activation at the peak", "activation"),
        P("text", "string", "the tokens joined"),
        P("tokens", "string[]", "the tokens around the peak, within its context"),
        P("activations", "double[]", "the feature's activation on each of them", "activation"),
        P("peak", "int64", "which of the tokens the example is about, from 0"),
        P("document", "int64", "which document of the corpus, from 0"),
        P("start", "int64", "where the peak token begins in the document", "characters"),
    )),
)

EDGES: tuple[Edge, ...] = (
    Edge("OF_MODEL", "Site", "Model", "The site is a place in the model.", "sae", also=("probe", "transcoder")),
    Edge("READS", "SAE", "Site", "The SAE was trained on the activations at the site.", "sae"),
    Edge("MEASURED_ON", "SAE", "Corpus", "The SAE's numbers were measured on the corpus.", "sae"),
    Edge("IN_SAE", "Feature", "SAE", "The feature belongs to the SAE.", "sae"),
    Edge("FIRES_ON", "Feature", "Token", "The feature is active on the token; the commonest tokens of each feature.", "tokens", (
        P("rank", "int64", "0 is the token it is active on most often"),
        P("count", "int64", "times it is active on the token", "tokens"),
        P("share", "double", "`count` / the feature's `active_tokens`"),
        P("rate", "double", "`count` / times the token occurs in the corpus"),
        P("mean_activation", "double", "mean activation on the token, where active", "activation"),
    )),
    Edge("SHOWN_BY", "Feature", "Example", "The example shows what the feature is active on.", "examples"),
    Edge("CO_ACTIVATES", "Feature", "Feature", "Both are among the k most active features of the same tokens; stored once, from the lower index, and asked undirected.", "coactivation", (
        P("count", "int64", "tokens among whose k most active features both are", "tokens"),
        P("expected", "double", "`count` expected if both were among the k most active independently, at the rates they are", "tokens"),
        P("weight", "double", "mean over those tokens of the cosine of both activation columns within the token's block of text"),
        P("cosine", "double", "uncentred cosine of both activation columns over all tokens"),
        P("joint_count", "int64", "tokens on which both are active", "tokens"),
        P("jaccard", "double", "`joint_count` / tokens on which either is active"),
        P("phi", "double", "phi coefficient of being active; null where a feature is active on every token"),
        P("lift", "double", "`joint_count` / what it would be were they independent; high by chance where that is below a few tokens"),
    )),
    Edge("IN_COMMUNITY", "Feature", "Community", "The feature belongs to the community of its SAE's graph.", "graph", (
        P("inner_share", "double", "weight of its edges to features of the community / that of all its edges, weighted as communities were"),
        P("inner_degree", "int64", "features of the community it co-activates with", "features"),
    )),
    Edge("MATCHES", "Feature", "Feature", "The features of two SAEs are active on the same tokens; from the SAE whose name sorts first, and asked undirected.", "match", (
        P("pearson", "double", "Pearson correlation of both activations over all tokens (or words) of the text"),
        P("phi", "double", "phi coefficient of being active"),
        P("joint_count", "int64", "tokens (or words) on which both are active", "tokens"),
        P("rank_ab", "int64", "0: no feature of the target's SAE correlates better with the source; null if not among the best kept"),
        P("rank_ba", "int64", "0: no feature of the source's SAE correlates better with the target; null if not among the best kept"),
        P("mutual", "bool", "each is the other's best"),
        P("one_to_one", "bool", "they are partners in the assignment of highest total correlation among the matches kept, where having no partner is worth the shifted-documents null's threshold (0 without draws)"),
        P("claims_on_source", "int64", "features of the target's SAE whose best match is the source", "features"),
        P("claims_on_target", "int64", "features of the source's SAE whose best match is the target", "features"),
        P("alignment", "string", "'tokens', or 'words' where the tokenizers differ"),
        P("shared_tokens", "int64", "texts among the five commonest tokens of both, spaces around them aside", "tokens"),
        P("decoder_cosine", "double", "cosine of the decoder vectors; null where the spaces differ or the weights were not at hand"),
        P("encoder_cosine", "double", "cosine of the encoder vectors; null where the sites differ or the weights were not at hand"),
        P("p", "double", "share of draws of the shifted-documents null whose best match, of either end, is as good; never below 1 / (1 + draws)"),
        P("p_pooled", "double", "share of the draws of all features of the pool that are as far above the other draws of their feature, in standard deviations; of both ends the larger. A pool has features of like frequency: an octave of activation counts, or several merged, so that 10 matches can be significant"),
        P("p_floor", "double", "lowest `p_pooled` possible for this pair: 1 / (1 + draws × features of the pool), of both ends the larger"),
        P("q", "double", "Benjamini-Hochberg q-value of `p_pooled` over all pairs correlated, before filters"),
        P("null_pearson", "double", "mean best correlation in the draws of the shifted-documents null, of the end where it is higher"),
        P("token_p", "double", "as `p`, for the null that shuffles activations among occurrences of the same token: is it more than a shared token?"),
        P("token_p_pooled", "double", "as `p_pooled`, for that null"),
        P("token_p_floor", "double", "as `p_floor`, for that null"),
        P("token_q", "double", "as `q`, for that null; it counts only where `q` is small too: unrelated features that come in bursts in the same documents get small values here alone"),
        P("token_null_pearson", "double", "as `null_pearson`, for that null: what the shared tokens explain of `pearson`"),
        P("token_document_p", "double", "as `p`, for the null that shuffles activations among occurrences of the same token in the same document: is it more than a shared token in shared documents? Null in matches made before this null existed, as in all properties of it"),
        P("token_document_p_pooled", "double", "as `p_pooled`, for that null"),
        P("token_document_p_floor", "double", "as `p_floor`, for that null"),
        P("token_document_q", "double", "as `q`, for that null"),
        P("token_document_null_pearson", "double", "as `null_pearson`, for that null: what shared tokens in shared documents explain of `pearson`"),
        P("fixed_share", "double", "share of activations on tokens that occur once in their document, which that null cannot move; of both ends the larger. Near 1 the null has no power, and a large `token_document_q` is no evidence"),
    )),
    Edge("COMPARED_WITH", "SAE", "SAE", "The features of both SAEs were matched; from the SAE whose name sorts first.", "match", (
        P("alignment", "string", "'tokens', or 'words' where the tokenizers differ"),
        P("tokens", "int64", "tokens (or words) over which they were correlated", "tokens"),
        P("documents", "int64", "documents they lie in", "documents"),
        P("matches", "int64", "MATCHES edges between them", "edges"),
        P("mutual", "int64", "of these, mutual", "edges"),
        P("one_to_one", "int64", "of these, one to one", "edges"),
        P("significant", "int64", "one-to-one matches with q <= 0.05 in the shifted-documents null (q is over all pairs, so 5% is a guide for these)", "edges"),
        P("beyond_token", "int64", "one-to-one matches with q <= 0.05 in all three nulls; of features tied to a position in the document these are no evidence, as no null preserves the position. Null where the match was made before the third null existed: run `atlas match --stale`", "edges", since=2),
        P("undecided", "int64", "one-to-one matches with q <= 0.05 in the first two nulls and not in the third, of which more than half of the activations (`fixed_share`) cannot move in the third: neither claimed nor refuted", "edges"),
        P("best_ab", "double", "mean, over live features of the source, of the correlation with the best match (0 where there is none)"),
        P("best_ba", "double", "mean, over live features of the target, of the correlation with the best match (0 where there is none)"),
        P("null_best_ab", "double", "`best_ab` in the shifted-documents null, documents of one token left out"),
        P("null_best_ba", "double", "`best_ba` in the shifted-documents null"),
        P("token_null_best_ab", "double", "`best_ab` in the shuffled-occurrences null"),
        P("token_null_best_ba", "double", "`best_ba` in the shuffled-occurrences null"),
        P("token_document_null_best_ab", "double", "`best_ab` in the null that shuffles within documents"),
        P("token_document_null_best_ba", "double", "`best_ba` in the null that shuffles within documents"),
        P("null_threshold", "double", "correlation that the best match of a feature exceeds in 5% of cases under the shifted-documents null"),
        P("token_null_threshold", "double", "the same under the shuffled-occurrences null"),
        P("token_document_null_threshold", "double", "the same under the null that shuffles within documents"),
        P("draws", "int64", "draws of each null", "draws"),
        P("p_floor", "double", "lowest `p` possible: 1 / (1 + draws); that of `p_pooled` is each match's own `p_floor`"),
        P("draws_needed", "int64", "smallest number of draws with which 10 matches at the lowest `p_pooled` possible get q <= 0.05 in each null; null if no pair can", "draws"),
        P("matches_needed", "int64", "matches at the lowest `p_pooled` possible that are needed for any to get q <= 0.05 in each null, with these draws; null if none can", "edges"),
    )),
    Edge("PREDICTED_FROM", "Feature", "Site", "A linear probe was trained to tell, from the vectors at the site, on which tokens the feature is active (or how much).", "probe", (
        P("run", "string", "which probe: `split/kind/l2=penalty`, and what else differs from the defaults"),
        P("split", "string", "how tokens were divided into training and validation: by 'document', 'sample' or token 'type'; or 'corpus': validated on another text"),
        P("kind", "string", "'active' (logistic regression: is it active?) or 'activation' (ridge regression: how much?)"),
        P("penalty", "double", "λ of mean loss + λ‖w‖²; for kind 'activation' the loss is the mean squared error in units of the activations' mean square on training"),
        P("balance", "string", "'weight': both classes weigh the same; 'subsample': as many inactive tokens as active ones are drawn; null for kind 'activation'"),
        P("threshold", "double", "activation above which the feature counts as active", "activation"),
        P("train_tokens", "int64", "tokens it was trained on (drawn, if by subsample)", "tokens"),
        P("train_positives", "int64", "of these, those on which the feature is active", "tokens"),
        P("tokens", "int64", "tokens it was validated on", "tokens"),
        P("positives", "int64", "of these, those on which the feature is active", "tokens"),
        P("balanced_accuracy", "double", "mean of the recall of active and of inactive tokens, on validation; 0.5 is chance"),
        P("low", "double", "lower limit of the 95% interval of `balanced_accuracy`: bootstrap over documents, the probe held fixed"),
        P("high", "double", "upper limit of that interval"),
        P("train_balanced_accuracy", "double", "the same on the tokens it was trained on"),
        P("auroc", "double", "area under the ROC curve, on validation; ties count half"),
        P("accuracy", "double", "share of validation tokens told rightly, at natural prevalence: high for any rare feature"),
        P("precision", "double", "share of true positives among tokens told active; null if none is"),
        P("recall", "double", "share of active tokens told active"),
        P("balanced_precision", "double", "precision if active and inactive tokens were equally many; null if none is told active"),
        P("true_positives", "int64", "active tokens told active, on validation", "tokens"),
        P("false_positives", "int64", "inactive tokens told active", "tokens"),
        P("false_negatives", "int64", "active tokens told inactive", "tokens"),
        P("true_negatives", "int64", "inactive tokens told inactive", "tokens"),
        P("train_loss", "double", "class-weighted mean logistic loss (kind 'active') or mean squared error, penalty left out, on the tokens it was trained on", "nats or activation²"),
        P("loss", "double", "the same on validation", "nats or activation²"),
        P("gap", "double", "`loss` - `train_loss`", "nats or activation²"),
        P("token_table", "double", "balanced accuracy of a table of training counts by token id: told active where its share of active tokens exceeds that of inactive ones; unseen ids and ties count half"),
        P("token_table_low", "double", "lower limit of its 95% interval"),
        P("token_table_high", "double", "upper limit of its 95% interval"),
        P("token_ceiling", "double", "balanced accuracy of the best function of the token id on the validation counts themselves: no probe at the embedding can pass it"),
        P("token_ceiling_low", "double", "lower limit of its 95% interval, that function held fixed"),
        P("token_ceiling_high", "double", "upper limit of its 95% interval"),
        P("train_token_ceiling", "double", "the best function of the token id on the training counts"),
        P("seen_share", "double", "share of validation tokens whose id occurs in training"),
        P("position_table", "double", "as `token_table`, by position in the context"),
        P("position_ceiling", "double", "as `token_ceiling`, by position in the context"),
        P("bigram_table", "double", "as `token_table`, by this token and the one before it"),
        P("bigram_ceiling", "double", "as `token_ceiling`, by this token and the one before it; near 1 for rare pairs whatever the feature"),
        P("control", "double", "balanced accuracy of probes of control tasks on validation tokens of seen ids: each id bears the expected rate of another id of like count, over both sides; mean over draws"),
        P("selectivity", "double", "the probe's balanced accuracy on those tokens - `control`"),
        P("shuffled", "double", "balanced accuracy of a probe trained on labels shuffled among the training tokens: chance"),
        P("r2", "double", "kind 'activation': share of the activation's variance on validation that is predicted, all tokens; activations up to `threshold` count as 0"),
        P("r2_token_table", "double", "the same by training means of each token id; unseen ids: the mean of all"),
        P("r2_token_ceiling", "double", "the same by validation means of each token id: in sample, no probe at the embedding can pass it"),
        P("r2_active", "double", "as `r2`, trained and validated on active tokens only"),
        P("r2_active_token_table", "double", "as `r2_token_table`, on active tokens only"),
        P("r2_active_token_ceiling", "double", "as `r2_token_ceiling`, on active tokens only; near 1 where most ids occur once"),
        P("verdict", "string", "'token': the token table's lower limit reaches `tau`; 'beyond token': the probe's lower limit passes the ceiling (at later sites); 'context': the ceiling's upper limit is below `tau`; else 'undecided'"),
        P("how", "string", "for verdict 'token': 'linear' if this probe, at this penalty, comes within `delta` of the token table, else 'lookup'"),
        P("context_by", "string", "for verdict 'context': 'position' or 'bigram' where that table reaches `tau`; else null"),
        P("generalises", "bool", "whether, trained on other token ids, the probe's lower limit still reaches `tau`; null where that split was not run beside this one"),
        P("tau", "double", "balanced accuracy that a verdict asks for"),
        P("delta", "double", "how near the token table is near enough"),
        P("iterations", "int64", "steps of the solver"),
        P("converged", "bool", "whether the solver reached its tolerance, a share of λ, which bounds the distance to the optimum"),
    ), each="run"),
    Edge("MAPS_TO", "Site", "Site", "An affine map predicts the activations at the target from those at the source (a transcoder).", "transcoder", (
        P("run", "string", "`method/corpus`, and which documents if not all: tells maps between the same sites apart"),
        P("method", "string", "'closed form' (ridge regression from streamed moments) or 'adam'"),
        P("penalty", "double", "ridge λ added to the diagonal of the source's covariance, as scikit-learn's `alpha` / tokens, of the map on all tokens; chosen by cross-validation over folds, for held-out scores without the scored fold; null for 'adam'"),
        P("corpus", "string", "id of the text"),
        P("tokens", "int64", "tokens in all, BOS and padding left out", "tokens"),
        P("fit_tokens", "int64", "of these, tokens that a map was fitted on whose score is held out; mean over folds", "tokens"),
        P("folds", "int64", "folds of documents that are scored, each by a map that has not seen it; scores are over all their tokens together"),
        P("r2", "double", "held out by document: 1 - squared error / centred sum of squares of each dimension, mean over dimensions that vary"),
        P("r2_weighted", "double", "held out: the same with both sums taken over all dimensions (variance-weighted)"),
        P("r2_low", "double", "lower limit of the 95% interval of `r2_weighted`: bootstrap over documents, the map held fixed"),
        P("r2_high", "double", "upper limit of that interval"),
        P("r2_in_sample", "double", "`r2` on the tokens it was fitted on"),
        P("r2_in_sample_weighted", "double", "`r2_weighted` on the tokens it was fitted on"),
        P("r2_with_bos", "double", "`r2` with BOS among the tokens, fitted and scored; held out; null where contexts have no BOS"),
        P("r2_with_bos_weighted", "double", "`r2_weighted` with BOS among the tokens, fitted and scored; held out"),
        P("r2_published", "double", "as the source published it: one mean for all dimensions, BOS among the tokens (where contexts have it), in sample"),
        P("mse", "double", "held out: mean squared error per token and dimension", "activation²"),
        P("mse_with_bos", "double", "the same with BOS among the tokens, fitted and scored", "activation²"),
        P("mse_in_sample", "double", "`mse` on the tokens it was fitted on", "activation²"),
        P("bos_share", "double", "share of the squared error of the map with BOS, in sample, that lies on BOS tokens; null without BOS"),
        P("variance", "double", "mean variance of the target's dimensions on the tokens it was fitted on", "activation²"),
        P("token_r2", "double", "held out: what the means of each token id on the tokens fitted on give (unseen ids: the mean of all), mean over dimensions"),
        P("token_r2_weighted", "double", "the same, variance-weighted"),
        P("token_r2_low", "double", "lower limit of its 95% interval: bootstrap over documents, the means held fixed"),
        P("token_r2_high", "double", "upper limit of that interval"),
        P("token_difference", "double", "`r2_weighted` - `token_r2_weighted`; below 0 the token tells more"),
        P("token_difference_low", "double", "lower limit of its 95% interval: bootstrap over documents, the same drawn for the map and the token means, both held fixed"),
        P("token_difference_high", "double", "upper limit of that interval"),
        P("token_eta2_weighted", "double", "in sample η² of the token id, variance-weighted: no map from the embedding can pass it in sample"),
        P("token_omega2_weighted", "double", "the same corrected for the number of distinct ids (ω²), as noise alone has an η² above 0"),
        P("seen_share", "double", "share of held-out tokens whose id occurs among those fitted on"),
        P("constant_dimensions", "int64", "dimensions of the target that do not vary; in no mean over dimensions", "dimensions"),
        P("rank", "int64", "rank of the source's centred second moments", "dimensions"),
        P("steps", "int64", "steps of Adam; null for 'closed form'"),
        P("rate", "double", "learning rate of Adam, of those tried the one of least error on documents that no map is trained or scored on; null for 'closed form'"),
    ), each="run"),
)
# fmt: on

TABLES: tuple[Node | Edge, ...] = (*NODES, *EDGES)

_BY_NAME = {of.name: of for of in TABLES}


def table(name: str) -> Node | Edge:
    """Return the node or edge table of this name.

    Raises
    ------
    UnknownName
        If the schema has no such table.
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
    """Yield the columns of a table, those of both ends first if it is an edge.

    Parameters
    ----------
    of
        The table.
    owner
        Only the key and what parts of this kind fill; all columns if None.
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
    of = table(name)
    return pa.schema(
        [
            pa.field(p.name, kinds[p.type], nullable=p.name not in of.keys)
            for p in columns(of, owner=owner)
        ]
    )
