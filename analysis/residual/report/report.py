"""Report on dataset geometry: a self-contained HTML page, and its figures as files."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis import report_page
from analysis.interpretability.marks import MARKS
from analysis.plot_style import FORMATS, Chart, save
from analysis.probe.tables import VERDICTS
from analysis.residual.report import by_layer, report_text, reproduce_commands
from analysis.residual.report import plots as plots
from analysis.residual.report.arm_difference import Difference
from analysis.residual.report.findings import Findings
from analysis.residual.report.interpretability_metrics import TOKEN_METRICS
from analysis.residual.report.marks import CONTROLS_OF_MARKS
from atlas.errors import BadInput

__all__ = ["figures", "html", "numbers", "write_figures"]

_ARMS = {
    "arm": "arm",
    "saes": "SAEs",
    "seeds": "seeds",
    "features": "features",
    "probed": "probed",
    "passed": "share that passes the filter",
    "balanced_accuracy": "balanced accuracy",
    "token_table": "token table",
    "token_ceiling": "",
    "control": "control task",
    "selectivity": "selectivity",
    "shuffled": "shuffled labels",
}

_SCORES = {
    "arm": "arm",
    "score": "score",
    "features": "features",
    "probes": "probes",
    "mean": "mean",
    "median": "median",
    "sd": "sd",
}

_DIFFERENCES = {
    "pair": "difference",
    "mean": "mean",
    "between": "95% interval",
    "resampled": "resampled",
    "seeds": "seeds",
    "p": "sign-flip p",
    "p_floor": "smallest possible p",
}

_BEHIND = {
    "pair": "difference",
    "plain": "plain",
    "outside": "share of features in no common stratum",
    "standard_error": "standard error",
    "degrees": "degrees of freedom",
    "seed_variance": "variance among seeds",
    "document_variance": "variance over documents",
    "draw_variance": "variance over draws",
}

#: Largest number of SAEs that are listed individually; more are summarized by arm.
_MANY = 16

#: Columns that may differ between the SAEs of an arm.
_OF_SAE = ("steps", "final_loss", "input_variance", "removed_share", "shrunk")


def figures(found: Findings) -> dict[str, tuple[Chart, str]]:
    """Return the figures of a report by name, each with its caption."""
    charts: dict[str, tuple[Chart, str]] = {}
    study = found.study
    if len(plots.sweep_table(found.maps)):
        charts["sweep"] = (
            plots.draw_sweep(found.maps, source=found.source),
            f"R² of affine maps from {found.source} by layer, with token means and random weights if available.",
        )
    if found.verdicts_by_layer:
        charts["verdicts"] = (
            plots.draw_verdicts(found.verdicts_by_layer),
            "Verdicts on the features of SAEs that read the full activations, by layer, with random weights if "
            "available.",
        )
    if study is not None and any(len(p.table) for p in study.probed):
        charts["distributions"] = (
            plots.draw_distributions(study),
            "Balanced accuracy of the probes of each arm's features.",
        )
        charts["boxes"] = (
            plots.draw_boxes(study),
            f"The same scores as box plots, with the token table and the {report_text.best_by_token(study.site)} of the same features.",
        )
    if any(d.mean is not None for d in found.differences):
        charts["differences"] = (
            plots.draw_differences(found.differences),
            "Differences between arms; the headline uses residual − components and residual − token-means.",
        )
    return charts


def write_figures(
    charts: Mapping[str, tuple[Chart, str]],
    folder: Path,
    *,
    formats: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Write the figures of a report to a folder, which is created if it does not exist.

    Raises
    ------
    BadInput
        If the format is unknown, or the folder cannot be created.
    """
    for each in formats:
        if f".{each}" not in FORMATS:
            raise BadInput(f"The format {each!r} is unknown; expected one of {', '.join(FORMATS)}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"The folder {folder} cannot be created ({error.strerror}); pass another."
        ) from error
    return [
        save(chart, folder / f"{name}.{each}")
        for name, (chart, _) in charts.items()
        for each in formats
    ]


