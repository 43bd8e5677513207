"""Recovery of the true features of a synthetic model by its SAEs, compared with chance levels.

The true features are an SAE of the atlas (``truth``), whose codes are their activations. The
study compares every other SAE of the same model with them: directions, co-activation edges,
and parents.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from analysis.ground_truth.recovery import (
    PairScores,
    Partners,
    ancestor_pairs,
    find_partners,
    implied_pairs,
    pair_scores,
    random_directions,
    recall_by_rate,
    recovery_scores,
)
from analysis.ground_truth.settings import GroundTruthSettings
from atlas.disk.parts import Part
from atlas.errors import BadInput, UnknownName
from atlas.graphs import edge_ends
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, check_saes
from ingest.codes.store import count_rows, read_shard, stored_shards
from ingest.model.synthetic_features import FEATURES_HOOK, SUM_HOOK, SyntheticFeatures
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record, reopen_model, reopen_sae, written_hook
from ingest.torch_study import TorchStudy

__all__ = ["GroundTruthStudy", "compare_with_truth"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Sites at which the activations are the sums of the true features.
SITES = (SUM_HOOK, "blocks.0.hook_resid_post")

WHAT = "A comparison with the true features"


@dataclass(frozen=True)
class GroundTruthStudy(TorchStudy):
    """Compare SAEs of a synthetic model with its true features."""

    kind: ClassVar[str] = "ground_truth"
    command: ClassVar[str] = "truth"
    version: ClassVar[int] = 1
    tables: ClassVar[Mapping[str, str]] = {
        "summary": "scores of recovery, each with its chance",
        "rates": "recovery by rate of activation",
        "true_features": "the match of each known feature",
        "features": "the match of each live feature",
    }

    settings: GroundTruthSettings
    opened: tuple[Autoencoder, ...] = ()

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """All SAEs of the synthetic model are used if none is named."""
        return 0

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE that reads the sums of the true features."""
        truth = self.settings.truth
        if truth not in at.sound.saes:
            raise UnknownName(
                "SAE of true features",
                truth,
                known=[n for n, row in at.sound.sae_rows.items() if row["hook"] == FEATURES_HOOK],
                hint="`atlas synthetic` saves it with its model; ingest it together with SAEs of that model.",
            )
        true = open_sae_record(at.sound, truth).row
        if true["hook"] != FEATURES_HOOK:
            raise BadInput(
                f"{WHAT} needs an SAE of {FEATURES_HOOK} of a synthetic model, and {truth} reads "
                f"{true['hook']} of {true['model']}. `atlas synthetic` saves such a model and SAE; name the SAE "
                "with `truth`."
            )
        names = at.sound.saes if saes is None else check_saes(at.sound, saes)
        reasons = {name: _unusable(at, name, true) for name in names}
        for name, reason in reasons.items():
            if reason and saes is not None:
                raise BadInput(f"{name} cannot be compared with {truth}: {reason}.")
        usable = [name for name, reason in reasons.items() if not reason]
        if not usable:
            raise BadInput(
                f"{WHAT} needs an SAE that reads {SITES[0]} of {true['model']} in the same contexts as "
                f"{truth}; this atlas has none."
            )
        kinds = ("sae", "coactivation")
        return [
            Task(
                name,
                (name,),
                self.settings,
                made_from=tuple(f"{kind}/{sae}" for sae in (name, truth) for kind in kinds),
                reads=(f"codes/{name}", f"codes/{truth}"),
            )
            for name in usable
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from the first block of codes and one set of random directions."""
        truth, settings = self.settings.truth, self.settings
        count = partial(_counted, at, truth, task.name, blocks_read=1)
        some = count()  # what the first call alone costs
        if not some.tokens:
            return Cost(0.0)
        counting = timed(count) * _tokens(at, task.name) / some.tokens
        learned = reopen_sae(open_sae_record(at.sound, task.name).row, self.opened)
        decoder = _rows(learned.sae.W_dec)
        true = random_directions((len(some.active[0]), decoder.shape[1]), np.random.default_rng(0))
        every = np.arange(len(decoder))
        match = timed(lambda: find_partners(true, decoder, every, n=settings.candidates))
        return Cost(counting + (1 + settings.draws) * match, bytes=8 * len(true) * len(decoder))

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compare one SAE with the true features."""
        settings, truth = self.settings, self.settings.truth
        model = reopen_model(open_sae_record(at.sound, truth), hooks=[SUM_HOOK], device="cpu")
        if not isinstance(model.base, SyntheticFeatures):
            raise BadInput(f"{model.name} is no synthetic model; `atlas synthetic` saves one.")
        sums = model.base.sums
        learned = reopen_sae(open_sae_record(at.sound, task.name).row, self.opened)
        directions = _rows(sums.down_proj.weight.T)
        decoder = _rows(learned.sae.W_dec)
        with at.progress.stage(
            f"{task.title}: active tokens", total=_tokens(at, task.name), unit="tokens"
        ) as stage:
            counts = _counted(at, truth, task.name, advance=stage.advance)
        live = np.flatnonzero(counts.active[1] > 0)
        partners = find_partners(directions, decoder, live, n=settings.candidates)
        found = _Compared(settings, counts, partners, live)
        scores = found.scores(
            edges=(_edges(at, truth, settings), _edges(at, task.name, settings)),
            ancestors=ancestor_pairs(sums.parent.tolist()),
        )
        with at.progress.stage(
            f"{task.title}: random directions", total=settings.draws, unit="draws"
        ) as stage:
            shape = (len(live), decoder.shape[1])
            scores |= self._chance(directions, shape, advance=stage.advance)
        rates = recall_by_rate(
            counts.active[0] / max(counts.tokens, 1), partners, threshold=settings.cosine
        )
        return Found(
            [
                ("summary", pa.Table.from_pylist([scores], schema=_SCORES)),
                ("rates", pa.Table.from_pylist(rates)),
                ("true_features", found.table()),
                ("features", found.live_table()),
            ]
        )

    def result(self, part: Part) -> Result:
        """Return the scores."""
        (scores,) = part.table("summary").to_pylist()
        summary = {"sae": part.manifest.saes[0], **scores}
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(summary, part.manifest.settings["cosine"]),
            tables=(part.manifest.tables, part.table),
        )

    def _chance(
        self, directions: Floats, shape: tuple[int, int], *, advance: Callable[[], None]
    ) -> dict[str, Any]:
        """Return the scores of random directions, as many as the SAE has live features."""
        rng = np.random.default_rng(self.settings.seed)
        drawn = []
        for _ in range(self.settings.draws):
            random, every = random_directions(shape, rng), np.arange(shape[0])
            partners = find_partners(directions, random, every, n=self.settings.candidates)
            drawn.append(recovery_scores(partners, live=shape[0], threshold=self.settings.cosine))
            advance()
        names = ("mean_cosine", "f1")
        return {f"chance_{name}": float(np.mean([d[name] for d in drawn])) for name in names}


