"""The command `atlas similarity`, which compares the spaces of matched SAEs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.similarity.settings import SimilaritySettings
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, print_text
from atlas.cli.shared_options import PLOT_FILES, requested
from atlas.cli.study_command import Writer, study_command
from atlas.studies.results import Results

__all__ = ["similarity"]

_COLUMNS = (
    "space",
    "subset",
    "measure",
    "value",
    "null",
    "matched_null",
    "p",
    "frequency_p",
    "matched_p",
    "frequency_null",
    "pairs",
    "points",
)
#: The subset of matches that a terminal shows without --rows.
_FIRST = "one-to-one"

_CONTROLS = {"value": ("null", "frequency_null", "matched_null", "p", "q")}
#: What the nulls shuffle, and why one is missing.
_NULLS = (
    "null: shuffled pairs. For svcca, cca, cka and procrustes of activations, whose points are tokens: "
    "shifted documents, which preserve the frequency of each feature; frequency_null is then –."
)
_OF_SUBSETS = (
    "In subsets and best partners, frequency_null is –: no pairs are shuffled within bins of frequency. "
    "matched_null is drawn only for the halves, tenths and punctuation."
)
_GRID = ("a", "b", "space", "measure", "value", "null", "q", "p", "excess", "pairs")


def prepare(outs: Sequence[Path], saes: Sequence[str]) -> Callable[[Results], list[str]]:
    """Check the paths, and return a function that draws one pair, or heatmaps of several."""
    from analysis.plot_style import plot_writer
    from analysis.similarity.plots import draw, draw_heatmaps

    def chart(results: Results) -> Any:
        own = sum(not one.floor for one in results)
        return draw(results[0]) if own == 1 else draw_heatmaps(results)

    return plot_writer(outs, draw=chart)


def report(results: Results, saes: Sequence[str]) -> dict[str, Any]:
    """Return the rows of each pair, and the grid of all."""
    from analysis.similarity.grid import grid

    return {
        "pairs": [{**one.summary, "rows": one.table("rows").to_pylist()} for one in results],
        "grid": grid(results),
        "verdict": results.verdict,
        "floors": sum(one.floor for one in results),
    }


def show(found: Mapping[str, Any]) -> None:
    """Print the rows of one pair, or the grid of several."""
    pairs: Sequence[Mapping[str, Any]] = found["pairs"]
    if len(pairs) - found["floors"] == 1:
        rows = [dict(row) for row in pairs[0]["rows"]]
        every = len(rows)
        if on_terminal() and not requested("rows"):
            rows = [row for row in rows if row["subset"] == _FIRST] or rows
        # Only subsets have random matched pairs as a null: there are no others of all pairs.
        matched = all(r["subset"] == _FIRST for r in rows)
        unused = {"subset", "matched_null", "matched_p"} if matched else ()
        print_table(
            rows, columns=[name for name in _COLUMNS if name not in unused], controls=_CONTROLS
        )
        if every > len(rows):
            echo(f"Only {_FIRST} matches; --rows prints all {every} rows.", err=True)
        for note in dict.fromkeys(
            f"{r['subset']}, {r['measure']}: {r['note']}" for r in rows if r["note"]
        ):
            print_text(note, indent="  ")
        print_text(_NULLS if matched else f"{_NULLS} {_OF_SUBSETS}")
        shares = [
            f"{pairs[0][f'unique_{way}']:.2f} of {pairs[0][way[0]]} in {pairs[0][way[1]]} "
            f"(random partners: {pairs[0][f'unique_{way}_null']:.2f})"
            for way in ("ab", "ba")
            if pairs[0][f"unique_{way}"] is not None
        ]
        if shares:
            print_text(
                f"Different best partners / features with a best partner: {'; '.join(shares)}. It is 1 "
                "if no two features have the same best partner."
            )
    if len(pairs) > 1:  # pairs of floors come last
        print_table(found["grid"], columns=_GRID, controls=_CONTROLS)


similarity = study_command(
    "similarity",
    "analysis.similarity.study:compare_spaces",
    SimilaritySettings,
    help="Compare the spaces that matched features span.\n\nThe measures are SVCCA, CCA, CKA, RSA, shared neighbours and Procrustes."
    "\n\nDecoder rows and activations on the same tokens are compared, on one-to-one matches. Each "
    "value has its mean under a null next to it: shuffled pairings, or shifted documents where the "
    "points are tokens. `frequency_null` shuffles pairs within "
    "bins of frequency. `matched_null` draws random matched pairs of equal number and frequency. "
    "With several pairs, q is over all of them."
    "\n\nFor a paper, add --full, which draws and samples more, and takes several times as long."
    "\n\n\b\nExamples:\n  atlas similarity tiny-a-l1-s0 tiny-a-l1-s1 --out pair.html"
    "\n  atlas similarity tiny-a-l1-s0 tiny-b-l1-s0 --raw stream"
    "\n  atlas similarity --all --out heatmaps.html --out heatmaps.png",
    metavar="[SAE SAE]...",
    writer=Writer(
        f"Plot one pair, or heatmaps of several: {PLOT_FILES}",
        "analysis.similarity.commands:prepare",
    ),
    report="analysis.similarity.commands:report",
    show="analysis.similarity.commands:show",
)
