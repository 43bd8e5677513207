"""Feature splitting: brute force, known trees, absorption, equal seeds, unrelated SAEs, degenerate input."""

import itertools

import numpy as np
import pytest
import scipy
from scipy.stats import false_discovery_control
from splitting_trees import known_tree, rows_of, scores, tokens_of

from analysis.splitting.containment import Columns, joint_counts, joint_p, parent_counts
from analysis.splitting.directions import (
    direction_p,
    draws_needed,
    nearest_parents,
    principal_axes,
    random_rotation,
)
from analysis.splitting.hierarchy import Edges, classify, find_edges, hierarchy
from analysis.splitting.settings import SplittingSettings
from analysis.statistics.directions import unit_rows


def edges_of(found):
    return list(zip(found.edges.parent.tolist(), found.edges.child.tolist(), strict=True))


def unrelated(seed, *, tokens=4000, narrow=40, wide=60, dimensions=24, bursts=False):
    """Two SAEs without any relation; with ``bursts`` their features are active in runs."""
    rng = np.random.default_rng(seed)
    active = []
    for features in (narrow, wide):
        rate = rng.uniform(0.01, 0.2, features)
        table = rng.random((tokens, features)) < rate / (5 if bursts else 1)
        runs = [np.roll(table, k, axis=0) for k in range(5 if bursts else 1)]
        active.append(np.any(runs, axis=0))
    # Both have a common mean and a few common strong axes, as decoders of one site have.
    scale = 1 / np.arange(1, dimensions + 1) ** 0.5
    vectors = tuple(
        rng.standard_normal((n, dimensions)) * scale + 0.5 * scale for n in (narrow, wide)
    )
    return vectors, tokens_of(*active)


# ---------------------------------------------------------------- brute force


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_those_of_dense_tables(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((70, 6)) < 0.4, rng.random((70, 9)) < 0.3
    a[:, 2] = False  # a dead feature
    tokens = tokens_of(a, b, length=7)
    parent, child = (x.ravel() for x in np.meshgrid(np.arange(6), np.arange(9), indexing="ij"))
    expected = (a.T.astype(int) @ b.astype(int)).ravel()
    np.testing.assert_array_equal(joint_counts(parent, child, tokens), expected)

    where = tokens.moved(seed, 1)
    moved = np.empty_like(b)
    moved[where] = b
    expected = (a.T.astype(int) @ moved.astype(int)).ravel()
    np.testing.assert_array_equal(joint_counts(parent, child, tokens, where=where), expected)
    # A draw moves tokens within their documents only, each document by one offset.
    document = np.arange(70) // 7
    np.testing.assert_array_equal(document[where], document)
    offsets = (where.astype(int) - np.arange(70)) % 7
    assert all(len(set(offsets[document == d].tolist())) == 1 for d in range(10))


def test_counts_of_parents_equal_those_of_dense_tables():
    rng = np.random.default_rng(0)
    a, b = rng.random((90, 4)) < 0.5, rng.random((90, 8)) < 0.3
    parent = np.array([0, 0, 0, 1, 3, 3])
    child = np.array([1, 2, 5, 2, 0, 7])
    main = np.array([False, True, False, True, True, False])
    of_parent, of_edge = parent_counts((parent, child, main), tokens_of(a, b))
    assert of_parent[2].tolist() == [0, 0, 0, 0]
    for i in (0, 1, 3):
        own = a[:, i]
        first = b[:, child[(parent == i) & main][0]]
        others = b[:, child[(parent == i) & ~main]].any(axis=1)
        expected = [
            own & (first | others),
            own & first,
            own & others & ~first,
            own & others & first,
        ]
        assert of_parent[i].tolist() == [int(x.sum()) for x in expected]
        for k in np.flatnonzero(parent == i):
            assert of_edge[k] == (own & b[:, child[k]] & ~first).sum()


def test_candidates_are_the_parents_of_highest_cosine():
    rng = np.random.default_rng(3)
    narrow, wide = rng.standard_normal((11, 5)), rng.standard_normal((17, 5))
    narrow[4] = 0
    a, b = (unit_rows(rows, dtype=np.float32) for rows in (narrow, wide))
    has_a, has_b = a.any(axis=1), b.any(axis=1)
    assert not has_a[4]
    assert has_b.all()
    has_b[2] = False
    found = nearest_parents(a, b, 3, parents=has_a, children=has_b)
    cosine = (wide @ narrow.T) / (
        np.linalg.norm(wide, axis=1)[:, None] * np.maximum(np.linalg.norm(narrow, axis=1), 1e-9)
    )
    cosine[:, 4] = -2
    expected = {(int(i), j) for j in range(17) if j != 2 for i in np.argsort(-cosine[j])[:3]}
    assert set(zip(found.parent.tolist(), found.child.tolist(), strict=True)) == expected
    np.testing.assert_allclose(found.cosine, cosine[found.child, found.parent], atol=1e-6)


@pytest.mark.parametrize(("features", "dimensions"), [(300, 20), (4, 6), (1, 3), (5, 1)])
def test_rotation_preserves_angles_and_nearly_the_variance_of_axes(features, dimensions):
    rng = np.random.default_rng(4)
    scale = 1 / np.arange(1, dimensions + 1) ** 0.5
    rows = (rng.standard_normal((features, dimensions)) * scale).astype(np.float32)
    axes = principal_axes(rows, rows)
    rotation = random_rotation(axes, rng)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dimensions), atol=1e-5)
    within = axes.T @ rotation @ axes
    ends = [0, 1, 2, 4, 8, 16, 24]
    for begin, end in itertools.pairwise(ends):  # each block of axes is mapped to itself
        assert np.abs(within[begin:end, :begin]).max(initial=0) < 1e-5
        assert np.abs(within[begin:end, end:]).max(initial=0) < 1e-5
    if features > 100:
        variance = ((rows @ axes) ** 2).mean(axis=0)
        turned = ((rows @ rotation @ axes) ** 2).mean(axis=0)
        np.testing.assert_allclose(turned[:2], variance[:2], rtol=1e-4)
        np.testing.assert_allclose(turned[4:8].sum(), variance[4:8].sum(), rtol=1e-4)
        # Rotated directions have no relation to themselves.
        assert abs(np.mean(np.sum(rows * (rows @ rotation), axis=1))) < np.mean(
            np.sum(rows**2, axis=1)
        )


