"""The command `atlas residual`, and its options."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.residual.settings import ResidualSettings
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output import echo, emit, make_progress, print_table, shared_options
from ingest.text.options import text_options

if TYPE_CHECKING:
    from ingest.text.atlas_corpus import Text

__all__ = ["residual"]


@click.command()
@click.option("--model", required=True, metavar="MODEL", help="Name or folder of the model.")
@text_options("the text of `atlas demo`", what="; its documents are divided")
@settings_options(ResidualSettings)
@click.option("--name", metavar="NAME", help="Of the study. [default: of the model and the places]")
@click.option("--atlas", "-a", "where", type=click.Path(path_type=Path), metavar="PATH",
              help="The folder. [default: $ATLAS, the only *.atlas here, else features.atlas]")  # fmt: skip
@click.option("--match/--no-match", "matched", default=True, show_default=True,
              help="Match each baseline with the other SAEs of its seed, and a few with those of another.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@click.option("--replace", is_flag=True, help="Make a study anew that was made otherwise.")
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
    """Train SAEs on what an affine map from an earlier place leaves of a later one, with controls.

    A baseline on the place itself, SAEs on it less the map, less random principal components
    of the same variance, and less the means of tokens, all trained alike. All are put into
    the atlas and probed at the earlier place. If it is cut short, the same command goes on.

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
        folder_for(where), model=model, text=text or demo_text(), settings=settings, device=device, name=name,
        match=MATCH if matched else None, replace=replace,
        progress=make_progress(quiet=quiet),
    )  # fmt: skip
    emit(found, as_json=as_json, show=lambda: _show(found))


def _show(found: dict[str, Any]) -> None:
    scores = {row["sae"]: row for row in found["probes"]}
    rows = [
        {
            "sae": row["sae"],
            "variance taken": row["removed_share"],
            "FVU": row["fvu"],
            "L0": row["l0"],
            "dead share": row["dead_share"],
            "features probed": scores[row["sae"]]["features"],
            "balanced accuracy": scores[row["sae"]]["balanced_accuracy"],
        }
        for row in found["arms"]
    ]
    print_table(
        rows, title=f"{found['study']}: what each SAE reads, and how its features are probed"
    )
    echo(
        "Features of least squares' residuals are harder to predict by construction: hold the residual "
        "against the components and the token means, not against the baseline alone."
    )
