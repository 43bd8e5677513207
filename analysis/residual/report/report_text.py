"""Text of a report on dataset geometry: the question, the conclusions, and their limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.residual.report.arm_difference import Difference
from analysis.residual.report.findings import CONTROL, EXTREME, Findings
from analysis.residual.report.study import ARMS, EMBEDDING, ResidualStudy, site_name

__all__ = [
    "ASKS",
    "HOW",
    "MARKED",
    "best_by_token",
    "ceiling",
    "floor_of_verdicts",
    "matched",
    "may",
    "may_not",
    "means_here",
    "question",
    "reads",
    "source_name",
]

ASKS: dict[str, str] = {
    "baseline": "the claim of the original study; true almost by construction",
    "components": "is the effect larger than that of removing any equal share of the variance?",
    "token-means": "is the effect larger than that of removing the token?",
}
"""The question of each comparison, in order."""

HOW = (
    "Each difference compares features of similar frequency. The features of both arms are divided into strata by "
    "the number of validation positives. The difference is the mean over strata, weighted by the number of features "
    "of both arms. The replicate is the training seed. The 95% interval uses Student's t and the sum of three "
    "variances: among seeds, over bootstrap draws of documents (the same for every SAE), and over draws of "
    "components. The sign-flip p is exact up to 20 seeds; above, it uses 9,999 random flips. With n seeds it is at "
    "least 2 / 2ⁿ, so p < .05 needs six seeds. `plain` is the difference without strata."
)


MARKED = (
    "The marks need no judge. A description of a feature is the most frequent token ids of its top examples in one "
    "half of the documents; detection is its balanced accuracy on the other half. Context dependence and detection "
    "use documents that did not choose the description. The interval covers seeds only, and q corrects for all marks "
    "and pairs in the table (Benjamini-Hochberg). A mark counts as harder or easier if q is at most .05 and the interval "
    "excludes 0. All marks concern tokens, so a feature with a clear meaning beyond tokens counts as hard."
)


def source_name(found: Findings) -> str:
    """Return the name of the source in sentences."""
    return site_name(found.source)


def question(found: Findings) -> tuple[str, str, str]:
    """Return the question of the report, the method, and the limits of the token-means control."""
    source = source_name(found)
    study = found.study
    mapped = source if study is None or study.read_from == found.source else study.read_from
    return (
        f"A deep layer of a language model contains much information that {mapped} contains already. How much of "
        f"its variance does an affine map of {mapped} explain? Sparse autoencoders (SAEs) are then trained on the "
        f"residual of this map. Are their features harder to predict from {source} than other features?",
        "Residual features are harder to predict than features of the full layer almost by construction: the "
        "residual of a least-squares fit is uncorrelated with its input. Therefore SAEs are also trained on two "
        "controls. The components control removes random principal components of equal variance, and measures the "
        "effect of removing any such share. The token-means control removes the mean of each token id, and measures "
        "the effect of removing the token. The headline uses both controls.",
        means_here(found),
    )


def means_here(found: Findings) -> str:
    """Return what a verdict against the token-means control leaves open at this source."""
    if found.study is not None and found.study.read_from != found.source:
        return (
            f"The residual removes a map from {found.study.read_from}, but the probes read {source_name(found)}, and the "
            f"maps below start there too. A verdict against token means may be due to information at either site."
        )
    if found.source == EMBEDDING:
        return (
            "From the embedding, both the map and the token means are functions of the token. A verdict against "
            "token means concerns how well features are predicted, and may be due to poor means of rare ids. The "
            "held-out R² below shows whether the map or the token means predict more of the layer."
        )
    return (
        f'{found.source} may contain more than the token, and the probes read that too. A "harder" verdict '
        'against the token-means control may be due to this, or to poor means of rare ids. A "not harder" verdict '
        "does not imply that the map removes only token information: its held-out R² below may still exceed that of the "
        "token means."
    )


def reads(study: ResidualStudy) -> dict[str, str]:
    """Return a description of the input of each arm's SAEs, in the order of display."""
    if study.old_means:
        how = ", computed by an earlier version"
    elif study.all_prior:
        how = f", which equals {_prior(study)}: the token id predicted nothing beyond it"
    else:
        how = f", shrunk towards {_prior(study)}"
        if study.shrunk is not None:
            more = "token" if study.shrunk == 1 else "tokens"
            how += f" (with the weight of {study.shrunk:g} {more} of each id)"
        elif not study.chosen:
            how += (
                " (with the weight of one token of each id; there were too few documents to choose)"
            )
    return ARMS | {EXTREME: ARMS[EXTREME] + how}


