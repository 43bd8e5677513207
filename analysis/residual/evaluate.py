"""The SAEs of a study measured alike: ingested, probed from the source, and matched."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.residual.part import write_study
from analysis.residual.split import Divided
from analysis.residual.study_context import StudyContext
from analysis.residual.train import Arm, Facts, all_arms
from atlas.atomic_files import discard
from ingest.forward.run import ingest
from ingest.match.study import match_saes
from ingest.probe.study import probe_saes
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings

__all__ = ["after", "all_pairs", "measure"]

#: Baselines that are matched across seeds.
CROSSED = 3


def after(study: StudyContext) -> str:
    """Say what comes after training; how long it takes is not measured."""
    arms = {study.sae_name(arm): (arm, None) for arm in all_arms(study.settings)}
    pairs = 0 if study.match is None else len(all_pairs(arms))
    matched = f", and {pairs} pairs of them are matched" if pairs else ""
    return (
        f"After that all {len(arms)} SAEs are ingested, their features are probed from "
        f"{study.settings.source}{matched}: that takes longer, by how much was not measured."
    )


def measure(
    study: StudyContext, divided: Divided, trained: Mapping[str, tuple[Arm, Facts]]
) -> dict[str, Any]:
    """Ingest, probe and match all SAEs, and write the study's part."""
    path, model = study.folder.path, study.reader.model
    opened = [open_sae(study.place(arm), name=name) for name, (arm, _) in trained.items()]
    ingest(
        path, saes=opened, model=model, match=None, replace=_stale(study, opened),
        settings=Settings(device=study.device, batch_tokens=study.settings.batch_tokens),
        progress=study.progress,
    ).close()  # fmt: skip
    probes = probe_saes(
        path, list(trained), sites=[study.settings.source], settings=study.probe, model=model,
        device=study.device, replace=study.replace, progress=study.progress,
    )  # fmt: skip
    matches: list[Any] = []
    if study.match is not None:
        pairs = all_pairs(trained)
        study.progress.report(_of_pairs(pairs, trained))
        for pair in pairs:
            matches += match_saes(
                path, pair, settings=study.match, opened=opened, progress=study.progress
            )
    with study.folder.writing():
        rows = write_study(study, divided, trained)
    discard(study.scratch)
    return {"study": study.name, "arms": rows, "probes": probes, "matches": matches}


def _stale(study: StudyContext, opened: Sequence[Any]) -> bool:
    """Say whether the atlas has other SAEs of these names, which are to be replaced."""
    parts = study.folder.sound().parts
    there = {
        name: parts[f"sae/{name}"].table("SAE")["weights"][0].as_py()
        for name in (sae.info.name for sae in opened)
        if f"sae/{name}" in parts
    }
    return study.replace and any(
        there.get(s.info.name, s.info.weights) != s.info.weights for s in opened
    )


def all_pairs(trained: Mapping[str, tuple[Arm, Facts | None]]) -> list[tuple[str, str]]:
    """Return each baseline with the other SAEs of its seed, and a few with those of the next.

    SAEs of a seed begin with the same weights, which alone makes counterparts. Across seeds
    they do not, and two baselines say what two trainings share anyhow.
    """
    bases = {arm.seed: name for name, (arm, _) in trained.items() if arm.name == "baseline"}
    same = [(bases[arm.seed], name) for name, (arm, _) in trained.items() if arm.name != "baseline"]
    seeds = sorted(bases)
    following = dict(zip(seeds, [*seeds[1:], seeds[0]], strict=True))
    crossed = [
        (bases[seed], name)
        for seed in seeds[:CROSSED]
        for name, (arm, _) in trained.items()
        if arm.seed == following[seed] != seed and arm.draw in (None, 0)
    ]
    once = {
        frozenset(pair): pair for pair in [*same, *crossed]
    }  # of two seeds, each is the other's next
    return list(once.values())


def _of_pairs(pairs: Sequence[tuple[str, str]], trained: Mapping[str, tuple[Arm, Facts]]) -> str:
    """Say what is matched with what."""
    seeds = {name: arm.seed for name, (arm, _) in trained.items()}
    crossed = sum(seeds[one] != seeds[other] for one, other in pairs)
    said = f"{len(pairs) - crossed} pairs of SAEs of one seed are matched"
    if crossed:
        return f"{said}, and {crossed} of two seeds, which do not share their first weights."
    return (
        f"{said}; they share their first weights, which alone makes counterparts. With two seeds or more "
        "some pairs across seeds are matched too."
    )
