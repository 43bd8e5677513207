"""Sections by layer of a report on dataset geometry: affine maps, and verdicts on features."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from analysis import report_page
from analysis.plot_style import Chart
from analysis.probe.tables import VERDICTS
from analysis.residual.report import report_text
from analysis.residual.report.findings import Findings

__all__ = ["maps", "verdicts"]

_MAPS = {
    "model": "model",
    "target": "target",
    "method": "method",
    "r2_weighted": "R² held out",
    "between": "95% interval",
    "token_r2_weighted": "token means, held out",
    "of_token_means": "share of token means",
    "floor_r2_weighted": "floor: random weights",
    "above_floor": "above floor",
    "seen_share": "ids seen",
    "tokens": "tokens",
}

_OTHERWISE = {
    "model": "model",
    "target": "target",
    "method": "method",
    "r2": "held out, mean over dimensions",
    "r2_in_sample_weighted": "in sample",
    "token_eta2_weighted": "η² of the token id, in sample",
    "token_omega2_weighted": "the same corrected (ω²)",
    "r2_with_bos_weighted": "held out, with BOS",
    "r2_published": "as in the original study",
    "bos_share": "share of error on BOS",
    "mse": "MSE per dimension",
    "mse_in_sample": "in sample",
    "mse_with_bos": "held out, with BOS",
    "variance": "variance",
}


def maps(found: Findings, charts: Mapping[str, tuple[Chart, str]], *, where: str) -> list[Markup]:
    """Return the section on the share of each layer that affine maps explain."""
    parts = [
        report_page.heading(
            f"Variance of each layer explained by an affine map of {report_text.source_name(found)}"
        )
    ]
    if not found.maps:
        return [
            *parts,
            report_page.missing("map", f"atlas transcoder --from {found.source} --to all", where),
        ]
    rows = [
        dict(row) | {"between": report_page.between(row["r2_low"], row["r2_high"])}
        for row in found.maps
    ]
    parts.append(
        report_page.paragraphs(
            "R² is held out by document. For comparison, the table has the held-out R² of the mean of each token id. "
            "This is not a ceiling, because rare ids have poor means. The table also has the same map of a model with "
            "random weights, if one was named. The second table includes the R² of the original study, computed in "
            "sample, with one mean for all dimensions and BOS among the tokens. "
            + report_text.ceiling(found)
        )
    )
    parts.append(
        report_page.table(
            rows, _MAPS, caption=f"Affine maps from {found.source}, R² variance-weighted"
        )
    )
    parts.append(
        report_page.table(
            rows,
            _OTHERWISE,
            caption="Other R² of the same maps, and numbers that show how they are inflated",
        )
    )
    for floor, sites in _without_floor(found, found.maps).items():
        command = f"atlas transcoder --model {floor}=FOLDER --from {found.source} --to all"
        parts.append(report_page.missing(f"map of the floor {floor} to {sites}", command, where))
    return parts + report_page.figures(charts, "sweep")


def _without_floor(found: Findings, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the layers at which the floor of a model has no row, by floor."""
    missing: dict[str, list[str]] = {}
    for row in rows:
        if row["floor"] is None and (floor := found.floors.get(row["model"])):
            layer = "the embedding" if row["layer"] is None else f"layer {row['layer']}"
            missing.setdefault(floor, []).append(layer)
    return {floor: ", ".join(dict.fromkeys(layers)) for floor, layers in missing.items()}


def verdicts(
    found: Findings, charts: Mapping[str, tuple[Chart, str]], *, where: str
) -> list[Markup]:
    """Return the section on the verdicts on the features of each layer."""
    rows = found.verdicts_by_layer
    if not rows:
        return []
    parts = [report_page.heading("How well the token predicts features, by layer")]
    floors = any(row["floor"] for row in rows)
    if floors:
        parts.append(report_page.paragraphs(report_text.floor_of_verdicts(rows)))
    for floor, sites in _without_floor(found, rows).items():
        parts.append(
            report_page.paragraphs(
                f"No SAE of the floor {floor} at {sites} has probes with the settings of the model's probes. To train "
                "and probe SAEs of the floor, run `atlas residual` with the text and settings of the model's SAEs.",
                kind="missing",
            )
        )
    shares = ["features", *(name for name in VERDICTS if _occurs(name, rows))]
    none = [name for name in VERDICTS if name not in shares]
    scores = {
        "saes": "SAEs",
        "balanced_accuracy": "balanced accuracy",
        "token_table": "token table",
        "token_ceiling": report_text.best_by_token(found.source),
    }
    begin = {"model": "model", "layer": "layer"}
    caption = f"Verdicts by layer (shares of probed features), run {rows[0]['run']}"
    caption += f"; no feature has the verdict {' or '.join(none)}" if none else ""
    first = _with_floor({"features": "probed features"} | {n: n for n in shares[1:]}, floors=floors)
    parts.append(report_page.table(rows, begin | first, caption=caption))
    parts.append(
        report_page.table(
            rows,
            begin | _with_floor(scores, floors=floors),
            caption="Scores of the probes of the same features",
        )
    )
    return [*parts, *report_page.figures(charts, "verdicts")]


def _occurs(verdict: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether any feature of a model or of its floor has a verdict."""
    return any(row[verdict] or row[f"floor_{verdict}"] for row in rows)


def _with_floor(columns: Mapping[str, str], *, floors: bool) -> dict[str, str]:
    """Return columns, each followed by the column of the floor if there are floors."""
    out = {}
    for name, title in columns.items():
        out[name] = title
        if floors and name != "saes":
            out[f"floor_{name}"] = "of the floor"
    return out