def html(
    found: Findings, *, where: str, charts: Mapping[str, tuple[Chart, str]] | None = None
) -> str:
    """Return the report as one page.

    Parameters
    ----------
    found
        The numbers of the report.
    where
        Path of the atlas in commands.
    charts
        The figures, if they were drawn already.
    """
    charts = figures(found) if charts is None else charts
    return report_page.page(
        f"Dataset geometry of {found.atlas}",
        [
            *_verdict(found, where),
            report_page.heading("The question"),
            report_page.paragraphs(*report_text.question(found)),
            *_setting(found, where),
            *by_layer.maps(found, charts, where=where),
            *by_layer.verdicts(found, charts, where=where),
            *_arms(found, charts, where),
            *_differences(found, charts),
            *_metrics(found, where),
            *_marks(found, where),
            *_conclusions(found),
            report_page.heading("Commands to reproduce this report"),
            report_page.code(reproduce_commands.commands(found, where)),
        ],
    )


def numbers(found: Findings) -> dict[str, Any]:
    """Return all numbers of a report as JSON data."""
    return {
        "atlas": found.atlas,
        "study": None if found.study is None else found.study.name,
        "source": found.source,
        "run": None if found.study is None else found.study.run,
        "other_studies": [] if found.study is None else list(found.study.others),
        "headline": found.headline or None,
        "verdicts": [{"asks": report_text.ASKS[v.control], **asdict(v)} for v in found.verdicts],
        "differences": [asdict(d) | {"seeds": d.seeds} for d in found.differences],
        "arms": [
            {k: asdict(v) if hasattr(v, "low") else v for k, v in row.items()} for row in found.arms
        ],
        "scores": list(found.scores),
        "matches": list(found.matches),
        "marks": [
            {k: asdict(v) if hasattr(v, "low") else v for k, v in row.items()}
            for row in found.marks
        ],
        "mark_differences": list(found.mark_differences),
        "marks_verdict": found.marks_verdict or None,
        "maps": list(found.maps),
        "verdicts_by_layer": list(found.verdicts_by_layer),
    }


def _verdict(found: Findings, where: str) -> list[Markup]:
    if not found.verdicts:
        return []
    rows = [
        (f"residual − {v.control}", report_text.ASKS[v.control], v.sentence) for v in found.verdicts
    ]
    parts = [report_page.comparisons(found.headline, rows)]
    for why, commands in reproduce_commands.without_verdict(found, where):
        parts += [report_page.paragraphs(why, kind="missing"), report_page.code(commands)]
    return parts


def _setting(found: Findings, where: str) -> list[Markup]:
    corpus = found.corpus
    text = (
        f"Text: {corpus.get('name', '–')}, {report_page.cell(corpus.get('documents'))} documents. "
        f"Source of maps and probes: `{found.source}`."
    )
    parts = [report_page.heading("Data and settings"), report_page.paragraphs(text)]
    study = found.study
    if study is None:
        command = "atlas residual --model MODEL --from hook_embed --to blocks.L.hook_resid_post"
        return [*parts, report_page.missing("residual study", command, where)]
    if study.others:
        parts.append(
            report_page.paragraphs(
                f"This report is on the study {study.name}. To report on another study of this atlas, pass `study`: "
                f"{', '.join(study.others)}.",
                kind="missing",
            )
        )
    parts.append(
        report_page.notes([f"{arm}: {reads}." for arm, reads in report_text.reads(study).items()])
    )
    if len(study.split):
        parts.append(
            report_page.table(
                study.split.to_dict("records"),  # type: ignore[arg-type]
                {str(name): str(name) for name in study.split},
                caption="Documents by use",
            )
        )
    parts += _saes(study.arms)
    settings = [f"{k} {v}" for k, v in sorted(study.settings.items()) if v is not None]
    parts.append(
        report_page.paragraphs(f"Settings of the study: {'; '.join(settings)}.", kind="small")
    )
    if study.unprobed:
        parts.append(
            report_page.paragraphs(
                f"Excluded below, because they have no probes of this run from {study.site}: {', '.join(study.unprobed)}. "
                f"To probe them, run `atlas probe {' '.join(study.unprobed)} --from {found.source} --atlas "
                f"{shlex.quote(where)}`.",
                kind="missing",
            )
        )
    return parts


