"""The commands `atlas stats` and `atlas plot graphs`: co-activation graphs side by side, and beside nulls."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.output import (
    atlas_option,
    echo,
    emit,
    make_progress,
    print_table,
    shared_options,
    which_atlas,
)

if TYPE_CHECKING:
    from analysis.graph.subject import GraphOf
    from atlas.progress import Progress

__all__ = ["plot_graphs", "stats"]

#: The rows of the table: first those of the source, then what stands beside them.
_ROWS = {
    "tokens": "tokens",
    "nodes": "nodes",
    "edges": "edges",
    "average_degree": "average degree",
    "density": "density",
    "components": "connected components",
    "largest_component": "largest component",
    "component_sizes": "component sizes (× how many)",
    "average_clustering": "average clustering",
    "clustering_over_density": "average clustering over density",
    "transitivity": "transitivity",
    "isolates": "features without an edge",
    "dead": "features never active",
    "assortativity": "degree assortativity",
    "k_core": "largest k-core",
    "path_length": "mean path in largest component",
    "modularity": "modularity (Leiden)",
    "communities": "communities (Leiden)",
    "degree_frequency_pearson": "degree and frequency, Pearson",
    "degree_frequency_spearman": "degree and frequency, Spearman",
    "degree_frequency_n": "of so many active features",
}  # fmt: skip

_NULLS = ("bipartite", "documents", "configuration")


@click.command()
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@click.option("--nulls", type=click.Choice(["none", *_NULLS, "all"]),
              help="Graphs drawn by chance to stand beside: features swapped between tokens, within "
              "documents only, or edges swapped. [default: all, without codes the last]")  # fmt: skip
@click.option("--draws", default=10, show_default=True, type=click.IntRange(1),
              help="Graphs drawn for each null.")  # fmt: skip
@click.option("--min-count", default=1, show_default=True, type=click.IntRange(1), metavar="N",
              help="Only edges of features that were together among the most active of N tokens.")  # fmt: skip
@click.option("--tokens", type=click.IntRange(1), metavar="N",
              help="The graphs over the first N tokens. [default: all; of SAEs that differ, the fewest]")  # fmt: skip
@click.option("--curves", is_flag=True, help="Also edges, isolates and clustering over 1/16 to all tokens.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of everything drawn.")
@atlas_option
@shared_options
def stats(
    saes: tuple[str, ...],
    *,
    nulls: str | None,
    draws: int,
    min_count: int,
    tokens: int | None,
    curves: bool,
    seed: int,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Describe the co-activation graphs of SAEs, side by side, beside what chance gives.

    Edges grow with tokens, so graphs are compared over equal numbers of them: SAEs counted
    over different numbers are cut to the smallest, which needs their codes.

    \b
    Examples:
      atlas stats tiny-a-l1-s0 tiny-a-l1-s1
      atlas stats tiny-a-l1-s0 --nulls bipartite --draws 20 --curves
      atlas stats --nulls none --json
    """
    from analysis.graph import report
    from analysis.graph.subject import at_equal_tokens
    from atlas.api import Atlas

    progress = make_progress(quiet=quiet)
    with Atlas.open(which_atlas(where), progress=progress) as atlas:
        names = list(dict.fromkeys(saes)) or atlas.saes
        graphs = at_equal_tokens(
            atlas, names, min_count=min_count, tokens=tokens,
            codes=curves or nulls not in ("none", "configuration"),
        )  # fmt: skip
    for g in graphs:
        if g.tokens < g.counted:
            progress.report(
                f"{g.sae} was counted over {g.counted:,} tokens; this is its graph over the first {g.tokens:,}."
            )
    result: dict[str, Any] = {"saes": [report.summary(g, seed=seed) for g in graphs]}
    result["nulls"] = [
        row
        for g in graphs
        for row in report.null_rows(
            g, _wanted(g, nulls, progress), draws=draws, seed=seed, progress=progress
        )
    ]
    if curves:
        result["curves"] = [row for g in graphs for row in report.growth_rows(g)]
    emit(result, as_json=as_json, show=lambda: _show(result))


@click.command("graphs")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@click.option("--kind", default="page", show_default=True,
              type=click.Choice(["page", "degree", "log-degree", "frequency", "scatter", "growth"]),
              help="One picture, or all of them on a page.")  # fmt: skip
