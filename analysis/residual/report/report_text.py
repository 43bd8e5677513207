"""What a report on dataset geometry says in words: the question, what may be concluded and what not."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.residual.report.arm_difference import Difference
from analysis.residual.report.findings import CONTROL, EXTREME, Findings
from analysis.residual.report.study import ARMS, EMBEDDING, Study, place_of

__all__ = [
    "ASKS",
    "HOW",
    "best_by_token",
    "ceiling",
    "floor_of_verdicts",
    "matched",
    "may",
    "may_not",
    "means_here",
    "place",
    "question",
    "reads",
]

ASKS: dict[str, str] = {
    "baseline": "what the source claimed; true almost by construction",
    "components": "is it more than taking any such share away does?",
    "token-means": "is it more than taking the token itself away does?",
}
"""What each comparison asks, in order."""

HOW = (
    "Each difference compares features of like frequency: features of both arms are divided into strata of "
    "validation positives, and the differences of strata are weighted by the features both arms have there. "
    "The replicate is the training seed. The interval adds the variance among seeds, that over "
    "documents (bootstrap draws, the same documents for every SAE and both sides) and that over draws of "
    "components, and lies Student's t away. The sign-flip p is exact up to 20 seeds, and of 9,999 drawn flips "
    "above; with n seeds it is never below 2 / 2ⁿ, so that six are needed for p < .05. `plain` is the difference "
    "without strata."
)


def place(found: Findings) -> str:
    """Return what the source is called."""
    return place_of(found.source)


def question(found: Findings) -> tuple[str, str, str]:
    """Return what the report asks, how it is answered, and what token means say here."""
    source = place(found)
    study = found.study
    of = source if study is None or study.read_from == found.source else study.read_from
    return (
        f"A deep layer of a language model holds much that {of} holds already. How much of it is an "
        f"affine image of {of}? And of what remains when that image is taken away: are the features that "
        f"a sparse autoencoder finds in it harder to predict from {source}?",
        "Harder than features of the whole layer they are almost by construction: what is left of a least-squares "
        "fit is uncorrelated with what it was fitted on. So SAEs are trained in the same way on two controls, the "
        "layer less randomly chosen principal components of as much variance, and the layer less the mean of each "
        "token id. The first says what taking away any such share does; the second, what taking the token itself "
        "away does. The verdict rests on both.",
        means_here(found),
    )


def means_here(found: Findings) -> str:
    """Say what a verdict against token means leaves open at this source."""
    if found.study is not None and found.study.read_from != found.source:
        return (
            f"The map that was taken away is from {found.study.read_from}, and probes read {place(found)}: maps told "
            "of below are others, and a verdict against token means may come of what either place holds."
        )
    if found.source == EMBEDDING:
        return (
            "From the embedding the map is a function of the token, and so are the token means. A verdict against "
            "them says how well features are predicted, and may come of means that are poor for rare ids; "
            "whether the map or the token means predict more of the layer is told by R² held out, below."
        )
    return (
        f"{found.source} may hold more than the token, and probes read it there too. Harder than with token means "
        "may come of that, or of means that are poor for rare ids. Not harder does not say that the map takes away "
        "only what the token tells: it may pass the token means in R² held out, below, all the same."
    )


def reads(study: Study) -> dict[str, str]:
    """Return what the SAEs of each arm read, in the order they are shown."""
    if study.old_means:
        how = ", as an earlier version made it"
    elif study.all_prior:
        how = f", which is {_prior(study)}: the token told nothing beyond it"
    else:
        how = f", shrunk towards {_prior(study)}"
        if study.shrunk is not None:
            more = "token" if study.shrunk == 1 else "tokens"
            how += f" (as if {study.shrunk:g} more {more} of each id were that)"
        elif not study.chosen:
            how += " (as if one more token of each id were that; there were too few documents to choose)"
    return ARMS | {EXTREME: ARMS[EXTREME] + how}


def _prior(study: Study) -> str:
    """Return what token means are shrunk towards."""
    at_embedding = study.read_from == EMBEDDING
    return "what the map predicts of that id" if at_embedding else "the mean of all"


def best_by_token(source: str) -> str:
    """Return what the score of the best function of the token id on validation is called."""
    return "token ceiling" if source == EMBEDDING else "best by token id"


def ceiling(found: Findings) -> str:
    """Say what bounds the map, if anything does."""
    if found.source != EMBEDDING:
        return "From here a map may pass the token's η², as the source holds more than the token."
    return "In sample, no map of the embedding passes the token's η²: that is a ceiling, held-out figures have none."


def floor_of_verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Set the verdicts on the deepest features of each model beside those of its floor."""
    said = [
        "A floor is a model of random weights, with SAEs trained on its own activations: what its features show as well "
        "needs no training. Shares are of the features that pass the filter."
    ]
    there = [row for row in rows if row["floor"] is not None]
    there.sort(key=lambda row: -1 if row["layer"] is None else row["layer"])
    deepest = {row["model"]: row for row in there}
    for model, row in deepest.items():
        layer = "the embedding" if row["layer"] is None else f"layer {row['layer']}"
        said.append(
            f"At {layer} of {model}, {row['token']:.1%} of {row['features']:,} features are told by the token and "
            f"{row['context']:.1%} by context; at that of {row['floor']}, {row['floor_token']:.1%} and "
            f"{row['floor_context']:.1%} of {row['floor_features']:,}."
        )
    return " ".join(said)


