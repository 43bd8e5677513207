"""The study of similarity, which stores one part per pair of matched SAEs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from analysis.similarity.comparison import FULL, Row, Spaces, comparison, row_of, token_rows
from analysis.similarity.cost import PairSize, pair_cost
from analysis.similarity.measures import FEW, MEASURES, cosine_similarities, shuffles
from analysis.similarity.pairs import read_pairs
from analysis.similarity.settings import SimilaritySettings
from atlas.disk.parts import Part
from atlas.errors import BadInput, Missing
from atlas.progress import SILENT, Progress
from atlas.schema import arrow_schema
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, check_saes
from ingest.codes.store import count_rows, read_shard
from ingest.match.align import align, last_tokens
from ingest.match.aligned_codes import CodeRows
from ingest.match.cosines import decoder_rows, one_space
from ingest.match.inputs import Side, open_side
from ingest.match.study import match_name
from ingest.model.language_model import LanguageModel
from ingest.sae.autoencoder import Autoencoder
from ingest.text.corpus import Corpus
from ingest.torch_study import TorchStudy

__all__ = ["SPACES", "OpenSpaces", "SimilarityStudy", "compare_spaces", "open_spaces"]

SPACES = ("decoder", "activations")
"""Spaces in which SAEs are compared; the names of rows of models begin with ``model``."""

_TEXT = {name: pa.string() for name in ("space", "subset", "points", "measure", "note")}
_COUNTS = dict.fromkeys(("pairs", "available", "n", "columns_a", "columns_b"), pa.int64())
_VALUES = dict.fromkeys(
    (
        "value",
        *(
            f"{name}{key}"
            for name in ("", "frequency_", "matched_")
            for key in ("null", "null_low", "null_high", "p")
        ),
    ),
    pa.float64(),
)
_SCHEMA = pa.schema(list((_TEXT | _COUNTS | _VALUES).items()))

_SMALL = 2**30  # bytes of codes that are aligned in memory


@dataclass(frozen=True)
class SimilarityStudy(TorchStudy):
    """Compare the spaces of pairs of SAEs.

    Parameters
    ----------
    settings
        Draws, neighbours and samples.
    opened
        SAEs that are already open, whose weights are not read again.
    models
        Models that are already open, for a comparison of models.
    """

    kind: ClassVar[str] = "similarity"
    version: ClassVar[int] = 2
    part_names: ClassVar[str] = "`a+b`"
    tables: ClassVar[Mapping[str, str]] = {
        "rows": "each measure with its nulls",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "decoder_rsa": "RSA of decoder rows",
        "activation_rsa": "RSA of activations",
    }
    needs_floors: ClassVar[bool] = True
    sorted_pairs: ClassVar[bool] = True

    settings: SimilaritySettings
    opened: Sequence[Autoencoder] = ()
    models: Sequence[LanguageModel] = ()

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """One pair is used if no SAE is named."""
        return 2

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each pair; all matched pairs of the atlas, if no SAE is named.

        Raises
        ------
        BadInput
            If fewer than two SAEs are named.
        Missing
            If no pair is matched.
        """
        if saes is not None:
            names = check_saes(at.sound, saes)
            if len(names) < 2:
                raise BadInput(
                    f"A comparison of spaces needs two different SAEs; {' '.join(names) or 'none'} was named."
                )
            return [self._task(a, b) for a, b in combinations(sorted(names), 2)]
        pairs = list(combinations(sorted(at.sound.saes), 2))
        matched = [pair for pair in pairs if f"match/{match_name(*pair)}" in at.sound.parts]
        if not matched:
            raise Missing(
                "A comparison of spaces needs matched SAEs, but this atlas has no match; `atlas match` "
                "computes it."
            )
        if len(matched) < len(pairs):
            at.progress.report(
                f"Skipped {len(pairs) - len(matched):,} of {len(pairs):,} pairs of SAEs, which are not "
                "matched; `atlas match --all` matches all pairs."
            )
        return [self._task(*pair) for pair in matched]

    def _task(self, a: str, b: str) -> Task:
        name = match_name(a, b)
        return Task(
            name,
            (a, b),
            self.settings,
            made_from=(f"sae/{a}", f"sae/{b}", f"tokens/{a}", f"tokens/{b}", f"match/{name}"),
            reads=(f"codes/{a}", f"codes/{b}"),
        )

    def check(self, tasks: Sequence[Task], at: TaskContext) -> None:
        """Check that the models can be compared, if they are requested."""
        if self.settings.raw is not None:
            from analysis.similarity.raw import raw_sites

            for task in tasks:
                raw_sites(at.sound, task.saes, self.settings.raw)

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one pair, without the runs of the models."""
        sides = [open_side(at.folder, at.sound, name) for name in task.saes]
        matches = at.sound.parts[f"match/{task.name}"].table("MATCHES")
        pairs = int(np.count_nonzero(matches["one_to_one"].to_numpy()))
        total = max(1, *(sum(map(count_rows, side.shards)) for side in sides))
        tokens = min(self.settings.tokens, total)
        # A code takes eight bytes: its feature and its activation.
        active = max(side.bytes / 8 / side.d_sae for side in sides) * tokens / total
        width = max(int(side.row["d_in"]) for side in sides)
        return pair_cost(PairSize(pairs, width, tokens, active), self.settings)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compare one pair."""
        opened = open_spaces(task, at, tokens=self.settings.tokens, opened=self.opened)
        spaces, alignment = opened.spaces, opened.alignment
        steps = 4 * (1 + (spaces.decoders is not None)) + 1
        with at.progress.stage(f"{task.title}: comparing", total=steps, unit="sets") as stage:
            rows = list(comparison(spaces, self.settings, stage.advance))
        if self.settings.raw is not None:
            a, b = opened.sides
            with at.progress.stage(f"{task.title}: aligning the tokens of the models"):
                tokens = last_tokens(
                    a.shards,
                    b.shards,
                    Corpus.open(at.folder.corpus_file),
                    how=alignment,
                    documents=first_documents(a, self.settings.tokens),
                )
            rows += self._raw_rows(task, at, spaces, tokens=tokens)
        tables = [
            ("rows", pa.Table.from_pylist(rows, schema=_SCHEMA)),
            ("COMPARED_WITH", _edge(task.saes, rows, spaces, self.settings.draws)),
        ]
        sources = {"tokens": int(spaces.lengths.sum()), "alignment": alignment}
        return Found(tables, sources=sources)

    def _raw_rows(
        self,
        task: Task,
        at: TaskContext,
        spaces: Spaces,
        *,
        tokens: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> Iterator[Row]:
        """Yield the rows of the models, and of as many pairs of features, chosen at random."""
        from analysis.similarity.raw import pair_dimensions, raw_activations

        raw = self.settings.raw
        assert raw is not None
        x, y = pair_dimensions(
            *raw_activations(
                at.sound,
                task.saes,
                Corpus.open(at.folder.corpus_file),
                raw=raw,
                tokens=tokens,
                into=at.scratch,
                models=self.models,
                progress=at.progress,
            )
        )
        pairs = spaces.directions.one_to_one
        number = min(x.shape[1], len(pairs))
        rng = np.random.default_rng([self.settings.seed, 6])
        chosen = np.sort(rng.permutation(x.shape[1])[:number])
        subset = f"{number:,} random pairs"
        yield from self._paired_rows(
            (x[:, chosen], y[:, chosen]), spaces, f"model ({raw})", subset=subset
        )
        own = pairs[np.sort(rng.permutation(len(pairs))[:number])]
        a, b = (one.T.tocsc() for one in spaces.profiles(own))
        yield from self._paired_rows((a, b), spaces, "activations", subset=subset)

    def _paired_rows(
        self, sides: tuple[Any, Any], spaces: Spaces, space: str, *, subset: str
    ) -> Iterator[Row]:
        """Yield the rows of paired columns, (units, pairs), with either kind of points."""
        how, available = self.settings, sides[0].shape[1]
        orders = shuffles(available, how.draws, seed=how.seed)
        x, y = (one.T.tocsr() if isinstance(one, sparse.csc_array) else one.T for one in sides)
        for one in cosine_similarities(x, y, orders, k=how.neighbours, seed=how.seed):
            yield row_of(one, one.draws, space=space, subset=subset, available=available)
        yield from token_rows(sides, spaces.lengths, how, space=space, subset=subset)

    def result(self, part: Part) -> Result:
        """Return the values of one-to-one pairs, with nulls, and the share of unique partners."""
        rows = part.table("rows").to_pylist()
        (edge,) = part.table("COMPARED_WITH").to_pylist()
        a, b = part.manifest.saes
        summary = {
            "a": a,
            "b": b,
            "pairs": edge["similarity_pairs"],
            "tokens": part.manifest.sources["tokens"],
            **{k: v for k, v in edge.items() if k not in ("source", "target", "similarity_pairs")},
        }
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(a, b, rows),
            tables=(part.manifest.tables, part.table),
        )


