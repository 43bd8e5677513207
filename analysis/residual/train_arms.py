"""Train all SAEs of a study that are not trained yet."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from analysis.residual.activations import Activations, store_activations
from analysis.residual.fit import Fitted, RandomComponents, draw_components, fit_all
from analysis.residual.settings import ALL_PRIOR
from analysis.residual.split import Divided
from analysis.residual.study_context import StudyContext
from analysis.residual.train import Arm, Facts, Trained, all_arms, read_inputs, train
from atlas.amounts import counted
from atlas.disk.atomic_files import atomic_folder, write_json
from atlas.errors import BrokenPart, RequestError
from ingest.sae.activation_transforms import MapAndTokenMeans, write_subtraction

__all__ = ["NEARLY", "finished", "is_trained", "metadata_of", "train_all", "unlike", "write_sae"]

#: Largest relative difference between the variance removed by components and by the map.
NEARLY = 0.1


def unlike(shares: Sequence[float], taken: float) -> str:
    """Return why components are not a valid control of the map; empty if they are.

    Parameters
    ----------
    shares
        Share of the target's variance that each draw removes.
    taken
        Share that the map removes.
    """
    if taken <= 0:
        return f"the map removes no variance ({taken:.1%})"
    apart = [share for share in shares if abs(share - taken) > NEARLY * taken]
    if not apart:
        return ""
    listed = ", ".join(f"{share:.1%}" for share in apart)
    return (
        f"{len(apart)} of {counted(len(shares), 'draw')} removed a different share of the variance than the map ({listed}; "
        f"the map removes {taken:.1%})"
    )


_NOTE = "training.json"


def finished(folder: Path, origin: dict[str, Any], *, replace: bool) -> Facts | None:
    """Return the training record of a finished SAE; None if it must be trained.

    Parameters
    ----------
    folder
        Folder of the SAE.
    origin
        Everything that its training depends on.
    replace
        Train the SAE again if it was trained with another origin.

    Raises
    ------
    RequestError
        If it was trained with another origin, and ``replace`` is false.
    BrokenPart
        If its training record cannot be read.
    """
    path = folder / _NOTE
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
        stored, facts = record["origin"], Facts(**record["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenPart(
            f"{path} cannot be read ({error}). Remove the folder {folder} and run the same command again."
        ) from error
    now = json.loads(json.dumps(origin))
    if "parameters" not in stored:  # trained before studies recorded them; `model` is a sample
        now.pop("parameters", None)
    if stored == now:
        return facts
    if replace:
        return None
    differing = sorted(k for k in {*stored, *now} if stored.get(k) != now.get(k))
    changes = "; ".join(f"{k}: {stored.get(k)} stored, {now.get(k)} now" for k in differing)
    raise RequestError(
        f"{folder} has an SAE of a study of this name with other settings ({changes}). To replace that study, pass "
        "`replace=True`; to keep it, pass another `name`."
    )


def write_sae(folder: Path, arm: Arm, trained: Trained, *, origin: dict[str, Any]) -> None:
    """Write a trained SAE; an interruption leaves no partial folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        trained.sae.save_inference_model(temporary)
        if arm.less is not None:
            write_subtraction(temporary, arm.less)
        write_json(temporary / _NOTE, {"origin": origin, "facts": asdict(trained.facts)})


#: Increased, for an arm, when the same texts and settings give other SAEs. Token means were not
#: shrunk in version 1, and only towards the overall mean in version 2.
VERSIONS = {"baseline": 1, "residual": 1, "components": 1, "token-means": 3}


def is_trained(study: StudyContext, arm: Arm) -> bool:
    """Return whether the SAE of an arm is stored; its settings are not checked."""
    return not study.replace and (study.sae_folder(arm) / _NOTE).exists()


