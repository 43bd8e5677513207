"""Command `atlas steer`."""

from typing import TYPE_CHECKING, Any

import click

from analysis.steering.settings import SteeringSettings
from atlas.cli.completion import complete_names
from atlas.cli.options import chosen_settings, settings_options
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, fold, make_progress, print_text, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, shared_options
from atlas.plugins import StudyCommand

if TYPE_CHECKING:
    from atlas.studies.results import Result

__all__ = ["steer"]

_ARMS = (
    "arm",
    "strength",
    "success",
    "low",
    "high",
    "gain_p",
    "success_p",
    "gained",
    "lost",
    "logprob_change",
    "logprob_p",
    "kl",
    "loss",
    "features",
)
_CONTROLS = {
    "success": ("low", "high", "gain_p", "success_p"),
    "logprob_change": ("logprob_p",),
    "gained": ("lost",),
}
_ARMS_TITLE = (
    "Each arm, and each random feature, at its own strength (that with most successes on the development half): "
    "successes of {prompts} test prompts"
)
_CURVE_TITLE = "All arms at each strength: successes of {prompts} test prompts, and in brackets nats lost per token of neutral text"


@click.command(cls=StudyCommand, kind="steering")
@click.argument("named", nargs=-1, metavar="[SAE/INDEX]...")
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="SAE/INDEX",
    help="Feature that is steered, as an argument is; repeat for several features of one SAE.",
)
@click.option(
    "--sae",
    "saes",
    multiple=True,
    metavar="SAE",
    help="With --task and without --feature: SAE whose features are found on the contrasting prompts.",
)
@click.option(
    "--prompt", metavar="TEXT", help="Print the continuation of this text before and after."
)
@click.option(
    "--task",
    metavar="TASK|FILE",
    shell_complete=complete_names("analysis.steering.tasks:task_names", others="file"),
    help="Score this task: its name, or a file of JSON lines.",
)
@click.option("--list-tasks", is_flag=True, help="List the tasks of the package.")
@click.option(
    "--times",
    default=1.0,
    show_default=True,
    metavar="X",
    help="With --prompt: strength in multiples of the maximum activation of each feature.",
)
@click.option(
    "--new-tokens",
    default=40,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="With --prompt: number of tokens to write.",
)
@settings_options(SteeringSettings)
@click.option(
    "--model", metavar="MODEL", help="The model by name or folder. [default: the stored source]"
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, …")
@click.option("--replace", is_flag=True, help="Recompute a stored result.")
@atlas_option
@shared_options
def steer(
    *,
    named: tuple[str, ...],
    features: tuple[str, ...],
    saes: tuple[str, ...],
    prompt: str | None,
    task: str | None,
    list_tasks: bool,
    times: float,
    new_tokens: int,
    model: str | None,
    device: str,
    replace: bool,
    where: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Steer a model by features: text, or a task with controls.

    A prompt is continued before and after the edit, or a task is scored.

    With --task, the arms are nothing, the reconstruction alone, one feature, all features
    together, the difference of means of contrasting prompts, and random features. A development
    half of the prompts chooses the strength of each arm; the other half is reported. An arm steers
    if it succeeds more often than no edit and more often than random features (both p ≤ .05).

    \b
    Examples:
      atlas steer tiny-a-l1-s0/359 --prompt "One day, a little girl" --times 2
      atlas steer tiny-a-l1-s0/359 --task feelings
      atlas steer --sae tiny-a-l1-s0 --task dialogue-verbs
    """
    from analysis.steering.tasks import read_task, task_names
    from atlas.errors import BadInput

    if list_tasks:
        known = [
            {
                "task": name,
                "made_for": one.made_for,
                "prompts": len(one.tests),
                "about": one.about,
            }
            for name in task_names()
            for one in (read_task(name),)
        ]
        emit(known, as_json=as_json, show=lambda: print_table(known))
        return
    if (prompt is None) == (task is None):
        raise BadInput(
            "Pass either --prompt or --task; `atlas steer --list-tasks` lists the tasks."
        )
    _check_strength(with_prompt=prompt is not None)
    features = (*named, *features)
    shared: dict[str, Any] = {
        "settings": SteeringSettings(**chosen_settings(SteeringSettings, options)),
        "model": model,
        "device": device,
        "progress": make_progress(quiet=quiet),
    }
    path = folder_of(which_atlas(where))
    if prompt is not None:
        from analysis.steering.texts import steer_text

        one = steer_text(path, prompt, features, times=times, new_tokens=new_tokens, **shared)
        rows = one.table("texts").to_pylist()
        emit({**one.summary, "texts": rows}, as_json=as_json, show=lambda: _show_text(one))
        return
    from analysis.steering.evaluation import success_against_damage, with_mean_of_random
    from analysis.steering.study import steer_task

    results = steer_task(path, str(task), features, saes=saes, replace=replace, **shared)

    def show() -> None:
        for each in results:
            print_verdict(each.verdict)
            echo()
            rows = with_mean_of_random(each.table("arms").to_pylist())
            print_table(
                [row | _short(row) for row in rows],
                columns=_ARMS,
                controls=_CONTROLS,
                keys=("arm", "strength"),
                title=_ARMS_TITLE.format(prompts=each["prompts"]),
            )
            echo()
            print_table(
                success_against_damage(each.table("curve").to_pylist()),
                title=_CURVE_TITLE.format(prompts=each["prompts"]),
            )

    rows = []
    for each in results:
        tables = {name: each.table(name).to_pylist() for name in ("arms", "curve")}
        means = [row for row in with_mean_of_random(tables["arms"]) if row not in tables["arms"]]
        rows.append({**each.summary, **tables, "mean_of_random": means})
    emit(rows, as_json=as_json, show=show)


def _check_strength(*, with_prompt: bool) -> None:
    """Refuse the strength of a task with a prompt, and that of a prompt with a task."""
    from atlas.errors import BadInput

    name, used, other = (
        ("strengths", "--strength is for --task", "With --prompt, pass --times.")
        if with_prompt
        else ("times", "--times is for --prompt", "With --task, pass --strength.")
    )
    source = click.get_current_context().get_parameter_source(name)
    if source is click.core.ParameterSource.COMMANDLINE:
        raise BadInput(f"{used}. {other}")


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a cell shows: the first of several features, and a mean of successes with one decimal."""
    names = row.get("features") or []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    success = round(row["success"], 1)
    return {"features": f"{names[0]}{more}" if names else None, "success": success}


def _show_text(one: "Result") -> None:
    print_verdict(one.verdict)
    for row in one.table("texts").to_pylist():
        members = f" ({', '.join(row['features'])})" if row["features"] else ""
        echo()
        print_text(f"{row['arm']}{members}:")
        echo(fold(f"{one['prompt']}{row['text']}".replace("\n", "⏎")))
