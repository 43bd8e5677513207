"""One match from codes to tables: align, correlate, draw the nulls, filter, assign.

``atlas.schema`` describes the stored properties under MATCHES and COMPARED_WITH;
``docs/decisions/0006`` defines the p-values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import Mismatch
from atlas.progress import Progress
from atlas.schema import arrow_schema
from atlas.studies.study import Found
from ingest.match.align import align
from ingest.match.aligned_codes import Aligned
from ingest.match.assign import one_to_one
from ingest.match.correlate import Correlator
from ingest.match.cosines import Cosines, cosines, undefined
from ingest.match.inputs import Side
from ingest.match.nulls import (
    Null,
    shifted_documents,
    shuffled_occurrences,
    shuffled_within_documents,
)
from ingest.match.pairs import Pairs
from ingest.match.pooling import SIGNIFICANT, too_few_draws
from ingest.match.settings import MatchSettings
from ingest.reduce.arrays import graph_table, keys
from ingest.sae.autoencoder import Autoencoder
from ingest.statistics.permutation import exceedance_p
from ingest.text.corpus import Corpus

__all__ = ["VERSION", "alignment", "compare"]

#: Increased whenever the same codes give different tables. 2: the null within documents, and
#: p_pooled over merged octaves.
VERSION = 2

#: If more than this share of the activations cannot move within documents, that null has no
#: power: the match is undecided unless the remaining activations are significant.
MOSTLY = 0.5

Sides: TypeAlias = tuple[Side, Side]


@dataclass(frozen=True, eq=False)
class _Match:
    """The results of matching a pair of SAEs."""

    aligned: Aligned
    work: Correlator
    all_pairs: Pairs
    pairs: Pairs
    shared: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    shifts: Null
    shuffles: Null
    within: Null
    cosines: Cosines


def compare(
    sides: Sides,
    corpus: Corpus,
    settings: MatchSettings,
    *,
    memory: int,
    scratch: Path,
    documents: NDArray[np.int64] | None = None,
    opened: Sequence[Autoencoder] = (),
    brief: bool = False,
    progress: Progress,
) -> Found:
    """Match two SAEs.

    Parameters
    ----------
    sides
        The SAEs, sorted by name.
    corpus
        The text both were run on.
    settings
        How they are matched.
    memory
        Bytes of memory, in addition to the lists of matches and the best correlations of
        the draws. It includes the codes if they take at most a quarter of it; otherwise
        they are mapped from ``scratch``.
    scratch
        A folder for codes that do not fit; the caller removes it.
    documents
        Numbers of the documents to match on; all if None. The manifest does not record them,
        so matches on some documents must not be stored in an atlas.
    opened
        SAEs that are already open.
    brief
        Omit the null within documents and the cosines, which are then null. Such matches must not
        be stored in an atlas either.
    progress
        Notified of the work.

    Raises
    ------
    Mismatch
        If the settings require tokens, but the tokenizers differ.
    OutOfSpace
        If the match does not fit into this memory.
    """
    a, b = sides
    how = alignment(sides, settings)
    small = a.bytes + b.bytes <= memory // 4
    with progress.stage(f"{a.name} and {b.name}: aligning {how}"):
        aligned = align(
            a.shards,
            b.shards,
            corpus,
            how=how,
            documents=documents,
            scratch=None if small else scratch,
        )
    allowed = [None if settings.wordless else ~side.wordless for side in sides]
    work = Correlator(
        aligned.a,
        aligned.b,
        best=min(settings.best, max(a.d_sae, b.d_sae)),
        min_joint=settings.min_joint,
        memory=memory - (a.bytes + b.bytes if small else 0),
        allowed_a=allowed[0],
        allowed_b=allowed[1],
    )
    with progress.stage(f"{a.name} and {b.name}: correlating {len(aligned.units):,} {how}"):
        pairs = work.pairs()
    shifts, shuffles, within = _nulls(
        work, aligned, pairs, settings=settings, brief=brief, progress=progress
    )
    shared = _shared_tokens(sides, pairs)
    passed, left_out = _filtered(pairs, shared, settings)
    left_out |= _features_left_out(allowed) | dict(aligned.left_out)
    left_out["documents of one token, in the shifted-documents null"] = shifts.left_out
    for reason, number in left_out.items():
        if number:
            progress.report(f"{a.name} (a) and {b.name} (b), excluded – {reason}: {number:,}")
    nulls = (shifts, shuffles) if brief else (shifts, shuffles, within)
    found_some = all((null.q <= SIGNIFICANT).any() for null in nulls)
    if not found_some and (few := too_few_draws(settings.draws, *_needed(nulls))):
        progress.report(f"{a.name} and {b.name}: {few}")
    all_pairs, pairs, shared = pairs, pairs.take(passed), shared[passed]
    threshold = 0.0 if np.isnan(shifts.threshold) else shifts.threshold
    found = _Match(
        aligned,
        work,
        all_pairs,
        pairs,
        shared,
        one_to_one(pairs, threshold=threshold),
        _take(shifts, passed),
        _take(shuffles, passed),
        _take(within, passed),
        undefined(len(pairs))
        if brief
        else cosines(sides, (pairs.a, pairs.b), opened=opened, progress=progress),
    )
    return Found(_tables(sides, found, settings), sources={"left_out": left_out})


def alignment(sides: Sides, settings: MatchSettings) -> Any:
    """Return what is aligned: ``tokens`` or ``words``.

    Raises
    ------
    Mismatch
        If the settings require tokens, but the tokenizers differ.
    """
    same = sides[0].tokenizer == sides[1].tokenizer
    if settings.align == "tokens" and not same:
        raise Mismatch(
            f"{sides[0].name} and {sides[1].name} have different tokenizers, so their tokens cannot "
            "be aligned. Omit `align`, or use `align='words'`."
        )
    return ("tokens" if same else "words") if settings.align == "auto" else settings.align


def _nulls(
    work: Correlator,
    aligned: Aligned,
    pairs: Pairs,
    *,
    settings: MatchSettings,
    brief: bool,
    progress: Progress,
) -> tuple[Null, Null, Null]:
    number = "Two" if brief else "Three"
    draws = [settings.draws, settings.draws, 0 if brief else settings.draws]
    title = f"{number} nulls, {settings.draws} draws of each"
    with progress.stage(title, total=sum(draws), unit="draws") as stage:
        shifts, shuffles, within = (
            draw(work, aligned.units, pairs, draws=times, seed=settings.seed, stage=stage)
            for draw, times in zip(
                (shifted_documents, shuffled_occurrences, shuffled_within_documents),
                draws,
                strict=True,
            )
        )
    return shifts, shuffles, within


def _shared_tokens(sides: Sides, pairs: Pairs) -> NDArray[np.int64]:
    a, b = (side.top_texts for side in sides)
    both = (len(a[i] & b[j]) for i, j in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    return np.fromiter(both, dtype=np.int64, count=len(pairs))


def _filtered(
    pairs: Pairs, shared: NDArray[np.int64], settings: MatchSettings
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which pairs pass all filters, and the number that each filter excludes."""
    passes = {
        "pairs below min_pearson": pairs.pearson >= settings.min_pearson,
        "pairs below min_shared": shared >= settings.min_shared,
    }
    passed = np.logical_and.reduce(list(passes.values()))
    excluded = {reason: int(np.count_nonzero(~mask)) for reason, mask in passes.items()}
    return passed, excluded | {"pairs in all": int(np.count_nonzero(~passed))}


