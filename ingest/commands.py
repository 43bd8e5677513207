"""The commands of package ingest and its doctor checks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.cli.completion import complete_by
from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import (
    atlas_option,
    finite,
    plain_options,
    shared_options,
    table_options,
)
from atlas.plugins import Check, Room, StudyCommand
from ingest.fire.commands import fire_command
from ingest.match.settings import MatchSettings
from ingest.probe.commands import probe
from ingest.sae.commands import saes_command
from ingest.settings import Settings
from ingest.synthetic.known_settings import SyntheticSettings
from ingest.text.options import text_options
from ingest.train.commands import train

if TYPE_CHECKING:
    from atlas.studies.results import Results
    from ingest.text.atlas_corpus import Text

__all__ = ["ROOM"]

# Columns of `atlas match`; the last ones are omitted on a narrow terminal.
_MATCHED = (
    "a",
    "b",
    "one_to_one",
    "significant",
    "beyond_token",
    "undecided",
    "best_ab",
    "null_best_ab",
    "token_null_best_ab",
    "token_document_null_best_ab",
    "matches",
    "mutual",
    "alignment",
    "tokens",
)

#: The legend below that table.
_NULLS = (
    "best_ab: mean correlation of a feature of a with its best match in b. The same under three nulls: null_best_ab "
    "(documents shifted), token_null_best_ab (activations shuffled among the occurrences of a token), "
    "token_document_null_best_ab (the same within a document)."
)


@click.command()
@click.option(
    "--atlas",
    "-a",
    "where",
    default="demo.atlas",
    show_default=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The folder to create.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@table_options
def demo(where: Path, device: str, as_json: bool, quiet: bool) -> None:
    """Create a small example atlas: tiny models, SAEs and a text.

    The data are included in the package; nothing is downloaded.

    \b
    Example:
      atlas demo
    """
    from ingest.demo.build import make_demo, overview

    atlas = make_demo(where, device=device, progress=make_progress(quiet=quiet))
    rows = overview(atlas)

    def show() -> None:
        _print_overview(rows)
        echo(_next_commands(where))

    emit({"atlas": str(where), "saes": rows}, as_json=as_json, show=show)


@click.command()
@click.option(
    "--sae",
    "saes",
    multiple=True,
    metavar="SAE",
    shell_complete=complete_by("ingest.sae.registry.completion:complete_sae_name"),
    help="A short name (gemmascope-l20), RELEASE:SAE_ID of sae-lens, a demo SAE (tiny-a-l1-s0), "
    "an id or page of Neuronpedia (gpt2-small/8-res-jb), or a folder; `atlas saes` lists names. NAME=SAE gives it another name. Can be repeated; SAEs of one model share one run "
    "of it.",
)
@text_options("the text of the atlas, else the data set the SAE was trained on")
@click.option("--model", metavar="MODEL", help="Name or folder. [default: the SAE's own]")
@click.option(
    "--atlas",
    "-a",
    "where",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The folder. [default: $ATLAS, the only *.atlas here, else features.atlas]",
)
@click.option("--store", metavar="URL", help="Push the atlas to this Neo4j server at the end.")
@settings_options(Settings)
@click.option(
    "--memory",
    default=4.0,
    show_default=True,
    metavar="GIB",
    callback=finite,
    help="Memory for the states of the reductions.",
)
@click.option(
    "--match/--no-match",
    "matched",
    default=True,
    show_default=True,
    help="Match every pair of the named SAEs, as `atlas match` does.",
)
@settings_options(MatchSettings, only=("draws",))
@click.option(
    "--probe",
    "probed",
    multiple=True,
    metavar="SITE",
    help="Predict every feature from this site of the model, as `atlas probe` does: "
    "hook_embed, blocks.2.hook_resid_post, all.",
)
@click.option("--replace", is_flag=True, help="Ingest again SAEs that the atlas already has.")
@click.option(
    "--resume", is_flag=True, help="Finish interrupted ingests with their original settings."
)
@table_options
def ingest(
    saes: tuple[str, ...],
    text: "Text | None",
    tokens: int | None,
    model: str | None,
    where: Path | None,
    store: str | None,
    memory: float,
    matched: bool,
    draws: int | None,
    probed: tuple[str, ...],
    replace: bool,
    resume: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Run a model and its SAEs over a text, and store the atlas.

    If the command is interrupted, run it again to continue where it stopped. Without --atlas, the SAEs
    are added to the only atlas in this folder, on its text; a line states it before the work.

    \b
    Examples:
      atlas ingest --sae gemmascope-l20 --text hf:Salesforce/wikitext/wikitext-2-raw-v1 --tokens 500000
      atlas ingest --sae ./my-sae --model ./my-model --text stories.jsonl --atlas stories.atlas
      atlas ingest --sae gpt2-small-res-jb:blocks.8.hook_resid_pre --text notes/
      atlas ingest --resume
    """
    from ingest.forward.request import folder_for, resume_all, run_command

    path = folder_for(where)
    progress = make_progress(quiet=quiet)
    if resume:
        atlas = resume_all(path, saes=saes, progress=progress)
    else:
        settings = Settings(
            tokens=tokens, memory=int(memory * 2**30), **chosen_settings(Settings, options)
        )
        matching = MatchSettings() if draws is None else MatchSettings(draws=draws)
        atlas = run_command(
            path,
            saes=saes,
            text=text,
            model=model,
            settings=settings,
            match=matching if matched else None,
            probe=probed,
            replace=replace,
            progress=progress,
            found=where is None,
        )
    from ingest.demo.build import overview

    rows = overview(atlas)
    remarks = _remarks(rows)
    if store:
        from atlas.push import push_atlas

        push_atlas(path, store, progress=progress)

    def show() -> None:
        _print_overview(rows)
        print_verdict(remarks)

    emit({"atlas": str(path), "saes": rows, "remarks": remarks}, as_json=as_json, show=show)


