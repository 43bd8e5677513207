"""What an atlas knows of its dataset geometry, gathered once for the report: maps, study, differences, verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.probe.tables import load
from analysis.residual.control_check import unlike
from analysis.residual.report.arm_difference import Difference, difference
from analysis.residual.report.interpretability_metrics import (
    arm_rows,
    match_rows,
    score_rows,
    token_marks,
)
from analysis.residual.report.random_baselines import floors_beside
from analysis.residual.report.study import EMBEDDING, PAIRS, Study, open_study, place_of
from analysis.residual.report.sweep import sweep_rows, verdict_rows
from analysis.residual.report.verdict import AGAINST, MARGIN, Verdict, headline, judge
from atlas.errors import RequestError

if TYPE_CHECKING:
    from atlas.api import Atlas
    from atlas.folder import Sound

__all__ = ["Findings", "Mapped", "find", "verdicts_of"]

#: The controls that the headline rests on: any such share taken away, and the token itself.
CONTROL, EXTREME = "components", "token-means"

#: Columns of MAPS_TO that are told beside those of the sweep.
_ERRORS = ("mse_in_sample", "mse_with_bos")


#: Settings of maps that say how text is laid out: they come from an SAE.
_LAYOUT = ("context_size", "prepend_bos", "batch_tokens")


@dataclass(frozen=True)
class Mapped:
    """The maps of one model that were made with the same settings, so that one command makes them.

    Parameters
    ----------
    model
        Its name in the atlas.
    source
        Name or folder it was opened from; ``"memory"``, or None where that is not known.
    read
        Whether an SAE of the atlas reads it.
    targets
        Hooks mapped to; ``all`` stands for the residual stream after every block.
    settings
        As the parts hold them, but for how text is laid out.
    like
        The SAE whose layout of the text they have, where it is not the default.
    """

    model: str
    source: str | None
    read: bool
    targets: tuple[str, ...]
    settings: Mapping[str, Any]
    like: str | None = None


@dataclass(frozen=True)
class SaeRecord:
    """What an SAE was made from that no study trained.

    Parameters
    ----------
    source, model
        Where it and the model it reads came from; ``"memory"``, or None where that is not known.
    """

    source: str | None
    model: str | None = None


@dataclass(frozen=True, eq=False)
class Findings:
    """All numbers of a report.

    Parameters
    ----------
    atlas
        Its name.
    corpus
        What it says of its text.
    source
        Hook that is mapped and probed from.
    maps
        Rows of the layer sweep, for all models.
    edges
        The edges MAPS_TO from that hook, as they are.
    verdicts_by_layer
        Rows of verdicts by model and layer, of one run.
    study
        The residual study, if there is one.
    arms, scores, matches
        Rows that describe its arms, the scores of their probes as the source told its own, and
        the matches between them.
    differences
        Those of the study, of two arms that were probed each.
    verdicts
        Residual against baseline, components and token means, in this order; none without a
        study.
    headline
        What the last two force; empty without a study.
    asked
        The options that the report was asked with, by their names on the command line.
    mapped
        How the maps were made, by model and settings.
    ingested
        What the SAEs were made from that no study trained, by name; the first that was made comes first.
    floors
        The model of random weights that was named for a model.
    """

    atlas: str
    corpus: Mapping[str, Any]
    source: str
    maps: Sequence[Mapping[str, Any]]
    edges: Sequence[Mapping[str, Any]]
    verdicts_by_layer: Sequence[Mapping[str, Any]]
    study: Study | None
    arms: Sequence[Mapping[str, Any]]
    scores: Sequence[Mapping[str, Any]]
    matches: Sequence[Mapping[str, Any]]
    differences: Sequence[Difference]
    verdicts: Sequence[Verdict]
    headline: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    mapped: Sequence[Mapped] = ()
    ingested: Mapping[str, SaeRecord] = field(default_factory=dict)
    floors: Mapping[str, str] = field(default_factory=dict)

    def difference(self, one: str, other: str) -> Difference | None:
        """Return the difference of two arms, if both were probed."""
        return next((d for d in self.differences if (d.one, d.other) == (one, other)), None)


def find(
    atlas: "Atlas",
    *,
    study: str | None = None,
    site: str | None = None,
    run: str | None = None,
    floors: Sequence[str] = (),
    margin: float = MARGIN,
    strata: int = 5,
) -> Findings:
    """Gather what a report says.

    Parameters
    ----------
    atlas
        The atlas, a folder.
    study
        Name of its residual study; the first one if None.
    site
        Hook that was mapped and probed from; if None, the source of the study, or the
        embedding where there is no study.
    run
        Which probes of the study's SAEs; see ``open_study``.
    floors
        Models of random weights; see ``floors_beside``.
    margin
        Smallest difference that matters; see ``judge``.
    strata
        Strata of validation positives; see ``difference``.

    Raises
    ------
    RequestError
        If the atlas is on a server, which keeps no parts.
    """
    if atlas.folder is None:
        raise RequestError(
            f"{atlas.url} is a server, and studies lie in the folder of the atlas; name that folder."
        )
    folder = atlas.folder
    sound = folder.sound()
    opened = open_study(folder, study, site=site, run=run)
    asked = {"run": run, "margin": margin, "strata": strata}
    site = site or (EMBEDDING if opened is None else opened.site)
    less = [s["name"] for s in atlas.table("SAE").to_pylist() if s["less"] is not None]
    probes = load(atlas)
    edges = [
        row for row in atlas.table("MAPS_TO").to_pylist() if row["source"].endswith(f"/{site}")
    ]
    told = {row["source"].rpartition("/")[0] for row in edges}
    if len(probes):
        told |= {one.rpartition("/")[0] for one in probes["site_id"] if one.endswith(f"/{site}")}
    beside = floors_beside(atlas, floors, told=told, source=site)
    by_layer = verdict_rows(probes, source=site, without=less, floors=beside) if len(probes) else []
    maps = sweep_rows(atlas, source=site, floors=beside)
    differences = [] if opened is None else _differences(opened, strata)
    verdicts = [] if opened is None else verdicts_of(opened, differences, margin)
    of = {verdict.control: verdict for verdict in verdicts}
    marks = {} if opened is None else {p.sae: token_marks(sound, p.sae) for p in opened.probed}
    return Findings(
        atlas=folder.name,
        corpus=folder.corpus or {},
        source=site,
        maps=_with_errors(maps, edges),
        edges=edges,
        verdicts_by_layer=_one_run(by_layer, opened),
        study=opened,
        arms=[] if opened is None else arm_rows(opened, marks),
        scores=[] if opened is None else score_rows(opened),
        matches=[] if opened is None else match_rows(sound, opened),
        differences=differences,
        verdicts=verdicts,
        headline=headline(of[CONTROL], of[EXTREME], source=place_of(site)) if verdicts else "",
        asked=asked,
        mapped=_mapped(atlas, sound, site),
        ingested=_ingested(sound),
        floors=beside,
    )


def _mapped(atlas: "Atlas", sound: "Sound", site: str) -> list[Mapped]:
    """Return how the maps from a place were made."""
    layers = {row["name"]: row["layers"] for row in atlas.table("Model").to_pylist()}
    readers: dict[str, list[str]] = {}
    for row in sorted(atlas.table("SAE").to_pylist(), key=lambda row: str(row["name"])):
        readers.setdefault(row["model"], []).append(row["name"])
    found: dict[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, Any], list[str]]] = {}
    for part in sound.of("transcoder"):
        edges = part.table("MAPS_TO").to_pylist()
        hooks = [e["target"].rpartition("/")[2] for e in edges if e["source"].endswith(f"/{site}")]
        model, said = part.manifest.sources["model"], dict(part.manifest.settings)
        key = model["name"], repr(sorted(said.items()))
        found.setdefault(key, (model, said, []))[2].extend(hooks)
    return [
        Mapped(
            model["name"], model.get("source"), model["name"] in readers,
            _targets(hooks, site, layers.get(model["name"])),
            {k: v for k, v in said.items() if k not in _LAYOUT},
            _like(sound, said, readers.get(model["name"], [])),
        )
        for model, said, hooks in found.values() if hooks
    ]  # fmt: skip


def _targets(hooks: Sequence[str], site: str, layers: int | None) -> tuple[str, ...]:
    """Return the targets as the command names them."""
    every = [f"blocks.{i}.hook_resid_post" for i in range(layers or 0)]
    every = [hook for hook in every if hook != site]
    if not every or not set(every) <= set(hooks):
        return tuple(sorted(hooks))
    return ("all", *sorted(set(hooks) - set(every)))


def _like(sound: "Sound", said: Mapping[str, Any], readers: Sequence[str]) -> str | None:
    """Return an SAE whose layout of the text maps have, unless the one taken by default has it."""
    wanted = {name: said.get(name) for name in _LAYOUT}
    of = {sae: sound.parts[f"sae/{sae}"].manifest.settings for sae in sound.saes}
    same = [sae for sae in of if {name: of[sae].get(name) for name in _LAYOUT} == wanted]
    usual = next(iter(readers or sound.saes), None)
    return None if None in wanted.values() or not same or usual in same else same[0]


def _ingested(sound: "Sound") -> dict[str, SaeRecord]:
    """Return what the SAEs were made from that no study trained."""
    trained = {sae for part in sound.of("residual") for sae in part.manifest.saes}
    first = sorted(sound.of("sae"), key=lambda part: part.manifest.created)
    of = {part.manifest.name: part.manifest.sources for part in first}
    return {
        sae: SaeRecord(said.get("sae", {}).get("source"), said.get("model", {}).get("source"))
        for sae, said in of.items()
        if sae not in trained
    }


def verdicts_of(
    study: Study, differences: Sequence[Difference], margin: float = MARGIN
) -> list[Verdict]:
    """Return the verdict against each of the other arms, or say what it lacks."""
    found = {d.other: d for d in differences if d.one == "residual"}
    return [
        judge(
            found.get(arm),
            margin=margin,
            against=arm,
            why=_lacking(study, arm),
            unfit=_unfit(study, arm),
        )
        for arm in AGAINST
    ]


def _unfit(study: Study, arm: str) -> str:
    """Say why an arm is no control of what the map takes away; empty if it is."""
    if arm == EXTREME and study.old_means:
        return (
            "its token means were made by an earlier version, and `atlas residual` with --replace makes "
            "them anew"
        )
    if arm == EXTREME and study.all_prior:
        at_embedding = study.read_from == EMBEDDING
        no_more = "no more away than the map does" if at_embedding else "nothing of the token away"
        return f"its token means take {no_more}, as the token told nothing beyond on documents left out"
    if arm == EXTREME and not study.chosen:
        return "by how much its token means are shrunk could not be chosen, for lack of documents"
    if arm == CONTROL and "removed_share" in study.arms:
        return _taken_apart(study.arms)
    return ""


def _taken_apart(arms: pd.DataFrame) -> str:
    """Say if components hold another share than the map took, or the same ones were drawn each time."""
    taken = arms.loc[arms["arm"] == "residual", "removed_share"].mean()
    control = arms[arms["arm"] == CONTROL].drop_duplicates(["draw", "removed_share"])
    if taken != taken or not len(control):  # an arm is not there
        return ""
    if why := unlike(control["removed_share"].tolist(), taken):
        return why
    by_seed = arms[arms["arm"] == CONTROL].groupby("seed")["removed_share"]
    several = by_seed.nunique()[by_seed.size() > 1]
    if len(several) and (several == 1).all():
        return "all draws of the control took the very same share away, so they are of the same directions"
    return ""


def _lacking(study: Study, arm: str) -> str:
    trained = set(study.arms["arm"])
    if lacking := [name for name in ("residual", arm) if name not in trained]:
        return f"the study has no SAEs of {' and '.join(lacking)}"
    lacking = [name for name in ("residual", arm) if not study.of(name)]
    return f"the SAEs of {' and '.join(lacking)} were not probed from {study.site}"


def _with_errors(
    maps: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of the sweep with the errors that it leaves out."""
    of = {(edge["target"], edge["run"]): edge for edge in edges}
    return [
        dict(row)
        | {name: of[f"{row['model']}/{row['target']}", row["run"]][name] for name in _ERRORS}
        for row in maps
    ]


def _differences(study: Study, strata: int) -> list[Difference]:
    samples = {arm: [p.sample() for p in study.of(arm)] for arm in study.arms_there}
    return [
        difference(samples[one], samples[other], names=(one, other), strata=strata)
        for one, other in PAIRS
        if one in samples and other in samples
    ]


def _one_run(rows: Sequence[Mapping[str, Any]], study: Study | None) -> list[Mapping[str, Any]]:
    """Return the rows of the study's run, or of the first by document."""
    runs = sorted({row["run"] for row in rows}, key=lambda r: (not r.startswith("document"), r))
    if not runs:
        return []
    run = study.run if study is not None and study.run in runs else runs[0]
    return [row for row in rows if row["run"] == run]
