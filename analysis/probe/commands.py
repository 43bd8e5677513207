"""The commands `atlas probe-scores` and `atlas plot probes`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from atlas.amounts import cell_text, counted
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import (
    PLOT_FILES,
    atlas_option,
    out_option,
    plain_options,
    table_options,
)

if TYPE_CHECKING:
    import pandas as pd

    from analysis.probe.floor_scores import FloorMark

__all__ = ["plot_probes", "probes"]

# A control this near a score, or nearer, is reported as nearly as high.
_NEAR = 0.05

# Controls of each score, which a narrow terminal prints with it.
_CONTROLS = {
    "balanced_accuracy": ("control", "token_table"),
    "r2": ("r2_token_table",),
    "r2_active": ("r2_active_token_table",),
}

# Why a control is missing.
_WITHOUT_CONTROL = (
    "control –: no control task was run, or the split is by type: no token id is then both in training "
    "and in validation. There, shuffled is the control, and token_table is at chance."
)

# Groups with a sentence above the tables.
_SENTENCES = 8

# With more groups, the detailed tables are printed only for a selected group.
_AT_MOST = 3


@click.command("probe-scores")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@click.option(
    "--site",
    "sites",
    multiple=True,
    metavar="HOOK",
    help="Only probes from this site, such as hook_embed; repeat for several sites.",
)
@click.option(
    "--run",
    metavar="RUN",
    help="Only this run, or all runs with this prefix: 'document', 'type/active'.",
)
@click.option(
    "--by",
    type=click.Choice(["frequency", "max_activation", "layer", "first-layer", "sweep", "kind"]),
    help="Break the numbers down: by quintiles of the features' frequency or highest "
    "activation, by the layer the SAE reads, by the earliest site that predicts a "
    "feature nearly as well as its best site, by layer and site, or by the kind of probe "
    "(linear, random features, MLP).",
)
@click.option(
    "--delta",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="With --by first-layer: largest difference from the best score of the feature.",
)
@atlas_option
@table_options
def probes(
    saes: tuple[str, ...],
    sites: tuple[str, ...],
    run: str | None,
    by: Literal["frequency", "max_activation", "layer", "first-layer", "sweep", "kind"] | None,
    delta: float,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Report how well probes predict features.

    Every score has its ceiling and its controls.

    Scores are on validation tokens. Accuracy at natural prevalence is high for any rare
    feature; chance level of balanced accuracy is 0.5. Floors of the named SAEs are included. Without --by, up to three groups (an
    SAE, a site and a run) are also printed in detail, with counts of features by accuracy.

    \b
    Examples:
      atlas probe-scores
      atlas probe-scores tiny-a-l1-s0 --site hook_embed --run document
      atlas probe-scores --by frequency
      atlas probe-scores --by sweep --json
      atlas probe-scores --by kind
    """
    from analysis.probe import tables as numbers
    from analysis.probe.floor_scores import floor_sentences, marked
    from atlas.errors import BadInput

    if by == "kind":
        _show_kinds(where, saes, sites, as_json=as_json)
        return
    table, marks = _loaded(where, saes, sites, run, quiet=quiet)
    if by is None:
        rows = marked(numbers.summary(table), marks)
        verdict = _verdict(rows, floor_sentences(rows, marks))
        emit(
            rows,
            as_json=as_json,
            show=lambda: _show_summary(rows, verdict, quiet=quiet),
            verdict=verdict,
        )
        return
    if by == "first-layer":
        rows = numbers.first_layer_histogram(numbers.first_layers(table, delta=delta))
    elif by == "sweep":
        rows = numbers.sweep(table)
    else:
        rows = numbers.breakdown(table, by=by)
    if not rows:
        raise BadInput(
            f"--by {by} compares sites, but no selected SAE has scores from two sites in one run; "
            "run `atlas probe SAE --from all`."
            if by in ("first-layer", "sweep")
            else "--by needs probes that predict activity, but the selection has none; "
            "run `atlas probe SAE --from hook_embed`."
        )
    rows = marked(rows, marks)
    emit(rows, as_json=as_json, show=lambda: _show_breakdown(rows, by=by))


