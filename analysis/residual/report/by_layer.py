"""The sections of a report on dataset geometry that go by layer: affine maps, and verdicts on features."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.plot_style import Chart
from analysis.probe.tables import VERDICTS
from analysis.residual.report import html_page, report_text
from analysis.residual.report.findings import Findings

__all__ = ["maps", "verdicts"]

_MAPS = {
    "model": "model", "target": "target", "method": "method", "r2_weighted": "R² held out",
    "between": "95% interval", "token_r2_weighted": "token means, held out",
    "of_token_means": "share of token means", "floor_r2_weighted": "floor: random weights",
    "above_floor": "above floor", "seen_share": "ids seen", "tokens": "tokens",
}  # fmt: skip

_OTHERWISE = {
    "model": "model", "target": "target", "method": "method", "r2": "held out, mean of dimensions",
    "r2_in_sample_weighted": "in sample", "token_eta2_weighted": "η² of the token id, in sample",
    "token_omega2_weighted": "the same corrected (ω²)", "r2_with_bos_weighted": "held out, with BOS",
    "r2_published": "as published", "bos_share": "share of error on BOS", "mse": "MSE per dimension",
    "mse_in_sample": "in sample", "mse_with_bos": "held out, with BOS", "variance": "variance",
}  # fmt: skip


def maps(found: Findings, drawn: Mapping[str, tuple[Chart, str]], *, where: str) -> list[str]:
    """Return how much of each layer the affine maps explain, as parts of the page."""
    said = [
        f"<h2>How much of a layer is an affine image of {html_page.cell(report_text.place(found))}</h2>"
    ]
    if not found.maps:
        return [
            *said,
            html_page.missing("map", f"atlas transcoder --from {found.source} --to all", where),
        ]
    rows = [
        dict(row) | {"between": html_page.between(row["r2_low"], row["r2_high"])}
        for row in found.maps
    ]
    said.append(html_page.paragraphs(
        "R² is held out by document. Beside it: what means of each token id predict, also held out, which is no "
        "ceiling, as rare ids have poor means; random weights of the same shape where they were named; and "
        "what the source published: in sample, one mean for all dimensions, BOS among the tokens. "
        + report_text.ceiling(found)
    ))  # fmt: skip
    said.append(
        html_page.table(
            rows, _MAPS, caption=f"Affine maps from {found.source}, R² variance-weighted"
        )
    )
    said.append(html_page.table(
        rows, _OTHERWISE, caption="R² of the same maps counted otherwise, and what inflates it"
    ))  # fmt: skip
    for floor, places in _without_floor(found, found.maps).items():
        command = f"atlas transcoder --model {floor}=FOLDER --from {found.source} --to all"
        said.append(html_page.missing(f"map of the floor {floor} to {places}", command, where))
    return said + html_page.figures(drawn, "sweep")


def _without_floor(found: Findings, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return at which layers a floor that was named does not stand beside its model, by floor."""
    lacking: dict[str, list[str]] = {}
    for row in rows:
        if row["floor"] is None and (floor := found.floors.get(row["model"])):
            layer = "the embedding" if row["layer"] is None else f"layer {row['layer']}"
            lacking.setdefault(floor, []).append(layer)
    return {floor: ", ".join(dict.fromkeys(layers)) for floor, layers in lacking.items()}


def verdicts(found: Findings, drawn: Mapping[str, tuple[Chart, str]], *, where: str) -> list[str]:
    """Return the verdicts on the features of each layer, as parts of the page."""
    rows = found.verdicts_by_layer
    if not rows:
        return []
    said = ["<h2>What the token tells of features, by layer</h2>"]
    floors = any(row["floor"] for row in rows)
    if floors:
        said.append(html_page.paragraphs(report_text.floor_of_verdicts(rows)))
    for floor, places in _without_floor(found, rows).items():
        said.append(html_page.paragraphs(
            f"No SAE of the floor {floor} at {places} was probed as those of the model were; `atlas residual` trains "
            "some: with the text and the settings of the model's own.", kind="missing",
        ))  # fmt: skip
    # Each number has that of the floor at its side, so that no table need be scrolled for it.
    shares = ["features", *(name for name in VERDICTS if _is_there(name, rows))]
    none = [name for name in VERDICTS if name not in shares]
    scores = {
        "saes": "SAEs", "balanced_accuracy": "balanced accuracy", "token_table": "token table",
        "token_ceiling": report_text.best_by_token(found.source),
    }  # fmt: skip
    begin = {"model": "model", "layer": "layer"}
    caption = f"Verdicts by layer (shares of probed features), run {rows[0]['run']}"
    caption += f"; none is {' or '.join(none)}" if none else ""
    first = _beside({"features": "probed features"} | {n: n for n in shares[1:]}, floors=floors)
    said.append(html_page.table(rows, begin | first, caption=caption))
    said.append(
        html_page.table(
            rows,
            begin | _beside(scores, floors=floors),
            caption="How well the same features are predicted",
        )
    )
    return [*said, *html_page.figures(drawn, "verdicts")]


def _is_there(verdict: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether any feature has a verdict, of a model or of its floor."""
    return any(row[verdict] or row[f"floor_{verdict}"] for row in rows)


def _beside(columns: Mapping[str, str], *, floors: bool) -> dict[str, str]:
    """Return columns, each with that of the floor at its side where there are floors."""
    out = {}
    for name, title in columns.items():
        out[name] = title
        if floors and name != "saes":
            out[f"floor_{name}"] = "of the floor"
    return out
