"""The study of communities: node statistics and communities of an SAE's co-activation graph."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.communities.detection import distinguishing_tokens, inner_edges, shape
from analysis.communities.leiden import Partition, partition
from analysis.communities.modularity_null import modularity_null
from analysis.communities.partner_diversity import (
    DiversityTest,
    PartnerCounts,
    conclusion_of,
    diversity_test,
    null_diversity,
    partner_diversity,
    partners_among,
)
from analysis.communities.settings import CommunitySettings
from analysis.communities.stability import Stability, stability
from analysis.graph.coactivation_graph import CoactivationGraph, graph_of_documents, read_graph
from analysis.graph.draw_cost import TokenSample
from analysis.graph.node_statistics import NodeStatistics, node_statistics
from analysis.graph.null_comparison import SMALL, NullSummary
from atlas.disk.parts import Part
from atlas.graphs import edge_ends
from atlas.progress import SILENT, Progress
from atlas.schema import arrow_schema
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Study, Task, TaskContext, selected_saes
from ingest.codes.topk_membership import Membership, edges

__all__ = ["CommunityStudy", "graph_features", "verdict_of"]

#: Kinds of parts that the study reads.
_READS = ("sae", "statistics", "tokens", "coactivation")

#: Draws of null partners in a forecast.
_SAMPLE_DRAWS = 2

_SOME = 3  # smallest size of a community that is more than a pair


@dataclass(frozen=True)
class CommunityStudy(Study):
    """Compute node statistics and communities of SAEs' graphs.

    The results are properties of Feature, nodes Community and edges IN_COMMUNITY. Modularity is
    compared with random graphs of the same degrees. Without stored codes, the stability over halves of the documents and the expected number of
    partners are null.

    Parameters
    ----------
    settings
        Settings of the computation.
    """

    kind: ClassVar[str] = "graph"
    command: ClassVar[str] = "communities"
    version: ClassVar[int] = 6
    tables: ClassVar[Mapping[str, str]] = {
        "summary": "sizes, modularity and agreements",
        "partners_by_frequency": "different partners of features by frequency",
        "partners_off_line": "features with more or fewer partners than expected",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "ami_halves": "Agreement of halves (AMI)",
        "modularity": "Modularity",
    }
    floor_sentence: ClassVar[str] = (
        "agreement of halves (AMI) {ami_halves:.3f}, modularity {modularity:.3f}"
    )
    codes_removable: ClassVar[bool] = True

    settings: CommunitySettings

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        names = selected_saes(at, saes or None, _READS[1:], what="A graph")
        return [
            Task(
                name,
                (name,),
                self.settings,
                made_from=tuple(f"{kind}/{name}" for kind in _READS),
                recorded={"codes": f"codes/{name}" in at.sound.parts},
            )
            for name in names
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from its own graph and null graphs over few tokens."""
        how, folder, sae = task.settings, at.folder, task.name
        graphs: list[CoactivationGraph] = []
        seconds = timed(
            lambda: graphs.append(read_graph(folder, sae, min_count=how.min_count, codes=False))
        )
        (of,) = graphs
        weights = of.edge_weights(how.weight)
        seconds += timed(
            lambda: node_statistics(of.graph, weights=of.weight, seed=how.seed, sources=how.sources)
        )
        leiden = timed(lambda: partition(of.graph, weights=weights, seed=how.seed))
        seconds += (1 + how.runs) * leiden
        if len(of.pairs):
            seconds += how.draws * timed(
                lambda: modularity_null(of.graph, weights, 0.0, draws=1, seed=how.seed)
            )
        if not task.recorded["codes"]:
            return Cost(seconds, of.pairs.nbytes)
        sample = TokenSample(folder, sae, tokens=of.tokens, min_count=of.min_count)
        for within in (False, True):
            drawn = sample.draw(within_documents=within, measure=lambda g: partition(g, seed=0))
            # A split has the graphs of both halves, and of both together.
            seconds += how.splits * (drawn.swap * 2 + drawn.graph * 3)
            self._partners(sample.small, sample.min_count, within=within)  # loads compiled loops
            some = timed(
                lambda: self._partners(sample.sample, sample.min_count, within=within)  # noqa: B023 - called at once
            )
            seconds += how.draws * some * sample.scale / _SAMPLE_DRAWS
        graph_of_documents(folder, sae, documents=sample.documents[:1])
        halves = timed(lambda: graph_of_documents(folder, sae, documents=sample.documents))
        seconds += how.splits * (halves * sample.scale + 2 * leiden)
        return Cost(seconds + sample.reading, sample.bytes + of.pairs.nbytes)

    @staticmethod
    def _partners(sample: Membership, min_count: int, *, within: bool) -> PartnerCounts:
        """Draw partners of features over the tokens of a sample."""
        return null_diversity(
            sample,
            min_count=min_count,
            within_documents=within,
            draws=_SAMPLE_DRAWS,
            seed=0,
            progress=SILENT,
            title="",
        )

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute the node statistics and communities of one SAE."""
        if not task.recorded["codes"]:
            at.progress.report(
                f"The codes of {task.name} are not stored, so stability over halves of the documents and "
                "the expected number of partners are not computed; `atlas ingest --keep-codes --replace` "
                "stores them."
            )
        return Found(_Communities.compute(task, at).tables())

    def result(self, part: Part) -> Result:
        """Return the summary, with the communities in ``listed`` and two tables of the partner test."""
        (row,) = part.table("summary").to_pylist()
        bins = part.table("partners_by_frequency").to_pylist()
        if row["partners_conclusion"] is not None:  # parts of earlier versions have other sentences
            row["partners_conclusion"] = conclusion_of(
                (row["partners_rho"], row["partners_low"], row["partners_high"]),
                (row["partners_null_low"], row["partners_null_high"]),
                (row["partners_documents_low"], row["partners_documents_high"]),
                bins=bins,
            )
        summary = {
            **row,
            "partners_bins": bins,
            "partners_off_line": part.table("partners_off_line").to_pylist(),
            "listed": part.table("Community").to_pylist(),
        }
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict_of(summary),
            tables=(part.manifest.tables, part.table),
        )


def graph_features(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: CommunitySettings = CommunitySettings(),  # noqa: B008 - frozen
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Compute node statistics and communities of SAEs' graphs; see ``CommunityStudy``.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Settings of the computation.
    replace
        Recompute results that are stored with these settings.
    workers, ray
        See ``atlas.studies.runner.run_study``.
    progress
        Progress reporter.

    Returns
    -------
    A result for each SAE: the communities (``listed``), their agreement over Leiden seeds and
    halves of the documents with nulls, and the test of partners against frequency
    (``partners_bins`` and ``partners_off_line``).

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If an SAE has no edges, statistics or tokens.
    BrokenPart
        If a part or the codes have changed since they were written.

    Examples
    --------
    >>> from analysis import CommunitySettings, graph_features
    >>> settings = CommunitySettings(runs=1, splits=1, draws=2)
    >>> (result,) = graph_features("demo.atlas", ["tiny-a-l1-s0"], settings=settings)
    >>> 0 < result["modularity"] < 1
    True
    """
    study = CommunityStudy(settings)
    return run_study(
        study, atlas, saes, replace=replace, workers=workers, ray=ray, progress=progress
    )


