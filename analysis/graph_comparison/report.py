"""Are the co-activation graphs of SAEs alike? What `atlas compare` prints: rows of numbers beside their controls, and a conclusion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.graph_comparison.matched_features import Partners, read_partners, strata
from analysis.graph_comparison.metrics import (
    community_rows,
    conserved_rows,
    coverage_rows,
    distance_rows,
)
from analysis.graph_comparison.rows import Row
from analysis.graph_comparison.settings import ComparisonSettings
from analysis.graph_comparison.subjects import Subject, read_subjects
from analysis.graph_comparison.summary import conclude
from atlas.api import Atlas
from atlas.errors import BadInput, Missing, UnknownName
from atlas.progress import SILENT, Progress

__all__ = ["Comparison", "alike", "compare_saes"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """How alike the graphs of two SAEs are.

    Parameters
    ----------
    a, b
        The SAEs.
    tokens, half_tokens
        Tokens that each graph is of, and those of each graph of a half (0 without codes; the
        fewest of all halvings).
    rows
        The numbers.
    notes
        What is to be known about them, in sentences.
    conclusion
        What they say, in a sentence.
    partners
        The matches that edges and communities were compared under; None if there are none.
    """

    a: Subject
    b: Subject
    tokens: int
    half_tokens: int
    rows: Sequence[Row]
    notes: Sequence[str]
    conclusion: str
    partners: Partners | None

    @property
    def said(self) -> dict[str, Any]:
        """All but the graphs, as plain values."""
        return {
            "a": self.a.of.sae,
            "b": self.b.of.sae,
            "tokens": self.tokens,
            "half_tokens": self.half_tokens,
            "min_count": self.a.of.min_count,
            "rows": [vars(row) for row in self.rows],
            "notes": list(self.notes),
            "conclusion": self.conclusion,
        }


def alike(
    atlas: Atlas, a: str, b: str, *, settings: ComparisonSettings | None = None,
    progress: Progress = SILENT,
) -> Comparison:  # fmt: skip
    """Say how alike the graphs of two SAEs are; see ``compare_saes``."""
    (found,) = compare_saes(atlas, [a, b], settings=settings, progress=progress)
    return found


def compare_saes(
    atlas: Atlas,
    saes: Sequence[str],
    *,
    settings: ComparisonSettings | None = None,
    progress: Progress = SILENT,
) -> list[Comparison]:
    """Say how alike the graphs of SAEs are, every two of them, all at equal numbers of tokens.

    Parameters
    ----------
    atlas
        The atlas. On a server there are no codes, so neither halves nor bipartite nulls.
    saes
        Names of two SAEs or more.
    settings
        How.
    progress
        Told how far it is.

    Raises
    ------
    BadInput
        If less than two are named.
    UnknownName
        If there is no such SAE.
    Missing
        If no two of them have been matched.
    Mismatch
        If one would have to be cut to the tokens of another and its codes were not kept, or
        their graphs join different numbers of features a token.
    """
    s = settings or ComparisonSettings()
    names = list(dict.fromkeys(saes))
    if len(names) < 2:
        raise BadInput(
            f"Two SAEs or more are compared, and {' '.join(names) or 'none'} was named; "
            "`atlas list` shows what there is."
        )
    for name in names:
        if name not in atlas.saes:
            raise UnknownName("SAE", name, known=atlas.saes, hint="`atlas list` shows them.")
    partners, missing = _all_partners(atlas, names, s)
    subjects = {x.of.sae: x for x in read_subjects(atlas, names, s, progress=progress)}
    return [
        _compare(subjects[a], subjects[b], partners.get((a, b)), missing.get((a, b)), s, progress)
        for a, b in combinations(names, 2)
    ]


def _all_partners(
    atlas: Atlas, names: Sequence[str], s: ComparisonSettings
) -> tuple[dict[tuple[str, str], Partners], dict[tuple[str, str], str]]:
    """Return the partners of every two SAEs, and why there are none of others."""
    found, missing = {}, {}
    for a, b in combinations(names, 2):
        try:
            found[a, b] = read_partners(atlas, a, b, matches=s.matches, level=s.level)
        except Missing as error:
            if len(names) == 2:
                raise
            missing[a, b] = str(error)
    if not found:
        raise Missing(next(iter(missing.values())))
    return found, missing


def _compare(
    a: Subject, b: Subject, partners: Partners | None, missing: str | None, s: ComparisonSettings,
    progress: Progress,
) -> Comparison:  # fmt: skip
    notes = _notes(a, b)
    rows = distance_rows(a, b)
    if partners is None:
        notes.append(f"Neither edges nor communities are compared: {missing}")
    elif not len(partners):
        notes.append(
            f"No match of {a.of.sae} and {b.of.sae} is {_asked(s)}, so neither edges nor communities "
            "are compared; match again with more --draws, or ask for other --matches."
        )
    else:
        rows += coverage_rows(a, b, partners)
        stratum = strata(b.of.active[partners.b], b.whole.degree[partners.b],
                         frequency_bins=s.frequency_bins, degree_bins=s.degree_bins)  # fmt: skip
        notes += _strata_notes(stratum, s)
        rows += conserved_rows(a, b, partners, stratum=stratum, progress=progress)
        rows += community_rows(a, b, partners, stratum=stratum)
    rows = [replace(row, a=a.of.sae, b=b.of.sae) for row in rows]
    return Comparison(
        a, b, a.of.tokens, min([*a.half_tokens, *b.half_tokens], default=0), rows, notes,
        conclude(a.of.sae, b.of.sae, rows, draws=s.draws), partners,
    )  # fmt: skip


def _asked(s: ComparisonSettings) -> str:
    return {
        "both-nulls": f"one to one with q <= {s.level:g} in both nulls",
        "one-to-one": "one to one",
        "mutual": "mutual",
    }[s.matches]


def _notes(a: Subject, b: Subject) -> list[str]:
    notes = []
    asked = a.settings.halves
    for of, of_halves in ((a.of, a.halves), (b.of, b.halves)):
        if not of.active.any():
            notes.append(f"No feature of {of.sae} is ever active, so there is nothing to compare.")
        elif not len(of.pairs):
            notes.append(f"{of.sae} has no edges at a count of {of.min_count:,} or more.")
        if of.tokens < of.counted:
            notes.append(f"{of.sae} was counted over {of.counted:,} tokens; this is its graph over "
                         f"the first {of.tokens:,}.")  # fmt: skip
        if of.membership is None:
            notes.append(f"The codes of {of.sae} are not at hand, so its documents cannot be divided "
                         "and no bipartite null drawn; `atlas ingest --keep-codes` keeps them.")  # fmt: skip
        elif not (a.halves and b.halves):
            notes.append(f"The documents that {of.sae} shares with the others are too few, or of too "
                         "unequal lengths, to be divided into halves of like many tokens.")  # fmt: skip
        elif len(of_halves) < asked:
            notes.append(f"{asked - len(of_halves)} of {asked} halvings of the documents of {of.sae} were "
                         "left out, as their halves had too unequal numbers of tokens.")  # fmt: skip
    return notes


def _strata_notes(stratum: NDArray[np.int64], s: ComparisonSettings) -> list[str]:
    _, size = np.unique(stratum, return_counts=True)
    alone = int(np.sum(size == 1))
    return [
        f"{len(stratum):,} matches are permuted in {len(size):,} strata (at most {s.frequency_bins} quantiles "
        f"of frequency, {s.degree_bins} of degree within each); {alone:,} of them cannot move, being alone "
        "in a stratum."
    ]
