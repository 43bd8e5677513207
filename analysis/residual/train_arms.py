"""Train all SAEs of a study that are not trained yet."""

from dataclasses import asdict, replace
from typing import Any

from analysis.residual.activations import Activations, keep
from analysis.residual.control_check import unlike
from analysis.residual.estimate import report_estimate
from analysis.residual.fit import Drawn, Fitted, draw_components, fit_all
from analysis.residual.sae_store import finished, write_sae
from analysis.residual.settings import ALL_PRIOR
from analysis.residual.split import Divided
from analysis.residual.study_context import StudyContext
from analysis.residual.train import Arm, Facts, all_arms, look, train
from ingest.sae.activation_transforms import MapAndTokenMeans

__all__ = ["train_all"]

#: Increased, for an arm, when the same texts and settings give other SAEs. Token means were not
#: shrunk in version 1, and only towards the overall mean in version 2.
VERSIONS = {"baseline": 1, "residual": 1, "components": 1, "token-means": 3}


def train_all(study: StudyContext, divided: Divided, *, after: str) -> dict[str, tuple[Arm, Facts]]:
    """Train the SAEs that are not finished, and return the training record of each, by name.

    The sentence ``after`` on the next steps is reported before training starts.
    """
    done: dict[str, tuple[Arm, Facts]] = {}
    todo = []
    for arm in all_arms(study.settings):
        origin = _origin(study, divided, arm)
        facts = finished(study.place(arm), origin, replace=study.replace)
        if facts is None:
            todo.append(arm.label)
        else:
            done[study.sae_name(arm)] = arm, facts
    if done:
        study.progress.report(f"{len(done)} of {study.settings.saes} SAEs are trained already.")
    if not todo:
        return done
    report_estimate(study, divided, saes=len(todo), after=after)
    fitted, drawn, training = _fit(study, divided)
    arms = all_arms(study.settings, fitted, drawn)
    steps = study.settings.steps(len(training))
    # Invalid inputs raise an error before the first SAE is trained.
    reads = look([arm for arm in arms if arm.label in todo], training, study.settings)
    for number, arm in enumerate(arms, start=1):
        if arm.label not in todo:
            continue
        title = f"Training {arm.label} ({number} of {len(arms)})"
        with study.progress.stage(title, total=steps, unit="steps") as stage:
            trained = train(
                arm, training, study.settings, read=reads[arm.label], metadata=_metadata(study),
                stage=stage, device=study.reader.model.device,
            )  # fmt: skip
        if arm.name == "token-means":
            trained = replace(trained, facts=replace(trained.facts, shrunk=fitted.shrunk))
        write_sae(study.place(arm), arm, trained, origin=_origin(study, divided, arm))
        done[study.sae_name(arm)] = arm, trained.facts
    return {study.sae_name(arm): done[study.sae_name(arm)] for arm in arms}


def _fit(study: StudyContext, divided: Divided) -> tuple[Fitted, list[Drawn], Activations]:
    """Fit the subtractions, and report the share of the variance that they remove."""
    reader, settings, corpora = study.reader, study.settings, divided.corpora
    training = keep(
        reader, corpora["training"], study.scratch / "activations",
        tokens=divided.tokens["training"], progress=study.progress,
    )  # fmt: skip
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
    return f"Token means are shrunk towards {prior} with the weight of {fitted.shrunk:g} token(s)."


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


def _metadata(study: StudyContext) -> dict[str, Any]:
    """Return the metadata of model and contexts for the configuration of an SAE."""
    model, contexts = study.reader.model, study.reader.contexts
    return {
        "model_name": model.name if model.source == "memory" else model.source,
        "context_size": contexts.context_size,
        "prepend_bos": contexts.prepend_bos,
    }
