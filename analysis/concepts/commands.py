"""The command `atlas concepts`: labelled words, the features that separate them, and their worth."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.concepts.causal.settings import AblationSettings
from analysis.concepts.settings import ConceptSettings
from atlas.amounts import counted, listed
from atlas.cli.completion import complete_names
from atlas.cli.options import (
    all_option,
    chosen_settings,
    flags_for,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.screen import prints_all
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import PLOT_FILES, atlas_option, out_option, requested, shared_options
from atlas.errors import BadInput
from atlas.plugins import StudyCommand
from atlas.studies.results import Result, Results
from atlas.studies.settings import read_settings

if TYPE_CHECKING:
    from analysis.concepts.plots import Kind

__all__ = ["concepts"]

_UNITS = (
    "concept",
    "arm",
    "units",
    "varying",
    "p_max≤.05",
    "p_t<1e-5",
    "expected (1e-5)",
    "p_t<.01",
    "expected (.01)",
    "q≤.05",
)
_WORTH = ("concept", "arm", "AUROC", "permuted", "R", "area", "k90", "effective", "bits")
_CONTROLS: Mapping[str, tuple[str, ...]] = {
    "p_t<1e-5": ("expected (1e-5)",),
    "p_t<.01": ("expected (.01)",),
    "AUROC": ("permuted",),
    "area": ("random", "random_area"),
    "difference": ("low", "high"),
    "fall": ("random features", "p", "q"),
}
"""Controls of each column of these tables, which a narrow terminal prints with it."""
_BRIEF = ("reconstruction", "error", "subset")
"""Arms that the screen omits if there are several concepts or SAEs."""

_BRIEF_RANK: Mapping[str, Any] = {"raw": ("embedding",), "subsets": 0}
"""Settings of a ranking without --full: it needs neither neurons nor subsets of features."""

_BEST = 5
"""Features on a terminal without --rows."""
_OF_FEATURE = ("direction", "auroc_held_out", "p_max", "q", "effect")
_NO_FEATURE = "No feature of {sae} separates the classes (p_max ≤ {level:g})."
_FEATURE_LEGEND = (
    "auroc_held_out: on held-out words; 0.5 is chance. Features are selected on all words, so it is above 0.5 "
    "also by chance.",
    "p_max: share of permutations of the labels in which any feature separates the classes as strongly.",
    "q: Benjamini-Hochberg value of p of Welch's t; it is shown, and p_max alone decides.",
    "effect: Hedges' g, the difference of the class means in standard deviations.",
)
_UNIT_LEGEND = (
    "varying: units whose activation varies over these words; only they are tested. p_max≤.05: by permutations, corrected "
    "for all units. p_t: uncorrected p of Welch's t, which can be below the lowest p of the permutations. expected: mean "
    "count under permuted labels.",
)
_LEGEND = (
    "random: random directions that are active as often as the features. subset: random features that vary, as "
    "many as the layer has dimensions.",
    "R: (AUROC - .5) / (AUROC of the layer - .5). permuted: AUROC with permuted labels.",
    "area: mean R over the number of units on a log scale; larger if fewer units suffice. k90: least units with R ≥ .9. "
    "effective: participation ratio of the units that matter.",
    "bits: description length of the labels by the probe, of that without activations; lower is better.",
)
_RANK_LEGEND = (
    "area: mean R over the number of features on a log scale. random: the same of random directions. "
    "difference: from the first.",
    "R: (AUROC - .5) / (AUROC of the layer - .5). k90: least features with R ≥ .9. shared: concepts compared.",
)

_RANK = (
    "sae",
    "area",
    "random",
    "difference",
    "low",
    "high",
    "role",
    "shared",
    "concepts",
    "R",
    "k90",
)
_ROLES = (
    "concept",
    "role",
    "saes",
    "area",
    "random_area",
    "auc",
    "pairs",
    "site",
    "area_sd",
    "retained",
    "with_k90",
)
_ABLATED = (
    "concept",
    "k",
    "AUROC",
    "fall",
    "random features",
    "candidates",
    "p",
    "q",
    "equal norm",
    "other concepts",
    "most affected",
    "excess minus others' excess",
    "KL, text",
    "KL, random",
    "KL, equal norm",
    "KL, words",
)


@click.command(cls=StudyCommand, also={"concept_ablation": "--ablate"})
@click.argument(
    "words",
    metavar="FILE",
    required=False,
    shell_complete=complete_names("analysis.concepts.words.files:list_names", others="file"),
)
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@all_option
@settings_options(ConceptSettings)
@click.option(
    "--rank",
    is_flag=True,
    help="Also order the SAEs by the area under R over log k, with the interval of each difference, "
    "and compare trained SAEs with floors of their site and width. All SAEs are used if none is named. "
    "Neurons and subsets of features are scored only with --full, --raw or --subsets.",
)
@click.option(
    "--ablate",
    is_flag=True,
    help="Also ablate the best features of each concept, and report what probes at the last block "
    "lose, compared with random features and other concepts.",
)
@settings_options(AblationSettings)
@worker_options
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write an HTML page with all tables and figures; it needs no network and no other file.",
)
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@out_option(f"Plot one SAE, its ablations with --ablate, or the front of several: {PLOT_FILES}")
@click.option(
    "--kind",
    type=click.Choice(["retained", "selectivity", "p-values"]),
    help="Picture of one SAE: R over the number of units, AUROC of each split minus that of permuted "
    "labels, or p of single units. [default: retained; selectivity if the layer separates no concept]",
)
@atlas_option
@shared_options
def concepts(
    words: str | None,
    saes: tuple[str, ...],
    *,
    every: bool,
    rank: bool,
    ablate: bool,
    workers: int,
    ray: str | None,
    page: Path | None,
    replace: bool,
    outs: tuple[Path, ...],
    kind: "Kind | None",
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare SAEs with the layers they read on labelled words.

    FILE is a CSV or JSONL file with the columns text and label, or one of the lists gender,
    kinds and feelings. The command prints the best features that separate the classes (all:
    `atlas query features_of_concept`), how well
    probes of the features and of the layer predict the class of held-out words, and how many
    features retain the information of the layer. Random directions and permuted labels are
    measured the same way.

    \b
    Examples:
      atlas concepts gender tiny-a-l1-s0
      atlas concepts gender tiny-a-l1-s0 --kind p-values --out p.html
      atlas concepts kinds --rank --out front.html
      atlas concepts words.csv --carrier "I saw the {}" --probe mlp
      atlas concepts gender tiny-a-l0-s0 --ablate
    """
    from analysis.concepts.study import study_concepts
    from analysis.concepts.worth.rank import rank_saes

    if words is None:
        raise BadInput(_no_words())
    _check_paths(outs, page)
    if kind and (ablate or not outs):
        raise BadInput(
            f"`kind={kind}` selects the picture of one SAE; "
            + ("omit `ablate`." if ablate else "name its file with `out`.")
        )
    settings, ablation = _chosen(options, rank=rank, ablate=ablate)
    path = which_atlas(where)
    how: dict[str, Any] = {
        "replace": replace,
        "workers": workers,
        "ray": ray,
        "progress": make_progress(quiet=quiet),
    }
    # A ranking compares SAEs, so it uses all if none is named.
    selected = selected_names(saes, every=every or (rank and not saes))
    results = study_concepts(folder_of(path), words, selected, settings=settings, **how)
    # A stored result may have more draws and arms than requested.
    used = read_settings(ConceptSettings, results[0].settings) if results else settings
    ablated = Results()
    if ablate:
        from analysis.concepts.causal.study import ablate_concepts

        ablated = ablate_concepts(
            folder_of(path), words, selected, settings=ablation, how=settings, **how
        )
    ranked = rank_saes(results) if rank else []
    basis = _basis(ranked, used)
    if basis and not (requested("full") or options["raw"] or options["subsets"] is not None):
        basis += _not_scored(results)
    found = _found(results, ablated, ranked, basis=basis, rank=rank)
    if outs:
        found["written"] = _drawn(results, ablated, outs, kind=kind)
    if page:
        line = [
            *_command(words, saes, every=every, settings=used, ablation=ablation, found=found),
            *("--page", str(page), "-a", path),
        ]
        _write_page(page, results, ablated, ranked=ranked, command=shlex.join(line))
        found["written"].append(str(page))
    shown = Results([*results, *ablated])
    emit(found, as_json=as_json, show=lambda: _show(found, shown))


