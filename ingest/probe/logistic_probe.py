"""Probes of activity: predict whether each feature is active, with tables, ceilings and controls.

The columns are those of PREDICTED_FROM; ``atlas.schema`` defines each. The verdict of a feature
reports whether it depends on the token, on its context, or on more than the token.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.bootstrap import Intervals, Resample
from ingest.probe.classifiers import Classifier, Fitted, Linear
from ingest.probe.control_task import ControlTask, shuffled_positives
from ingest.probe.probe_data import Occurrences, ProbeData, Sides, natural, subsampled
from ingest.probe.scores import auroc, confusion_of, logistic_loss
from ingest.probe.settings import ProbeSettings
from ingest.probe.site_design import Counts, ProbedRows, SiteDesign
from ingest.probe.solver.design import Spectrum, spectrum
from ingest.probe.token_baselines import best, confusion, table

__all__ = ["ActiveProbe", "Columns", "Judged", "judge"]

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdict on each feature.

    Parameters
    ----------
    verdict
        str, (features,). ``"token"``, ``"beyond token"``, ``"context"`` or ``"undecided"``.
    how
        str or None, likewise. For ``"token"``: the form of the probe (``"linear"`` or
        ``"non-linear"``) or ``"lookup"``.
    context_by
        str or None, likewise. For ``"context"``: ``"position"``, ``"bigram"`` or None.
    """

    verdict: Words
    how: Words
    context_by: Words


def judge(
    *,
    probe: Floats,
    probe_limits: Intervals,
    table: Floats,
    table_limits: Intervals,
    ceiling: Floats,
    ceiling_limits: Intervals,
    position: Floats,
    bigram: Floats,
    tau: float,
    delta: float,
    at_embedding: bool,
    form: str = "linear",
) -> Judged:
    """Return the verdict on each feature: the first one whose condition holds.

    A comparison with NaN is false, so without intervals the verdict is ``"undecided"``.

    Parameters
    ----------
    probe
        float64, (features,). Balanced accuracy of the probe.
    probe_limits
        Its interval. The verdict is ``"beyond token"`` if the lower limit exceeds the ceiling.
    table
        float64, likewise. Balanced accuracy of the token table. A token feature is
        ``form`` if the probe is at most ``delta`` below it.
    table_limits
        Its interval. The verdict is ``"token"`` if the lower limit reaches ``tau``.
    ceiling
        float64, likewise. Balanced accuracy of the best function of the token on validation.
    ceiling_limits
        Its interval. The verdict is ``"context"`` if the upper limit is below ``tau``.
    position
        float64, likewise. Balanced accuracy of the position table. A context feature is
        predicted by ``"position"`` if it reaches ``tau``.
    bigram
        float64, likewise. Balanced accuracy of the bigram table, used where the position
        table does not reach ``tau``.
    tau
        Balanced accuracy that a verdict requires.
    delta
        Largest difference from the token table for ``form``.
    at_embedding
        Whether the probe reads the embedding, where ``"beyond token"`` is impossible.
    form
        The form of the probe.
    """
    beyond = (probe_limits.low > ceiling) & (not at_embedding)
    verdict = _first(
        ("token", table_limits.low >= tau),
        ("beyond token", beyond),
        ("context", ceiling_limits.high < tau),
        otherwise="undecided",
    )
    how = _first((form, probe >= table - delta), ("lookup", probe < table - delta))
    context_by = _first(("position", position >= tau), ("bigram", bigram >= tau))
    how[verdict != "token"] = None
    context_by[verdict != "context"] = None
    return Judged(verdict, how, context_by)


def _first(*cases: tuple[str, NDArray[Any]], otherwise: str | None = None) -> Words:
    """Return the word of the first case that holds for each feature."""
    result = np.full(len(cases[0][1]), otherwise, dtype=object)
    for word, holds in reversed(cases):
        result[holds] = word
    return result


Columns: TypeAlias = dict[str, NDArray[Any]]
Margins: TypeAlias = NDArray[np.floating[Any]]


