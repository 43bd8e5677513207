"""The tables of a card of a feature: the query of each, its columns, and the controls of its scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["IN_GRAPH", "SECTIONS", "Score", "Section"]


@dataclass(frozen=True)
class Score:
    """A column of a table, and the columns with which it is compared.

    Parameters
    ----------
    column
        The score.
    controls
        Columns of its controls: nulls, expected values, scores of the token alone, q.
    """

    column: str
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One table of a card: a named query of a feature, and the columns to show.

    Parameters
    ----------
    title
        What the rows are.
    label
        The same in one or two words, for a line.
    query
        Name of the query.
    columns
        Columns to show. Controls directly follow their scores, because a terminal omits the last
        columns that do not fit.
    scores
        Scores of a row with their controls; a line shows the first that is not null.
    note
        How to read the columns.
    kind
        Kind of the part with the rows; empty if every ingest writes it, or it is of another SAE.
    command
        Command that computes the rows, with {sae} for the name of the SAE.
    largest
        Column by which the rows are sorted, largest first; the order of the query if empty.
    role
        Which SAEs of such a part have the rows: any, only the first (an SAE whose features are
        ablated, and not those of targets), or only the last.
    """

    title: str
    label: str
    query: str
    columns: tuple[str, ...]
    scores: tuple[Score, ...]
    note: str = ""
    kind: str = ""
    command: str = ""
    largest: str = ""
    role: Literal["any", "first", "last"] = "any"

    def is_stored(self, sae: str, kind: str, saes: Sequence[str]) -> bool:
        """Return whether a part of a kind, about these SAEs, has rows of features of an SAE."""
        among = {"any": saes, "first": saes[:1], "last": saes[-1:]}[self.role]
        return kind == self.kind and sae in among

    @property
    def in_graph(self) -> str:
        """What the graph stores of an SAE with rows, as a pattern that begins at the SAE ``s``."""
        return IN_GRAPH[self.kind, self.role]


