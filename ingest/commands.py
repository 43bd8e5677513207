"""The commands of this room: `atlas demo` and `atlas ingest`, and what it tells the doctor."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click

from atlas.output import (
    emit,
    finite,
    make_progress,
    print_table,
    shared_options,
)
from atlas.rooms import Check, Room

__all__ = ["ROOM"]


@click.command()
@click.option("--atlas", "-a", "where", default="demo.atlas", show_default=True, metavar="PATH",
              type=click.Path(path_type=Path), help="The folder to make.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@shared_options
def demo(where: Path, device: str, as_json: bool, quiet: bool) -> None:
    """Make a small atlas to look at: two tiny models, six SAEs, a text one of the models wrote.

    All of it comes with the package; nothing is downloaded.

    \b
    Example:
      atlas demo
    """
    from ingest.demonstration import make_demo, overview

    atlas = make_demo(where, device=device, progress=make_progress(quiet=quiet))
    rows = overview(atlas)

    def show() -> None:
        print_table(rows)
        click.echo(_next_commands(where))

    emit({"atlas": str(where), "saes": rows}, as_json=as_json, show=show)


@click.command()
@click.option("--sae", "saes", multiple=True, metavar="SAE",
              help="A short name (gemmascope-l20), RELEASE:SAE_ID of sae-lens, or a folder; "
              "NAME=SAE gives it another name. Several "
              "of one model are served by one run of it.")  # fmt: skip
@click.option("--text", metavar="TEXT",
              help="A .txt, .jsonl or .parquet file, a folder of them, or a data set (hf:NAME). "
              "[default: the text the atlas has, else the data set the SAE was trained on]")  # fmt: skip
@click.option("--field", default="text", show_default=True, help="The field that holds the text.")
@click.option("--split", default="train", show_default=True, help="Of a data set.")
@click.option("--revision", help="Of a data set.")
@click.option("--split-on", type=click.Choice(["paragraph", "line", "file"]), default="paragraph",
              show_default=True, help="What is a document in a plain text file.")  # fmt: skip
@click.option("--tokens", type=click.IntRange(1), help="Stop the text after this many tokens.")
@click.option("--model", metavar="MODEL", help="Name or folder. [default: the SAE's own]")
@click.option("--atlas", "-a", "where", type=click.Path(path_type=Path), metavar="PATH",
              help="The folder. [default: $ATLAS, the only *.atlas here, else features.atlas]")  # fmt: skip
@click.option("--store", metavar="URL", help="Push to this Neo4j server at the end.")
@click.option("--context", type=click.IntRange(2), help="Tokens of a context. [default: the SAE's]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@click.option("--dtype", default="float32",
    show_default=True,
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the model.")  # fmt: skip
@click.option("--keep-codes/--no-keep-codes", default=True, show_default=True,
              help="Keep the sparse activations, so that later measures need no model run.")  # fmt: skip
@click.option("--memory", default=4.0, show_default=True, metavar="GIB", callback=finite,
              help="What the states of the reductions may take.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the sampled examples.")
@click.option("--replace", is_flag=True, help="Make SAEs anew that the atlas has already.")
@click.option(
    "--resume", is_flag=True, help="Finish what was begun and cut short, as it was asked."
)
@shared_options
def ingest(
    saes: tuple[str, ...],
    text: str | None,
    field: str,
    split: str,
    revision: str | None,
    split_on: Literal["paragraph", "line", "file"],
    tokens: int | None,
    model: str | None,
    where: Path | None,
    store: str | None,
    context: int | None,
    device: str,
    dtype: str,
    keep_codes: bool,
    memory: float,
    seed: int,
    replace: bool,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a model and its SAEs over a text once, and write what they do into an atlas.

    If it is cut short, the same command goes on where it stopped.

    \b
    Examples:
      atlas ingest --sae gemmascope-l20 --text hf:Salesforce/wikitext/wikitext-2-raw-v1 --tokens 500000
      atlas ingest --sae ./my-sae --model ./my-model --text stories.jsonl --atlas stories.atlas
      atlas ingest --sae gpt2-small-res-jb:blocks.8.hook_resid_pre --text notes/
      atlas ingest --resume
    """
    from ingest.asked import folder_for, resume_all, run_command
    from ingest.run import Text
    from ingest.settings import Settings

    path = folder_for(where)
    progress = make_progress(quiet=quiet)
    if resume:
        atlas = resume_all(path, saes=saes, progress=progress)
    else:
        settings = Settings(
            tokens=tokens, context=context, device=device, dtype=dtype, keep_codes=keep_codes,
            memory=int(memory * 2**30), seed=seed,
        )  # fmt: skip
        atlas = run_command(
            path,
            saes=saes,
            text=None
            if text is None
            else Text(text, field=field, split=split, revision=revision, split_on=split_on),
            model=model,
            settings=settings,
            replace=replace,
            progress=progress,
        )
    from ingest.demonstration import overview

    rows = overview(atlas)
    if store:
        from atlas.pushing import push_atlas

        push_atlas(path, store, progress=progress)
    emit({"atlas": str(path), "saes": rows}, as_json=as_json, show=lambda: print_table(rows))


def _next_commands(where: Path) -> str:
    at = "" if str(where) == "demo.atlas" else f" --atlas {where}"
    return "\n".join(
        [
            "",
            "Try next:",
            f"  atlas query features_of_token --param token=' sad'{at}",
            f"  atlas query examples_of_feature --param feature=tiny-a-l1-s0/561{at}",
            f"  atlas query{at}            # every question there is",
        ]
    )


def _checks(path: Path | None) -> Iterator[Check]:
    from ingest.health import checks

    yield from checks(path)


ROOM = Room("ingest", (demo, ingest), _checks)