def _prior(study: ResidualStudy) -> str:
    """Return the prior that token means are shrunk towards."""
    at_embedding = study.read_from == EMBEDDING
    return "the prediction of the map for that id" if at_embedding else "the overall mean"


def best_by_token(source: str) -> str:
    """Return the name of the score of the best function of the token id on validation."""
    return "token ceiling" if source == EMBEDDING else "best by token id"


def ceiling(found: Findings) -> str:
    """Return whether the token's η² bounds the R² of the map."""
    if found.source != EMBEDDING:
        return "From this site, a map may exceed the token's η², because the site contains more than the token."
    return "In sample, the token's η² is a ceiling for every map of the embedding; held-out R² has no such ceiling."


def floor_of_verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Compare the verdicts on the deepest features of each model with those of its random-weight floor."""
    sentences = [
        "A floor is a model with random weights, and SAEs trained on its activations. A result that the floor shows "
        "too does not require a trained model. Shares are of the features that pass the filter."
    ]
    with_floor = [row for row in rows if row["floor"] is not None]
    with_floor.sort(key=lambda row: -1 if row["layer"] is None else row["layer"])
    deepest = {row["model"]: row for row in with_floor}
    for model, row in deepest.items():
        layer = "the embedding" if row["layer"] is None else f"layer {row['layer']}"
        sentences.append(
            f"At {layer} of {model}, {row['token']:.1%} of {row['features']:,} features have the verdict token and "
            f"{row['context']:.1%} the verdict context. At the same layer of the floor {row['floor']}, these are "
            f"{row['floor_token']:.1%} and {row['floor_context']:.1%} of {row['floor_features']:,} features."
        )
    return " ".join(sentences)


def matched(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the caption of the table of counterparts."""
    caption = "One-to-one counterparts with q ≤ .05."
    if any(row["one"] == row["other"] == "baseline" for row in rows):
        caption += " Pairs of baselines with different seeds show how much two training runs share in any case."
    if all(row["seeds"] == "same" for row in rows):
        caption += (
            " All pairs have the same seed, and so the same initial weights and the same training tokens. They share "
            "more than independent training runs would."
        )
    return caption


def may(found: Findings) -> list[str]:
    """Return the conclusions that the numbers support, in a few sentences each."""
    sentences = []
    for edge in _of_study(found):
        from analysis.transcoder.conclusion import conclusion

        sentences.append(conclusion(edge))
    if found.headline:
        sentences.append(found.headline)
    if found.marks_verdict:
        sentences.append(found.marks_verdict)
    if (extreme := found.difference("residual", EXTREME)) and extreme.mean is not None:
        sentences.append(_of_means(found))
    if removed := _removed(found):
        sentences.append(removed)
    if passed := _passed(found):
        sentences.append(passed)
    return sentences


def _of_means(found: Findings) -> str:
    """Describe the residual of the token-means control."""
    study = found.study
    if study is None or study.old_means:
        return "The token means were computed by an earlier version, and differ from those of the present version."
    if study.all_prior:
        return f"The token means equal {_prior(study)}."
    fitted = "Token means are computed on the documents of the map"
    if study.shrunk == 0:
        return f"{fitted}. They remove the mean of frequent ids; for rare ids they remove a noisy mean of few tokens."
    rare = (
        "for rarer ids the residual is nearly that of the map"
        if study.read_from == EMBEDDING
        else "for rarer ids part of the token information remains"
    )
    many = "many" if study.shrunk is None else f"many more than {study.shrunk:g}"
    return (
        f"{fitted} and shrunk towards {_prior(study)}. The mean is removed for ids with {many} tokens in these "
        f"documents; {rare}."
    )