def _no_words() -> str:
    from analysis.concepts.words.files import list_names

    return (
        "No file of labelled words was named. Name a CSV or JSONL file with the columns text and label, or one of the "
        f"lists {listed(list_names(), 9)}: `atlas concepts gender`."
    )


def _check_paths(outs: Sequence[Path], page: Path | None) -> None:
    """Check the output files before any computation."""
    if not outs and not page:
        return
    from analysis.plot_style import check_path

    for out in (*outs, *([page] if page else [])):
        check_path(out)
    if page and page.suffix.lower() != ".html":
        raise BadInput(f"The page is {page}; expected a name that ends in .html.")


def _chosen(
    options: Mapping[str, Any], *, rank: bool, ablate: bool
) -> tuple[ConceptSettings, AblationSettings]:
    """Return the settings that the options select; raise BadInput for those of an absent ablation."""
    named = chosen_settings(ConceptSettings, options)
    if rank and not requested("full"):
        named = {**_BRIEF_RANK, **named}
    chosen = chosen_settings(AblationSettings, options)
    if chosen and not ablate:
        raise BadInput(
            f"{', '.join(flags_for(AblationSettings, chosen)[::2])} was passed without --ablate; add --ablate."
        )
    return ConceptSettings(**named), AblationSettings(**chosen)


