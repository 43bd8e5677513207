"""Command `atlas spectra`."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.spectra.settings import SpectrumSettings
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo
from atlas.cli.study_command import study_command
from atlas.studies.results import Results

__all__ = ["spectra"]

_COLUMNS = (
    "sae",
    "directions",
    "dimensions",
    "participation_ratio",
    "stable_rank",
    "slope",
    "mean_share",
    "encoder_participation_ratio",
    "model_participation_ratio",
    "encoder_distance",
    "model_distance",
)

#: Pairs of SAEs that are printed; --json has all.
_PAIRS = 20


def report(results: Results, saes: Sequence[str]) -> dict[str, Any]:
    """Return the spectra, and the distances between SAEs."""
    from analysis.spectra.distances import compare_spectra

    pairs = [
        pair
        for one in results[:1]
        if one.atlas
        for pair in compare_spectra(one.atlas, saes or None)
    ]
    return {"spectra": results.rows, "pairs": pairs}


def show(found: Mapping[str, Any]) -> None:
    """Print both tables."""
    rows, pairs = found["spectra"], found["pairs"]
    floor = [name for name in ("role", "floor_of") if any(name in row for row in rows)]
    echo()
    print_table([dict(row) for row in rows], columns=[*_COLUMNS, *floor], turned=True)
    if pairs:
        shown = [dict(row) for row in pairs[:_PAIRS]]
        more = len(pairs) - len(shown)
        print_table(shown, title="\nDistances between spectra of decoders")
        if more:
            echo(f"… and {more:,} more pairs; --json has all.")


spectra = study_command(
    "spectra",
    "analysis.spectra.study:measure_spectra",
    SpectrumSettings,
    help="Measure how many dimensions the directions of SAEs span.\n\nRandom directions are the null."
    "\n\nSpectra are of the live features' decoder and encoder directions, and of the matrix of the "
    "model that writes to the site. Rows have unit length, and their mean is subtracted. The second "
    "table compares the decoders of SAEs: other seeds, widths, sites and floors."
    "\n\n\b\nExamples:\n  atlas spectra --all\n  atlas spectra tiny-a-l1-s0 --draws 199",
    report="analysis.spectra.commands:report",
    show="analysis.spectra.commands:show",
)