@click.command("probes")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@click.option(
    "--site",
    "sites",
    multiple=True,
    metavar="HOOK",
    help="Draw probes from this site; repeat for several sites. [default: the first probed "
    "site of each SAE in model order; the sweep has all sites]",
)
@click.option(
    "--run",
    metavar="RUN",
    help="Only this run, or all runs with this prefix: 'document', 'type/active'.",
)
@click.option(
    "--kind",
    type=click.Choice(["scatter", "distribution", "ladder", "splits", "sweep", "page"]),
    help="One kind of plot of all groups (an SAE, a site and a run), or a page of all kinds. [default: "
    "scatter, of the group whose score exceeds its controls most; a floor only if no other SAE is selected]",
)
@out_option(f"Output file: {PLOT_FILES}", default="probes.html")
@atlas_option
@plain_options
def plot_probes(
    saes: tuple[str, ...],
    sites: tuple[str, ...],
    run: str | None,
    kind: str | None,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw probes: scores against ceilings, ladder, sweep.

    Without --kind, one picture of one group is drawn, and a remark names it. In HTML, hover over a point to see its feature. Drag to pan a scatter plot, and zoom with
    Shift and the mouse wheel. Click a verdict to show only its features.

    \b
    Examples:
      atlas plot probes
      atlas plot probes tiny-a-l1-s0 --run document --out probes.html --out probes.png
      atlas plot probes --kind sweep --out sweep.svg
    """
    from analysis.plot_style import check_path, save
    from analysis.probe.plots import draw_probes

    for out in outs:
        check_path(out)
    table, floors = _loaded(where, saes, sites, run, quiet=quiet)
    remark = ""
    if kind is None:
        from analysis.probe.strongest_group import strongest_group

        strongest = strongest_group(table, floors=list(floors))
        table = strongest.rows
        kind = "scatter" if table["token_ceiling"].notna().any() else "distribution"
        others = counted(strongest.others, "other group")
        choice = f"{others}: select by SAE, --site and --run. " if strongest.others else ""
        remark = f"{strongest.sentence} {choice}--kind page draws all kinds of plots of all groups."
    picture = draw_probes(table, kind=kind, every_site=bool(sites) or bool(remark))
    written = [str(save(picture, out)) for out in outs]
    if remark and not quiet:
        print_text(remark, err=True)
    elif not quiet and not sites and kind != "sweep" and table["site"].nunique() > 1:
        probed = ", ".join(dict.fromkeys(table["site"]))
        echo(f"The SAEs were probed from {probed}; select other sites with --site.", err=True)
    emit({"written": written}, as_json=as_json, show=lambda: echo("\n".join(written)))


def _loaded(
    where: str | None,
    saes: tuple[str, ...],
    sites: tuple[str, ...],
    run: str | None,
    *,
    quiet: bool,
) -> "tuple[pd.DataFrame, dict[str, FloorMark]]":
    """Load the selected probes, and the marks of floors; raise BadInput if there are no probes."""
    from analysis.probe.floor_scores import floor_marks
    from analysis.probe.tables import load
    from atlas.api import Atlas
    from atlas.errors import BadInput
    from atlas.studies.floors import floors_of

    with Atlas.open(which_atlas(where), progress=make_progress(quiet=quiet)) as atlas:
        rows = atlas.table("SAE").to_pylist()
        floors = [floor for sae in saes for floor in floors_of(rows, sae)]
        table = load(atlas, saes=tuple(dict.fromkeys((*saes, *floors))), sites=sites, run=run)
        if not len(table):
            name = saes[0] if len(saes) == 1 else "SAE"
            owner = f" of {', '.join(saes)}" if saes else ""
            raise BadInput(
                f"{atlas.url} has no probe{owner}; run `atlas probe {name} --from hook_embed`."
            )
    return table, floor_marks(rows)


def _show_kinds(
    where: str | None, saes: tuple[str, ...], sites: tuple[str, ...], *, as_json: bool
) -> None:
    """Print the comparison of non-linear probes with linear ones; raise BadInput if there is none."""
    from analysis.probe.floor_scores import floor_marks, marked
    from analysis.probe.kinds import kind_rows, kind_verdict
    from atlas.disk.folder import Folder
    from atlas.errors import BadInput, UnknownName

    folder = Folder.open(folder_of(which_atlas(where)))
    sound = folder.sound()
    for name in saes:
        if name not in sound.saes:
            raise UnknownName("SAE", name, known=sound.saes)
    rows = marked(kind_rows(sound, saes, sites=sites), floor_marks(sound.sae_rows.values()))
    if not rows:
        raise BadInput(
            f"{folder.path} has no non-linear probe with the settings of a linear one; run "
            f"`atlas probe {' '.join(saes) or 'SAE'} --kind active --kind random-features --kind mlp`."
        )

    def show() -> None:
        print_verdict(kind_verdict(rows))
        print_table(rows, keys=("floor_of",))

    emit(rows, as_json=as_json, show=show, verdict=kind_verdict(rows))


def _verdict(rows: list[dict[str, Any]], higher: list[str]) -> list[str]:
    """Return the sentences of the first groups, with those on floors after the first."""
    first, *more = [_sentence(row) for row in rows[:_SENTENCES]]
    return [first, *higher, *more]


def _show_summary(rows: list[dict[str, Any]], verdict: list[str], *, quiet: bool) -> None:
    print_verdict(verdict)
    for scored in (True, False):
        group = [_overview(row) for row in rows if ("ladder" in row) == scored]
        # A site that all rows have is in the sentences above.
        one_site = len({row["site"] for row in group}) == 1
        print_table(
            [{k: v for k, v in row.items() if not (one_site and k == "site")} for row in group],
            keys=("floor_of",),
            controls=_CONTROLS,
        )
    if any("ladder" in row and row["scores"]["control"]["mean"] is None for row in rows):
        print_text(_WITHOUT_CONTROL)
    if len(rows) <= _AT_MOST:
        for row in rows:
            _show_in_full(row)
    elif not quiet:
        echo("For the detailed tables of one group, select its SAE, --site and --run.", err=True)


def _show_breakdown(rows: list[dict[str, Any]], *, by: str) -> None:
    """Print the rows of a breakdown, with the range of each quintile in one column."""
    floors = {row["sae"]: row["floor_of"] for row in rows if row.get("floor_of")}
    if floors:  # a narrow terminal omits the column
        named = ", ".join(f"{sae} ({mark})" for sae, mark in floors.items())
        print_verdict([f"Floors: {named}."])
    if "low" in rows[0]:
        rows = [
            {
                **{name: row[name] for name in ("sae", "floor_of", "site", "run") if name in row},
                by: " to ".join(cell_text(row[end], by) for end in ("low", "high")),
                **{name: value for name, value in row.items() if name not in ("low", "high")},
            }
            for row in rows
        ]
    print_table(rows, keys=(by,), controls=_CONTROLS)
    if any(row.get("control", 0.0) is None for row in rows):
        print_text(_WITHOUT_CONTROL)


def _sentence(row: dict[str, Any]) -> str:
    """Return the main score of a group with its control and what the token alone reaches."""
    name = f"{_named(row)} from {row['site']} ({row['run']})"
    is_scored = "ladder" in row
    score, table, word = (
        ("balanced_accuracy", "token_table", "balanced accuracy")
        if is_scored
        else ("r2", "r2_token_table", "R²")
    )
    mean, token = (row["scores"][each]["mean"] for each in (score, table))
    if mean is None:
        return f"{name}: no probe has a score."
    text = f"{name}: mean {word} {mean:.3f}"
    for each, control in (("control", "control task"), ("shuffled", "shuffled labels")):
        value = row["scores"][each]["mean"] if is_scored else None
        if value is not None:
            near = ", nearly as high" if mean - value < _NEAR else ""
            text += f" ({control} {value:.3f}{near})"
            break
    if token is None:
        return f"{text}."
    if is_scored and row["scores"]["seen_share"]["mean"] == 0:
        return f"{text}; a table of token counts is at chance, since no id of validation occurs in training."
    return f"{text}; a table of token counts reaches {token:.3f}, {_compared(token, mean)}."


def _compared(baseline: float, score: float) -> str:
    """Return how a baseline compares with the score of a probe."""
    if baseline >= score:
        return "as much as the probe" if baseline == score else "more than the probe"
    return "nearly as high" if score - baseline < _NEAR else "less than the probe"


def _named(row: dict[str, Any]) -> str:
    """Return the name of the SAE of a group, with its trained SAE or its role if it is a floor."""
    mark = row.get("floor_of")
    return f"{row['sae']} (floor: {mark})" if mark else str(row["sae"])


def _overview(row: dict[str, Any]) -> dict[str, Any]:
    """Summarize a group in one row: the means of the main scores, and the verdicts."""
    shown = (
        (
            "balanced_accuracy",
            "control",
            "token_table",
            "token_ceiling",
            "accuracy",
            "selectivity",
            "shuffled",
        )
        if "ladder" in row
        else (
            "r2",
            "r2_token_table",
            "r2_token_ceiling",
            "r2_active",
            "r2_active_token_table",
            "r2_active_token_ceiling",
        )
    )
    named = {n: row[n] for n in ("sae", "floor_of", "site", "run") if n in row}
    others = {"probes": row["probes"]}
    means = {name: row["scores"][name]["mean"] for name in shown}
    verdicts: dict[str, Any] = row.get("verdicts", {})
    return named | means | verdicts | others


def _show_in_full(row: dict[str, Any]) -> None:
    """Print the scores of a group and its counts of features by accuracy."""
    echo()
    title = f"{_named(row)} from {row['site']}, run {row['run']}: {row['probes']:,} probes"
    print_table([{"score": n, **values} for n, values in row["scores"].items()], title=title)
    if "ladder" not in row:
        return
    echo()
    plain, balanced = (row["ladder"][name] for name in ("accuracy", "balanced_accuracy"))
    print_table(
        [
            {"rung": one["rung"]}
            | {f"accuracy, {name}": one[name] for name in ("count", "share", "at_least_share")}
            | {f"balanced, {name}": two[name] for name in ("count", "share", "at_least_share")}
            for one, two in zip(plain, balanced, strict=True)
        ]
    )
