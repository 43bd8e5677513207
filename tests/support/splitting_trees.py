"""Codes and decoder directions of two SAEs with a known tree of features, for tests of splitting."""

from dataclasses import dataclass

import numpy as np
import torch
from sae_lens.synthetic import (
    HierarchyConfig,
    LowRankCorrelationConfig,
    SyntheticModel,
    SyntheticModelConfig,
    ZipfianFiringProbabilityConfig,
)

from analysis.splitting.containment import ActiveTokens, Columns
from ingest.match.aligned_codes import CodeRows

LENGTH = 50  # tokens of a document


@dataclass(frozen=True, eq=False)
class Tree:
    """Two SAEs with the true edges between them."""

    narrow: np.ndarray
    wide: np.ndarray
    active_narrow: np.ndarray
    active_wide: np.ndarray
    edges: set[tuple[int, int]]

    @property
    def vectors(self):
        return self.narrow, self.wide

    @property
    def tokens(self):
        return tokens_of(self.active_narrow, self.active_wide)


def rows_of(active) -> CodeRows:
    """The codes of a table of active features, (tokens, features)."""
    row, feature = np.nonzero(active)
    indptr = np.searchsorted(row, np.arange(len(active) + 1)).astype(np.int64)
    values = np.ones(len(feature), dtype=np.float32)
    return CodeRows(indptr, feature.astype(np.uint32), values, active.shape[1])


def tokens_of(active_narrow, active_wide, *, length=LENGTH) -> ActiveTokens:
    return ActiveTokens(
        Columns.of(rows_of(active_narrow)),
        Columns.of(rows_of(active_wide)),
        np.arange(len(active_narrow), dtype=np.int64) // length,
    )


def known_tree(seed=0, *, tokens=20_000, miss=0.0, noise=0.0) -> Tree:
    """Two SAEs that read the features of a hierarchical model of sae-lens.

    The narrow SAE has the roots; the wide SAE has the children, with the sum of both directions, and
    the features without a tree that both share. Half of the remaining features are of the narrow SAE
    alone, half of the wide SAE alone. ``miss`` is the share of activations that each SAE misses, and
    ``noise`` the length of the error of each direction.
    """
    rng = np.random.default_rng(seed)
    model = SyntheticModel(
        SyntheticModelConfig(
            num_features=160,
            hidden_dim=64,
            bias=False,
            seed=seed,
            firing_probability=ZipfianFiringProbabilityConfig(
                exponent=0.5, max_prob=0.2, min_prob=0.02
            ),
            hierarchy=HierarchyConfig(
                total_root_nodes=20,
                branching_factor=3,
                max_depth=1,
                mutually_exclusive_portion=0.5,
                compensate_probabilities=True,
            ),
            correlation=LowRankCorrelationConfig(rank=8, correlation_scale=0.15),
        )
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        active = model.activation_generator.sample(tokens).numpy() > 0
        direction = model.feature_dict.feature_vectors.numpy()
    roots = [
        (r.feature_index, [c.feature_index for c in r.children]) for r in model.hierarchy.roots
    ]
    in_tree = {f for root, children in roots for f in (root, *children)}
    free = rng.permutation([f for f in range(len(direction)) if f not in in_tree])
    both, lost, new = np.array_split(free, 3)
    narrow = [*(root for root, _ in roots), *both, *lost]
    wide = [(child, root) for root, children in roots for child in children]
    edges = {(i, 3 * i + k) for i in range(len(roots)) for k in range(3)}
    edges |= {(len(roots) + i, len(wide) + i) for i in range(len(both))}
    sums = [direction[child] + direction[root] for child, root in wide]
    wide_direction = np.array([*sums, *direction[both], *direction[new]])
    wide_active = active[:, [*(child for child, _ in wide), *both, *new]]
    order = rng.permutation(wide_active.shape[1])  # so that an index carries no information
    new_index = np.argsort(order)

    def seen(table):
        return table & (rng.random(table.shape) >= miss)

    def erred(rows):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        error = rng.standard_normal(rows.shape)
        return rows + noise * error / np.linalg.norm(error, axis=1, keepdims=True)

    return Tree(
        erred(direction[narrow]),
        erred(wide_direction)[order],
        seen(active[:, narrow]),
        seen(wide_active)[:, order],
        {(i, int(new_index[j])) for i, j in edges},
    )


def scores(found, truth) -> tuple[float, float]:
    """Precision and recall of edges."""
    found = set(found)
    right = len(found & truth)
    return right / max(len(found), 1), right / len(truth)
