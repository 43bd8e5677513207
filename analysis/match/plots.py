"""The plot of a match: correlations of one-to-one matches, by the nulls that they exceed."""

import altair as alt
import numpy as np
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result
from ingest.match.pipeline import MOSTLY
from ingest.match.pooling import SIGNIFICANT

__all__ = ["claims", "draw"]

_WIDTH, _HEIGHT, _BIN = 460, 240, 0.05

#: Claims by colour, from the strongest to none; colours are those of the verdicts of probes.
_COLOURS = {
    "beyond the token": "#4c78a8",
    "undecided": "#e08a3c",
    "synchronous": "#9ecae9",
    "not significant": "#bab0ac",
    "not tested": "#d5d5d5",
}


def claims(matches: pd.DataFrame) -> "pd.Series[str]":
    """Return the claim that each match supports at q <= 0.05.

    Parameters
    ----------
    matches
        Rows of the table MATCHES.

    Returns
    -------
    claim
        ``"beyond the token"``: significant under all three nulls. ``"undecided"``: significant
        under the first two, and the third has no power. ``"synchronous"``: significant under
        the null of shifted documents only. ``"not significant"``, or ``"not tested"`` without
        draws.
    """
    shifted, token, within = (
        matches[name] <= SIGNIFICANT for name in ("q", "token_q", "token_document_q")
    )
    found = np.select(
        [
            matches["q"].isna(),
            shifted & token & within,
            shifted & token & (matches["fixed_share"] > MOSTLY),
            shifted,
        ],
        ["not tested", "beyond the token", "undecided", "synchronous"],
        default="not significant",
    )
    return pd.Series(found, index=matches.index)


def draw(result: Result) -> Chart:
    """Plot the correlations of the one-to-one matches of two SAEs, by claim.

    Parameters
    ----------
    result
        A result of ``ingest.match.study.match_saes``.

    Raises
    ------
    BadInput
        If the SAEs have no one-to-one match.
    """
    matches = result.table("MATCHES").to_pandas()
    matches = matches[matches["one_to_one"]]
    pair = f"{result['a']} and {result['b']}"
    if not len(matches):
        raise BadInput(
            f"{pair} have no one-to-one match, so there is nothing to plot. "
            "`atlas match --min-joint N --replace` with a smaller N considers rarer features."
        )
    matches = matches.assign(claim=claims(matches))
    low = min(0.0, float(np.floor(matches["pearson"].min() / _BIN) * _BIN))
    edges = np.linspace(low, 1, round((1 - low) / _BIN) + 1)
    bins = pd.concat(
        [_bins(of["pearson"], edges).assign(claim=name) for name, of in matches.groupby("claim")]
    )
    counts = matches["claim"].value_counts()
    shown = [name for name in _COLOURS if name in counts]
    labels = {name: f"{name} ({counts[name]:,})" for name in shown}
    bins["claim"], bins["rank"] = bins["claim"].map(labels), bins["claim"].map(shown.index)
    bars = (
        alt.Chart(bins)
        .mark_bar()
        .encode(
            x=alt.X(
                "low:Q",
                bin="binned",
                title="Pearson correlation of activations",
                scale=alt.Scale(domain=[float(edges[0]), 1.0], nice=False),
            ),
            x2="high:Q",
            y=alt.Y("matches:Q", title="one-to-one matches"),
            color=alt.Color(
                "claim:N",
                title="claim (matches)",
                sort=list(labels.values()),
                scale=alt.Scale(
                    domain=list(labels.values()), range=[_COLOURS[name] for name in shown]
                ),
            ),
            order="rank:Q",
            tooltip=[
                "claim:N",
                alt.Tooltip("low:Q", format=".2f"),
                alt.Tooltip("high:Q", format=".2f"),
                "matches:Q",
            ],
        )
    )
    layers: list[alt.Chart] = [bars]
    subtitle = [f"n = {len(matches):,} matches over {result['tokens']:,} {result['alignment']}"]
    threshold = result["null_threshold"]
    if threshold is not None:
        line = pd.DataFrame({"threshold": [threshold]})
        layers.append(
            alt.Chart(line).mark_rule(strokeDash=[4, 3], strokeWidth=1.5).encode(x="threshold:Q")
        )
        subtitle.append(
            f"dashed: {threshold:.3f}, which the best match of 5% of features exceeds in shifted documents"
        )
    return finished(
        alt.layer(*layers).properties(
            width=_WIDTH,
            height=_HEIGHT,
            title=heading("Correlation of matched features", pair, *subtitle),
        )
    )


def _bins(
    values: "pd.Series[float]", edges: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> pd.DataFrame:
    counts, _ = np.histogram(values, edges)
    rows = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "matches": counts})
    return rows[rows["matches"] > 0]
