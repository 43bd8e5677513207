"""Edges from features of a narrow SAE to features of a wider one, and the class of each feature.

A pair is an edge if its decoder cosine and its joint count both exceed their nulls (the larger p
of both, Benjamini-Hochberg over all candidates), and the parent is active on most tokens of the child.
``classify`` defines the classes.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from analysis.splitting.containment import ActiveTokens, joint_p, parent_counts
from analysis.splitting.directions import direction_p, nearest_parents
from analysis.splitting.settings import SplittingSettings
from analysis.statistics.directions import unit_rows

__all__ = [
    "CHILD_CLASSES",
    "PARENT_CLASSES",
    "Edges",
    "Hierarchy",
    "classify",
    "find_edges",
    "hierarchy",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Names: TypeAlias = "NDArray[np.str_]"

PARENT_CLASSES = ("same", "split", "absorbed", "partial", "lost", "untested")
CHILD_CLASSES = ("same", "split", "absorbing", "partial", "new", "untested")

#: Another child replaces the main child if its rate is so much higher where that one is missing.
_TIMES = 2


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges, ascending by (parent, child).

    Parameters
    ----------
    parent, child
        int64, (edges,).
    cosine, cosine_null
        float64, (edges,). Decoder cosine, and the 95% quantile of its null.
    joint, expected
        Tokens on which both are active, and their mean under the null.
    p_cosine, p_joint, q
        float64, (edges,).
    tested
        Number of candidate pairs.
    """

    parent: Ints
    child: Ints
    cosine: Floats
    cosine_null: Floats
    joint: Ints
    expected: Floats
    p_cosine: Floats
    p_joint: Floats
    q: Floats
    tested: int

    def __len__(self) -> int:
        return len(self.parent)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The edges between two SAEs, and the class of each feature.

    Parameters
    ----------
    edges
        The edges.
    main
        bool, (edges,). Whether the child has the highest Jaccard index of the children of its parent.
    main_absent
        int64, (edges,). Tokens of both on which the main child of the parent is not active.
    coverage, coverage_null
        float64, (features of the narrow SAE,). Share of its tokens on which a child is active, and
        the mean of this share under the null; 0 without children, NaN if never active.
    absorbed
        float64, likewise. Share of its tokens on which another child is active and the main is not.
    parent_class, child_class
        Class of each feature of either SAE.
    """

    edges: Edges
    main: Mask
    main_absent: Ints
    coverage: Floats
    coverage_null: Floats
    absorbed: Floats
    parent_class: Names
    child_class: Names


def hierarchy(
    vectors: tuple[NDArray[np.floating], NDArray[np.floating]],
    tokens: ActiveTokens,
    settings: SplittingSettings = SplittingSettings(),  # noqa: B008 - frozen
) -> Hierarchy:
    """Find the edges between two SAEs, and classify their features.

    Parameters
    ----------
    vectors
        Decoder vectors of the narrow and of the wider SAE, (features, dimensions) each.
    tokens
        The codes of both.
    settings
        Thresholds, draws and seed.

    References
    ----------
    Bricken et al. 2023, "Towards Monosemanticity" (feature splitting); Chanin et al. 2024, "A is for
    Absorption" (feature absorption).
    """
    return classify(find_edges(vectors, tokens, settings), tokens, settings)


def find_edges(
    vectors: tuple[NDArray[np.floating], NDArray[np.floating]],
    tokens: ActiveTokens,
    settings: SplittingSettings,
) -> Edges:
    """Return the pairs that exceed both nulls; see ``hierarchy``."""
    narrow, wide = (unit_rows(x, dtype=np.float32) for x in vectors)
    count_a, count_b = tokens.narrow.count, tokens.wide.count
    parents = narrow.any(axis=1) & (count_a >= settings.min_joint)
    children = wide.any(axis=1) & (count_b >= settings.min_joint)
    pairs = nearest_parents(narrow, wide, settings.candidates, parents=parents, children=children)
    p_cosine, threshold = direction_p(
        pairs,
        narrow,
        wide,
        parents=parents,
        children=children,
        count=count_b,
        draws=settings.draws,
        seed=settings.seed,
    )
    joint, expected, p_joint = joint_p(
        pairs.parent, pairs.child, tokens, draws=settings.draws, seed=settings.seed
    )
    p = np.maximum(p_cosine, p_joint)
    q = false_discovery_control(p) if len(p) else p
    inside = joint >= settings.inside * count_b[pairs.child]
    is_edge = (q <= settings.q) & inside & (joint >= settings.min_joint)
    return Edges(
        parent=pairs.parent[is_edge],
        child=pairs.child[is_edge],
        cosine=pairs.cosine[is_edge],
        cosine_null=threshold[is_edge],
        joint=joint[is_edge],
        expected=expected[is_edge],
        p_cosine=p_cosine[is_edge],
        p_joint=p_joint[is_edge],
        q=q[is_edge],
        tested=len(pairs),
    )


def classify(edges: Edges, tokens: ActiveTokens, settings: SplittingSettings) -> Hierarchy:
    """Classify the features of both SAEs.

    The main child of a parent has the highest Jaccard index of its active tokens with those of the
    parent. Classes of the narrow SAE, the first that applies:

    ========  ====================================================================================
    untested  Active on fewer than ``min_joint`` tokens.
    lost      No child.
    absorbed  As ``same``, but the other children replace the main child on at least ``absorbed`` of the
              parent's tokens and on ``min_joint`` tokens: they are active on at least ``cover`` of the
              tokens on which it is not, and at least twice as often there as on the others.
    same      P(main child | parent) and P(parent | main child) are both at least ``same``.
    split     At least two children, which cover at least ``cover`` of the parent's tokens together.
    partial   All others.
    ========  ====================================================================================

    Classes of the wider SAE: ``untested``; ``new`` (no parent); ``same`` (the main child of a parent that
    is same or absorbed); ``absorbing`` (another child of an absorbed parent, of whose common tokens the
    main child is absent on at least half); ``split`` (a child of a split parent); ``partial``.
    """
    count_a, count_b = tokens.narrow.count, tokens.wide.count
    main = _main(edges, count_a, count_b)
    ends = (edges.parent, edges.child, main)
    of_parent, absent = parent_counts(ends, tokens)
    covered, retained, replaced, common = of_parent.T
    null = np.zeros(len(count_a))
    for draw in range(settings.draws if len(edges) else 0):
        moved, _ = parent_counts(ends, tokens, where=tokens.moved(settings.seed, draw))
        null += moved[:, 0] / settings.draws
    coverage, coverage_null, absorbed = (_share(x, count_a) for x in (covered, null, replaced))
    children = np.bincount(edges.parent, minlength=len(count_a))
    remains = _remains(edges, main, count_b, same=settings.same, retained=retained, active=count_a)
    missed = count_a - retained
    takes = (replaced >= settings.cover * missed) & (replaced >= settings.min_joint)
    takes &= replaced >= settings.absorbed * count_a
    takes &= replaced * retained >= _TIMES * common * missed
    parent_class = np.select(
        [
            count_a < settings.min_joint,
            children == 0,
            remains & takes,
            remains,
            (children >= 2) & (coverage >= settings.cover),
        ],
        ["untested", "lost", "absorbed", "same", "split"],
        default="partial",
    )
    child_class = _child_classes(edges, parent_class, main=main, absent=absent, count=count_b)
    child_class[count_b < settings.min_joint] = "untested"
    return Hierarchy(
        edges, main, absent, coverage, coverage_null, absorbed, parent_class, child_class
    )


def _main(edges: Edges, count_a: Ints, count_b: Ints) -> Mask:
    """Return which edges lead to the child with the highest Jaccard index; ties: lowest index."""
    either = count_a[edges.parent] + count_b[edges.child] - edges.joint
    order = np.lexsort((edges.child, -edges.joint / np.maximum(either, 1), edges.parent))
    main = np.zeros(len(edges), dtype=np.bool_)
    _, first = np.unique(edges.parent[order], return_index=True)
    main[order[first]] = True
    return main


def _remains(
    edges: Edges, main: Mask, count_b: Ints, *, same: float, retained: Ints, active: Ints
) -> Mask:
    """Return which parents have a main child that is active on mostly the same tokens."""
    remains = np.zeros(len(active), dtype=np.bool_)
    parent, child = edges.parent[main], edges.child[main]
    remains[parent] = (edges.joint[main] >= same * count_b[child]) & (
        retained[parent] >= same * active[parent]
    )
    return remains


def _child_classes(
    edges: Edges, parent_class: Names, *, main: Mask, absent: Ints, count: Ints
) -> Names:
    of_edge = parent_class[edges.parent]
    found = np.full(len(count), "new", dtype="<U9")
    found[edges.child] = "partial"
    kinds = (
        ("split", of_edge == "split"),
        ("absorbing", (of_edge == "absorbed") & ~main & (2 * absent >= edges.joint)),
        ("same", np.isin(of_edge, ("same", "absorbed")) & main),
    )
    for name, which in kinds:  # the last one that applies
        found[edges.child[which]] = name
    return found


def _share(part: Ints | Floats, total: Ints) -> Floats:
    share: Floats = np.divide(part, total, out=np.full(len(total), np.nan), where=total > 0)
    return share