def _saes(arms: pd.DataFrame) -> list[Markup]:
    """Return the table of SAEs; if there are many, folded below a table of arms."""
    rows = [_arm_of(row) for row in arms.to_dict("records")]
    each = _common_in_caption(rows, "The SAEs")
    if len(rows) <= _MANY:
        return [each]
    ranges = []
    for arm, own in arms.groupby("arm", sort=False):
        ranges.append(
            {"arm": arm, "SAEs": len(own)} | {n: _range(own[n]) for n in _OF_SAE if n in own}
        )
    return [
        report_page.table(
            ranges,
            {n: n.replace("_", " ") for n in ranges[0]},
            caption="The SAEs of each arm, minimum to maximum",
        ),
        report_page.folded(f"All {len(rows)} SAEs", each),
    ]


def _common_in_caption(rows: Sequence[Mapping[str, Any]], what: str) -> Markup:
    """Return a table whose caption has the values that all rows share."""
    same = {n: v for n, v in rows[0].items() if len(rows) > 1 and all(r[n] == v for r in rows)}
    common = [
        f"{n.replace('_', ' ')} {report_page.cell(v)}" for n, v in same.items() if v is not None
    ]
    caption = what + (f"; all have {', '.join(common)}" if common else "")
    columns = {n: n.replace("_", " ") for n in rows[0] if n not in same}
    return report_page.table(rows, columns, caption=caption)


def _range(column: pd.Series) -> str | None:
    """Return minimum and maximum of a column, or its single value."""
    finite = column.dropna()
    if not len(finite):
        return None
    least, most = report_page.cell(finite.min().item()), report_page.cell(finite.max().item())
    return least if least == most else f"{least} to {most}"


def _arms(found: Findings, charts: Mapping[str, tuple[Chart, str]], where: str) -> list[Markup]:
    if found.study is None:
        return []
    parts = [report_page.heading("How well features are predicted")]
    if not found.arms:
        saes = " ".join(found.study.arms["sae"])
        command = f"atlas probe {saes} --from {found.source}"
        return [*parts, report_page.missing("probe of the study's SAEs", command, where)]
    columns = _ARMS | {"token_ceiling": report_text.best_by_token(found.source)}
    parts.append(
        report_page.table(
            found.arms,
            columns,
            caption="Means over seeds, with 95% intervals over seeds if there are several. "
            f"Run {found.study.run}; a random probe has balanced accuracy 0.5",
        )
    )
    rungs = {rung: f"≥ {rung}" for row in found.scores[:1] for rung in row["ladder"]}
    parts.append(
        report_page.table(
            [_scored(row) for row in found.scores],
            _SCORES | rungs,
            caption="Scores of all SAEs of an arm together, in the form of the original study. Most tokens are inactive, so "
            "accuracy is nearly the specificity",
        )
    )
    verdicts = {"arm": "arm"} | {f"verdict {name}": name for name in VERDICTS}
    parts.append(
        report_page.table(found.arms, verdicts, caption="Share of probed features by verdict")
    )
    return parts + report_page.figures(charts, "distributions", "boxes")


def _differences(found: Findings, charts: Mapping[str, tuple[Chart, str]]) -> list[Markup]:
    if not found.differences or found.study is None:
        return []
    rows = [_row(d) for d in found.differences]
    seeds = sorted({seed for d in found.differences for seed in d.by_seed})
    each = [
        {"pair": f"{d.one} − {d.other}", **{str(s): d.by_seed.get(s) for s in seeds}}
        for d in found.differences
    ]
    names = {"pair": "difference"} | {str(s): f"seed {s}" for s in seeds}
    return [
        report_page.heading("Are residual features harder to predict?"),
        report_page.paragraphs(report_text.HOW),
        report_page.table(
            rows, _DIFFERENCES, caption="Differences of mean balanced accuracy between arms"
        ),
        report_page.table(each, names, caption="The same differences for each seed"),
        report_page.table(
            rows, _BEHIND, caption="Standard errors and variances behind the intervals"
        ),
        *report_page.figures(charts, "differences"),
    ]


