"""Is the feature active? Logistic probes of a block of features, beside their tables, ceilings and controls.

Columns are those of PREDICTED_FROM in ``atlas.schema``, where each is defined.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.bootstrap import Limits
from ingest.probe.control_task import ControlTask
from ingest.probe.controls import shuffled_positives
from ingest.probe.counts import Counts
from ingest.probe.probe_data import Occurrences, ProbeData
from ingest.probe.resample import Resample
from ingest.probe.rows import Rows
from ingest.probe.scores import auroc, confusion_of, logistic_loss
from ingest.probe.settings import ProbeSettings
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.preconditioner import Spectrum, spectrum
from ingest.probe.solver.solve import Solution, margins, solve
from ingest.probe.token_baselines import best, confusion, table
from ingest.probe.train_val_counts import Sides, natural, subsampled
from ingest.probe.verdicts import judge

__all__ = ["ActiveProbe", "Columns"]

Columns: TypeAlias = dict[str, NDArray[Any]]
Floats: TypeAlias = NDArray[np.float64]
Margins: TypeAlias = NDArray[np.floating[Any]]


class ActiveProbe:
    """Probes features of one SAE at one place, by one split.

    Parameters
    ----------
    place
        What is read.
    kept
        The SAE's codes.
    train
        bool, (tokens,). The training side.
    settings
        How it is done.
    split
        Name of the split.
    """

    def __init__(
        self,
        place: SiteDesign,
        kept: ProbeData,
        train: NDArray[np.bool_],
        *,
        settings: ProbeSettings,
        split: str,
    ) -> None:
        self._place, self._kept, self._train, self._settings = place, kept, train, settings
        self._rest = settings.draws_from_all(split)
        # Of ids that training never saw a table knows nothing, and of drawn tokens there are no
        # intervals: there is nothing to judge by.
        self._judges = split != "type" and settings.balance == "weight"
        every = np.ones(len(train), dtype=np.bool_)
        self._fitted = self._rows(every if self._rest else train)
        self._scored = self._rows(every if self._rest else ~train)
        self._basis: Spectrum = spectrum(self._fitted.design)
        self._task = ControlTask(
            place, kept, train, fitted=self._fitted, scored=self._scored, seed=settings.seed
        )
        self._resample = Resample(kept.document, train, draws=settings.draws, seed=settings.seed)
        self._by_type = self._resample.by(kept.type, len(kept.ids))
        self._by_row = (
            self._by_type if place.at_embedding else self._resample.by(place.row, place.design.rows)
        )

    def columns(self, active: Occurrences, features: NDArray[np.int64]) -> Columns:
        """Probe a block of features.

        Parameters
        ----------
        active
            Where they are active.
        features
            int64, (features,). The number of each in the SAE.

        Returns
        -------
        dict
            Columns of PREDICTED_FROM, (features,) each; and ``draws``, (features, draws): the
            balanced accuracy in each draw of the bootstrap.
        """
        sides = self._sides(active, features)
        z, columns = self._fit(*sides.counts(self._place.row, self._place.design.rows))
        columns |= self._tables(sides)
        columns |= self._controls(sides, z, features=features)
        limits = self._limits(sides, z)
        for what, name in (("probe", ""), ("table", "token_table_"), ("ceiling", "token_ceiling_")):
            columns |= {f"{name}low": limits[what].low, f"{name}high": limits[what].high}
        columns["draws"] = limits["probe"].draws.T
        return columns | self._judged(limits, columns)

    def _sides(self, active: Occurrences, features: NDArray[np.int64]) -> Sides:
        s = self._settings
        if s.balance == "weight":
            return natural(self._train, active, features=len(features))
        share = s.train_share if self._rest else None
        return subsampled(self._train, active, features=features, share=share, seed=s.seed)

    def _rows(self, side: NDArray[np.bool_]) -> Rows:
        number = np.unique(self._place.row[side])
        return Rows(self._place.design.take(number), number)

    def _fit(self, train: Counts, validation: Counts) -> tuple[Margins, Columns]:
        """Train and score the probes; return the margins of validation rows and the scores."""
        solution = self._solve(*self._fitted.dense(train), tokens=train)
        z = self._margins(solution)
        dense = self._scored.dense(validation)
        found, loss = confusion_of(z, *dense), logistic_loss(z, *dense, **_balanced(validation))
        z_train = margins(self._fitted.design, solution).cpu().numpy()
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
            "iterations": solution.iterations.cpu().numpy(),
            "converged": solution.converged.cpu().numpy(),
        }

    def _margins(self, solution: Solution) -> Margins:
        """Return the margins of validation rows, (rows, features)."""
        z: Margins = margins(self._scored.design, solution).cpu().numpy()
        return z

    def _penalty(self, train: Counts) -> torch.Tensor:
        s = self._settings
        if s.c is None:
            return torch.full((len(train.active),), s.penalty, dtype=torch.float64)
        return torch.from_numpy(1 / (2 * s.c * (train.active + train.inactive)))

    def _solve(self, positives: Floats, negatives: Floats, *, tokens: Counts) -> Solution:
        """Fit a probe to each feature, both classes of which weigh the same."""
        design = self._fitted.design
        target = design.tensor(_share(positives))
        weight = target + design.tensor(_share(negatives))
        penalty = self._penalty(tokens)
        return solve(
            design, weight, target, penalty=penalty.to(design.device, design.dtype),
            tolerance=self._settings.gradient_tolerance(float(penalty.min())), max_iterations=self._settings.iterations,
            basis=self._basis,
        )  # fmt: skip

    def _tables(self, sides: Sides) -> Columns:
        kept = self._kept
        train, validation = sides.counts(kept.type, len(kept.ids))
        found = {
            "token_table": confusion(table(train), validation),
            "token_ceiling": confusion(best(validation), validation),
            "train_token_ceiling": confusion(best(train), train),
        }
        seen = self._seen_types(train, sides.features)
        of_seen = (seen * _tokens(validation)).sum(0) / _tokens(validation).sum(0)
        for what, key in (("position", kept.position), ("bigram", kept.bigram)):
            pair = sides.counts(key, int(key.max(initial=-1)) + 1)
            found[f"{what}_table"] = confusion(table(pair[0]), pair[1])
            found[f"{what}_ceiling"] = confusion(best(pair[1]), pair[1])
        return {k: c.balanced_accuracy for k, c in found.items()} | {
            "seen_share": np.broadcast_to(of_seen, sides.features)
        }

    def _seen_types(self, train: Counts, features: int) -> NDArray[np.bool_]:
        """Return which token ids a feature's training has seen; (ids, features) or (ids, 1)."""
        if train.negatives is None:
            return train.occurrences[:, None] > 0
        seen: NDArray[np.bool_] = (train.positives + train.negatives).toarray() > 0
        return seen

    def _controls(self, sides: Sides, z: Margins, *, features: NDArray[np.int64]) -> Columns:
        """Score probes of control tasks and of shuffled labels, trained as the probe was."""
        place, kept = self._place, self._kept
        fitted, scored = sides.counts(place.row, place.design.rows)
        seen = self._seen_types(sides.counts(kept.type, len(kept.ids))[0], sides.features)
        seen = seen[place.row_type[self._scored.numbers]]
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
        """Return how well probes of shuffled labels do: chance."""
        positives = shuffled_positives(fitted, features=features, seed=self._settings.seed)
        negatives = None
        if fitted.negatives is not None:
            negatives = csc_array(fitted.positives + fitted.negatives - positives)
        labels = Counts(fitted.occurrences, positives, negatives)
        trained = self._solve(*self._fitted.dense(labels), tokens=fitted)
        return confusion_of(self._margins(trained), *dense).balanced_accuracy

    def _control(
        self, sides: Sides, *, draw: int, seen: NDArray[np.bool_], features: NDArray[np.int64]
    ) -> Floats:
        """Return how well one draw of the control task is learnt, on validation tokens of seen ids."""
        task = self._task.draw(sides, draw=draw, features=features)
        tokens = sides.counts(self._place.row, self._place.design.rows)[0]
        z = self._margins(self._solve(*task.fitted, tokens=tokens))
        seen = seen if task.seen is None else task.seen
        return confusion_of(z, *(x * seen for x in task.scored)).balanced_accuracy

    def _judged(self, limits: dict[str, Limits], found: Columns) -> Columns:
        judged = judge(
            probe=found["balanced_accuracy"], probe_limits=limits["probe"],
            table=found["token_table"], table_limits=limits["table"],
            ceiling=found["token_ceiling"], ceiling_limits=limits["ceiling"],
            position=found["position_table"], bigram=found["bigram_table"],
            tau=self._settings.tau, delta=self._settings.delta,
            at_embedding=self._place.at_embedding,
        )  # fmt: skip
        columns = {"verdict": judged.verdict, "how": judged.how, "context_by": judged.context_by}
        if not self._judges:
            return {name: np.full_like(words, None) for name, words in columns.items()}
        return columns

    def _limits(self, sides: Sides, z: Margins) -> dict[str, Limits]:
        if sides.drawn is not None:  # drawn tokens differ from feature to feature: no interval
            return dict.fromkeys(("probe", "table", "ceiling"), Limits.none(sides.features))
        kept, place, resample = self._kept, self._place, self._resample
        active = sides.active.take(~self._train[sides.active.token])
        told = np.zeros((place.design.rows, sides.features), dtype=np.float32)
        told[self._scored.numbers] = np.heaviside(z, 0.5)
        train, validation = sides.counts(kept.type, len(kept.ids))
        return {
            "probe": resample.of_rows(told, self._by_row, row=place.row, active=active),
            "table": resample.of_keys(table(train), self._by_type, key=kept.type, active=active),
            "ceiling": resample.of_keys(
                best(validation), self._by_type, key=kept.type, active=active
            ),
        }


def _balanced(counts: Counts) -> dict[str, Floats]:
    return {"pos_weight": 0.5 / counts.active, "neg_weight": 0.5 / counts.inactive}


def _share(tokens: Floats) -> Floats:
    """Return what each row weighs of its class, which weighs one half."""
    shares: Floats = 0.5 * tokens / np.maximum(tokens.sum(axis=0), np.finfo(np.float64).tiny)
    return shares


def _tokens(counts: Counts) -> Floats:
    """Return how many tokens of each key count; (keys, features) or (keys, 1)."""
    if counts.negatives is None:
        return counts.occurrences[:, None].astype(np.float64)
    tokens: Floats = (counts.positives + counts.negatives).toarray()
    return tokens
