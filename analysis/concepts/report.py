"""Report on concepts: one self-contained HTML page with verdicts, tables, controls and figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from markupsafe import Markup

from analysis import report_page
from analysis.concepts.causal.plots import draw as draw_ablation
from analysis.concepts.plots import Kind, draw, draw_front
from analysis.concepts.settings import RawArm
from analysis.concepts.worth.rank import rank_sentences
from analysis.plot_style import Chart
from analysis.statistics.intervals import Mean
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["concept_page"]

_MOST = 6
"""SAEs that are drawn one by one."""
_KINDS: Mapping[Kind, str] = {
    "p-values": "p-values of live units",
    "retained": "R over the number of units",
    "selectivity": "AUROC of the splits minus that of permuted labels",
}
"""Plots of each SAE."""

_OF_MODEL = ("layer", *get_args(RawArm))
"""Arms that have no part of an SAE."""

_UNITS = {
    "sae": "SAE",
    "concept": "concept",
    "arm": "units of",
    "units": "units",
    "varying": "vary",
    "p5_units": "p < 1e-5",
    "p5_chance": "permuted labels",
    "p01_units": "p < .01",
    "p01_chance": "permuted labels",
    "q_units": "q ≤ .05",
    "q_chance": "permuted labels",
    "max_t_units": "family-wise",
    "effective": "effective number",
}
_INFORMATION = {
    "sae": "SAE",
    "concept": "concept",
    "arm": "arm",
    "auc_mean": "AUROC",
    "permuted_auc": "permuted labels",
    "difference_mean": "difference from the layer",
    "accuracy": "balanced accuracy",
    "selectivity": "selectivity (control task)",
    "bits": "bits",
    "bits_base": "bits without activations",
    "converged": "converged",
}
_PROBES = {
    "sae": "SAE",
    "concept": "concept",
    "arm": "arm",
    "probe": "probe",
    "auc_mean": "AUROC",
    "permuted_auc": "permuted labels",
    "difference_mean": "difference from ridge",
    "splits": "splits",
}
_WORTH = {
    "sae": "SAE",
    "concept": "concept",
    "arm": "arm",
    "retained_mean": "R of all units",
    "k90": "k90",
    "area_mean": "area under R over log k",
}
_RANK = {
    "rank": "rank",
    "sae": "SAE",
    "role": "role",
    "shared": "concepts compared",
    "area": "area",
    "random_area": "area of random directions",
    "retained": "R",
    "k90": "k90",
    "difference_mean": "difference from the first",
}
_ABLATED = {
    "sae": "SAE",
    "concept": "concept",
    "k": "features",
    "clean_auc": "AUROC",
    "fall_mean": "fall",
    "random_fall": "random features",
    "candidates": "candidates",
    "p": "p",
    "q": "q",
    "direction_fall": "random directions of equal norm",
    "direction_p": "their p",
    "others_fall": "other concepts",
    "most_affected": "most affected",
    "most_affected_fall": "its fall",
    "others_active_share": "their words with an active feature",
    "specificity_mean": "excess minus others' excess",
    "size": "size of the change",
    "random_size": "of random features",
    "text_kl": "KL on neutral text",
    "random_text_kl": "of random features",
    "direction_text_kl": "of equal norm",
    "words_kl": "KL at the words",
    "random_words_kl": "of random features",
    "direction_words_kl": "of equal norm",
}


def concept_page(
    results: Sequence[Result],
    *,
    rank: Sequence[Mapping[str, Any]] = (),
    ablated: Sequence[Result] = (),
    command: str,
) -> str:
    """Return the page.

    Parameters
    ----------
    results
        Results of the study of concepts for one set of words, at least one.
    rank
        Rows of ``rank_saes``, if requested.
    ablated
        Results of the causal check, if requested.
    command
        The command that writes this page.
    """
    words = str(results[0]["words"])
    arms = _once([_named(one, row) for one in results for row in one.table("arms").to_pylist()])
    sections = [
        report_page.paragraphs(
            f"Are the features of {len(results)} SAE{'s'[: len(results) > 1]} more localised than the layer that they "
            f"read, and what do they lose, for the words of {words}? All scores are on held-out words."
        ),
        report_page.notes([sentence for one in results for sentence in one.verdict]),
        *_localisation(arms),
        *_information(arms, results),
        *_worth(arms, results, rank),
        *_causal(ablated),
        report_page.heading("SAEs one by one"),
        *_pictures(results),
        report_page.heading("Reproduce"),
        report_page.code([command]),
        report_page.paragraphs("docs/methods/concepts.md defines the measures and their controls."),
    ]
    return report_page.page(f"Concepts of {words}", sections)


def _localisation(arms: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    yield report_page.heading("1. Are features more localised than the layer?")
    yield _table(
        [row for row in arms if row["p01_units"] is not None],
        _UNITS,
        caption="Units that separate the classes, next to their mean number under permuted labels. q and family-wise p "
        "are corrected for the number of units that vary on these words; the others are not tested. Arms of the model, such "
        "as the layer, are listed once for all SAEs of a site, with the site.",
    )


def _information(arms: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> Iterator[Markup]:
    yield report_page.heading("2. What is lost between layer and SAE?")
    yield _table(
        arms,
        _INFORMATION,
        caption="Ridge logistic regression on all units of an arm; intervals over splits that divide no group of words.",
    )
    rows = [_named(one, row) for one in results for row in one.table("probes").to_pylist()]
    if rows:
        yield _table(rows, _PROBES, caption="Further probes, on the same splits as ridge.")


def _worth(
    arms: Sequence[Mapping[str, Any]],
    results: Sequence[Result],
    rank: Sequence[Mapping[str, Any]],
) -> Iterator[Markup]:
    yield report_page.heading("3. Which SAE retains the most information in the fewest features?")
    yield _table(
        arms,
        _WORTH,
        caption="R is the held-out AUROC above .5 relative to that of the layer. The arm random has random directions that are "
        "active as often as the features, and the arms subset have random features that vary on these words. k90 is empty if no number of units reaches 90%.",
    )
    if len(results) > 1:
        yield from _figure(lambda: draw_front(results), "front", "R of all features against k90.")
    if rank:
        yield report_page.notes(rank_sentences(rank))
        yield _table(
            [
                {**row, "difference_mean": _mean(row, "difference", low="low", high="high")}
                for row in rank
            ],
            _RANK,
            caption="SAEs by area, with the difference from the first, paired by split.",
        )


def _causal(ablated: Sequence[Result]) -> Iterator[Markup]:
    if not ablated:
        return
    yield report_page.heading("4. Do later probes need these features?")
    yield report_page.notes([sentence for one in ablated for sentence in one.verdict])
    yield _table(
        [_named(one, row) for one in ablated for row in one.table("summary").to_pylist()],
        _ABLATED,
        caption="Fall of the held-out AUROC of probes at the output of the last block, if the best features are ablated "
        "at the tokens of the word. Random features are active as often. p compares with sets of them, and q corrects it for the number of "
        "concepts. The change of equal norm replaces each decoder vector by a random direction. The excess is the fall - "
        "that of random features.",
    )
    for number, one in enumerate(ablated[:_MOST]):
        caption = f"What probes lose without features of {one['sae']}."
        yield from _figure(lambda one=one: draw_ablation(one), f"ablated-{number}", caption)


def _pictures(results: Sequence[Result]) -> Iterator[Markup]:
    for number, one in enumerate(results[:_MOST]):
        for kind, what in _KINDS.items():
            yield from _figure(
                lambda one=one, kind=kind: draw(one, kind=kind),
                f"sae-{number}-{kind}",
                f"{one['sae']}: {what}.",
            )
    rest = len(results) - _MOST
    if rest > 0:
        yield report_page.paragraphs(f"{rest} more SAEs are in the tables.")


def _once(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows with each arm of the model once for all SAEs at its site, named by the site.

    Rows of arms of an SAE all remain: those of two SAEs without live features are equal.
    """
    found: list[Mapping[str, Any]] = []
    seen = set()
    for row in rows:
        if row["arm"] not in _OF_MODEL or not row["site"]:
            found.append(row)
            continue
        key = repr({name: value for name, value in row.items() if name != "sae"})
        if key not in seen:
            seen.add(key)
            found.append({**row, "sae": f"(at {row['site']})"})
    return found


def _table(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, caption: str
) -> Markup:
    """Return a table without the columns of the SAE and the concept, if there is one of each."""
    same = {name for name in ("sae", "concept") if len({row.get(name) for row in rows}) == 1}
    shown = {name: title for name, title in columns.items() if name not in same}
    return report_page.table(rows, shown, caption=caption)


def _figure(make: Any, name: str, caption: str) -> Iterator[Markup]:
    """Yield the figure, or the reason why there is none."""
    try:
        chart: Chart = make()
    except BadInput as error:
        yield report_page.paragraphs(str(error))
    else:
        yield report_page.figure(chart, name=name, caption=caption)


def _named(one: Result, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the SAE, and each value with limits as a mean with its interval."""
    found = {"sae": one["sae"], "site": one.summary.get("site"), **row}
    for name in row:
        if f"{name}_low" in row and name != "k90":
            found[f"{name}_mean"] = _mean(row, name, low=f"{name}_low", high=f"{name}_high")
    return found


def _mean(row: Mapping[str, Any], name: str, *, low: str, high: str) -> Mean | None:
    value = row.get(name)
    return None if value is None else Mean(value, row.get(low), row.get(high))