def matched(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what the table of counterparts says, by which pairs it has."""
    said = "One-to-one counterparts with q ≤ .05."
    if any(row["one"] == row["other"] == "baseline" for row in rows):
        said += " Baselines of other seeds say what two trainings share anyhow."
    if all(row["seeds"] == "same" for row in rows):
        said += (
            " There are only pairs of one seed, which begin from the same weights and see the same tokens: they "
            "share more than other trainings would."
        )
    return said


def may(found: Findings) -> list[str]:
    """Return what the numbers allow to be said, a sentence or two each."""
    said = []
    for edge in _of_study(found):
        from analysis.transcoder.conclusion import conclusion

        said.append(conclusion(edge))
    if found.headline:
        said.append(found.headline)
    if (extreme := found.difference("residual", EXTREME)) and extreme.mean is not None:
        said.append(_of_means(found))
    if removed := _removed(found):
        said.append(removed)
    if passed := _passed(found):
        said.append(passed)
    return said


def _of_means(found: Findings) -> str:
    """Say what is left where token means were taken away."""
    study = found.study
    if study is None or study.old_means:
        return "The token means were made by an earlier version, and are not those that are taken away now."
    if study.all_prior:
        return f"The token means are {_prior(study)}, and nothing else."
    said = "Token means are means on the documents of the map"
    if study.shrunk == 0:
        return f"{said}: of ids seen there often the mean is gone, and of rare ids a mean of few tokens."
    rare = (
        "of rarer ids what is left is nearly what the map leaves"
        if study.read_from == EMBEDDING
        else "of rarer ids what their tokens tell is still there in part"
    )
    many = "" if study.shrunk is None else f" than {study.shrunk:g}"
    return f"{said}, shrunk towards {_prior(study)}: of ids with many more tokens{many} there the mean is gone, {rare}."


def may_not(found: Findings) -> list[str]:
    """Return what must not be concluded, each with its reason."""
    said = []
    if (own := found.difference("residual", "baseline")) and own.mean is not None:
        said.append(
            f"That residual features score {own.mean:+.4f} against the baseline's proves nothing by itself: "
            "the fit makes it so. It is the controls that say whether it is more than that."
        )
    if (against := found.difference("residual", CONTROL)) and against.mean is not None:
        said.append(
            "Should they be harder than with random components taken away, that says that it matters what was "
            "taken away. It does not say that what is left is more than the features of a layer without what "
            "the token tells: that is what token means are for."
        )
    if found.study is not None and found.differences:
        said += _of_differences(found)
        said.append(
            "The documents of the map and of training, and the division of the probes' documents, are the same for "
            "all seeds: intervals are for these, and say nothing of another division."
        )
        said.append(
            "The means of arms are over the features that pass the filter, and others pass in each arm; strata "
            "of positives make them alike in frequency, and in nothing else."
        )
        said.append(
            "Probes were held fixed when documents were drawn anew: an interval says nothing of probes trained "
            "on other documents."
        )
    said += [
        f"What no affine map of {place(found)} predicts has not been shown to be computed by the model: "
        "the token means say what a function of the token still does, and the tokens around it do more.",
        "An R² in sample, or one whose tokens include BOS, says little: see the columns beside the held-out one.",
        "One text, and the models named here: nothing is said of others.",
    ]
    return said


def _of_study(found: Findings) -> Sequence[Mapping[str, Any]]:
    """Return the maps to the study's target, or the deepest one of each model."""
    edges = [e for e in found.edges if e["method"] == "closed form"] or list(found.edges)
    if found.study is not None and (target := found.study.settings.get("target")):
        edges = [e for e in edges if e["target"].endswith(f"/{target}")] or edges
    last: dict[str, Mapping[str, Any]] = {}
    depth = {(row["model"], row["target"]): row["layer"] or 0 for row in found.maps}
    for edge in edges:
        model, _, hook = edge["target"].rpartition("/")
        if (model, hook) in depth:
            was = last.get(model)
            if was is None or depth[model, hook] >= depth[model, was["target"].rpartition("/")[2]]:
                last[model] = edge
    return list(last.values())


def _removed(found: Findings) -> str:
    """Say what share of the target's variance each arm went without."""
    if found.study is None or "removed_share" not in found.study.arms:
        return ""
    means = found.study.arms.groupby("arm")["removed_share"].mean()
    told = [f"{arm} {means[arm]:.1%}" for arm in ("residual", CONTROL, EXTREME) if arm in means]
    if not told:
        return ""
    return (
        f"Of the variance of the layer on the training documents was taken away: {', '.join(told)}."
    )


def _of_differences(found: Findings) -> list[str]:
    said = []
    differences: Sequence[Difference] = [d for d in found.differences if d.mean is not None]
    carries = found.difference("residual", CONTROL)
    seeds = 0 if carries is None else carries.seeds
    if seeds == 1:
        said.append(
            "There is one training seed, so the intervals are over documents alone: another training run "
            "could give another sign."
        )
    elif 1 < seeds < 6:
        said.append(
            f"There are {seeds} training seeds: the sign-flip test cannot reach p < .05 with fewer than six."
        )
    if any("documents" not in d.resampled for d in differences):
        said.append(
            "Some probes have no draws of documents, so documents are in no interval there."
        )
    return said


def _passed(found: Findings) -> str:
    """Say how the share of features that pass the filter differs between arms."""
    rows = {row["arm"]: row for row in found.arms}
    told = [
        f"{arm} {rows[arm]['passed'].mean:.1%}"
        for arm in ("baseline", "residual", CONTROL, EXTREME)
        if arm in rows and rows[arm]["passed"].mean is not None
    ]
    if len(told) < 2:
        return ""
    return f"Of their features pass the filter: {', '.join(told)}. That is a result of its own."
