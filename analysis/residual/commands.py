"""Command `atlas residual` and its options."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.residual.settings import ResidualSettings
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import emit, make_progress, print_text, print_verdict
from atlas.cli.shared_options import shared_options
from atlas.plugins import StudyCommand
from ingest.text.options import text_options

if TYPE_CHECKING:
    from atlas.studies.results import Result
    from ingest.text.atlas_corpus import Text

__all__ = ["residual"]


@click.command(cls=StudyCommand)
@click.option("--model", required=True, metavar="MODEL", help="Name or folder of the model.")
@text_options("the text of `atlas demo`", what="; its documents are split")
@settings_options(ResidualSettings)
@click.option(
    "--name", metavar="NAME", help="Name of the study. [default: from the model and the sites]"
)
@click.option(
    "--atlas",
    "-a",
    "where",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Folder of the atlas. [default: $ATLAS, the only *.atlas here, else features.atlas]",
)
@click.option(
    "--match/--no-match",
    "matched",
    default=True,
    show_default=True,
    help="Match each baseline with the other SAEs of its seed, and a few with SAEs of another seed.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@click.option(
    "--replace", is_flag=True, help="Replace a study of this name that has other settings."
)
@shared_options
def residual(
    model: str,
    text: "Text | None",
    tokens: int | None,
    name: str | None,
    where: Path | None,
    matched: bool,
    device: str,
    replace: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train SAEs on the residual of an affine map between sites.

    The map predicts the later site from the earlier site. Control SAEs are trained too.

    For each seed, the command trains SAEs on the later site (baseline), on the residual of the
    map, and on two controls: the site minus random principal components of equal variance, and
    minus the mean of each token id. All SAEs are ingested and probed from the earlier site. To
    resume after an interruption, run the same command again.

    \b
    Examples:
      atlas residual --model tiny-a --to blocks.1.hook_resid_post --atlas left.atlas
      atlas residual --model ./my-model --text stories.jsonl --from hook_embed --to blocks.5.hook_resid_post --seeds 6
    """
    from analysis.residual.settings import MATCH
    from analysis.residual.study import residual_study
    from ingest.demo.build import demo_text
    from ingest.forward.request import folder_for

    settings = ResidualSettings(text_tokens=tokens, **chosen_settings(ResidualSettings, options))
    found = residual_study(
        folder_for(where),
        model=model,
        text=text or demo_text(),
        settings=settings,
        device=device,
        name=name,
        match=MATCH if matched else None,
        replace=replace,
        progress=make_progress(quiet=quiet),
    )
    emit(found.summary, as_json=as_json, show=lambda: _show(found))


def _show(found: "Result") -> None:
    print_verdict(found.verdict)
    scores = {row["sae"]: row for row in found["probes"]}
    rows = [
        {
            "sae": row["sae"],
            "variance removed": row["removed_share"],
            "FVU": row["fvu"],
            "L0": row["l0"],
            "dead share": row["dead_share"],
            "features probed": scores[row["sae"]]["features"],
            "balanced accuracy": scores[row["sae"]]["balanced_accuracy"],
        }
        for row in found["arms"]
    ]
    print_table(rows, title=f"{found['study']}: SAEs and the mean score of their probes")
    print_text(
        "The features of a least-squares residual are harder to predict by construction. Compare "
        "residual with components and token-means, not only with baseline."
    )