#: Communities that do not exceed their nulls and are named in a verdict.
_NAMED = 5

#: Weights of edges in the words of a verdict.
_WEIGHTED = {
    "total": "weighted by tokens times mean cosine, which counts frequent pairs more",
    "weight": "weighted by mean cosine, which counts similar activations more",
    "count": "weighted by tokens, which counts frequent pairs more",
    "none": "without weights",
}


def verdict_of(row: dict[str, Any]) -> list[str]:
    """State whether the communities recur, the modularity of the graph, and the partner test.

    Parameters
    ----------
    row
        The summary of a result, with the rows of its communities in ``listed``.
    """
    if not row["communities"]:
        return [f"{row['sae']}: the graph has no edges, so it has no communities."]
    # A terminal prints the first three sentences, and the first of each of several SAEs: it is the
    # answer, the values of floors follow it, and the nulls follow all answers.
    preserved = _PRESERVED if row["ami_null"] is not None or row["partners_conclusion"] else None
    verdict = [
        f"{row['sae']}: {_recurring(row)}",
        _overlapping(row["listed"]),
        row["partners_conclusion"],
        preserved,
        _modularity(row),
    ]
    return [text for text in verdict if text]


def _overlaps(
    listed: Sequence[Mapping[str, Any]], *, null: str
) -> tuple[list[int], NDArray[np.float64]]:
    """Return the numbers of the communities with a null, and their overlaps: with halves, and in the null."""
    names = ("stability_halves", null)
    known = [one for one in listed if None not in [one.get(name) for name in names]]
    values = np.array([[one[name] for name in names] for one in known]).reshape(-1, 2)
    return [one["number"] for one in known], values


