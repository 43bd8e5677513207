"""The commands `atlas communities` and `atlas plot communities`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from analysis.communities.settings import CommunitySettings
from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.screen import prints_all
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import (
    PLOT_FILES,
    atlas_option,
    out_option,
    plain_options,
    shared_options,
)
from atlas.plugins import StudyCommand
from atlas.safe_text import SPACE
from atlas.studies.results import Results

__all__ = ["communities", "plot_communities"]

#: Column titles by summary field.
_COLUMNS = {
    "sae": "sae",
    "live": "active features",
    "linked": "features with an edge",
    "communities": "communities",
    "largest": "largest",
    "in_communities": "share in communities of 3 or more",
    "modularity": "modularity",
    "modularity_null": "modularity of random graphs",
    "weight": "weight of an edge",
}

_CONTROLS = {"modularity": ("modularity of random graphs",)}

#: Values that the listed communities of an SAE share; the tables above have them.
_SHARED = ("id", "sae", "weighted_by", "min_count")

#: Columns of the listed communities that come first, with the stability that has a control.
_LISTED = (
    "number",
    "size",
    "tokens",
    "stability_halves",
    "stability_null",
    "stability_null_high",
    "stability",
)

#: Column titles of the partner test, in order, where they differ from the fields.
_PARTNERS = {
    "group": "group",
    "features": "features",
    "active_median": "median_tokens",
    "among": "partners",
    "among_by_chance": "partners_by_chance",
    "among_within_documents": "partners_within_documents",
    "among_low": "partners_low",
    "among_high": "partners_high",
    "degree": "degree",
    "degree_by_chance": "degree_by_chance",
    "active_from": "tokens_from",
    "active_to": "tokens_to",
}

#: Labels of the agreements by summary field.
_AGREEMENTS = {
    "ami_runs": "Leiden runs with other seeds",
    "ami_halves": "halves of the documents",
    "ami_permuted": "halves, features permuted",
    "ami_null": "halves of bipartite null graphs",
    "ami_documents": "halves of null graphs within documents",
}


#: Number of communities that are listed by default.
_TOP = 10


@click.command(cls=StudyCommand, kind="graph")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@all_option
@settings_options(CommunitySettings)
@click.option(
    "--top",
    default=None,
    type=click.IntRange(0),
    metavar="N",
    help="Number of communities shown per SAE, the largest first. [default: 10; all with --rows, --json and in a pipe]",
)
@worker_options
@click.option("--replace", is_flag=True, help="Recompute stored results.")
@atlas_option
@shared_options
def communities(
    saes: tuple[str, ...],
    *,
    every: bool,
    top: int | None,
    replace: bool,
    workers: int,
    ray: str | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Find communities in co-activation graphs.

    Communities are named by their tokens, and their stability is reported.

    Communities and node statistics (degree, PageRank, betweenness, ...) are stored in the atlas,
    for queries. Agreement is adjusted mutual information: 1 for the same communities, and 0 on
    average for random ones. Modularity is compared with random graphs of the same degrees. The
    command also tests whether the number of different partners of a feature depends on its
    frequency.

    \b
    Examples:
      atlas communities --all
      atlas communities tiny-a-l1-s0 --top 20
      atlas communities tiny-a-l1-s0 --weight count --min-count 3
      atlas query communities_of_sae --sae tiny-a-l1-s0
    """
    from analysis.communities.study import graph_features

    settings = CommunitySettings(**chosen_settings(CommunitySettings, options))
    results = graph_features(
        folder_of(which_atlas(where)),
        selected_names(saes, every=every),
        settings=settings,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )
    if top is None and not (as_json or prints_all()):
        top = _TOP
    rows = [{**row, "listed": row["listed"][:top]} for row in results.rows]
    emit(rows, as_json=as_json, show=lambda: _show(rows, results))


@click.command("communities")
@click.argument("sae")
@click.option(
    "--features",
    "most",
    default=3000,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Largest number of features drawn.",
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the layout."
)
@out_option(f"Output file: {PLOT_FILES}", default="communities.html")
@atlas_option
@plain_options
def plot_communities(
    sae: str,
    *,
    most: int,
    seed: int,
    outs: tuple[Path, ...],
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Plot communities as discs, with lines for edges.

    \b
    Examples:
      atlas plot communities tiny-a-l1-s0
      atlas plot communities tiny-a-l1-s0 --out map.png --out map.html
    """
    from analysis.communities.plots import draw_communities
    from analysis.plot_style import check_path, save
    from atlas.api import Atlas

    for out in outs:
        check_path(out)
    with Atlas.open(which_atlas(where), progress=make_progress(quiet=quiet)) as atlas:
        picture = draw_communities(atlas, sae, most=most, seed=seed)
    written = [str(save(picture, out)) for out in outs]
    emit({"written": written}, as_json=as_json, show=lambda: echo("\n".join(written)))


def _show(rows: Sequence[Mapping[str, Any]], results: Results) -> None:
    from analysis.communities.partner_diversity import MEETINGS

    # The verdicts of one SAE and its floors are one: a terminal begins with three sentences of the SAE.
    print_verdict(results.verdict if results.has_one_trained else results)
    echo()
    print_table(
        [{label: row[name] for name, label in _COLUMNS.items()} for row in rows],
        controls=_CONTROLS,
    )
    print_table(
        [
            {"agreement (AMI)": label, **{row["sae"]: _range(row, name) for row in rows}}
            for name, label in _AGREEMENTS.items()
        ],
        title="\nAgreement of communities: mean (minimum to maximum)",
    )
    for note in (row["halves_note"] for row in rows):
        if note is not None:
            print_text(note)
    for row in rows:
        print_table(
            [_community(one) for one in row["listed"]],
            title=f"\nLargest communities of {row['sae']}{_number_shown(row)}",
            keys=("tokens",),
            controls={"stability_halves": ("stability_null", "stability_null_high")},
            spaced=True,
        )
    print_text(
        "Stability is the overlap (Jaccard) with runs of other seeds; stability halves, with halves of the documents; "
        "stability null and null high, of null graphs with their halves, mean and highest."
    )
    for row in rows:
        if row["partners_conclusion"] is None:
            echo(f"\nPartners of {row['sae']} by frequency: not tested, its codes are not stored.")
        print_table(
            [
                {title: one[name] for name, title in _PARTNERS.items()}
                for one in (*row["partners_bins"], *row["partners_off_line"])
            ],
            title=f"\nDifferent partners among {MEETINGS} meetings of features of {row['sae']}: medians",
            keys=("group",),
            spaced=True,
        )


def _number_shown(row: Mapping[str, Any]) -> str:
    """State how many communities are listed, if not all are, and how to list all."""
    number, total = len(row["listed"]), row["communities"]
    return "" if number == total else f": {number:,} of {total:,}, --top {total} lists all"


def _community(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a community, its tokens as one text."""
    tokens = " ".join(token.replace(" ", SPACE) for token in one["tokens"])
    ordered = [*_LISTED, *(name for name in one if name not in (*_LISTED, *_SHARED))]
    return {name: tokens if name == "tokens" else one[name] for name in ordered}


def _range(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return "–"
    text = f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
    counted, total = row[f"{name}_counted"], row[f"{name}_of"]
    return text if counted == total else f"{text}, {counted} of {total}"