def _found(
    results: Results,
    ablated: Results,
    ranked: Sequence[Mapping[str, Any]],
    *,
    basis: Sequence[str],
    rank: bool,
) -> dict[str, Any]:
    """Return the content of ``--json``, without the files that are written."""
    from analysis.concepts.worth.rank import rank_sentences
    from analysis.concepts.worth.roles import compare_roles

    tables = ("arms", "curve", "probes", "skipped")
    return {
        "rank_verdict": [*rank_sentences(ranked), *basis] if rank else [],
        "results": [
            {
                **one.summary,
                **{name: one.table(name).to_pylist() for name in tables},
                "separating_features": _separating(one),
            }
            for one in results
        ],
        "rank": ranked,
        "roles": compare_roles(results) if rank else [],
        "ablated": [
            {**one.summary, **{name: one.table(name).to_pylist() for name in one.tables}}
            for one in ablated
        ],
        "verdict": [*results.verdict, *ablated.verdict],
        "written": [],
    }


def _drawn(
    results: Results, ablated: Results, outs: Sequence[Path], *, kind: "Kind | None"
) -> list[str]:
    """Draw one SAE or its ablations, or the front of several; return the names of the files."""
    from analysis.concepts.plots import draw, draw_front
    from analysis.plot_style import save

    alone = sum(not one.floor for one in results) == 1
    if alone and ablated:
        picture = ablated[0].plot()
    else:
        if kind and not alone:
            raise BadInput(
                f"`kind={kind}` selects the picture of one SAE, and {len(results)} are named; omit it to draw "
                "their front."
            )
        picture = draw(results[0], kind=kind) if alone else draw_front(results)
    return [str(save(picture, out)) for out in outs]


def _write_page(
    page: Path,
    results: Results,
    ablated: Results,
    *,
    ranked: Sequence[Mapping[str, Any]],
    command: str,
) -> None:
    """Write the page with all tables and figures."""
    from analysis.concepts.report import concept_page
    from atlas.disk.atomic_files import atomic_file

    html = concept_page(results, rank=ranked, ablated=ablated, command=command)
    with atomic_file(page) as temporary:
        temporary.write_text(html, "utf-8")


def _basis(ranked: Sequence[Mapping[str, Any]], how: ConceptSettings) -> list[str]:
    """Return the number of concepts and splits behind a ranking."""
    if not ranked:
        return []
    shared, concepts = (max(row[name] for row in ranked) for name in ("shared", "concepts"))
    return [
        f"Areas are means over {shared:,} of {counted(concepts, 'concept')}, with {how.repeats:,} repetitions of "
        f"{how.folds:,}-fold cross-validation and {counted(how.probe_draws, 'permutation')} of the labels."
    ]


