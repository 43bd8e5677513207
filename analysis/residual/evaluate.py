"""Evaluate the SAEs of a study: ingest them, probe them from the source, and match them."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.residual.study_context import StudyContext
from analysis.residual.train import Arm, Facts
from atlas.studies.runner import run_locked
from ingest.forward.run import ingest_locked
from ingest.match.study import MatchStudy
from ingest.probe.study import ProbeStudy
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings

__all__ = ["all_pairs", "evaluate"]

#: Baselines that are matched across seeds.
CROSSED = 3


def evaluate(study: StudyContext, trained: Mapping[str, tuple[Arm, Facts]]) -> None:
    """Ingest, probe and match all SAEs of a study, in a folder whose write lock is held."""
    folder, model, progress = study.folder, study.reader.model, study.progress
    opened = [open_sae(study.sae_folder(arm), name=name) for name, (arm, _) in trained.items()]
    settings = Settings(device=study.device, batch_tokens=study.settings.batch_tokens)
    ingest_locked(
        folder,
        saes=opened,
        model=model,
        settings=settings,
        replace=_stale(study, opened),
        progress=progress,
    )
    probes = ProbeStudy(study.probe, (study.settings.source,), model=model, device=study.device)
    run_locked(probes, folder, list(trained), replace=study.replace, progress=progress)
    if study.match is not None:
        pairs = all_pairs(trained)
        progress.report(_of_pairs(pairs, trained))
        matches = MatchStudy(study.match, opened=tuple(opened))
        for pair in pairs:
            run_locked(matches, folder, pair, progress=progress)


def _stale(study: StudyContext, opened: Sequence[Any]) -> bool:
    """Return whether the atlas has other SAEs of these names, which must be replaced."""
    parts = study.folder.sound().parts
    stored = {
        name: parts[f"sae/{name}"].table("SAE")["weights"][0].as_py()
        for name in (sae.info.name for sae in opened)
        if f"sae/{name}" in parts
    }
    return study.replace and any(
        stored.get(s.info.name, s.info.weights) != s.info.weights for s in opened
    )


def all_pairs(trained: Mapping[str, tuple[Arm, Facts | None]]) -> list[tuple[str, str]]:
    """Pair each baseline with the other SAEs of its seed, and a few with SAEs of the next seed.

    SAEs of one seed share their initial weights, which alone causes counterparts. Pairs across
    seeds do not; two baselines show how much two training runs share in any case.
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
    }  # with two seeds, each follows the other
    return list(once.values())


def _of_pairs(pairs: Sequence[tuple[str, str]], trained: Mapping[str, tuple[Arm, Facts]]) -> str:
    """Return a sentence on the number of matched pairs within and across seeds."""
    seeds = {name: arm.seed for name, (arm, _) in trained.items()}
    crossed = sum(seeds[one] != seeds[other] for one, other in pairs)
    same = f"Matching {len(pairs) - crossed} pairs of SAEs of one seed"
    if crossed:
        return f"{same}, and {crossed} pairs of two seeds, which do not share initial weights."
    return (
        f"{same}. They share their initial weights, which alone causes counterparts. With two or more seeds, "
        "pairs across seeds are matched too."
    )
