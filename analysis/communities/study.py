"""Node statistics and communities of an SAE's graph, kept in the atlas as a part of kind ``graph``."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.communities.detection import edge_weights, inner_edges, set_apart, shape
from analysis.communities.leiden import Partition, partition
from analysis.communities.partner_diversity import (
    DiversityTest,
    Partners,
    by_chance,
    diversity_test,
    partner_diversity,
    partners_among,
)
from analysis.communities.settings import CommunitySettings
from analysis.communities.stability import Stability, stability
from analysis.graph.node_statistics import NodeStatistics, node_statistics
from atlas.errors import Missing, UnknownName
from atlas.folder import Folder, Sound
from atlas.graphs import edge_ends
from atlas.parts import Manifest, Part, write_part
from atlas.progress import SILENT, Progress
from atlas.schema import arrow_schema
from ingest.codes.topk_membership import Membership, edges, open_membership, rule_of

if TYPE_CHECKING:
    import igraph

__all__ = ["ANCESTORS", "VERSION", "graph_features"]

#: Raised when the same parts would give other tables.
VERSION = 3

#: The parts of an SAE that are read, by kind.
ANCESTORS = ("sae", "statistics", "tokens", "coactivation")

_SOME = 3  # features of a community that is more than a pair


def graph_features(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: CommunitySettings = CommunitySettings(),  # noqa: B008 - frozen
    replace: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Compute node statistics and communities of SAEs' graphs, and keep them in the atlas.

    They become properties of Feature, the nodes Community and the edges IN_COMMUNITY. Without
    kept codes there is no half of the text to hold them against and no partners by
    chance: those are null then.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of its SAEs; all that have edges, if None.
    settings
        How it is done.
    replace
        Compute again what is there already with these settings.
    progress
        Told how far the work is.

    Returns
    -------
    list of dict
        A row for each SAE: what the communities are, how far they agree over Leiden
        seeds and over halves of the documents beside their nulls, and the test of the guess
        about rare features, whose rows ``partners_bins`` and ``partners_off_line`` hold. ``listed`` holds the communities.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If an SAE has no edges, statistics or tokens.
    BrokenPart
        If a part or the codes have changed since they were written.
    """
    folder = Folder.open(Path(atlas))
    with folder.writing():
        sound = folder.sound()
        names = list(dict.fromkeys(saes or ())) or _with_edges(sound, progress)
        for name in names:
            _check(folder, sound, name)
        return [_one(folder, sound, name, settings, replace, progress) for name in names]


def _with_edges(sound: Sound, progress: Progress) -> list[str]:
    found = []
    for name in sound.saes:
        if all(f"{kind}/{name}" in sound.parts for kind in ANCESTORS):
            found.append(name)
        else:
            progress.report(
                f"{name} is passed over: it has no co-activation edges, or no statistics."
            )
    return found


def _check(folder: Folder, sound: Sound, sae: str) -> None:
    if sae not in sound.saes:
        raise UnknownName("SAE", sae, known=sound.saes, hint="`atlas list` shows them.")
    lacking = [kind for kind in ANCESTORS if f"{kind}/{sae}" not in sound.parts]
    if lacking:
        raise Missing(
            f"{folder.path} has no {' and no '.join(lacking)} of {sae}; ingest it again with --replace."
        )


