"""Similarity of the subspaces of concepts across SAEs, with three nulls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from analysis.concepts.subspaces.enrichment import (
    Counts,
    Enriched,
    Occurrences,
    count_blocks,
    enriched,
    occurrences,
)
from analysis.concepts.subspaces.settings import SubspaceSettings
from analysis.concepts.words.files import WordSet, list_names, read_words
from analysis.similarity.comparison import Row, Spaces, View, subset_rows, views
from analysis.similarity.study import SimilarityStudy, open_spaces
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext
from ingest.codes.store import count_rows, read_shard
from ingest.sae.autoencoder import Autoencoder
from ingest.statistics.discoveries import q_values
from ingest.text.corpus import Corpus
from ingest.torch_study import TorchStudy

__all__ = ["NULLS", "SubspaceStudy", "compare_concepts", "concept_rows", "verdict_of"]

#: The nulls, by prefix of their columns.
NULLS: dict[str, str] = {
    "": "shuffled pairing",
    "matched_": "random matched pairs",
    "other_": "pairs of other concepts",
}

_SIGNIFICANT = 0.05

#: Blocks of codes, and tokens of activations, that are read for the forecast.
_BLOCKS, _TOKENS = 2, 500

#: Denominator of the share of pairs that a concept has in the forecast.
_SHARE = 8

_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("concept", "space", "measure", "note")),
        *((name, pa.int64()) for name in ("pairs", "available", "n")),
        ("value", pa.float64()),
        *(
            (f"{null}{key}", pa.float64())
            for null in NULLS
            for key in ("null", "null_low", "null_high", "p")
        ),
    ]
)

_MEMBERS = pa.schema(
    [
        ("sae", pa.string()),
        ("concept", pa.string()),
        ("feature", pa.int64()),
        ("lift", pa.float64()),
        ("q", pa.float64()),
    ]
)


@dataclass(frozen=True)
class SubspaceStudy(TorchStudy):
    """Compare the subspaces of concepts, for one pair of SAEs at a time.

    Parameters
    ----------
    settings
        Thresholds of the enrichment, and draws of the nulls.
    words
        The labelled words; each label is a concept.
    opened
        SAEs that are already open, whose weights are not read again.
    """

    kind: ClassVar[str] = "concept_subspaces"
    command: ClassVar[str] = "subspaces"
    version: ClassVar[int] = 1
    part_names: ClassVar[str] = "`a+b`"
    tables: ClassVar[Mapping[str, str]] = {
        "concepts": "labelled tokens of each concept",
        "members": "features enriched on each concept",
        "rows": "similarity of the features of each concept, with nulls",
    }

    settings: SubspaceSettings
    words: tuple[WordSet, ...]
    opened: Sequence[Autoencoder] = ()

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """One pair is used if no SAE is named."""
        return 2

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each pair; all matched pairs of the atlas, if no SAE is named."""
        sets = {words.name: words.hash for words in self.words}
        return [
            Task(
                task.name,
                task.saes,
                self.settings,
                made_from=task.made_from,
                reads=task.reads,
                recorded={"words": sets},
            )
            for task in SimilarityStudy(self.settings.similarity).tasks(at, saes)
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one pair, from a few blocks of its codes and a few draws.

        Each concept is assumed to have an eighth of all matched pairs.
        """
        s = self.settings
        opened = open_spaces(task, at, tokens=_TOKENS, opened=self.opened)
        concepts = sum(len({x for i in words.items for x in i.labels}) for words in self.words)
        found = Occurrences(("",) * concepts, *np.zeros((3, 0), dtype=np.int64))
        side = opened.sides[0]
        blocks = list(islice((b for shard in side.shards for b in read_shard(shard)), _BLOCKS))
        some, tokens = sum(map(len, blocks)), sum(map(count_rows, side.shards))
        once = timed(lambda: count_blocks(blocks, found, d_sae=side.d_sae, seed=s.seed))
        seconds = 2 * once * tokens / max(some, 1)
        pairs = opened.spaces.directions.one_to_one
        for view in views(opened.spaces, pairs, s.similarity):
            if view.name in self._spaces and len(view) >= s.pairs:
                # The cosines of all pairs are computed once, and grow with the tokens.
                once = timed(lambda view=view: view.cosines)  # type: ignore[misc]
                scale = 1.0 if view.name == "decoder" else min(tokens, s.tokens) / _TOKENS
                few = view[np.arange(min(max(s.pairs, len(view) // _SHARE), s.subset_pairs))]
                few.similarities([])  # the first call compiles loops
                draw = timed(lambda few=few: few.similarities([]))  # type: ignore[misc]
                seconds += once * max(1.0, scale) + concepts * (3 * s.draws + 1) * draw
        return Cost(seconds, bytes=16 * concepts * side.d_sae + 200 * s.tokens)

    @property
    def _spaces(self) -> tuple[str, ...]:
        return ("decoder", "activations") if self.settings.activations else ("decoder",)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Find the features of each concept in both SAEs, and compare their matched pairs."""
        s = self.settings
        corpus = Corpus.open(at.folder.corpus_file)
        documents = (d for number in range(len(corpus)) for d in corpus.block(number))
        found = occurrences(documents, self.words)
        opened = open_spaces(task, at, tokens=s.tokens, opened=self.opened)
        members: list[list[Enriched]] = []
        counts: list[Counts] = []
        for side in opened.sides:
            with at.progress.stage(f"{task.title}: features of concepts in {side.name}"):
                blocks = (block for shard in side.shards for block in read_shard(shard))
                own = count_blocks(blocks, found, d_sae=side.d_sae, seed=s.seed)
            counts.append(own)
            members.append(enriched(own, lift=s.lift, q=s.q))
        names = found.concepts
        pairs_of = {
            name: (members[0][i].features, members[1][i].features) for i, name in enumerate(names)
        }
        steps = len(names) * len(self._spaces)
        with at.progress.stage(f"{task.title}: comparing", total=steps, unit="concepts") as stage:
            rows = list(concept_rows(opened.spaces, pairs_of, s, advance=stage.advance))
        table = [
            {"sae": side.name, "concept": name, "feature": int(f), "lift": float(x), "q": float(y)}
            for side, own in zip(opened.sides, members, strict=True)
            for name, one in zip(names, own, strict=True)
            for f, x, y in zip(one.features, one.lift, one.q, strict=True)
        ]
        words = [
            {"concept": name, "tokens": int(counts[0].labelled[:, i].sum())}
            for i, name in enumerate(names)
        ]
        return Found(
            [
                ("rows", pa.Table.from_pylist(rows, schema=_COLUMNS)),
                ("members", pa.Table.from_pylist(table, schema=_MEMBERS)),
                ("concepts", pa.Table.from_pylist(words)),
            ],
            sources={"alignment": opened.alignment},
        )

    def result(self, part: Part) -> Result:
        """Return the number of concepts that were compared, and those special under all nulls."""
        rows = part.table("rows").to_pylist()
        a, b = part.manifest.saes
        concepts = part.table("concepts")["concept"].to_pylist()
        compared = list(dict.fromkeys(r["concept"] for r in rows if r["measure"] is not None))
        summary: dict[str, Any] = {
            "a": a,
            "b": b,
            "concepts": len(concepts),
            "compared": len(compared),
            "refused": len(concepts) - len(compared),
        }
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict_of(summary, rows),
            tables=(part.manifest.tables, part.table),
        )