def _exceeding(listed: Sequence[Mapping[str, Any]]) -> str:
    """Count the single communities that exceed all null graphs, and name the others."""
    numbers, values = _overlaps(listed, null="stability_null_high")
    if not numbers:  # a part of an earlier version, or no halves
        return ""
    exceeds = values[:, 0] > values[:, 1]
    others = [number for number, more in zip(numbers, exceeds, strict=True) if not more]
    counted = (
        f"{int(exceeds.sum()):,} of {len(numbers):,} single communities exceed all null graphs"
    )
    if not others or len(others) == len(numbers):
        return counted
    named = [str(number) for number in others[:_NAMED]]
    last = f"{len(others) - _NAMED:,} more" if len(others) > _NAMED else named.pop()
    listed_others = f"{', '.join(named)} and {last}" if named else last
    return f"{counted}, and not number{'s' if len(others) > 1 else ''} {listed_others}"


def _overlapping(listed: Sequence[Mapping[str, Any]]) -> str | None:
    """State how much communities overlap with those of halves, compared with those of null graphs."""
    numbers, values = _overlaps(listed, null="stability_null")
    if not numbers:
        return None
    own, null = values.mean(axis=0)
    closest = int(np.argmin(values[:, 0] - values[:, 1]))
    least, its_null = values[closest]
    return (
        f"Single communities have a mean Jaccard index of {own:.2f} with those of the halves, and of {null:.2f} with "
        f"one of similar size in a bipartite null graph; the closest to this null, number {numbers[closest]}, has "
        f"{least:.2f} ({its_null:.2f})."
    )


#: How modularity compares with that of random graphs, by the summary ``modularity_is``.
_COMPARED = {
    "above": "It is higher than in all",
    "within": "It is within the range of",
    "below": "It is lower than in all",
    "equal": "It is the same in all",
}


def _modularity(row: dict[str, Any]) -> str:
    """Compare modularity with that of random graphs of the same degrees."""
    limits = "range" if row["modularity_draws"] < SMALL else "95% range"
    same = "" if row["weight"] == "none" else ", with the same weights in random order"
    other = "it" if row["weight"] == "none" else "modularity without weights, another number,"
    return (
        f"Modularity is {row['modularity']:.3f} with edges {_WEIGHTED[row['weight']]}. "
        f"{_COMPARED[row['modularity_is']]} {row['modularity_draws']} random graphs of the same "
        f"degrees{same}: mean {row['modularity_null']:.3f} ({limits} {row['modularity_null_low']:.3f} "
        f"to {row['modularity_null_high']:.3f}). `atlas graph-stats` compares {other} with other nulls."
    )