def _one(
    folder: Folder,
    sound: Sound,
    sae: str,
    settings: CommunitySettings,
    replace: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Return the row of an SAE; compute and keep it first, unless that was done already."""
    codes = f"codes/{sae}" in sound.parts
    part = sound.parts.get(f"graph/{sae}")
    if part is None or replace or not _same(part, settings, codes=codes):
        if not codes:
            progress.report(
                f"The codes of {sae} were not kept, so stability over halves of the text and partners by "
                "chance are left out; `atlas ingest --keep-codes --replace` keeps them."
            )
        manifest = Manifest(
            kind="graph",
            name=sae,
            version=VERSION,
            saes=(sae,),
            settings=asdict(settings) | {"codes": codes},
            seed=settings.seed,
            made_from={
                key: sound.parts[key].manifest.hash for key in (f"{k}/{sae}" for k in ANCESTORS)
            },
        )
        found = _Found.compute(
            folder, sound, sae, settings=settings, codes=codes, progress=progress
        )
        part = write_part(folder.part("graph", sae), manifest, found.tables())
    else:
        progress.report(f"The graph of {sae} is there already, with the same settings.")
    return _row(part)


def _same(part: Part, settings: CommunitySettings, *, codes: bool) -> bool:
    """Whether computing again would tell no more: codes that are gone by now take nothing away."""
    said = dict(part.manifest.settings)
    return (said.pop("codes") or not codes) and (part.manifest.version, said) == (
        VERSION,
        asdict(settings),
    )


def _row(part: Part) -> dict[str, Any]:
    """Return what a part tells of its SAE, from its tables."""
    (row,) = part.table("summary").to_pylist()
    return {
        **row,
        "partners_bins": part.table("partners_by_frequency").to_pylist(),
        "partners_off_line": part.table("partners_off_line").to_pylist(),
        "listed": part.table("Community").to_pylist(),
    }


@dataclass(frozen=True, eq=False)
class _Graph:
    """The graph that is looked at: its edges with what they weigh, and the codes behind it."""

    sae: str
    pairs: NDArray[np.int64]
    count: NDArray[np.int64]
    weight: NDArray[np.float64]
    active: NDArray[np.int64]
    min_count: int
    membership: Membership | None

    @classmethod
    def read(
        cls, folder: Folder, sound: Sound, sae: str, *, min_count: int, codes: bool
    ) -> "_Graph":
        table = sound.parts[f"coactivation/{sae}"].table("CO_ACTIVATES")
        min_count = max(min_count, rule_of(folder, sae).min_count)
        count = table["count"].to_numpy()
        kept = count >= min_count
        statistics = sound.parts[f"statistics/{sae}"].table("Feature")
        return cls(
            sae, edge_ends(table)[kept], count[kept], table["weight"].to_numpy()[kept],
            statistics["active_tokens"].to_numpy(), min_count,
            open_membership(folder, sae) if codes else None,
        )  # fmt: skip

    @property
    def features(self) -> int:
        return len(self.active)

    @cached_property
    def graph(self) -> "igraph.Graph":
        import igraph

        return igraph.Graph(n=self.features, edges=self.pairs)


@dataclass(frozen=True, eq=False)
class _Found:
    """All that a part holds of an SAE's graph."""

    of: _Graph
    settings: CommunitySettings
    nodes: NodeStatistics
    partition: Partition
    weights: NDArray[np.float64]
    stability: Stability
    diversity: NDArray[np.float64]
    chance: Partners | None
    test: DiversityTest | None
    tokens: list[list[str]]

    @classmethod
    def compute(
        cls,
        folder: Folder,
        sound: Sound,
        sae: str,
        *,
        settings: CommunitySettings,
        codes: bool,
        progress: Progress,
    ) -> "_Found":
        of = _Graph.read(folder, sound, sae, min_count=settings.min_count, codes=codes)
        nodes = node_statistics(
            of.graph, weights=of.weight, seed=settings.seed, sources=settings.sources
        )
        weights = edge_weights(settings.weight, of.count, of.weight)
        found = partition(of.graph, weights=weights, seed=settings.seed)
        stable = stability(
            found.labels, of.pairs, weights, settings=settings, min_count=of.min_count,
            folder=folder, sae=sae, membership=of.membership, progress=progress,
        )  # fmt: skip
        chance = test = None
        if of.membership is not None:
            chance, within = (
                by_chance(
                    of.membership, min_count=of.min_count, within_documents=inside,
                    draws=settings.draws, seed=settings.seed, progress=progress,
                    title=f"Partners by chance in {sae}" + (", within documents" if inside else ""),
                )
                for inside in (False, True)
            )  # fmt: skip
            among = partners_among(*edges(of.membership), nodes=of.features)
            test = diversity_test(
                of.active, nodes.degree, among, null=chance, within=within, seed=settings.seed
            )
        diversity = partner_diversity(of.pairs, of.count, nodes=of.features)
        named = _named(sound.parts[f"tokens/{sae}"], found.labels, most=settings.tokens)
        return cls(of, settings, nodes, found, weights, stable, diversity, chance, test, named)

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
            **{name: getattr(n, name) for name in (
                "degree", "strength", "clustering", "pagerank", "core", "betweenness", "component",
            )},
            "partners_expected": None if self.chance is None else self.chance.expected,
            "partner_diversity": self.diversity,
            "community": pa.array(labels, mask=labels < 0),
        }  # fmt: skip
        return _table("Feature", columns, rows=self.of.features)

    def _communities(self) -> pa.Table:
        lies = shape(self.partition.labels, self.of.pairs, self.weights)
        numbers = np.arange(len(self.partition))
        columns = {
            "id": _ids(self.of.sae, numbers),
            "sae": [self.of.sae] * len(numbers),
            "number": numbers,
            **vars(lies),
            "tokens": pa.array(self.tokens, pa.list_(pa.string())),
            "weighted_by": [self.settings.weight] * len(numbers),
            "min_count": np.full(len(numbers), self.of.min_count),
            "stability": self.stability.runs,
            "stability_halves": self.stability.halves,
            "stability_null": self.stability.null,
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
        said = {
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
            "betweenness_sources": self.nodes.sources,
            "betweenness_exact": self.nodes.exact,
            **self.stability.summary(),
        }
        names = [
            field.name for field in fields(DiversityTest) if field.name not in ("bins", "off_line")
        ]
        return said | {f"partners_{name}": getattr(self.test, name, None) for name in names}


def _ids(sae: str, numbers: NDArray[np.int64]) -> list[str]:
    return [f"{sae}/{n}" for n in numbers.tolist()]


def _table(name: str, columns: dict[str, Any], *, rows: int) -> pa.Table:
    """Return a table of the schema; NaN stands for no value, None for a column without any."""
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
    """Return the texts of the tokens that set each community apart."""
    fires, words = part.table("FIRES_ON"), part.table("Token")
    text = dict(zip(words["id"].to_pylist(), words["text"].to_pylist(), strict=True))
    coded = fires["target"].combine_chunks().dictionary_encode()
    numbers = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    ids = coded.dictionary.to_pylist()
    features = edge_ends(fires.select(["source", "source"]).rename_columns(["source", "target"]))
    named = set_apart(labels, features[:, 0], numbers, share=fires["share"].to_numpy(), most=most)
    return [[text[ids[token]] for token in tokens] for tokens in named]