def _features_left_out(allowed: Sequence[NDArray[np.bool_] | None]) -> dict[str, int]:
    return {
        f"wordless features of {side}": int(np.count_nonzero(~mask))
        for side, mask in zip("ab", allowed, strict=True)
        if mask is not None
    }


def _take(null: Null, selected: NDArray[np.bool_]) -> Null:
    per_pair = ["p", "p_pooled", "q", "floor_pooled", "expected"]
    per_pair += ["fixed"] * (null.fixed is not None)
    return replace(null, **{name: getattr(null, name)[selected] for name in per_pair})


def _tables(sides: Sides, found: _Match, settings: MatchSettings) -> list[tuple[str, pa.Table]]:
    tables = [_matches(sides, found), _comparison(sides, found, settings)]
    return [(table.name, table.data) for table in tables]


def _matches(sides: Sides, found: _Match) -> Any:
    pairs, count = found.pairs, len(found.pairs)
    return graph_table(
        "MATCHES",
        "match",
        {
            "source": keys(sides[0].name, pairs.a),
            "target": keys(sides[1].name, pairs.b),
            "pearson": pairs.pearson,
            "phi": _doubles(pairs.phi),
            "joint_count": pairs.joint,
            "rank_ab": pa.array(pairs.rank_ab, mask=pairs.rank_ab < 0),
            "rank_ba": pa.array(pairs.rank_ba, mask=pairs.rank_ba < 0),
            "mutual": pairs.mutual,
            "one_to_one": found.chosen,
            "claims_on_source": pairs.claims_on_a,
            "claims_on_target": pairs.claims_on_b,
            "alignment": pa.array([found.aligned.alignment] * count, pa.string()),
            "shared_tokens": found.shared,
            "decoder_cosine": _doubles(found.cosines.decoder),
            "encoder_cosine": _doubles(found.cosines.encoder),
            "p": _doubles(found.shifts.p),
            "p_pooled": _doubles(found.shifts.p_pooled),
            "p_floor": _doubles(found.shifts.floor_pooled),
            "q": _doubles(found.shifts.q),
            "null_pearson": _doubles(found.shifts.expected),
            "token_p": _doubles(found.shuffles.p),
            "token_p_pooled": _doubles(found.shuffles.p_pooled),
            "token_p_floor": _doubles(found.shuffles.floor_pooled),
            "token_q": _doubles(found.shuffles.q),
            "token_null_pearson": _doubles(found.shuffles.expected),
            "token_document_p": _doubles(found.within.p),
            "token_document_p_pooled": _doubles(found.within.p_pooled),
            "token_document_p_floor": _doubles(found.within.floor_pooled),
            "token_document_q": _doubles(found.within.q),
            "token_document_null_pearson": _doubles(found.within.expected),
            "fixed_share": found.within.fixed,
        },
    )