def _not_scored(results: Results) -> list[str]:
    """Return which of neurons and subsets no result was computed with; stored ones may have both."""
    stored = [one.settings for one in results]
    missing = [] if any("neurons" in (how.get("raw") or ()) for how in stored) else ["neurons"]
    missing += [] if any(how.get("subsets") for how in stored) else ["subsets of features"]
    if not missing:
        return []
    return [f"{' and '.join(missing).capitalize()} are not scored; --full scores them too."]


def _command(
    words: str,
    saes: Sequence[str],
    *,
    every: bool,
    settings: ConceptSettings,
    ablation: AblationSettings,
    found: Mapping[str, Any],
) -> list[str]:
    """Return the words of the command that computed some results, without files and atlas."""
    parts = ["atlas", "concepts", words, *saes, *flags_for(ConceptSettings, asdict(settings))]
    parts += ["--all"] if every else []
    parts += ["--rank"] if found["rank"] else []
    if found["ablated"]:
        parts += ["--ablate", *flags_for(AblationSettings, asdict(ablation))]
    return parts


def _show(found: Mapping[str, Any], results: Results) -> None:
    if found["rank"]:
        _show_rank(found)
    print_verdict(results)
    with_edges = [each for each in results if "SEPARATES" in each.tables]
    for each in with_edges:
        _show_features(each)
    if any(each.table("SEPARATES").num_rows for each in with_edges):
        _print_legend(_FEATURE_LEGEND)
    brief = len(found["results"]) > 1 or any(len(one["concepts"]) > 1 for one in found["results"])
    for one in found["results"]:
        rows: Sequence[Mapping[str, Any]] = [
            row for row in one["arms"] if not (brief and row["arm"].split(" ")[0] in _BRIEF)
        ]
        units = [_units(row) for row in rows if row["p01_units"] is not None]
        echo()
        print_table(
            units,
            columns=_UNITS,
            controls=_CONTROLS,
            keys=("p_max≤.05",),
            title=f"{one['sae']}: units that separate the classes",
        )
        _print_legend(_UNIT_LEGEND if units else ())
        echo()
        print_table(
            [_worth(row) for row in rows],
            columns=_WORTH,
            controls=_CONTROLS,
            title=f"{one['sae']}: information and localisation",
        )
    if found["results"]:
        _print_legend(_LEGEND)
    if brief:
        print_text(f"With --json, or for one SAE and concept, also the arms {', '.join(_BRIEF)}.")
    for one in found["ablated"]:
        print_table(
            [_ablated(row) for row in one["summary"]],
            columns=_ABLATED,
            controls=_CONTROLS,
            title=f"{one['sae']}: fall of the AUROC at {one['site']} without the k best features",
        )
    for path in found["written"]:
        echo(path)


def _separating(result: Result) -> list[dict[str, Any]]:
    """Return the features of a result that separate the classes, with the best held-out score first."""
    rows = result.table("SEPARATES").to_pylist() if "SEPARATES" in result.tables else []
    return sorted(rows, key=lambda row: (-(row["auroc_held_out"] or 0.0), row["source"]))


def _show_features(result: Result) -> None:
    """Print the features of a result that separate the classes."""
    rows = _separating(result)
    sae = shlex.quote(result["sae"])
    if not rows:
        print_text(f"\n{_NO_FEATURE.format(sae=result['sae'], level=result.settings['level'])}")
        return
    number = len(rows) if prints_all() else _BEST
    echo()
    print_table(
        [
            {
                "feature": row["source"],
                "concept": row["target"].rpartition("@")[0],
                **{name: row[name] for name in _OF_FEATURE},
            }
            for row in rows[:number]
        ],
        controls={"auroc_held_out": ("p_max", "q")},
        title=_title(result, len(rows), shown=min(number, len(rows))),
    )
    if number < len(rows):
        concept = shlex.quote(rows[0]["target"].rpartition("@")[0])
        query = f"atlas query features_of_concept --concept {concept} --sae {sae}"
        print_text(f"{number} of {len(rows):,} features; --rows or `{query}` has all.", err=True)