@click.command(cls=StudyCommand, example="A B")
@click.argument("saes", nargs=-1, metavar="[SAE]...")
@all_option
@click.option(
    "--stale",
    is_flag=True,
    help="Match again pairs of which one SAE was ingested again after the match, each "
    "with its stored settings; the options for settings are ignored.",
)
@settings_options(MatchSettings)
@click.option(
    "--memory",
    default=4.0,
    show_default=True,
    metavar="GIB",
    callback=finite,
    help="Memory in addition to the lists of matches; less means more passes over the codes.",
)
@worker_options
@click.option("--replace", is_flag=True, help="Match again pairs that are already matched.")
@atlas_option
@shared_options
def match(
    saes: tuple[str, ...],
    every: bool,
    stale: bool,
    memory: float,
    replace: bool,
    workers: int,
    ray: str | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Match features of SAEs by the tokens where they are active.

    Every pair of the named SAEs is matched from the stored codes. Seeds, widths, layers,
    architectures and models may differ. The command reports how many pairs each filter
    excludes.

    \b
    Examples:
      atlas match tiny-a-l1-s0 tiny-a-l1-s1
      atlas match --all --draws 100
      atlas match --stale
    """
    selected = selected_names(saes, every=every)
    _check_pairs(saes, stale=stale, selects=selected is not None)
    from ingest.match.study import match_saes

    results = match_saes(
        folder_of(which_atlas(where)),
        selected,
        settings=MatchSettings(**chosen_settings(MatchSettings, options)),
        memory=int(memory * 2**30),
        stale=stale,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=make_progress(quiet=quiet),
    )
    emit(results.rows, as_json=as_json, show=lambda: _show_matches(results, quiet=quiet))


def _check_pairs(saes: Sequence[str], *, stale: bool, selects: bool) -> None:
    """Raise BadInput if names of SAEs make no pair, or are passed with ``--stale``."""
    from atlas.errors import BadInput

    if stale and selects:
        raise BadInput("--stale was passed with --all or SAEs; it selects the pairs itself.")
    if saes and len(set(saes)) < max(len(saes), 2):
        raise BadInput(
            f"A match needs two different SAEs or more; got {', '.join(saes)}. `atlas list` shows them."
        )


def _show_matches(results: "Results", *, quiet: bool) -> None:
    """Print the verdict and the table of the pairs, and how many pairs each filter excludes."""
    from atlas.studies.results import Results
    from ingest.match.pooling import too_few_draws

    rows = results.rows
    if not rows:
        echo("Nothing to match: no match of this atlas is stale.")
    # The verdict of a pair states the numbers of its floors.
    print_verdict(Results(one for one in results if not one.floor))
    for row in rows:
        few = too_few_draws(row["draws"], row["draws_needed"], row["matches_needed"])
        if few and not row["beyond_token"]:
            print_text(f"{row['a']} and {row['b']}: {few}")
    print_table(rows, columns=_MATCHED, turned=True)
    if any(row["draws"] for row in rows):
        print_text(_NULLS)
    for row in rows if not quiet else ():
        reasons = [f"{reason}: {number:,}" for reason, number in row["excluded"].items() if number]
        if reasons:
            echo(f"Pairs excluded from {row['a']} and {row['b']}: {'; '.join(reasons)}.", err=True)


@click.command("random-weights")
@click.argument("model")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The folder to create. [default: the model's name with suffix -random]",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**63 - 1),
    help="Seed of the weights.",
)
@click.option("--revision", help="Revision of the model at the hub.")
@plain_options
def random_weights(
    model: str, out: Path | None, seed: int, revision: str | None, as_json: bool, quiet: bool
) -> None:
    """Save a copy of a model with random weights, as a baseline.

    It has the configuration and the tokenizer of MODEL, and the initial weights of
    transformers. The weights of MODEL are not read.

    \b
    Example: the effect of training on how well a layer predicts the token
      atlas random-weights gpt2
      atlas transcoder --model gpt2 --model ./gpt2-random --to all
      atlas report geometry --floor gpt2-random
    """
    from ingest.model.random_weights import save_random_weights

    folder = save_random_weights(model, out, seed=seed, revision=revision)
    emit(
        {"folder": str(folder), "seed": seed},
        as_json=as_json,
        show=lambda: echo(f"{folder}: {model} with random weights of seed {seed}."),
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@settings_options(SyntheticSettings)
@plain_options
def synthetic(folder: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Save a model whose activations are sums of known features.

    It tests SAEs and measures.

    FOLDER is a model that every command reads, with a text for an atlas, a text for training,
    and `truth`, an SAE whose codes are the activations of the true features.

    \b
    Example:
      atlas synthetic synth --features 256 --width 64
      atlas ingest --model synth --sae synth/truth --text synth/text.jsonl --atlas synth.atlas
    """
    from ingest.synthetic.known_features import save_synthetic

    settings = SyntheticSettings(**chosen_settings(SyntheticSettings, options))
    save_synthetic(folder, settings)
    emit(
        {"folder": str(folder)},
        as_json=as_json,
        show=lambda: echo(
            f"{folder}: {settings.features} features in {settings.width} dimensions; the site of their sums is "
            "blocks.0.hook_mlp_out."
        ),
    )


def _print_overview(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table of SAEs, with their roles if any is recorded."""
    unused: set[str] = set() if any(row["role"] for row in rows) else {"role"}
    print_table([{k: v for k, v in row.items() if k not in unused} for row in rows])


def _remarks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what makes the numbers of SAEs no evidence: few tokens, an FVU above 1."""
    from atlas.features.remarks import about_few_tokens, about_fvu

    few = [sentence for row in rows for sentence in about_few_tokens(row["tokens"])]
    bad = [sentence for row in rows for sentence in about_fvu(row["sae"], row["FVU"])]
    return list(dict.fromkeys(few + bad))


def _next_commands(where: Path) -> str:
    at = "" if str(where) == "demo.atlas" else f" --atlas {where}"
    return "\n".join(
        [
            "",
            "Try next:",
            f"  atlas query features_of_token --token ' sad'{at}",
            f"  atlas query examples_of_feature --feature tiny-a-l1-s0/16{at}",
            f"  atlas query{at}            # the list of all queries",
        ]
    )


def _checks(path: Path | None) -> Iterator[Check]:
    from ingest.doctor_checks import checks

    yield from checks(path)


ROOM = Room(
    "ingest",
    {
        "Start": (demo, ingest, train, random_weights, synthetic),
        "Inspect": (fire_command, saes_command),
        "Measure SAEs": (probe,),
        "Compare SAEs": (match,),
    },
    _checks,
    readers={
        "codes": "ingest.codes.sae_readers:sparse_codes",
        "decoder": "ingest.codes.sae_readers:decoder_vectors",
    },
)
