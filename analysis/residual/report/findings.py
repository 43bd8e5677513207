"""The data of a report on dataset geometry: maps, residual study, differences of arms, verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.probe.tables import load
from analysis.residual.report.arm_difference import Difference, difference
from analysis.residual.report.interpretability_metrics import (
    arm_rows,
    match_rows,
    score_rows,
    token_metrics,
)
from analysis.residual.report.marks import (
    mark_differences,
    mark_rows,
    marks_verdict,
    read_marks,
    separating,
)
from analysis.residual.report.study import EMBEDDING, PAIRS, ResidualStudy, open_study, site_name
from analysis.residual.report.sweep import sweep_rows, verdict_rows
from analysis.residual.report.verdict import AGAINST, MARGIN, Verdict, headline, judge
from analysis.residual.train_arms import unlike
from atlas.errors import BadInput, RequestError, UnknownName

if TYPE_CHECKING:
    from atlas.api import Atlas
    from atlas.disk.folder import Sound

__all__ = ["Findings", "Mapped", "assign_floors", "find", "verdicts_of"]


def assign_floors(
    atlas: "Atlas", floors: Sequence[str], *, available: set[str], source: str = "hook_embed"
) -> dict[str, str]:
    """Return the floor of each model: the random-weight model of equal width and number of blocks.

    Parameters
    ----------
    atlas
        The atlas.
    floors
        Names of models with random weights.
    available
        Models with maps from the source, or with probes.
    source
        TransformerLens name of the site mapped and probed from; for the hint of an error.

    Raises
    ------
    UnknownName
        If a floor has neither maps nor probes.
    BadInput
        If no other model has the shape of a floor, or two floors have the same shape.
    """
    for name in floors:
        if name not in available:
            raise UnknownName(
                "model with maps or probes",
                name,
                known=available,
                hint=f"Run `atlas transcoder --model {name}=FOLDER --from {source}` to compute its maps, or "
                "`atlas residual --model FOLDER` to train and probe SAEs on it.",
            )
    rows = atlas.table("Model").to_pylist()
    shape = {row["name"]: (row["d_model"], row["layers"]) for row in rows}
    of_shape = {shape[floor]: floor for floor in floors}
    if twice := [name for name in floors if of_shape[shape[name]] != name]:
        raise BadInput(
            f"The floors {twice[0]} and {of_shape[shape[twice[0]]]} have the same shape; name one floor for "
            "each shape."
        )
    floor_of = {
        name: of_shape[shape[name]]
        for name in sorted(available - set(floors))
        if shape[name] in of_shape
    }
    if unused := set(floors) - set(floor_of.values()):
        raise BadInput(
            f"No other model of this atlas has the width and number of blocks of {', '.join(sorted(unused))}. "
            "Name a model with random weights and the configuration of the trained model; "
            "`atlas random-weights MODEL` writes one."
        )
    return floor_of


#: The controls of the headline: random components removed, and token means removed.
CONTROL, EXTREME = "components", "token-means"

#: Columns of MAPS_TO that are reported in addition to those of the sweep.
_ERRORS = ("mse_in_sample", "mse_with_bos")


#: Settings of maps on the layout of the text, which come from an SAE.
_LAYOUT = ("context_size", "prepend_bos", "batch_tokens")


@dataclass(frozen=True)
class Mapped:
    """The maps of one model that share their settings, so that one command reproduces them.

    Parameters
    ----------
    model
        Name of the model in the atlas.
    source
        Name or folder the model was opened from; ``"memory"``, or None if unknown.
    read
        Whether an SAE of the atlas reads the model.
    targets
        Target hooks; ``all`` stands for the residual stream after every block.
    settings
        Settings as stored in the parts, without the layout of the text.
    like
        The SAE whose text layout the maps use, if it is not the default.
    """

    model: str
    source: str | None
    read: bool
    targets: tuple[str, ...]
    settings: Mapping[str, Any]
    like: str | None = None


@dataclass(frozen=True)
class IngestedSae:
    """The origin of an SAE that no study trained.

    Parameters
    ----------
    source, model
        Origin of the SAE and of the model that it reads; ``"memory"``, or None if unknown.
    """

    source: str | None
    model: str | None = None


@dataclass(frozen=True, eq=False)
class Findings:
    """All numbers of a report.

    Parameters
    ----------
    atlas
        Name of the atlas.
    corpus
        Stored record of the text of the atlas.
    source
        Hook of the site that is mapped and probed from.
    maps
        Rows of the layer sweep, for all models.
    edges
        The stored edges MAPS_TO from that hook.
    verdicts_by_layer
        Rows of verdicts by model and layer, of one run.
    study
        The residual study, if there is one.
    arms, scores, matches
        Rows on the arms of the study, on the scores of their probes in the form of the original
        study, and on the matches between arms.
    differences
        Differences between pairs of probed arms.
    verdicts
        Comparisons of residual with baseline, components and token means, in this order; empty
        without a study.
    headline
        The last two verdicts in words; empty without a study.
    options
        Options of the report, by their names on the command line.
    mapped
        Settings of the maps, by model.
    ingested
        Origin of each SAE that no study trained, by name, in order of creation.
    floors
        The random-weight baseline of each model, by name of the model.
    marks, mark_differences, marks_verdict, mark_settings
        Means of the interpretability marks by arm, their differences between arms, the verdict
        in words, and the settings of the marks; empty if no SAE of the study has marks.
    """

    atlas: str
    corpus: Mapping[str, Any]
    source: str
    maps: Sequence[Mapping[str, Any]]
    edges: Sequence[Mapping[str, Any]]
    verdicts_by_layer: Sequence[Mapping[str, Any]]
    study: ResidualStudy | None
    arms: Sequence[Mapping[str, Any]]
    scores: Sequence[Mapping[str, Any]]
    matches: Sequence[Mapping[str, Any]]
    differences: Sequence[Difference]
    verdicts: Sequence[Verdict]
    headline: str
    options: Mapping[str, Any] = field(default_factory=dict)
    mapped: Sequence[Mapped] = ()
    ingested: Mapping[str, IngestedSae] = field(default_factory=dict)
    floors: Mapping[str, str] = field(default_factory=dict)
    marks: Sequence[Mapping[str, Any]] = ()
    mark_differences: Sequence[Mapping[str, Any]] = ()
    marks_verdict: str = ""
    mark_settings: Mapping[str, Any] = field(default_factory=dict)

    def difference(self, one: str, other: str) -> Difference | None:
        """Return the difference between two arms, or None if one was not probed."""
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
    """Compute all numbers of a report.

    Parameters
    ----------
    atlas
        The atlas, opened from a folder.
    study
        Name of the residual study; the first one if None.
    site
        Hook that is mapped and probed from; if None, the source of the study, or the
        embedding if there is no study.
    run
        Run of the probes of the study's SAEs; see ``open_study``.
    floors
        Models of random weights; see ``assign_floors``.
    margin
        Smallest difference that matters; see ``judge``.
    strata
        Strata of validation positives; see ``difference``.

    Raises
    ------
    RequestError
        If the atlas is on a server, which stores no parts.
    """
    if atlas.folder is None:
        raise RequestError(
            f"{atlas.url} is a server, but studies are stored in the folder of the atlas; pass that folder."
        )
    folder = atlas.folder
    sound = folder.sound()
    opened = open_study(folder, study, site=site, run=run)
    options = {"run": run, "margin": margin, "strata": strata}
    site = site or (EMBEDDING if opened is None else opened.site)
    less = [s["name"] for s in atlas.table("SAE").to_pylist() if s["less"] is not None]
    probes = load(atlas)
    edges = [
        row for row in atlas.table("MAPS_TO").to_pylist() if row["source"].endswith(f"/{site}")
    ]
    models = {row["source"].rpartition("/")[0] for row in edges}
    if len(probes):
        models |= {one.rpartition("/")[0] for one in probes["site_id"] if one.endswith(f"/{site}")}
    baselines = assign_floors(atlas, floors, available=models, source=site)
    by_layer = (
        verdict_rows(probes, source=site, without=less, floors=baselines) if len(probes) else []
    )
    maps = sweep_rows(atlas, source=site, floors=baselines)
    differences = [] if opened is None else _differences(opened, strata)
    verdicts = [] if opened is None else verdicts_of(opened, differences, margin)
    by_control = {verdict.control: verdict for verdict in verdicts}
    metrics = {} if opened is None else {p.sae: token_metrics(sound, p.sae) for p in opened.probed}
    marks, mark_settings = ({}, {}) if opened is None else read_marks(sound, opened)
    by_mark = [] if opened is None else mark_differences(opened, marks, strata=strata)
    return Findings(
        atlas=folder.name,
        corpus=folder.corpus or {},
        source=site,
        maps=_with_errors(maps, edges),
        edges=edges,
        verdicts_by_layer=_one_run(by_layer, opened),
        study=opened,
        arms=[] if opened is None else arm_rows(opened, metrics),
        scores=[] if opened is None else score_rows(opened),
        matches=[] if opened is None else match_rows(sound, opened),
        differences=differences,
        verdicts=verdicts,
        headline=headline(by_control[CONTROL], by_control[EXTREME], source=site_name(site))
        if verdicts
        else "",
        options=options,
        mapped=_mapped(atlas, sound, site),
        ingested=_ingested(sound),
        floors=baselines,
        marks=[] if opened is None else mark_rows(opened, marks, separating(sound, opened)),
        mark_differences=by_mark,
        marks_verdict=marks_verdict(by_mark),
        mark_settings=mark_settings,
    )


def _mapped(atlas: "Atlas", sound: "Sound", site: str) -> list[Mapped]:
    """Return model, targets and settings of each group of maps from a site."""
    layers = {row["name"]: row["layers"] for row in atlas.table("Model").to_pylist()}
    readers: dict[str, list[str]] = {}
    for row in sorted(atlas.table("SAE").to_pylist(), key=lambda row: str(row["name"])):
        readers.setdefault(row["model"], []).append(row["name"])
    found: dict[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, Any], list[str]]] = {}
    for part in sound.of("transcoder"):
        edges = part.table("MAPS_TO").to_pylist()
        hooks = [e["target"].rpartition("/")[2] for e in edges if e["source"].endswith(f"/{site}")]
        model, settings = part.manifest.sources["model"], dict(part.manifest.settings)
        key = model["name"], repr(sorted(settings.items()))
        found.setdefault(key, (model, settings, []))[2].extend(hooks)
    return [
        Mapped(
            model["name"],
            model.get("source"),
            model["name"] in readers,
            _targets(hooks, site, layers.get(model["name"])),
            {k: v for k, v in settings.items() if k not in _LAYOUT},
            _like(sound, settings, readers.get(model["name"], [])),
        )
        for model, settings, hooks in found.values()
        if hooks
    ]


def _targets(hooks: Sequence[str], site: str, layers: int | None) -> tuple[str, ...]:
    """Return the targets as options of the command."""
    every = [f"blocks.{i}.hook_resid_post" for i in range(layers or 0)]
    every = [hook for hook in every if hook != site]
    if not every or not set(every) <= set(hooks):
        return tuple(sorted(hooks))
    return ("all", *sorted(set(hooks) - set(every)))


def _like(sound: "Sound", settings: Mapping[str, Any], readers: Sequence[str]) -> str | None:
    """Return an SAE with the same text layout as the maps; None if the default SAE has it."""
    wanted = {name: settings.get(name) for name in _LAYOUT}
    by_sae = {sae: sound.parts[f"sae/{sae}"].manifest.settings for sae in sound.saes}
    same = [sae for sae in by_sae if {name: by_sae[sae].get(name) for name in _LAYOUT} == wanted]
    usual = next(iter(readers or sound.saes), None)
    return None if None in wanted.values() or not same or usual in same else same[0]


def _ingested(sound: "Sound") -> dict[str, IngestedSae]:
    """Return the origin of each SAE that no study trained."""
    trained = {sae for part in sound.of("residual") for sae in part.manifest.saes}
    first = sorted(sound.of("sae"), key=lambda part: part.manifest.created)
    origins = {part.manifest.name: part.manifest.sources for part in first}
    return {
        sae: IngestedSae(origin.get("sae", {}).get("source"), origin.get("model", {}).get("source"))
        for sae, origin in origins.items()
        if sae not in trained
    }


def verdicts_of(
    study: ResidualStudy, differences: Sequence[Difference], margin: float = MARGIN
) -> list[Verdict]:
    """Return the verdict of the comparison of residual with each other arm."""
    found = {d.other: d for d in differences if d.one == "residual"}
    return [
        judge(
            found.get(arm),
            margin=margin,
            against=arm,
            why=_missing(study, arm),
            unfit=_unfit(study, arm),
        )
        for arm in AGAINST
    ]


def _unfit(study: ResidualStudy, arm: str) -> str:
    """Return why an arm is not a valid control of the map; empty if it is."""
    if arm == EXTREME and study.old_means:
        return (
            "its token means were computed by an earlier version; recompute them with `atlas residual` and "
            "`replace=True`"
        )
    if arm == EXTREME and study.all_prior:
        at_embedding = study.read_from == EMBEDDING
        return (
            "its token means remove no more than the map does, because the token id predicted nothing beyond "
            "the map on held-out documents"
            if at_embedding
            else "its token means remove no token information, because the token id predicted nothing beyond "
            "the overall mean on held-out documents"
        )
    if arm == EXTREME and not study.chosen:
        return "there were too few documents to choose the shrinkage of its token means"
    if arm == CONTROL and "removed_share" in study.arms:
        return _component_mismatch(study.arms)
    return ""


def _component_mismatch(arms: pd.DataFrame) -> str:
    """Return how the components differ from the map in removed variance, or that all draws are equal."""
    taken = arms.loc[arms["arm"] == "residual", "removed_share"].mean()
    control = arms[arms["arm"] == CONTROL].drop_duplicates(["draw", "removed_share"])
    if taken != taken or not len(control):  # an arm is missing
        return ""
    if why := unlike(control["removed_share"].tolist(), taken):
        return why
    by_seed = arms[arms["arm"] == CONTROL].groupby("seed")["removed_share"]
    several = by_seed.nunique()[by_seed.size() > 1]
    if len(several) and (several == 1).all():
        return "all draws of the control removed exactly the same share of the variance, so they chose the same directions"
    return ""


def _missing(study: ResidualStudy, arm: str) -> str:
    """Return which SAEs or probes of a comparison are missing."""
    trained = set(study.arms["arm"])
    if missing := [name for name in ("residual", arm) if name not in trained]:
        return f"the study has no SAEs of {' and '.join(missing)}"
    missing = [name for name in ("residual", arm) if not study.of(name)]
    return f"the SAEs of {' and '.join(missing)} were not probed from {study.site}"


def _with_errors(
    maps: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of the sweep with the mean squared errors of their edges."""
    edge_of = {(edge["target"], edge["run"]): edge for edge in edges}
    return [
        dict(row)
        | {name: edge_of[f"{row['model']}/{row['target']}", row["run"]][name] for name in _ERRORS}
        for row in maps
    ]


def _differences(study: ResidualStudy, strata: int) -> list[Difference]:
    samples = {arm: [p.sample() for p in study.of(arm)] for arm in study.arms_there}
    return [
        difference(samples[one], samples[other], names=(one, other), strata=strata)
        for one, other in PAIRS
        if one in samples and other in samples
    ]


def _one_run(
    rows: Sequence[Mapping[str, Any]], study: ResidualStudy | None
) -> list[Mapping[str, Any]]:
    """Return the rows of the study's run, or of the first run that splits by document."""
    runs = sorted({row["run"] for row in rows}, key=lambda r: (not r.startswith("document"), r))
    if not runs:
        return []
    run = study.run if study is not None and study.run in runs else runs[0]
    return [row for row in rows if row["run"] == run]