def may_not(found: Findings) -> list[str]:
    """Return the conclusions that the numbers do not support, each with its reason."""
    sentences = []
    if (own := found.difference("residual", "baseline")) and own.mean is not None:
        sentences.append(
            f"The difference of {own.mean:+.4f} between residual and baseline proves nothing by itself, because the "
            "fit implies such a difference. Only the comparison with the controls can show more."
        )
    if (against := found.difference("residual", CONTROL)) and against.mean is not None:
        sentences.append(
            'A "harder" verdict against the components control shows that it matters which variance is removed. It '
            "does not show that the residual differs from a layer without token information; the token-means "
            "control tests that."
        )
    if found.study is not None and found.differences:
        sentences += _of_differences(found)
        sentences.append(
            "All seeds share the documents of the map, the training documents and the split of the probes' "
            "documents. The intervals do not cover the choice of another split."
        )
        sentences.append(
            "The mean of each arm is over the features that pass the filter, which differ between arms. Strata of "
            "validation positives match these features in frequency only."
        )
        sentences.append(
            "The bootstrap over documents keeps the probes fixed. The intervals do not cover probes that are "
            "trained on other documents."
        )
    sentences += [
        f"The residual of an affine map of {source_name(found)} is not shown to be computed by the model. Nonlinear "
        "functions of the token can predict part of it, as token means show, and the surrounding tokens can predict "
        "more.",
        "An R² in sample, or with BOS among its tokens, is usually inflated; use the held-out R² next to it.",
        "The results hold for one text and the models named here.",
    ]
    return sentences


def _of_study(found: Findings) -> Sequence[Mapping[str, Any]]:
    """Return the edges of the maps to the study's target, or to the deepest site of each model."""
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
    """Return the share of the target's variance that each arm removes."""
    if found.study is None or "removed_share" not in found.study.arms:
        return ""
    means = found.study.arms.groupby("arm")["removed_share"].mean()
    shares = [f"{arm} {means[arm]:.1%}" for arm in ("residual", CONTROL, EXTREME) if arm in means]
    if not shares:
        return ""
    return f"Share of the layer's variance removed on the training documents: {', '.join(shares)}."


def _of_differences(found: Findings) -> list[str]:
    """Return the limits that follow from the number of seeds and of bootstrap draws."""
    sentences = []
    differences: Sequence[Difference] = [d for d in found.differences if d.mean is not None]
    carries = found.difference("residual", CONTROL)
    seeds = 0 if carries is None else carries.seeds
    if seeds == 1:
        sentences.append(
            "There is one training seed, so the intervals cover documents only. Another training run could give "
            "the opposite sign."
        )
    elif 1 < seeds < 6:
        sentences.append(
            f"There are {seeds} training seeds; the sign-flip test needs at least six to reach p < .05."
        )
    if any("documents" not in d.resampled for d in differences):
        sentences.append(
            "Some probes have no bootstrap draws of documents; their intervals do not cover documents."
        )
    return sentences


def _passed(found: Findings) -> str:
    """Return the share of features that pass the filter, by arm."""
    rows = {row["arm"]: row for row in found.arms}
    shares = [
        f"{arm} {rows[arm]['passed'].mean:.1%}"
        for arm in ("baseline", "residual", CONTROL, EXTREME)
        if arm in rows and rows[arm]["passed"].mean is not None
    ]
    if len(shares) < 2:
        return ""
    return f"Share of features that pass the filter: {', '.join(shares)}. A difference between arms in this share is itself a result."