def compare_concepts(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    words: Sequence[str | Path] = (),
    settings: SubspaceSettings = SubspaceSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Compare the subspaces of concepts between matched SAEs.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of two or more SAEs, of which all pairs are compared, or ``"all"`` for all matched
        pairs. Default: the first matched pair.
    words
        Files of labelled words, or names of lists of the package; all lists if empty.
    settings
        Thresholds and draws.
    opened
        SAEs that are already open.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each pair of SAEs. Its table ``rows`` has a row for each concept, space and measure;
    ``members`` has the features of each concept, with their lift and q on held-out documents;
    ``concepts`` has the number of tokens of each concept.

    Raises
    ------
    BadInput
        If a word file is invalid, or two have the same name.
    Missing
        If a pair is not matched, or the codes of an SAE are not stored.

    Examples
    --------
    >>> from analysis import SubspaceSettings, compare_concepts
    >>> settings = SubspaceSettings(draws=19, activations=False)
    >>> pair = ["tiny-a-l1-s0", "tiny-a-l1-s1"]
    >>> (result,) = compare_concepts("demo.atlas", pair, words=["gender"], settings=settings)
    >>> result.name
    'tiny-a-l1-s0+tiny-a-l1-s1'
    """
    sets = tuple(read_words(source) for source in (words or list_names()))
    names = [one.name for one in sets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(
            f"Two files of words have the name {twice[0]!r}; the names of files must differ. Rename one."
        )
    return run_study(
        SubspaceStudy(settings, sets, tuple(opened)),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


def concept_rows(
    spaces: Spaces,
    members: Mapping[str, tuple[Any, Any]],
    settings: SubspaceSettings,
    *,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[Row]:
    """Yield the rows of each concept.

    A matched pair belongs to a concept if at least one of its two features does. Requiring both
    would select pairs that agree, and so raise the similarity.

    Parameters
    ----------
    spaces
        The SAEs, with their one-to-one pairs.
    members
        int64 arrays by concept: the features of the concept in either SAE.
    settings
        Draws, and the fewest pairs.
    advance
        Called after each concept and space.

    Yields
    ------
    For each concept, space and measure, the columns of ``analysis.similarity.comparison.subset_rows``,
    and ``concept``. A concept that cannot be compared has one row for the space, with a note and
    no measure.
    """
    spaces_shown = ("decoder", "activations") if settings.activations else ("decoder",)
    if spaces.decoders is None:
        note = "the weights of an SAE are not available; `activations=True` compares activations instead"
        for name in members:
            yield {"concept": name, "space": "decoder", "note": note}
    for view in views(spaces, spaces.directions.one_to_one, settings.similarity):
        if view.name not in spaces_shown:
            continue
        inside = {name: _inside(view, *own) for name, own in members.items()}
        any_concept = np.zeros(len(view), dtype=np.bool_)
        for own in inside.values():
            any_concept |= own
        for number, (name, own) in enumerate(inside.items()):
            which = np.flatnonzero(own)
            if len(which) < settings.pairs:
                note = f"{len(which)} matched pairs are too few; {settings.pairs} are needed"
                yield {"concept": name, "space": view.name, "available": len(which), "note": note}
                advance()
                continue
            others = np.flatnonzero(any_concept & ~own)
            for row in subset_rows(view, which, name=name, number=number, others=others):
                yield row | {"concept": name}
            advance()


def _inside(view: View, a: Any, b: Any) -> Any:
    return np.isin(view.pairs.a, a) | np.isin(view.pairs.b, b)


def verdict_of(summary: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """State how many concepts are more similar than under each null, by q over the concepts of a pair.

    Parameters
    ----------
    summary
        The summary of a result.
    rows
        Its table ``rows``.
    """
    about = f"{summary['a']} and {summary['b']}"
    sentences = [f"{about}: {summary['compared']} of {summary['concepts']} concepts were compared."]
    notes = [r["note"] for r in rows if r["measure"] is None]
    if len(set(notes)) == 1:
        sentences.append(f"{about}: {notes[0]}.")
    for space in dict.fromkeys(row["space"] for row in rows):
        own = [r for r in rows if (r["space"], r["measure"]) == (space, "rsa") and r["value"]]
        if not own:
            continue
        exceed = {name: _significant(own, f"{prefix}p") for prefix, name in NULLS.items()}
        counts = ", ".join(f"{len(found)} exceed {name}" for name, found in exceed.items())
        every = [r["concept"] for r in own if all(r["concept"] in f for f in exceed.values())]
        sentences.append(
            f"RSA of {space}, {len(own)} concepts: {counts} (q ≤ {_SIGNIFICANT:.2f}, over the "
            f"concepts of this pair). Above all three nulls: {', '.join(every) or 'none'}."
        )
    return sentences


def _significant(rows: Sequence[Row], name: str) -> list[str]:
    """Return the concepts whose p, adjusted over all rows by Benjamini and Hochberg, is at most .05."""
    adjusted = zip(rows, q_values([row[name] for row in rows]), strict=True)
    return [row["concept"] for row, q in adjusted if q is not None and q <= _SIGNIFICANT]