def _recurring(row: dict[str, Any]) -> str:
    """Compare the agreement of halves with its nulls, or state that of Leiden runs."""
    number = f"{row['communities']:,} communities"
    if row["ami_halves"] is None or row["ami_null"] is None:
        runs = row["ami_runs"]
        shown = (
            ""
            if runs is None
            else f" Those of other Leiden seeds agree with them at {runs:.3f} (AMI)."
        )
        return f"{number}, not compared with null graphs.{shown}"
    highest = max(row[n] for n in ("ami_null_high", "ami_documents_high") if row[n] is not None)
    splits, documents = row["ami_halves_counted"], row["ami_documents"]
    within = "" if documents is None else f"; {documents:.3f} within documents"
    values = (
        f"(AMI {row['ami_halves']:.3f}) than halves of null graphs ({row['ami_null']:.3f}{within})"
    )
    exceeding = _exceeding(row["listed"])
    single = f"; {exceeding}" if exceeding else ""
    if row["ami_halves_low"] > highest:
        of = "the only split" if splits == 1 else f"each of {splits} splits"
        return (
            f"{number}, which recur: in {of}, halves of the documents agree more {values}{single}."
        )
    of = "the only split" if splits == 1 else f"at least one of {splits} splits"
    return f"{number}, which do not recur: in {of}, halves of the documents agree no more {values}{single}."


#: What the nulls of agreement and of partners preserve.
_PRESERVED = (
    "The bipartite null preserves the number of tokens of each feature and the number of features on each "
    "token; the null within documents also preserves the document of each activation."
)


