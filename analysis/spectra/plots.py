"""The plot of spectra: normalised singular values by rank, with the means of the nulls."""

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from analysis.spectra.study import MATRICES
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_WIDTH, _HEIGHT = 300, 240

#: Lines of the plot: their label, by the column of the table ``spectra``.
_LINES = {
    "normalised": "observed",
    "isotropic": "isotropic directions",
    "covariance": "Gaussian of equal covariance",
    "permuted": "permuted columns",
}
_COLOURS = ("#4c78a8", "#bab0ac", "#e08a3c", "#1d6262")
#: Nulls can coincide; a dashed line on a continuous one shows both.
_DASHES = ([1, 0], [1, 0], [4, 3], [2, 4])


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.spectra.study.measure_spectra``.

    Raises
    ------
    BadInput
        If the SAE has too few live features for a spectrum.
    """
    spectra = result.table("spectra").to_pandas()
    known = {row["matrix"]: row for row in result.table("matrices").to_pylist()}
    shown = [name for name in MATRICES if (spectra["matrix"] == name).any()]
    if not shown:
        raise BadInput(
            f"{known['decoder']['missing']} There is nothing to plot of {result['sae']}."
        )
    panels = [_panel(spectra[spectra["matrix"] == name], known[name]) for name in shown]
    title = heading(
        f"Spectra of {result['sae']}",
        "Singular values of centred unit directions, divided by their root mean square; nulls are means of draws",
    )
    return finished(alt.hconcat(*panels).properties(title=title))


def _panel(values: pd.DataFrame, row: dict[str, object]) -> alt.Chart:
    lines = values.melt(
        id_vars=["rank"], value_vars=list(_LINES), var_name="line", value_name="value"
    )
    lines = lines[lines["value"] > 0].assign(line=lambda x: x["line"].map(_LINES))
    colour = alt.Scale(domain=list(_LINES.values()), range=list(_COLOURS))
    dash = alt.Scale(domain=list(_LINES.values()), range=list(_DASHES))
    legend = alt.Legend(orient="bottom", title=None, columns=2, symbolType="stroke")
    ratio = row["participation_ratio"]
    chart: alt.Chart = (
        alt.Chart(lines, width=_WIDTH, height=_HEIGHT)
        .mark_line(strokeWidth=1.6)
        .encode(
            x=alt.X("rank:Q", scale=alt.Scale(type="log"), title="rank"),
            y=alt.Y(
                "value:Q",
                scale=alt.Scale(type="log", nice=False),
                title="normalised singular value",
            ),
            color=alt.Color("line:N", scale=colour, legend=legend),
            strokeDash=alt.StrokeDash("line:N", scale=dash, legend=legend),
            tooltip=["line:N", "rank:Q", alt.Tooltip("value:Q", format=".4~g")],
        )
        .properties(
            title=heading(
                f"{row['matrix']} ({row['source']})",
                f"{row['rows']:,} directions, participation ratio {ratio:.1f}"
                if isinstance(ratio, float)
                else f"{row['rows']:,} equal directions",
            )
        )
    )
    return chart