def _title(result: Result, number: int, *, shown: int) -> str:
    """Return the title of the features that separate the classes: their criterion and number."""
    verb = "separates" if number == 1 else "separate"
    level = f"p_max ≤ {result.settings['level']:g}"
    first = f", the {shown} best on held-out words" if shown < number else ", best first"
    return f"{result['sae']}: {counted(number, 'feature')} {verb} the classes ({level}){first}"


def _print_legend(lines: Sequence[str]) -> None:
    for line in lines:
        print_text(line)


def _show_rank(found: Mapping[str, Any]) -> None:
    """Print the ranking and the roles, with what they show."""
    print_verdict(found["rank_verdict"])
    echo()
    print_table(
        [_ranked(row) for row in found["rank"]],
        columns=_RANK,
        controls=_CONTROLS,
        title="SAEs by mean area; low, high: 95% interval of the difference from the first",
    )
    print_table(
        found["roles"],
        columns=_ROLES,
        controls=_CONTROLS,
        title="Roles: auc is the probability that the area of a trained SAE exceeds that of a floor",
    )
    _print_legend(_RANK_LEGEND)
    echo()


def _ranked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the ranking whose first columns fit in a narrow terminal."""
    return {
        **{name: row[name] for name in ("sae", "role", "shared", "concepts", "k90")},
        "area": _rounded(row["area"]),
        "random": _rounded(row["random_area"]),
        **{name: _rounded(row.get(name)) for name in ("difference", "low", "high")},
        "R": _rounded(row["retained"]),
    }


def _ablated(row: Mapping[str, Any]) -> dict[str, Any]:
    most = row["most_affected"]
    return {
        "concept": row["concept"],
        "k": row["k"],
        "AUROC": _rounded(row["clean_auc"]),
        "fall": _with_interval(row, "fall"),
        "random features": _rounded(row["random_fall"]),
        "candidates": row["candidates"],
        "p": _rounded(row["p"]),
        "q": _rounded(row["q"]),
        "equal norm": _rounded(row["direction_fall"]),
        "other concepts": _rounded(row["others_fall"]),
        "most affected": most and f"{most} {row['most_affected_fall']:.2f}",
        "excess minus others' excess": _with_interval(row, "specificity"),
        "KL, text": _rounded(row["text_kl"]),
        "KL, random": _rounded(row["random_text_kl"]),
        "KL, equal norm": _rounded(row["direction_text_kl"]),
        "KL, words": _rounded(row["words_kl"]),
    }


def _units(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of units, each followed by its mean over permuted labels."""
    return {
        **{name: row[name] for name in ("concept", "arm", "units", "varying")},
        "p_t<1e-5": row["p5_units"],
        "expected (1e-5)": _rounded(row["p5_chance"]),
        "p_t<.01": row["p01_units"],
        "expected (.01)": _rounded(row["p01_chance"]),
        "q≤.05": row["q_units"],
        "p_max≤.05": row["max_t_units"],
    }


def _worth(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "concept": row["concept"],
        "arm": row["arm"],
        "AUROC": _plus_minus(row, "auc"),
        "permuted": _rounded(row["permuted_auc"]),
        "R": _plus_minus(row, "retained"),
        "k90": row["k90"],
        "effective": _rounded(row["effective"]),
        "area": _plus_minus(row, "area"),
        "bits": None if row["bits"] is None else f"{row['bits']:.0f} of {row['bits_base']:.0f}",
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _with_interval(row: Mapping[str, Any], name: str) -> str | None:
    if row[name] is None:
        return None
    if row[f"{name}_low"] is None:
        return f"{row[name]:.2f}"
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def _plus_minus(row: Mapping[str, Any], name: str) -> str | None:
    """Return a value and half of its symmetric interval, in one word that a table does not break."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value is None or low is None:
        return _with_interval(row, name)
    if abs((high - value) - (value - low)) > 0.005:
        return f"{value:.2f}({low:.2f}…{high:.2f})"
    return f"{value:.2f}±{(high - low) / 2:.2f}"