class ActiveProbe:
    """Probes of the activity of one SAE's features at one site, for one split.

    Parameters
    ----------
    site
        The site that is read.
    data
        The SAE's codes.
    train
        bool, (tokens,). Mask of the training tokens.
    settings
        How features are probed.
    split
        Name of the split.
    by
        The classifier; logistic regression if None.
    """

    def __init__(
        self,
        site: SiteDesign,
        data: ProbeData,
        train: NDArray[np.bool_],
        *,
        settings: ProbeSettings,
        split: str,
        by: Classifier | None = None,
    ) -> None:
        self._site, self._data, self._train, self._settings = site, data, train, settings
        self._classifier = by or Linear(settings)
        self._rest = settings.draws_from_all(split)
        # A table cannot predict token ids that training never saw, and sampled tokens have no
        # intervals. In both cases there is no verdict.
        self._has_verdict = split != "type" and settings.balance == "weight"
        all_tokens = np.ones(len(train), dtype=np.bool_)
        self._fitted = self._rows(all_tokens if self._rest else train)
        self._scored = self._rows(all_tokens if self._rest else ~train)
        self._basis: Spectrum = spectrum(self._fitted.design)
        self._task = ControlTask(
            site, data, train, fitted=self._fitted, scored=self._scored, seed=settings.seed
        )
        self._resample = Resample(data.document, train, draws=settings.draws, seed=settings.seed)
        self._by_type = self._resample.by(data.type, len(data.ids))
        self._by_row = (
            self._by_type if site.at_embedding else self._resample.by(site.row, site.design.rows)
        )

    def columns(self, active: Occurrences, features: NDArray[np.int64]) -> Columns:
        """Probe a block of features.

        Parameters
        ----------
        active
            The tokens on which they are active.
        features
            int64, (features,). The index of each in the SAE.

        Returns
        -------
        dict
            Columns of PREDICTED_FROM, (features,) each; and ``draws``, (features, draws): the
            balanced accuracy in each draw of the bootstrap.
        """
        sides = self._sides(active, features)
        z, columns = self._fit(*sides.counts(self._site.row, self._site.design.rows))
        columns |= self._tables(sides)
        columns |= self._controls(sides, z, features=features)
        limits = self._limits(sides, z)
        for key, name in (("probe", ""), ("table", "token_table_"), ("ceiling", "token_ceiling_")):
            columns |= {f"{name}low": limits[key].low, f"{name}high": limits[key].high}
        columns["draws"] = limits["probe"].draws.T
        return columns | self._verdicts(limits, columns)

    def _sides(self, active: Occurrences, features: NDArray[np.int64]) -> Sides:
        s = self._settings
        if s.balance == "weight":
            return natural(self._train, active, features=len(features))
        share = s.train_share if self._rest else None
        return subsampled(self._train, active, features=features, share=share, seed=s.seed)

    def _rows(self, side: NDArray[np.bool_]) -> ProbedRows:
        number = np.unique(self._site.row[side])
        return ProbedRows(self._site.design.take(number), number)

    def _fit(self, train: Counts, validation: Counts) -> tuple[Margins, Columns]:
        """Train and score the probes; return the margins of validation rows and the scores."""
        solution = self._solve(*self._fitted.dense(train), tokens=train)
        z = solution.margins(self._scored.design)
        dense = self._scored.dense(validation)
        found, loss = confusion_of(z, *dense), logistic_loss(z, *dense, **_balanced(validation))
        z_train = solution.margins(self._fitted.design)
        dense_train = self._fitted.dense(train)
        train_loss = logistic_loss(z_train, *dense_train, **_balanced(train))
        return z, {
            "balanced_accuracy": found.balanced_accuracy,
            "train_balanced_accuracy": confusion_of(z_train, *dense_train).balanced_accuracy,
            "auroc": auroc(z, *dense),
            "accuracy": found.accuracy,
            "precision": found.precision,
            "recall": found.recall,
            "balanced_precision": found.balanced_precision,
            "true_positives": found.true_positives,
            "false_positives": found.false_positives,
            "false_negatives": found.false_negatives,
            "true_negatives": found.true_negatives,
            "train_loss": train_loss,
            "loss": loss,
            "gap": loss - train_loss,
            "train_tokens": train.active + train.inactive,
            "train_positives": train.active,
            "tokens": validation.active + validation.inactive,
            "positives": validation.active,
            "penalty": self._penalty(train).numpy(),
            "iterations": solution.iterations,
            "converged": solution.converged,
        }

    def _penalty(self, train: Counts) -> torch.Tensor:
        s = self._settings
        if s.c is None:
            return torch.full((len(train.active),), s.penalty, dtype=torch.float64)
        return torch.from_numpy(1 / (2 * s.c * (train.active + train.inactive)))

    def _solve(self, positives: Floats, negatives: Floats, *, tokens: Counts) -> Fitted:
        """Fit a probe to each feature, with equal total weight of both classes."""
        design = self._fitted.design
        target = design.tensor(_share(positives))
        weight = target + design.tensor(_share(negatives))
        penalty = self._penalty(tokens)
        return self._classifier.fit(design, weight, target, penalty=penalty, basis=self._basis)

    def _tables(self, sides: Sides) -> Columns:
        data = self._data
        train, validation = sides.counts(data.type, len(data.ids))
        scores = {
            "token_table": confusion(table(train), validation),
            "token_ceiling": confusion(best(validation), validation),
            "train_token_ceiling": confusion(best(train), train),
        }
        seen = self._seen_types(train, sides.features)
        seen_share = (seen * _tokens(validation)).sum(0) / _tokens(validation).sum(0)
        for name, key in (("position", data.position), ("bigram", data.bigram)):
            pair = sides.counts(key, int(key.max(initial=-1)) + 1)
            scores[f"{name}_table"] = confusion(table(pair[0]), pair[1])
            scores[f"{name}_ceiling"] = confusion(best(pair[1]), pair[1])
        return {k: c.balanced_accuracy for k, c in scores.items()} | {
            "seen_share": np.broadcast_to(seen_share, sides.features)
        }

    def _seen_types(self, train: Counts, features: int) -> NDArray[np.bool_]:
        """Return which token ids occur in a feature's training; (ids, features) or (ids, 1)."""
        if train.negatives is None:
            return train.occurrences[:, None] > 0
        seen: NDArray[np.bool_] = (train.positives + train.negatives).toarray() > 0
        return seen

    def _controls(self, sides: Sides, z: Margins, *, features: NDArray[np.int64]) -> Columns:
        """Score probes of control tasks and of shuffled labels, trained as the probe was."""
        site, data = self._site, self._data
        fitted, scored = sides.counts(site.row, site.design.rows)
        seen = self._seen_types(sides.counts(data.type, len(data.ids))[0], sides.features)
        seen = seen[site.row_type[self._scored.numbers]]
        dense = self._scored.dense(scored)
        draws = range(self._settings.controls)
        scores = [self._control(sides, draw=draw, seen=seen, features=features) for draw in draws]
        control = np.mean(scores, axis=0) if scores else np.full(sides.features, np.nan)
        on_seen = confusion_of(z, *(tokens * seen for tokens in dense))
        return {
            "control": control,
            "selectivity": on_seen.balanced_accuracy - control,
            "shuffled": self._shuffled(fitted, dense, features=features),
        }

    def _shuffled(
        self, fitted: Counts, dense: tuple[Floats, Floats], *, features: NDArray[np.int64]
    ) -> Floats:
        """Return the balanced accuracy of probes of shuffled labels, about 0.5."""
        positives = shuffled_positives(fitted, features=features, seed=self._settings.seed)
        negatives = None
        if fitted.negatives is not None:
            negatives = csc_array(fitted.positives + fitted.negatives - positives)
        labels = Counts(fitted.occurrences, positives, negatives)
        trained = self._solve(*self._fitted.dense(labels), tokens=fitted)
        return confusion_of(trained.margins(self._scored.design), *dense).balanced_accuracy

    def _control(
        self, sides: Sides, *, draw: int, seen: NDArray[np.bool_], features: NDArray[np.int64]
    ) -> Floats:
        """Return the balanced accuracy on one draw of the control task, on tokens of seen ids."""
        task = self._task.draw(sides, draw=draw, features=features)
        tokens = sides.counts(self._site.row, self._site.design.rows)[0]
        z = self._solve(*task.fitted, tokens=tokens).margins(self._scored.design)
        seen = seen if task.seen is None else task.seen
        return confusion_of(z, *(x * seen for x in task.scored)).balanced_accuracy

    def _verdicts(self, limits: dict[str, Intervals], scores: Columns) -> Columns:
        judged = judge(
            probe=scores["balanced_accuracy"],
            probe_limits=limits["probe"],
            table=scores["token_table"],
            table_limits=limits["table"],
            ceiling=scores["token_ceiling"],
            ceiling_limits=limits["ceiling"],
            position=scores["position_table"],
            bigram=scores["bigram_table"],
            tau=self._settings.tau,
            delta=self._settings.delta,
            at_embedding=self._site.at_embedding,
            form=self._classifier.form,
        )
        columns = {"verdict": judged.verdict, "how": judged.how, "context_by": judged.context_by}
        if not self._has_verdict:
            return {name: np.full_like(words, None) for name, words in columns.items()}
        return columns

    def _limits(self, sides: Sides, z: Margins) -> dict[str, Intervals]:
        if sides.drawn is not None:  # sampled tokens differ between features: no interval
            return dict.fromkeys(("probe", "table", "ceiling"), Intervals.none(sides.features))
        data, site, resample = self._data, self._site, self._resample
        active = sides.active.take(~self._train[sides.active.token])
        predicted = np.zeros((site.design.rows, sides.features), dtype=np.float32)
        predicted[self._scored.numbers] = np.heaviside(z, 0.5)
        train, validation = sides.counts(data.type, len(data.ids))
        return {
            "probe": resample.of_rows(predicted, self._by_row, row=site.row, active=active),
            "table": resample.of_keys(table(train), self._by_type, key=data.type, active=active),
            "ceiling": resample.of_keys(
                best(validation), self._by_type, key=data.type, active=active
            ),
        }


def _balanced(counts: Counts) -> dict[str, Floats]:
    return {"pos_weight": 0.5 / counts.active, "neg_weight": 0.5 / counts.inactive}


def _share(tokens: Floats) -> Floats:
    """Return the weight of each row, with a total of one half for its class."""
    shares: Floats = 0.5 * tokens / np.maximum(tokens.sum(axis=0), np.finfo(np.float64).tiny)
    return shares


def _tokens(counts: Counts) -> Floats:
    """Return the number of tokens of each key that count; (keys, features) or (keys, 1)."""
    if counts.negatives is None:
        return counts.occurrences[:, None].astype(np.float64)
    tokens: Floats = (counts.positives + counts.negatives).toarray()
    return tokens