def compare_with_truth(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: GroundTruthSettings = GroundTruthSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Compare SAEs of a synthetic model with its true features.

    Parameters
    ----------
    atlas
        The folder of the atlas; it holds the SAE of the true features that ``save_synthetic``
        writes.
    saes
        Names of SAEs. Default: all that read the sums of the true features.
    settings
        Thresholds, and the draws of the chance level.
    opened
        SAEs that were in memory when they were ingested, open.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE. Its table ``true_features`` has a row for each true feature,
    ``features`` one for each live feature of the SAE with its nearest true feature, and
    ``rates`` the recall by octave of the rate.

    Examples
    --------
    >>> from analysis import compare_with_truth
    >>> result = compare_with_truth("synth.atlas")[0]
    >>> 0 <= result["f1"] <= 1
    True
    """
    return run_study(
        GroundTruthStudy(settings, tuple(opened)),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


_SCORES = pa.schema(
    [(name, pa.int64()) for name in ("true_features", "live", "recovered")]
    + [
        (name, pa.float64())
        for name in (
            "mean_cosine",
            "chance_mean_cosine",
            "f1",
            "chance_f1",
            "precision",
            "recall",
            "activity_f1",
            "edge_precision",
            "edge_chance",
            "edge_recall",
            "parent_precision",
            "parent_chance",
            "parent_recall",
        )
    ]
    + [(name, pa.int64()) for name in ("true_edges", "edges", "true_parents", "parents")]
)


@dataclass(frozen=True)
class _Counts:
    """Active tokens of the features of both SAEs, and of pairs of them.

    ``active`` and ``within`` are of the true features and of the SAE; ``across`` is
    (true features, features of the SAE).
    """

    tokens: int
    active: tuple[Ints, Ints]
    within: sparse.csr_array
    across: sparse.csr_array


@dataclass(frozen=True)
class _Compared:
    """The partners of the true features, and scores from them."""

    settings: GroundTruthSettings
    counts: _Counts
    partners: Partners
    live: Ints

    def scores(self, *, edges: tuple[Ints, Ints], ancestors: Ints) -> dict[str, Any]:
        """Return all scores except the chance level of directions."""
        partner, counts, settings = self.partners.partner, self.counts, self.settings
        recovered = np.flatnonzero(self.partners.cosine > settings.cosine)
        true_of = np.full(len(counts.active[1]), -1)
        true_of[partner[recovered]] = recovered
        implied = implied_pairs(
            counts.within,
            counts.active[1],
            tokens=counts.tokens,
            share=settings.implication,
            lift=settings.lift,
        )
        agreement = self._activity()["f1"][recovered]
        edge = pair_scores(edges[0], edges[1], true_of)
        tree = pair_scores(ancestors, implied, true_of, directed=True)
        return {
            "true_features": len(partner),
            "live": len(self.live),
            **recovery_scores(self.partners, live=len(self.live), threshold=settings.cosine),
            "activity_f1": float(agreement.mean()) if len(recovered) else None,
            **_named(edge, "edge", "edges"),
            **_named(tree, "parent", "parents"),
        }

    def table(self) -> pa.Table:
        """Return a row for each true feature."""
        return pa.table(
            {
                "idx": np.arange(len(self.partners.partner)),
                "rate": self.counts.active[0] / max(self.counts.tokens, 1),
                "partner": pa.array(self.partners.partner, mask=self.partners.partner < 0),
                "cosine": self.partners.cosine,
                "best_cosine": self.partners.best,
                "recovered": self.partners.cosine > self.settings.cosine,
                **{f"activity_{name}": values for name, values in self._activity().items()},
            }
        )

    def live_table(self) -> pa.Table:
        """Return a row for each live feature of the SAE: its nearest true feature."""
        return pa.table(
            {
                "idx": self.live,
                "nearest": self.partners.nearest,
                "cosine": self.partners.nearest_cosine,
            }
        )

    def _activity(self) -> dict[str, Floats]:
        """Return how well the activity of each partner predicts that of the true feature."""
        partner = self.partners.partner
        found = partner >= 0
        joint = np.zeros(len(partner))
        joint[found] = np.asarray(self.counts.across[np.flatnonzero(found), partner[found]]).ravel()
        true = self.counts.active[0].astype(float)
        learned = np.where(found, self.counts.active[1][partner], 0).astype(float)
        return {
            "precision": _ratio(joint, learned),
            "recall": _ratio(joint, true),
            "f1": _ratio(2 * joint, true + learned),
        }


def _unusable(at: TaskContext, name: str, true: dict[str, Any] | Any) -> str:
    """Return why an SAE cannot be compared with the truth, as a clause; empty if it can be."""
    row = open_sae_record(at.sound, name).row
    if name == true["name"]:
        return "it is the truth"
    if row["model"] != true["model"] or row["hook"] not in SITES:
        return f"it reads {row['hook']} of {row['model']}, not {SITES[0]} of {true['model']}"
    if written_hook(row) not in SITES:
        return f"it is a transcoder, which predicts {written_hook(row)}, not {SITES[0]}"
    contexts = ("context_size", "prepend_bos")
    if any(row[key] != true[key] for key in contexts):
        return "its contexts differ, so it has other activations; ingest it with the same `context`"
    return ""


def _tokens(at: TaskContext, sae: str) -> int:
    return sum(map(count_rows, stored_shards(at.folder, at.sound, sae, what=WHAT)))


def _counted(
    at: TaskContext,
    truth: str,
    sae: str,
    *,
    blocks_read: int | None = None,
    advance: Callable[[float], None] = lambda by: None,
) -> _Counts:
    """Count active tokens and pairs of the true features and of an SAE, from their codes.

    All blocks are read, or the first ``blocks_read``.
    """
    shards = [stored_shards(at.folder, at.sound, name, what=WHAT) for name in (truth, sae)]
    blocks = [chain.from_iterable(map(read_shard, own)) for own in shards]
    tokens = 0
    sizes = [int(open_sae_record(at.sound, name).row["d_sae"]) for name in (truth, sae)]
    active = [np.zeros(size, dtype=np.int64) for size in sizes]
    within = sparse.csr_array((sizes[1], sizes[1]), dtype=np.int64)
    across = sparse.csr_array((sizes[0], sizes[1]), dtype=np.int64)
    for one, other in islice(zip(*blocks, strict=True), blocks_read):
        tokens += len(one)
        a, b = (
            sparse.csr_array(
                (
                    np.ones(len(block.indices), dtype=np.int64),
                    block.indices.astype(np.int64),
                    block.indptr,
                ),
                shape=(len(block), size),
            )
            for block, size in zip((one, other), sizes, strict=True)
        )
        active[0] += np.bincount(one.indices, minlength=sizes[0])
        active[1] += np.bincount(other.indices, minlength=sizes[1])
        within = within + (b.T @ b).tocsr()
        across = across + (a.T @ b).tocsr()
        advance(len(one))
    return _Counts(tokens, (active[0], active[1]), within, across)


def _edges(at: TaskContext, sae: str, settings: GroundTruthSettings) -> Ints:
    """Return the co-activation edges of an SAE beyond chance, (edges, 2)."""
    table = at.sound.parts[f"coactivation/{sae}"].table("CO_ACTIVATES")
    count, expected = (table[name].to_numpy() for name in ("count", "expected"))
    retained = (count >= settings.min_count) & (count >= settings.lift * expected)
    ends: Ints = edge_ends(table)[retained]
    return ends


def _named(scores: PairScores, name: str, plural: str) -> dict[str, Any]:
    return {
        f"{name}_precision": scores.precision,
        f"{name}_chance": scores.chance_precision,
        f"{name}_recall": scores.recall,
        f"true_{plural}": scores.true,
        plural: scores.learned,
    }


def _rows(weights: Any) -> Floats:
    rows: Floats = weights.detach().double().cpu().numpy()
    return rows


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.zeros(len(below)), where=below > 0)
    return ratio


def _verdict(scores: dict[str, Any], threshold: float) -> list[str]:
    sae = scores["sae"]
    sentences = [
        f"{sae} recovers {scores['recovered']:,} of {scores['true_features']:,} true features (cosine above "
        f"{threshold:g}; F1 {scores['f1']:.2f}, random directions {scores['chance_f1']:.2f}). The mean "
        f"cosine of partners is {scores['mean_cosine']:.2f} (random directions "
        f"{scores['chance_mean_cosine']:.2f})."
    ]
    for name, plural, noun in (
        ("edge", "edges", "co-activation edges"),
        ("parent", "parents", "pairs of child and parent"),
    ):
        true, learned = scores[f"true_{plural}"], scores[plural]
        if true and learned:
            sentences.append(
                f"{sae}: of its {learned:,} {noun}, {scores[f'{name}_precision']:.0%} are true (recovered "
                f"features exchanged at random: {scores[f'{name}_chance']:.0%}), and it has "
                f"{scores[f'{name}_recall']:.0%} of the {true:,} true ones."
            )
    return sentences