def test_p_of_directions_equals_the_share_of_maxima():
    (narrow, wide), _ = unrelated(5, narrow=12, wide=20, dimensions=6)
    a, b = (unit_rows(rows, dtype=np.float32) for rows in (narrow, wide))
    parents, children = np.ones(12, bool), np.ones(20, bool)
    pairs = nearest_parents(a, b, 2, parents=parents, children=children)
    count = np.full(20, 100)  # one pool
    p, threshold = direction_p(
        pairs, a, b, parents=parents, children=children, count=count, draws=500, seed=6
    )
    axes = np.linalg.eigh(np.cov(a.T, bias=True) + np.cov(b.T, bias=True))[1][:, ::-1]
    best = []
    for draw in range(2000):
        blocks = [
            scipy.stats.ortho_group.rvs(m, random_state=10 * draw + k) if m > 1 else sign
            for k, (m, sign) in enumerate(((1, -1), (1, 1 - 2 * (draw % 2)), (2, 0), (2, 0)))
        ]
        blocks[0] *= 1 - 2 * (draw // 2 % 2)
        turn = axes @ scipy.linalg.block_diag(*blocks) @ axes.T
        turned = b.mean(axis=0) + (b - b.mean(axis=0)) @ turn
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        best += (turned @ a.T).max(axis=1).tolist()
    expected = [(1 + np.sum(np.array(best) >= c - 1e-5)) / (1 + len(best)) for c in pairs.cosine]
    np.testing.assert_allclose(p, expected, atol=0.03)  # two samples of the same null
    assert threshold[0] == pytest.approx(np.quantile(best, 0.95), abs=0.03)


def test_edges_equal_both_tests_and_all_thresholds():
    tree = known_tree(1, tokens=4000, miss=0.2, noise=0.5)
    settings = SplittingSettings(draws=12, seed=3)
    found, tokens = find_edges(tree.vectors, tree.tokens, settings), tree.tokens
    a, b = tree.active_narrow, tree.active_wide
    live_a, live_b = a.sum(axis=0) >= 10, b.sum(axis=0) >= 10
    x, y = (unit_rows(v, dtype=np.float32) for v in tree.vectors)
    pairs = nearest_parents(x, y, 3, parents=live_a, children=live_b)
    p_cosine, _ = direction_p(
        pairs, x, y, parents=live_a, children=live_b, count=b.sum(axis=0), draws=12, seed=3
    )
    joint, expected, p_joint = joint_p(pairs.parent, pairs.child, tokens, draws=12, seed=3)
    q = false_discovery_control(np.maximum(p_cosine, p_joint))
    chosen = {}
    for k, (i, j) in enumerate(zip(pairs.parent.tolist(), pairs.child.tolist(), strict=True)):
        both = int((a[:, i] & b[:, j]).sum())
        assert joint[k] == both
        if q[k] <= 0.05 and both >= 10 and both / b[:, j].sum() >= 0.5:
            chosen[i, j] = (both, q[k], expected[k])
    assert {
        (i, j) for i, j in zip(found.parent.tolist(), found.child.tolist(), strict=True)
    } == set(chosen)
    for i, j, n, q_, e in zip(
        found.parent.tolist(),
        found.child.tolist(),
        found.joint,
        found.q,
        found.expected,
        strict=True,
    ):
        assert (n, q_, e) == pytest.approx(chosen[i, j])
    # The mean of the null is near the count under independence.
    independent = a.sum(axis=0)[pairs.parent] * b.sum(axis=0)[pairs.child] / len(a)
    assert np.corrcoef(independent, expected)[0, 1] > 0.95


def by_hand(edges, a, b, settings):
    """The class of each parent from dense tables, in plain Python."""
    names = []
    for i in range(a.shape[1]):
        own = a[:, i]
        children = [j for p, j in edges if p == i]
        if own.sum() < settings.min_joint:
            names.append("untested")
            continue
        if not children:
            names.append("lost")
            continue
        jaccard = [(own & b[:, j]).sum() / (own | b[:, j]).sum() for j in children]
        main = children[int(np.argmax(jaccard))]
        first = b[:, main]
        rest = [b[:, j] for j in children if j != main]
        others = np.any(rest, axis=0) if rest else np.zeros(len(own), bool)
        missed, covered = own & ~first, own & first
        same = (
            covered.sum() / own.sum() >= settings.same
            and covered.sum() / first.sum() >= settings.same
        )
        taken = (missed & others).sum()
        replaced = (
            taken >= settings.min_joint
            and taken / own.sum() >= settings.absorbed
            and taken / missed.sum() >= settings.cover
            and taken / missed.sum() >= 2 * (covered & others).sum() / covered.sum()
        )
        if same:
            names.append("absorbed" if replaced else "same")
        elif len(children) > 1 and (own & (first | others)).sum() / own.sum() >= settings.cover:
            names.append("split")
        else:
            names.append("partial")
    return names


def children_by_hand(edges, a, b, settings):
    """The class of each child from dense tables, in plain Python."""
    parent_class, names = by_hand(edges, a, b, settings), []
    for j in range(b.shape[1]):
        found = set()
        for i in (p for p, child in edges if child == j):
            siblings = [k for p, k in edges if p == i]
            jaccard = [(a[:, i] & b[:, k]).sum() / (a[:, i] | b[:, k]).sum() for k in siblings]
            main = siblings[int(np.argmax(jaccard))]
            both = a[:, i] & b[:, j]
            if main == j and parent_class[i] in ("same", "absorbed"):
                found.add("same")
            elif parent_class[i] == "absorbed" and 2 * (both & ~b[:, main]).sum() >= both.sum():
                found.add("absorbing")
            elif parent_class[i] == "split":
                found.add("split")
            else:
                found.add("partial")
        order = ["same", "absorbing", "split", "partial"]
        names.append(next((name for name in order if name in found), "new"))
        if b[:, j].sum() < settings.min_joint:
            names[-1] = "untested"
    return names


@pytest.mark.parametrize("seed", range(20))
def test_classes_equal_those_by_hand(seed):
    rng = np.random.default_rng(seed)
    a = rng.random((200, 8)) < rng.uniform(0.02, 0.6, 8)
    # Children are noisy copies and parts of the parents.
    source = rng.integers(0, 8, 14)
    b = a[:, source] & (rng.random((200, 14)) < rng.choice([0.3, 0.5, 0.8, 1.0], 14))
    edges = sorted({(int(i), j) for j, i in enumerate(source) if rng.random() < 0.8})
    parent, child = (np.array(x, dtype=np.int64) for x in zip(*edges, strict=True))
    joint = np.array([(a[:, i] & b[:, j]).sum() for i, j in edges])
    nan = np.full(len(edges), np.nan)
    settings = SplittingSettings(min_joint=3, draws=4, seed=seed)
    found = classify(
        Edges(parent, child, nan, nan, joint, nan, nan, nan, nan, 14), tokens_of(a, b), settings
    )
    assert found.parent_class.tolist() == by_hand(edges, a, b, settings)
    assert found.child_class.tolist() == children_by_hand(edges, a, b, settings)
    moved = [np.empty_like(b) for _ in range(4)]
    for draw, table in enumerate(moved):
        table[tokens_of(a, b).moved(seed, draw)] = b
    for i in range(8):
        own, children = a[:, i], [j for p, j in edges if p == i]
        null = [(own & table[:, children].any(axis=1)).sum() / max(own.sum(), 1) for table in moved]
        if own.any():
            assert found.coverage_null[i] == pytest.approx(np.mean(null))
        covered = (own & b[:, children].any(axis=1)).sum() if children else 0
        if own.any():
            assert found.coverage[i] == pytest.approx(covered / own.sum())
    assert found.main.sum() == len(set(parent.tolist()))


# ---------------------------------------------------------------- known truth


@pytest.mark.parametrize("seed", range(3))
def test_edges_of_a_known_tree_are_found(seed):
    tree = known_tree(seed, miss=0.1, noise=0.3)
    found = hierarchy(tree.vectors, tree.tokens)
    precision, recall = scores(edges_of(found), tree.edges)
    assert precision >= 0.9
    assert recall >= 0.9
    # Either measure alone assigns a parent to every child, so also to new children.
    x, y = (unit_rows(v, dtype=np.float32) for v in tree.vectors)
    a, b = tree.active_narrow.astype(float), tree.active_wide.astype(float)
    joint = a.T @ b
    jaccard = joint / (a.sum(axis=0)[:, None] + b.sum(axis=0) - joint)
    for alone in (x @ y.T, jaccard):
        best = [(int(i), j) for j, i in enumerate(alone.argmax(axis=0))]
        assert scores(best, tree.edges)[0] < 0.8
    roots = found.parent_class[:20]
    assert np.mean(np.isin(roots, ("split", "partial"))) == 1
    assert np.mean(roots == "split") >= 0.9
    assert np.mean(found.parent_class[20:47] == "same") >= 0.9
    assert np.mean(found.parent_class[47:] == "lost") >= 0.9


def test_equal_width_seeds_give_no_split():
    rng = np.random.default_rng(0)
    tree = known_tree(0)
    active, vectors = tree.active_wide, tree.wide

    def seen():
        error = rng.standard_normal(vectors.shape)
        error *= 0.3 / np.linalg.norm(error, axis=1, keepdims=True)
        return active & (rng.random(active.shape) >= 0.05), vectors + error

    (a, x), (b, y) = seen(), seen()
    order = rng.permutation(len(vectors))
    found = hierarchy((x, y[order]), tokens_of(a, b[:, order]))
    assert np.mean(found.parent_class == "same") >= 0.95
    assert np.mean(np.isin(found.parent_class, ("split", "absorbed"))) <= 0.02
    assert np.mean(found.child_class == "same") >= 0.95


@pytest.mark.parametrize("rest", [0.0, 0.9])
def test_absorbed_parent_is_found_and_a_nested_child_is_not_absorbing(rest):
    """Children of parent 0 replace the main child; with ``rest``, it remains active on most of their tokens."""
    rng = np.random.default_rng(1)
    parent = rng.random((6000, 1)) < 0.3
    part = parent & (rng.random((6000, 1)) < 0.2)
    general = parent & (~part | (rng.random((6000, 1)) < rest))
    other = rng.random((6000, 30)) < 0.1
    a = np.hstack([parent, other])
    b = np.hstack([general, part, other])
    direction = rng.standard_normal((32, 64))
    x = direction[np.r_[0, 2:32]]
    y = np.vstack([direction[0], direction[0] + direction[1], direction[2:]])
    found = hierarchy((x, y), tokens_of(a, b))
    assert {(0, 0), (0, 1)} <= set(edges_of(found))
    if rest:
        assert found.parent_class[0] == "same"
        assert found.child_class[1] == "partial"
    else:
        assert found.parent_class[0] == "absorbed"
        assert found.child_class[1] == "absorbing"
        assert found.absorbed[0] == pytest.approx(part.sum() / parent.sum())
    assert found.child_class[0] == "same"


@pytest.mark.parametrize("bursts", [False, True])
def test_unrelated_saes_have_no_edges(bursts):
    with_edges, low_cosine, low_joint = 0, [], []
    for seed in range(60):
        vectors, tokens = unrelated(seed, bursts=bursts)
        settings = SplittingSettings(seed=seed, inside=0.0, min_joint=1, candidates=1)
        with_edges += len(find_edges(vectors, tokens, settings)) > 0
        x, y = (unit_rows(v, dtype=np.float32) for v in vectors)
        has_x, has_y = x.any(axis=1), y.any(axis=1)
        pairs = nearest_parents(x, y, 1, parents=has_x, children=has_y)
        p, _ = direction_p(
            pairs, x, y, parents=has_x, children=has_y, count=tokens.wide.count, draws=20, seed=seed
        )
        low_cosine.append(np.mean(p <= 0.05))
        low_joint.append(
            np.mean(joint_p(pairs.parent, pairs.child, tokens, draws=20, seed=seed)[2] <= 0.05)
        )
    # Each is 0.05 or less in expectation, with a standard error of 0.005 or so over 3,600 children.
    assert np.mean(low_cosine) <= 0.065
    assert np.mean(low_joint) <= 0.065
    assert with_edges <= 3  # an error of both tests at once; 3 is 0.05 of the draws


def test_dependent_directions_alone_or_tokens_alone_are_no_edge():
    tree = known_tree(2, tokens=5000)
    rng = np.random.default_rng(0)
    shuffled = tokens_of(tree.active_narrow, tree.active_wide[rng.permutation(5000)])
    assert len(find_edges(tree.vectors, shuffled, SplittingSettings())) <= 2
    turned = tree.wide @ np.linalg.qr(rng.standard_normal((64, 64)))[0]
    assert len(find_edges((tree.narrow, turned), tree.tokens, SplittingSettings())) <= 2


# ---------------------------------------------------------------- degenerate input


@pytest.mark.parametrize(("tokens", "features"), [(0, 3), (1, 3), (50, 1), (2, 2)])
def test_few_tokens_or_features(tokens, features):
    rng = np.random.default_rng(0)
    a, b = (np.ones((tokens, n), bool) for n in (features, features + 1))
    vectors = rng.standard_normal((features, 4)), rng.standard_normal((features + 1, 4))
    found = hierarchy(vectors, tokens_of(a, b))
    # If all tokens are active, no count exceeds that of shifted documents.
    assert len(found.edges) == 0
    assert set(found.parent_class.tolist()) == {"lost" if tokens >= 10 else "untested"}
    assert set(found.child_class.tolist()) == {"new" if tokens >= 10 else "untested"}


def test_dead_features_and_rows_without_direction_have_no_edge():
    tree = known_tree(0, tokens=3000)
    a, vectors = tree.active_narrow.copy(), tree.wide.copy()
    a[:, 0] = False
    vectors[:5] = 0
    found = hierarchy((tree.narrow, vectors), tokens_of(a, tree.active_wide))
    assert found.parent_class[0] == "untested"
    assert np.isnan(found.coverage[0])
    assert not {j for _, j in edges_of(found)} & set(range(5))
    assert set(found.child_class[:5].tolist()) == {"new"}


def test_duplicated_rows_of_the_wide_sae_are_all_children():
    tree = known_tree(0, tokens=5000)
    twice = np.vstack([tree.wide, tree.wide])
    found = hierarchy(
        (tree.narrow, twice), tokens_of(tree.active_narrow, np.hstack([tree.active_wide] * 2))
    )
    once = {(i, j % len(tree.wide)) for i, j in edges_of(found)}
    assert len(edges_of(found)) == 2 * len(once)
    assert min(scores(once, tree.edges)) >= 0.9


def test_documents_of_one_token_cannot_be_shifted():
    tree = known_tree(0, tokens=2000)
    tokens = tokens_of(tree.active_narrow, tree.active_wide, length=1)
    np.testing.assert_array_equal(tokens.moved(0, 0), np.arange(2000))
    assert len(hierarchy(tree.vectors, tokens).edges) == 0


def test_columns_list_the_tokens_of_each_feature():
    active = np.random.default_rng(0).random((40, 7)) < 0.3
    columns = Columns.of(rows_of(active))
    for i in range(7):
        tokens = columns.token[columns.bounds[i] : columns.bounds[i + 1]]
        assert tokens.tolist() == np.flatnonzero(active[:, i]).tolist()


@pytest.mark.parametrize(("children", "q"), [(30, 0.05), (400, 0.01), (2000, 0.001)])
def test_draws_needed_let_few_edges_be_significant(children, q):
    pairs, few = 3 * children, max(10, children // 100)
    needed = draws_needed(pairs, children, q=q)
    for draws, significant in ((needed, True), (needed - 1, False)):
        lowest = 1 / (1 + draws * children)
        found = false_discovery_control([lowest] * few + [1.0] * (pairs - few))
        assert (found[0] <= q * (1 + 1e-9)) == significant
    assert draws_needed(0, 0, q=q) == 0