def _comparison(sides: Sides, found: _Match, settings: MatchSettings) -> Any:
    pairs, all_pairs, work = found.pairs, found.all_pairs, found.work
    shifts, shuffles, within = found.shifts, found.shuffles, found.within
    synchronous = found.chosen & (shifts.q <= SIGNIFICANT)
    beyond, undecided = _beyond_token(found, synchronous)
    drawn = settings.draws > 0
    draws_needed, matches_needed = _needed((shifts, shuffles, within))
    row = {
        "source": sides[0].name,
        "target": sides[1].name,
        "alignment": found.aligned.alignment,
        "tokens": len(found.aligned.units),
        "documents": len(np.unique(found.aligned.units.document)),
        "matches": len(pairs),
        "mutual": int(np.count_nonzero(pairs.mutual)),
        "one_to_one": int(np.count_nonzero(found.chosen)),
        "significant": int(np.count_nonzero(synchronous)) if drawn else None,
        "beyond_token": int(np.count_nonzero(beyond)) if drawn else None,
        "undecided": int(np.count_nonzero(undecided)) if drawn else None,
        "best_ab": _mean_best(all_pairs, all_pairs.rank_ab, work.of_a.count, work.allowed_a),
        "best_ba": _mean_best(all_pairs, all_pairs.rank_ba, work.of_b.count, work.allowed_b),
        "null_best_ab": _number(shifts.best_a),
        "null_best_ba": _number(shifts.best_b),
        "token_null_best_ab": _number(shuffles.best_a),
        "token_null_best_ba": _number(shuffles.best_b),
        "token_document_null_best_ab": _number(within.best_a),
        "token_document_null_best_ba": _number(within.best_b),
        "null_threshold": _number(shifts.threshold),
        "token_null_threshold": _number(shuffles.threshold),
        "token_document_null_threshold": _number(within.threshold),
        "draws": settings.draws,
        "p_floor": exceedance_p(0, settings.draws) if drawn else None,
        "draws_needed": draws_needed,
        "matches_needed": matches_needed,
    }
    data = pa.Table.from_pylist([row], schema=arrow_schema("COMPARED_WITH", "match"))
    return graph_table(
        "COMPARED_WITH", "match", dict(zip(data.column_names, data.columns, strict=True))
    )


def _beyond_token(
    found: _Match, synchronous: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the matches significant under all three nulls, and those undecided in the third.

    A match is undecided if the third null has no power for it.
    """
    more = synchronous & (found.shuffles.q <= SIGNIFICANT)
    within, fixed = found.within.q <= SIGNIFICANT, found.within.fixed
    assert fixed is not None  # the null within documents always has it
    return more & within, more & ~within & (fixed > MOSTLY)


def _needed(nulls: Sequence[Null]) -> tuple[int | None, int | None]:
    """Return the numbers of draws and matches that the most demanding null needs for q <= 0.05."""
    draws = [null.draws_needed for null in nulls if null.draws_needed is not None]
    matches = [null.matches_needed for null in nulls if null.matches_needed is not None]
    return max(draws, default=None), max(matches) if len(matches) == len(nulls) else None


def _mean_best(
    pairs: Pairs,
    rank: NDArray[np.int64],
    count: NDArray[np.int64],
    allowed: NDArray[np.bool_] | None,
) -> float | None:
    """Return the mean best correlation over active allowed features (0 without a candidate)."""
    live = count > 0 if allowed is None else (count > 0) & allowed
    if not live.any():
        return None
    return float(pairs.pearson[rank == 0].sum() / np.count_nonzero(live))


def _doubles(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