def compare_spaces(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: SimilaritySettings = SimilaritySettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    models: Sequence[LanguageModel] = (),
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Compare the spaces of matched SAEs: decoder rows, and activations on the same tokens.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of two or more SAEs, of which all pairs are compared, or ``"all"`` for all matched
        pairs. Default: the first matched pair.
    settings
        Draws, neighbours and samples.
    opened, models
        SAEs and models that are already open.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each pair. Its table ``rows`` has a row for each space, subset and measure,
    with the value, ``null`` (mean over shuffled pairings; over shifted documents for measures of
    activations whose points are tokens), ``null_low`` and ``null_high`` (95% range) and ``p``. ``frequency_null`` shuffles pairs within bins of frequency;
    ``matched_null`` draws random matched pairs of equal number and frequency.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If a pair is not matched, or the codes of an SAE are not stored.
    BadInput
        If fewer than two SAEs are named.

    Examples
    --------
    >>> from analysis import SimilaritySettings, compare_spaces
    >>> settings = SimilaritySettings(draws=9, frequency_draws=0, tokens=500, columns=50)
    >>> (result,) = compare_spaces("demo.atlas", ["tiny-a-l1-s0", "tiny-a-l1-s1"], settings=settings)
    >>> result.name
    'tiny-a-l1-s0+tiny-a-l1-s1'
    """
    return run_study(
        SimilarityStudy(settings, tuple(opened), tuple(models)),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


@dataclass(frozen=True, eq=False)
class OpenSpaces:
    """The spaces of a pair of SAEs.

    Parameters
    ----------
    sides
        The SAEs, with their codes.
    spaces
        Their pairs, decoder rows and activations on the first documents.
    alignment
        How their tokens were aligned: ``"tokens"`` or ``"words"``.
    """

    sides: tuple[Side, Side]
    spaces: Spaces
    alignment: Literal["tokens", "words"]


def open_spaces(
    task: Task, at: TaskContext, *, tokens: int, opened: Sequence[Autoencoder] = ()
) -> OpenSpaces:
    """Open the pairs, decoder rows and activations of two matched SAEs.

    Parameters
    ----------
    task
        A task whose name is that of their match.
    at
        The atlas.
    tokens
        Largest number of tokens of which activations are read.
    opened
        SAEs that are already open, whose weights are not read again.
    """
    a, b = (open_side(at.folder, at.sound, name) for name in task.saes)
    match = at.sound.parts[f"match/{task.name}"]
    (edge,) = match.table("COMPARED_WITH").to_pylist()
    with at.progress.stage(f"{task.title}: aligning {edge['alignment']}"):
        aligned = align(
            a.shards,
            b.shards,
            Corpus.open(at.folder.corpus_file),
            how=edge["alignment"],
            documents=first_documents(a, tokens),
            scratch=None if a.bytes + b.bytes < _SMALL else at.scratch,
        )
    weights = [decoder_rows(side, opened=opened, progress=at.progress) for side in (a, b)]
    first, second = weights
    _, lengths = np.unique(aligned.units.document, return_counts=True)
    spaces = Spaces(
        read_pairs(match.table("MATCHES")),
        None if first is None or second is None else (first, second),
        one_space(a.row, b.row),
        (_columns(aligned.a), _columns(aligned.b)),
        lengths.astype(np.int64),
        (a.wordless, b.wordless),
    )
    return OpenSpaces((a, b), spaces, edge["alignment"])


def first_documents(side: Side, tokens: int) -> NDArray[np.int64]:
    """Return the numbers of the first documents with at most ``tokens`` tokens, one at least.

    Parameters
    ----------
    side
        An SAE with its codes.
    tokens
        Number of tokens.
    """
    found: list[NDArray[np.int64]] = []
    total = 0
    for shard in side.shards:
        for block in read_shard(shard):
            number, count = np.unique(block.tokens.document, return_counts=True)
            fits = total + np.cumsum(count) <= tokens
            if not fits.all():
                found.append(number[fits] if found or fits.any() else number[:1])
                return np.concatenate(found)
            found.append(number)
            total += int(count.sum())
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _columns(codes: CodeRows) -> sparse.csc_array:
    shape = (len(codes), codes.d_sae)
    rows = sparse.csr_array((codes.values, codes.indices, codes.indptr), shape=shape)
    return rows.tocsc()


def _edge(saes: Sequence[str], rows: Sequence[Row], spaces: Spaces, draws: int) -> pa.Table:
    """Return the row of COMPARED_WITH."""
    full = {(row["space"], row["measure"]): row for row in rows if row["subset"] == FULL}
    edge: dict[str, Any] = {
        "source": saes[0],
        "target": saes[1],
        "similarity_draws": draws,
        "similarity_pairs": full["activations", "rsa"]["n"] if full else 0,
        "unique_ab": spaces.directions.unique_ab,
        "unique_ba": spaces.directions.unique_ba,
        "unique_ab_null": spaces.directions.unique_ab_null,
        "unique_ba_null": spaces.directions.unique_ba_null,
    }
    for space in SPACES:
        for measure in MEASURES:
            row = full.get((space, measure), {})
            name = f"{space.removesuffix('s')}_{measure}"
            for suffix, key in (("", "value"), ("_null", "null"), ("_p", "p")):
                edge[name + suffix] = row.get(key)
    return pa.Table.from_pylist([edge], schema=arrow_schema("COMPARED_WITH", "similarity"))


_SELECTED = "The pairs were selected by activation, so this null is weak for activations."


def _of_matched_null(rows: Sequence[Row], of: Row, what: str) -> str:
    """Return the value of the half of highest r and of random matched pairs; empty if absent."""
    for row in rows:
        same = (row["space"], row["measure"]) == (of["space"], of["measure"])
        if same and row["subset"] == "top half by r" and row["matched_null"] is not None:
            return (
                f" In the half of highest correlation, {row['measure']} of {what} is {row['value']:.3g}, "
                f"and {row['matched_null']:.3g} in random matched pairs of equal frequency."
            )
    return ""


def _verdict(a: str, b: str, rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each space, and the warnings."""
    found = []
    full = [row for row in rows if row["subset"] == FULL]
    for space, what in (("decoder", "decoder rows"), ("activations", "activations")):
        own = [row for row in full if row["space"] == space and row["p"] is not None]
        above = [row["measure"] for row in own if row["p"] <= 0.05]
        if not own:
            absent = not any(row["space"] == space for row in full)
            reason = (
                "the weights of an SAE are not available"
                if absent and space == "decoder"
                else "there are too few pairs"
            )
            found.append(f"{a} and {b}: no measure of {what} is defined, because {reason}.")
            continue
        rsa = next((row for row in own if row["measure"] == "rsa"), own[0])
        found.append(
            f"{a} and {b}, {what} of {rsa['pairs']:,} pairs: {len(above)} of {len(own)} measures exceed "
            f"the null (p ≤ 0.05); {rsa['measure']} is {rsa['value']:.3g}, {rsa['null']:.3g} under the null."
            + _of_matched_null(rows, rsa, what)
        )
        if space == "activations":
            found.append(_SELECTED)
    pairs = max((row["pairs"] for row in full), default=0)
    if pairs < FEW:
        found.append(f"There are {pairs} pairs only; with fewer than {FEW}, no value is reliable.")
    return found