#: The tables of a card, in order. A query of a feature becomes a table by one entry here.
SECTIONS = (
    Section(
        "Tokens",
        "Tokens",
        "tokens_of_feature",
        ("token", "count", "share", "expected_share", "rate", "mean_activation"),
        (Score("share", ("expected_share",)),),
        "share: of the tokens on which the feature is active. expected_share: of all tokens of the text. rate: of the occurrences of the token.",
    ),
    Section(
        "Matches in other SAEs",
        "Matches",
        "counterparts_of_feature",
        (
            "match",
            "one_to_one",
            "top_token",
            "pearson",
            "q",
            "token_document_null_pearson",
            "token_document_q",
            "token_q",
            "decoder_cosine",
        ),
        (Score("pearson", ("q", "token_document_null_pearson", "token_document_q")),),
        "q: null of shifted documents. token_q, token_document_q: nulls that shuffle occurrences of "
        "the same token, everywhere or within documents. If one is large, the match is not shown to exceed what shared tokens alone give. "
        "token_document_null_pearson: mean best correlation of either feature, with any feature, under the latter. "
        "one_to_one: the counterpart, of which a feature has at most one in each SAE.",
        kind="match",
        command="atlas match {sae} OTHER_SAE",
        largest="pearson",
    ),
    Section(
        "Features active on the same tokens",
        "Neighbours",
        "neighbours_of_feature",
        ("feature", "top_token", "count", "expected", "weight", "joint_count", "lift"),
        (Score("count", ("expected",)),),
        "count: tokens on which both are among the k most active features (4 by default). expected: count under "
        "independence; a count near it is no evidence. joint_count: tokens on which both are active at all. "
        "lift: joint_count / its expected value, not count / expected.",
    ),
    Section(
        "Community",
        "Community",
        "community_of_feature",
        (
            "community",
            "tokens",
            "stability_halves",
            "stability_null",
            "stability_null_high",
            "inner_share",
            "size",
        ),
        (Score("stability_halves", ("stability_null", "stability_null_high")),),
        "community: its number; 0 is the largest. tokens: those that distinguish it. inner_share: weight of the feature's edges "
        "within it. stability_halves: overlap with the best community of half of the documents; "
        "stability_null, stability_null_high: the same in null graphs, mean and highest.",
        kind="graph",
        command="atlas communities {sae}",
    ),
    Section(
        "Predicted from sites of the model",
        "Probes",
        "probes_of_feature",
        (
            "site",
            "run",
            "verdict",
            "balanced_accuracy",
            "token_ceiling",
            "control",
            "r2",
            "r2_token_ceiling",
            "low",
            "high",
            "token_table",
        ),
        (
            Score("balanced_accuracy", ("token_ceiling", "control")),
            Score("r2", ("r2_token_ceiling",)),
        ),
        "balanced_accuracy: 0.5 is chance. r2: of an amount, 0 is chance. low, high: 95% interval of "
        "either. token_table: score of training counts by token id. token_ceiling, r2_token_ceiling: "
        "best score of any function of the token id. control: random labels of token ids.",
        kind="probe",
        command="atlas probe {sae}",
    ),
    Section(
        "Promoted tokens",
        "Promotes",
        "promoted_tokens",
        ("token", "value", "ablated_change"),
        (Score("value", ("ablated_change",)),),
        "value: direct logit of one unit of activation. ablated_change: measured change of the "
        "log-probability.",
        kind="logits",
        command="atlas logits {sae}",
    ),
    Section(
        "Suppressed tokens",
        "Suppresses",
        "suppressed_tokens",
        ("token", "value", "ablated_change"),
        (Score("value", ("ablated_change",)),),
        kind="logits",
        command="atlas logits {sae}",
    ),
    Section(
        "What its ablation changes in later features",
        "Changes",
        "effects_of_feature",
        ("target", "top_token", "mean", "random", "q", "low", "high"),
        (Score("mean", ("random", "q")),),
        "mean: change of the activation, summed over the ablated token and later ones, with its interval "
        "over documents. random: size of the same sum for random directions of equal norm.",
        kind="effects",
        command="atlas effects {sae}",
        role="first",
    ),
    Section(
        "Features whose ablation changes it",
        "Changed by",
        "drivers_of_feature",
        ("source", "top_token", "mean", "q", "low", "high"),
        (Score("mean", ("q",)),),
        kind="effects",
        role="last",
    ),
    Section(
        "Concepts that it separates",
        "Concepts",
        "concepts_of_feature",
        ("concept", "direction", "auroc_held_out", "p_max", "q", "effect"),
        (Score("auroc_held_out", ("p_max", "q")),),
        "auroc_held_out: on held-out words; features are selected on all words, so above 0.5 also "
        "under the null. p_max: over all features.",
        kind="concepts",
        command="atlas concepts gender {sae}",
    ),
    Section(
        "Nearest decoder directions",
        "Directions",
        "nearest_directions",
        ("feature", "top_token", "cosine", "q"),
        (Score("cosine", ("q",)),),
        "q: null of random directions.",
        kind="near_direction",
        command="atlas directions {sae}",
    ),
    Section(
        "Parents in narrower SAEs",
        "Parents",
        "parents_of_feature",
        ("parent", "top_token", "parent_given_child", "q", "child_given_parent", "decoder_cosine"),
        (Score("parent_given_child", ("q",)),),
        "q: null of shifted documents.",
        kind="splitting",
        command="atlas splitting OTHER_SAE {sae}",
        role="last",
    ),
    Section(
        "Children in wider SAEs",
        "Children",
        "children_of_feature",
        ("child", "top_token", "child_given_parent", "q", "parent_given_child", "decoder_cosine"),
        (Score("child_given_parent", ("q",)),),
        "q: null of shifted documents.",
        kind="splitting",
        command="atlas splitting {sae} OTHER_SAE",
        role="first",
    ),
)

#: What the graph stores of an SAE if a kind of part has its rows, by kind and role in the part, as a
#: pattern that begins at the SAE. Features of a source of effects have a KL also without an edge.
IN_GRAPH: Mapping[tuple[str, str], str] = {
    ("match", "any"): "(s)-[:COMPARED_WITH]-(:SAE)",
    ("graph", "any"): "(s)<-[:IN_SAE]-(:Feature)-[:IN_COMMUNITY]->(:Community)",
    ("probe", "any"): "(s)<-[:IN_SAE]-(:Feature)-[:PREDICTED_FROM]->(:Site)",
    ("logits", "any"): "(s)<-[:IN_SAE]-(:Feature)-[:PROMOTES]->(:Token)",
    ("effects", "first"): "(s)<-[:IN_SAE]-(f:Feature) WHERE f.effect_kl IS NOT NULL",
    ("effects", "last"): "(s)<-[:IN_SAE]-(:Feature)<-[:AFFECTS]-(:Feature)",
    ("concepts", "any"): "(s)<-[:IN_SAE]-(:Feature)-[:SEPARATES]->(:Concept)",
    ("near_direction", "any"): "(s)<-[:IN_SAE]-(:Feature)-[:NEAR_DIRECTION]->(:Feature)",
    ("splitting", "first"): "(s)<-[:IN_SAE]-(:Feature)-[:SPLITS_INTO]->(:Feature)",
    ("splitting", "last"): "(s)<-[:IN_SAE]-(:Feature)<-[:SPLITS_INTO]-(:Feature)",
}
