"""Matching with anchors at the size of a large SAE, compared with SciPy's FAQ at sizes it can do.

    python -m benchmarks.counterparts                    16,384 nodes, 800,000 edges
    python -m benchmarks.counterparts --nodes 4096 --edges 100000
    python -m benchmarks.counterparts --without-faq

Two copies of one graph, a share of whose edges lies elsewhere in each; as in the source, more
than half of the nodes have no edge, and they are not live. Each time is of one run.
"""

import argparse
import resource
import time

import numpy as np

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph_matching.evaluate import anchored, compare_with_faq
from analysis.graph_matching.ranks import rank
from analysis.graph_matching.seeded_matching import TOLERANCE
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.graph_matching.subject import MatchedGraphs, shuffled
from benchmarks.graphs import planted

FAQ_NODES = (100, 200, 400, 800)


def main() -> None:
    """Make the graphs, and time both methods."""
    args = arguments()
    subject = copies(args.nodes, args.edges, noise=args.noise, seed=args.seed)
    print(
        f"{args.nodes:,} nodes, {len(subject.a.live):,} live, {args.edges:,} edges, "
        f"{args.noise:.0%} of them elsewhere in either copy"
    )
    settings = GraphMatchingSettings()
    for share in (0.01, 0.1, 0.5):
        anchors = subject.truth[: round(share * len(subject.truth))]
        for name, alone in (("walks alone", True), (f"matched, {settings.rounds} rounds", False)):
            began = time.perf_counter()
            scores = anchored(subject, settings, anchors=anchors, alone=alone)
            took = time.perf_counter() - began
            candidates = np.setdiff1d(subject.b.live, anchors[:, 1])
            true = np.searchsorted(candidates, subject.truth[len(anchors) :, 1])
            found = rank(scores, true, tolerance=TOLERANCE).scores.mean(axis=0)
            print(
                f"{len(anchors):6,} anchors, {name:20} {took:8.1f} s  recall@1 {found[0]:.3f}, @10 {found[1]:.3f}"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory at most {peak:.1f} GiB")
    if args.without_faq:
        return
    for nodes in FAQ_NODES:
        began = time.perf_counter()
        both = compare_with_faq(
            subject, settings, share=0.1, rng=np.random.default_rng(args.seed), nodes=nodes
        )
        took = time.perf_counter() - began
        print(
            f"{nodes:6,} nodes, {both.anchors} anchors: FAQ and walks {took:8.1f} s  "
            f"recall@1 {both.faq:.3f} and {both.matching:.3f}"
        )


def copies(nodes: int, edges: int, *, noise: float, seed: int) -> MatchedGraphs:
    """Return two noisy copies of a graph with communities, hubs, and nodes without an edge."""
    rng = np.random.default_rng(seed)
    pairs = np.array(planted(nodes, edges, seed=seed).get_edgelist(), dtype=np.int64)
    weight = np.ceil(rng.pareto(1.0, len(pairs))).astype(np.int64)
    active = np.bincount(pairs.ravel(), minlength=nodes)
    linked = np.flatnonzero(active)
    graphs = []
    for _ in range(2):
        moved = pairs.copy()
        some = rng.random(len(pairs)) < noise
        moved[some] = np.sort(rng.choice(linked, (int(some.sum()), 2)), axis=1)
        moved, at = np.unique(moved, axis=0, return_index=True)
        inner = moved[:, 0] != moved[:, 1]
        live = np.where(np.bincount(moved.ravel(), minlength=nodes) > 0, active, 0)
        graph = CoactivationGraph(
            pairs=moved[inner], count=weight[at[inner]], active=live, tokens=1_000_000
        )
        graphs.append(graph.weighted("count"))
    both = np.flatnonzero((graphs[0].active > 0) & (graphs[1].active > 0))
    truth = rng.permutation(both)
    return shuffled(MatchedGraphs(graphs[0], graphs[1], np.column_stack([truth, truth])), seed=seed)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=16_384)
    parser.add_argument("--edges", type=int, default=800_000)
    parser.add_argument("--noise", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-faq", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
