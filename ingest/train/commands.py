"""The command `atlas train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text
from atlas.cli.shared_options import table_options
from ingest.text.options import text_options
from ingest.train.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.text.atlas_corpus import Text

__all__ = ["train"]

#: Measured columns of the table of SAEs on a terminal; ``--json`` has all.
MEASURED = (
    "fvu",
    "l0",
    "dead_share",
    "ce_spliced",
    "recovered_zero",
    "recovered_mean",
    "kl_spliced",
)

#: Columns that all SAEs of a site have in common.
OF_SITES = ("site", "ce_model", "ce_zero", "ce_mean")


@click.command()
@click.option("--model", required=True, metavar="MODEL", help="Name or folder of a language model.")
@text_options("required", tokens=False)
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for the SAEs.",
)
@settings_options(TrainSettings)
@click.option(
    "--ingest",
    "atlas",
    type=click.Path(path_type=Path),
    metavar="ATLAS",
    help="Ingest the SAEs into this atlas at the end. A new atlas gets the held-out documents as "
    "its corpus, about 5% of the text; see --held-out.",
)
@click.option("--replace", is_flag=True, help="Replace SAEs that were trained with other settings.")
@table_options
def train(
    model: str,
    text: "Text | None",
    out: Path,
    atlas: Path | None,
    replace: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train SAEs on the activations of a model.

    One run of the model serves all SAEs.

    One SAE is trained for each combination of --site, --width, --k, --architecture and --seed,
    each of which may be repeated. --baseline adds floors: SAEs that learned less, or nothing.
    If the command is interrupted, run it again to continue where it stopped. Its result is a
    folder of sae-lens for each SAE, and their quality on held-out documents.

    \b
    Examples:
      atlas train --model ./my-model --text stories.jsonl --site blocks.2.hook_resid_post
        --width 768 --width 3072 --seed 0 --seed 1 --tokens 2000000 --out saes
      atlas train --model ./my-model --text stories.jsonl --site blocks.2.hook_mlp_out
        --width 768 --baseline frozen-decoder --baseline untrained --out saes --ingest my.atlas
    """
    from atlas.errors import BadInput
    from ingest.train.run import train_saes

    if text is None:
        raise BadInput("No text was named; name a file, a folder or a data set with --text.")
    settings = TrainSettings(**chosen_settings(TrainSettings, options))
    rows = train_saes(
        out,
        model=model,
        text=text,
        settings=settings,
        atlas=atlas,
        replace=replace,
        progress=make_progress(quiet=quiet),
    )

    emit(rows, as_json=as_json, show=lambda: _show(rows, out, settings.quality_tokens))


def _show(rows: "Sequence[Mapping[str, Any]]", out: Path, requested: int) -> None:
    """Print the columns that were measured: those of SAEs, and the losses of each site."""
    measured = [name for name in MEASURED if any(row.get(name) is not None for row in rows)]
    _print(rows, ["sae", *(measured or ["role", "k"])])
    if "ce_spliced" in measured:
        echo()
        _print(list({row["site"]: row for row in rows}.values()), OF_SITES)
        error = max(abs(row["ce_error_term"] - row["ce_model"]) for row in rows)
        echo("Losses (ce) and divergences (kl) are in nats per token.")
        echo(f"With its error added, each SAE changes the loss by at most {error:.1g} nats.")
    if measured:
        tokens = rows[0]["tokens"]
        few = f", all that were read; {requested:,} were requested" if tokens < requested else ""
        print_text(f"Measured on {tokens:,} held-out tokens{few}.")
    elif not requested:
        echo("The quality was not measured, as --quality-tokens is 0.")
    echo(f"The SAEs are in {out}.")


def _print(rows: "Sequence[Mapping[str, Any]]", names: "Sequence[str]") -> None:
    """Print a table; headings are split at spaces in a narrow terminal, names of columns are not."""
    print_table([{name.replace("_", " "): row.get(name) for name in names} for row in rows])