@dataclass(frozen=True, eq=False)
class _Communities:
    """The contents of a part: node statistics, communities and their tests."""

    of: CoactivationGraph
    settings: CommunitySettings
    nodes: NodeStatistics
    partition: Partition
    modularity: NullSummary
    weights: NDArray[np.float64]
    stability: Stability
    diversity: NDArray[np.float64]
    null: PartnerCounts | None
    test: DiversityTest | None
    tokens: list[list[str]]

    @classmethod
    def compute(cls, task: Task, at: TaskContext) -> "_Communities":
        sae, settings, folder, progress = task.name, task.settings, at.folder, at.progress
        codes = task.recorded["codes"]
        of = read_graph(folder, sae, min_count=settings.min_count, codes=codes)
        nodes = node_statistics(
            of.graph, weights=of.weight, seed=settings.seed, sources=settings.sources
        )
        weights = of.edge_weights(settings.weight)
        found = partition(of.graph, weights=weights, seed=settings.seed)
        random = modularity_null(
            of.graph,
            weights,
            found.modularity,
            draws=settings.draws,
            seed=settings.seed,
            progress=progress,
            title=f"Modularity of random graphs with the degrees of {sae}",
        )
        stable = stability(found.labels, of, settings=settings, folder=folder, progress=progress)
        null = test = None
        if of.membership is not None:
            null, within = (
                null_diversity(
                    of.membership,
                    min_count=of.min_count,
                    within_documents=inside,
                    draws=settings.draws,
                    seed=settings.seed,
                    progress=progress,
                    title=f"Partners in null graphs of {sae}"
                    + (", within documents" if inside else ""),
                )
                for inside in (False, True)
            )
            among = partners_among(*edges(of.membership), nodes=of.features)
            test = diversity_test(
                of.active, nodes.degree, among, null=null, within=within, seed=settings.seed
            )
        diversity = partner_diversity(of.pairs, of.count, nodes=of.features)
        named = _named(at.sound.parts[f"tokens/{sae}"], found.labels, most=settings.tokens)
        return cls(
            of, settings, nodes, found, random, weights, stable, diversity, null, test, named
        )

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield the tables of the part."""
        yield "Feature", self._features()
        yield "Community", self._communities()
        yield "IN_COMMUNITY", self._members()
        yield "summary", pa.Table.from_pylist([self._summary()])
        for name, rows in (
            ("partners_by_frequency", self.test.bins if self.test else []),
            ("partners_off_line", self.test.off_line if self.test else []),
        ):
            yield name, pa.Table.from_pylist([{"sae": self.of.sae, **row} for row in rows])

    def _features(self) -> pa.Table:
        n = self.nodes
        labels = self.partition.labels
        columns = {
            "id": _ids(self.of.sae, np.arange(self.of.features)),
            **{
                name: getattr(n, name)
                for name in (
                    "degree",
                    "strength",
                    "clustering",
                    "pagerank",
                    "core",
                    "betweenness",
                    "component",
                )
            },
            "partners_expected": None if self.null is None else self.null.expected,
            "partner_diversity": self.diversity,
            "community": pa.array(labels, mask=labels < 0),
        }
        return _table("Feature", columns, rows=self.of.features)

    def _communities(self) -> pa.Table:
        measured = shape(self.partition.labels, self.of.pairs, self.weights)
        numbers = np.arange(len(self.partition))
        columns = {
            "id": _ids(self.of.sae, numbers),
            "sae": [self.of.sae] * len(numbers),
            "number": numbers,
            **vars(measured),
            "tokens": pa.array(self.tokens, pa.list_(pa.string())),
            "weighted_by": [self.settings.weight] * len(numbers),
            "min_count": np.full(len(numbers), self.of.min_count),
            "stability": self.stability.runs,
            "stability_halves": self.stability.halves,
            "stability_null": self.stability.null,
            "stability_null_high": self.stability.null_high,
        }
        return _table("Community", columns, rows=len(numbers))

    def _members(self) -> pa.Table:
        labels = self.partition.labels
        at = np.flatnonzero(labels >= 0)
        degree, share = inner_edges(labels, self.of.pairs, self.weights)
        columns = {
            "source": _ids(self.of.sae, at),
            "target": _ids(self.of.sae, labels[at]),
            "inner_share": share[at],
            "inner_degree": degree[at],
        }
        return _table("IN_COMMUNITY", columns, rows=len(at))

    def _summary(self) -> dict[str, Any]:
        sizes = self.partition.sizes
        live = int(np.sum(self.of.active > 0))
        summary = {
            "sae": self.of.sae,
            "features": self.of.features,
            "live": live,
            "linked": int(np.sum(self.nodes.degree > 0)),
            "edges": len(self.of.pairs),
            "min_count": self.of.min_count,
            "weight": self.settings.weight,
            "communities": len(sizes),
            "largest": int(sizes.max(initial=0)),
            "in_communities": float(sizes[sizes >= _SOME].sum() / live) if live else None,
            "modularity": self.partition.modularity,
            "modularity_null": self.modularity.mean,
            "modularity_null_low": self.modularity.low,
            "modularity_null_high": self.modularity.high,
            "modularity_draws": self.modularity.draws,
            "modularity_is": self.modularity.where,
            "betweenness_sources": self.nodes.sources,
            "betweenness_exact": self.nodes.exact,
            **self.stability.summary(),
        }
        names = [
            field.name for field in fields(DiversityTest) if field.name not in ("bins", "off_line")
        ]
        return summary | {f"partners_{name}": getattr(self.test, name, None) for name in names}


def _ids(sae: str, numbers: NDArray[np.int64]) -> list[str]:
    return [f"{sae}/{n}" for n in numbers.tolist()]


def _table(name: str, columns: dict[str, Any], *, rows: int) -> pa.Table:
    """Return a table of the schema; NaN becomes null, and None a column of nulls."""
    wanted = arrow_schema(name, "graph")
    arrays = []
    for field in wanted:
        values = columns[field.name]
        if values is None:
            arrays.append(pa.nulls(rows, field.type))
        elif isinstance(values, pa.Array):
            arrays.append(values.cast(field.type))
        else:
            arrays.append(pa.array(values, field.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=wanted)


def _named(part: Part, labels: NDArray[np.int64], *, most: int) -> list[list[str]]:
    """Return the texts of the characteristic tokens of each community."""
    fires, words = part.table("FIRES_ON"), part.table("Token")
    text = dict(zip(words["id"].to_pylist(), words["text"].to_pylist(), strict=True))
    coded = fires["target"].combine_chunks().dictionary_encode()
    numbers = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    ids = coded.dictionary.to_pylist()
    features = edge_ends(fires.select(["source", "source"]).rename_columns(["source", "target"]))
    named = distinguishing_tokens(
        labels, features[:, 0], numbers, share=fires["share"].to_numpy(), most=most
    )
    return [[text[ids[token]] for token in tokens] for tokens in named]