def train_all(study: StudyContext, divided: Divided) -> dict[str, tuple[Arm, Facts]]:
    """Train the SAEs that are not finished, and return the training record of each, by name."""
    done: dict[str, tuple[Arm, Facts]] = {}
    todo = []
    for arm in all_arms(study.settings):
        origin = _origin(study, divided, arm)
        facts = finished(study.sae_folder(arm), origin, replace=study.replace)
        if facts is None:
            todo.append(arm.label)
        else:
            done[study.sae_name(arm)] = arm, facts
    if done:
        study.progress.report(f"{len(done)} of {study.settings.saes} SAEs are trained already.")
    if not todo:
        return done
    fitted, drawn, training = _fit(study, divided)
    arms = all_arms(study.settings, fitted, drawn)
    steps = study.settings.steps(len(training))
    # Invalid inputs raise an error before the first SAE is trained.
    reads = read_inputs([arm for arm in arms if arm.label in todo], training, study.settings)
    for number, arm in enumerate(arms, start=1):
        if arm.label not in todo:
            continue
        title = f"Training {arm.label} ({number} of {len(arms)})"
        with study.progress.stage(title, total=steps, unit="steps") as stage:
            trained = train(
                arm,
                training,
                study.settings,
                read=reads[arm.label],
                metadata=metadata_of(study),
                stage=stage,
                device=study.reader.model.device,
            )
        if arm.name == "token-means":
            trained = replace(trained, facts=replace(trained.facts, shrunk=fitted.shrunk))
        write_sae(study.sae_folder(arm), arm, trained, origin=_origin(study, divided, arm))
        done[study.sae_name(arm)] = arm, trained.facts
    return {study.sae_name(arm): done[study.sae_name(arm)] for arm in arms}


def _fit(
    study: StudyContext, divided: Divided
) -> tuple[Fitted, list[RandomComponents], Activations]:
    """Fit the subtractions, and report the share of the variance that they remove."""
    reader, settings, corpora = study.reader, study.settings, divided.corpora
    training = store_activations(
        reader,
        corpora["training"],
        study.scratch / "activations",
        tokens=divided.tokens["training"],
        progress=study.progress,
    )
    rows = reader.stream(
        corpora["map"], title=f"{reader.model.name}: fitting the map", progress=study.progress
    )
    fitted = fit_all(rows, settings, progress=study.progress)
    drawn, taken = draw_components(fitted, training, settings)
    near = (
        "; the draws of components remove "
        + ", ".join(f"{d.share:.1%} ({d.less.directions.shape[1]} components)" for d in drawn)
        if drawn
        else ""
    )
    study.progress.report(
        f"The map from {settings.source} removes {taken:.1%} of the variance of {settings.target} on the training "
        f"documents ({fitted.r2:.1%} in sample){near}. {_of_means(fitted)}"
    )
    if drawn and (why := unlike([d.share for d in drawn], taken)):
        study.progress.report(f"The components are not a valid control of the map: {why}.")
    return fitted, drawn, training


def _of_means(fitted: Fitted) -> str:
    """Return a sentence on the shrinkage of the token means."""
    prior = (
        "the prediction of the map"
        if isinstance(fitted.token_means, MapAndTokenMeans)
        else "the overall mean"
    )
    if fitted.shrunk is None:
        return f"Token means are shrunk towards {prior} with the weight of one token; there are too few documents to choose it."
    if fitted.shrunk == ALL_PRIOR:
        return f"On held-out documents the token id predicts nothing beyond {prior}, so token means equal it."
    return f"Token means are shrunk towards {prior} with the weight of {fitted.shrunk:g} token{'' if fitted.shrunk == 1 else 's'}."


def _origin(study: StudyContext, divided: Divided, arm: Arm) -> dict[str, Any]:
    """Return everything that the training of an SAE depends on."""
    settings = asdict(study.settings)
    for name in ("seeds", "draws", "text_tokens"):  # numbers of SAEs, and covered by the documents
        del settings[name]
    model = study.reader.model
    return settings | {
        "version": VERSIONS[arm.name],
        "arm": arm.label,
        "model": model.weights,
        "parameters": list(model.parameters([study.reader.source, study.reader.target])),
        "tokenizer": model.tokenizer_key,
        "contexts": asdict(study.reader.contexts),
        "fitted on": divided.corpora["map"].info.id,
        "trained on": divided.corpora["training"].info.id,
    }


def metadata_of(study: StudyContext) -> dict[str, Any]:
    """Return the metadata of model and contexts for the configuration of an SAE."""
    model, contexts = study.reader.model, study.reader.contexts
    return {
        "model_name": model.name if model.source == "memory" else model.source,
        "context_size": contexts.context_size,
        "prepend_bos": contexts.prepend_bos,
    }
