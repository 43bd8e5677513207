"""The command `atlas plot`, whose commands draw several SAEs at once."""

import click

from analysis.communities.commands import plot_communities
from analysis.graph.commands import plot_graphs
from analysis.probe.commands import plot_probes
from atlas.cli.shared_options import plain_options

__all__ = ["plot"]


@click.group()
@plain_options
@click.pass_context
def plot(ctx: click.Context, as_json: bool, quiet: bool) -> None:
    """Plot an atlas as PNG, SVG or interactive HTML.

    \b
    Example:
      atlas plot probes --out probes.html --out probes.png
    """
    # So that `atlas plot --json probes` means the same as `atlas plot probes --json`.
    defaults = {"as_json": as_json, "quiet": quiet}
    ctx.default_map = dict.fromkeys(plot.commands, defaults)


for _command in (plot_probes, plot_graphs, plot_communities):
    plot.add_command(_command)