@click.option("--out", "-o", "outs", multiple=True, default=("graphs.html",), show_default=True,
              type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where to: .html (needs no network), .png or .svg; several may be named.")  # fmt: skip
@click.option("--min-count", default=1, show_default=True, type=click.IntRange(1), metavar="N",
              help="Only edges of features that were together among the most active of N tokens.")  # fmt: skip
@atlas_option
@shared_options
def plot_graphs(
    saes: tuple[str, ...],
    *,
    kind: str,
    outs: tuple[Path, ...],
    min_count: int,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw co-activation graphs: degree, log degree, frequency, both together, growth over tokens.

    \b
    Examples:
      atlas plot graphs tiny-a-l1-s0 tiny-a-l1-s1
      atlas plot graphs tiny-a-l1-s0 --kind growth --out growth.svg
    """
    from analysis.graph.plots import draw
    from analysis.graph.subject import at_equal_tokens
    from analysis.plot_style import check_path, save
    from atlas.api import Atlas

    for out in outs:
        check_path(out)
    with Atlas.open(which_atlas(where), progress=make_progress(quiet=quiet)) as atlas:
        names = list(dict.fromkeys(saes)) or atlas.saes
        codes = kind in ("page", "growth")
        graphs = at_equal_tokens(atlas, names, min_count=min_count, codes=codes)
    picture = draw(graphs, kind=kind)
    written = [str(save(picture, out)) for out in outs]
    emit({"written": written}, as_json=as_json, show=lambda: echo("\n".join(written)))


def _wanted(of: "GraphOf", asked: str | None, progress: "Progress") -> list[str]:
    """Return the nulls to be drawn; what was not asked for by name is left out where it cannot be."""
    from analysis.graph.report import drawable

    if asked == "none":
        return []
    can = drawable(of)
    if not len(of.pairs):
        progress.report(f"{of.sae} has no edges, so there is nothing to draw by chance.")
        return []
    if asked in (None, "all"):
        if asked is None and len(can) < len(_NULLS):
            progress.report(
                f"The codes of {of.sae} are not at hand, so features cannot be swapped between tokens; "
                "with --keep-codes, `atlas ingest` keeps them."
            )
        return list(_NULLS) if asked else can
    return [asked]


def _show(result: Mapping[str, Any]) -> None:
    found = result["saes"]
    print_table([
        {"statistic": said, **{one["sae"]: _shown(one, name) for one in found}}
        for name, said in _ROWS.items()
    ] + [
        {"statistic": f"{name}: dip test of one mode",
         **{one["sae"]: _shown_modes(one["modes"][name]) for one in found}}
        for name in found[0]["modes"]
    ])  # fmt: skip
    for one in found:
        for name, why in one["notes"].items():
            echo(f"{one['sae']}, {_ROWS.get(name, name)}: no value, since {why}.")
    for key in dict.fromkeys((row["sae"], row["null"]) for row in result["nulls"]):
        _show_null(key, [row for row in result["nulls"] if (row["sae"], row["null"]) == key])
    if "curves" in result:
        echo()
        print_table(result["curves"], title="Over the first tokens of the corpus")


def _show_null(key: tuple[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    from analysis.graph.nulls import NULLS

    sae, null = key
    echo(f"\n{sae}, null {null!r}: {NULLS[null]}")
    print_table([
        {"statistic": _ROWS[row["statistic"]], "observed": row["observed"], "mean": row["mean"],
         "sd": row["sd"], "95% from": row["low"], "to": row["high"], "z": row["z"],
         "observed is": row["where"]}
        for row in rows
    ])  # fmt: skip


def _shown(one: Mapping[str, Any], name: str) -> str:
    """Return a number as text, since a column holds numbers of many kinds."""
    value = one[name]
    if value is None:
        return "–"
    if name == "component_sizes":
        sizes = sorted(value.items())
        told = ", ".join(f"{size:,} × {times:,}" for size, times in sizes[:6])
        return told + (f", … {sizes[-1][0]:,}" if len(sizes) > 6 else "")
    if name == "path_length" and one["path_length_error"] is not None:
        return f"{value:.4g} ± {one['path_length_error']:.2g} ({one['path_sources']} sources)"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _shown_modes(said: Mapping[str, Any]) -> str:
    if said["p"] is None:
        return "–"
    return f"dip {said['dip']:.4f}, p {said['p']:.2g}, n {said['n']:,}"