def _metrics(found: Findings, where: str) -> list[Markup]:
    if not found.arms and not found.matches:
        return []
    parts = [report_page.heading("Interpretability metrics")]
    if any(row[name].mean is not None for row in found.arms for name in TOKEN_METRICS):
        parts.append(
            report_page.table(
                found.arms,
                {"arm": "arm"} | TOKEN_METRICS,
                caption="Means over live features. Entropy is a lower bound if only the most frequent ids of a feature are stored",
            )
        )
    if not found.matches:
        assert found.study is not None
        pair = " ".join(
            found.study.arms[found.study.arms["arm"].isin(["baseline", "residual"])]["sae"]
        )
        return [
            *parts,
            report_page.missing("match between the study's SAEs", f"atlas match {pair}", where),
        ]
    columns = {
        "one": "arm",
        "other": "and",
        "seeds": "training seeds",
        "pairs": "pairs of SAEs",
        "counterparts": "counterparts",
        "share": "share of live features",
        "pearson": "their mean r",
        "null_threshold": "r under the null",
    }
    parts.append(
        report_page.table(found.matches, columns, caption=report_text.matched(found.matches))
    )
    return parts


def _marks(found: Findings, where: str) -> list[Markup]:
    """Return the marks of interpretability by arm, and their differences."""
    if found.study is None:
        return []
    parts = [report_page.heading("Are residual features harder to interpret?")]
    if not found.marks:
        command = f"atlas describe {' '.join(found.study.arms['sae'])}"
        return [*parts, report_page.missing("mark of the study's features", command, where)]
    parts.append(report_page.paragraphs(*filter(None, (found.marks_verdict, report_text.MARKED))))
    names = {"arm": "arm", "saes": "SAEs", "features": "features"}
    parts.append(
        report_page.table(
            found.marks,
            names
            | MARKS
            | CONTROLS_OF_MARKS
            | {"concepts": "share of features that separate a concept"},
            caption="Means over seeds, with 95% intervals over seeds if there are several",
        )
    )
    rows = [
        dict(row)
        | {
            "mark": row["mark"].replace("_", " "),
            "pair": f"{row['one']} − {row['other']}",
            "between": report_page.between(row["low"], row["high"]),
            "harder": {True: "harder", False: "easier", None: "–"}[row["harder"]],
        }
        for row in found.mark_differences
    ]
    columns = {"mark": "mark"} | {k: v for k, v in _DIFFERENCES.items() if k != "resampled"}
    parts.append(
        report_page.table(
            rows,
            columns | {"q": "q", "harder": "the first arm is"},
            caption="Differences of mean marks between arms, on features of similar frequency; agreement and detection "
            "minus their controls",
        )
    )
    return parts


def _conclusions(found: Findings) -> list[Markup]:
    return [
        report_page.heading("Conclusions"),
        report_page.notes(
            report_text.may(found) or ["None: this atlas has neither maps nor a residual study."]
        ),
        report_page.heading("Limits of these conclusions"),
        report_page.notes(report_text.may_not(found)),
    ]


def _row(difference: Difference) -> dict[str, Any]:
    return asdict(difference) | {
        "pair": f"{difference.one} − {difference.other}",
        "seeds": difference.seeds,
        "between": report_page.between(difference.low, difference.high),
        "resampled": " and ".join(difference.resampled) or "nothing",
    }


def _scored(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table of scores, with the number of probes at each threshold."""
    rungs = {
        rung: str(on["count"]) + ("" if on["share"] is None else f" ({on['share']:.0%})")
        for rung, on in row["ladder"].items()
    }
    return dict(row) | rungs | {"score": row["score"].replace("_", " ")}


def _arm_of(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of the table of arms, with None instead of NaN for a missing draw."""
    draw = row.get("draw")
    return dict(row) | {"draw": None if draw is None or draw != draw else int(draw)}
