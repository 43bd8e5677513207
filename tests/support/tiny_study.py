"""A residual study too small for a model: drawn activations, and the real functions for all steps.

The target is the sum of a part that the token id predicts, a part that the context predicts, and
noise. In a run of the null, the ids are permuted among all tokens of a side, so an id's vector
predicts nothing, whatever is subtracted from the target: no arm's features can be predicted, and no
two arms truly differ.
"""

from dataclasses import dataclass, replace

import numpy as np
from probed_text import at_embedding, probe_data_of

from analysis.residual.activations import Activations, subtract_prediction
from analysis.residual.fit import draw_components, fit_all
from analysis.residual.report.arm_difference import difference
from analysis.residual.report.study import from_tables
from analysis.residual.settings import ResidualSettings
from analysis.residual.train import all_arms, read_inputs, train
from atlas.progress import SILENT
from ingest.probe.schedule import probe_all
from ingest.probe.settings import ProbeSettings
from ingest.sae.autoencoder import open_sae

SOURCE, TARGET = "hook_embed", "blocks.1.hook_resid_post"
ELSEWHERE = "blocks.0.hook_resid_pre"
TYPES, WIDTH = 40, 12
DOCUMENTS = {"map": 40, "training": 60, "corpus": 100}
LENGTH = 30
SETTINGS = ResidualSettings(
    SOURCE, TARGET, d_sae=24, k=3, seeds=6, draws=2, batch=256, train_tokens=256 * 30
)
PROBE = ProbeSettings(splits=("document",), controls=0, draws=40, min_positives=5)


@dataclass(frozen=True)
class Tiny:
    """The results of a run."""

    taken: float
    penalty: float
    probed: list
    differences: dict

    def mean(self, arm):
        """Mean balanced accuracy of an arm."""
        return float(
            np.mean([p.table["balanced_accuracy"].mean() for p in self.probed if p.arm == arm])
        )


class World:
    """One language: vectors of ids, and how the target is made of ids and contexts."""

    def __init__(self, rng):
        self.rng = rng
        self.vectors = rng.standard_normal((TYPES, WIDTH))
        self.of_id = rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
        self.of_context = 0.4 * rng.standard_normal((WIDTH // 2, WIDTH))
        self.rate = 1 / np.arange(1, TYPES + 1)

    def side(self, documents, *, permuted, elsewhere):
        """Return the tokens of some documents; ``elsewhere``: the source is the context, not the id."""
        rng, n = self.rng, documents * LENGTH
        ids = rng.choice(TYPES, n, p=self.rate / self.rate.sum())
        topic = np.repeat(rng.standard_normal((documents, WIDTH // 2)), LENGTH, axis=0)
        context = 0.6 * topic + 0.8 * rng.standard_normal((n, WIDTH // 2))
        target = self.vectors[ids] @ self.of_id + context @ self.of_context
        target += 0.5 * rng.standard_normal((n, WIDTH))
        if permuted:
            ids = rng.permutation(ids)
        source = context if elsewhere else self.vectors[ids]
        return Activations(
            source.astype(np.float32),
            target.astype(np.float32),
            ids,
            np.repeat(np.arange(documents), LENGTH),
        )


def tiny_run(
    seed, folder, *, permuted=True, elsewhere=False, seeds=6, arms=("residual", "components")
):
    """Fit, train, encode and probe; return the differences between arms.

    Parameters
    ----------
    seed
        Of the text, the vectors and the target.
    folder
        For the codes.
    permuted
        Whether ids are permuted among tokens.
    elsewhere
        Whether the map is from the context, from which it predicts a real share, and not from the
        embedding. Probes read the embedding in both.
    seeds
        Training seeds.
    arms
        Those that are trained; the differences of the first from each other arm are returned.
    """
    world = World(np.random.default_rng(seed))
    sides = {
        role: world.side(n, permuted=permuted, elsewhere=elsewhere) for role, n in DOCUMENTS.items()
    }
    source = ELSEWHERE if elsewhere else SOURCE
    settings = replace(SETTINGS, source=source, seeds=seeds, split_seed=seed)
    fitted = fit_all(sides["map"].chunks(), settings, progress=SILENT)
    drawn, taken = draw_components(fitted, sides["training"], settings)
    those = [arm for arm in all_arms(settings, fitted, drawn) if arm.name in arms]
    reads = read_inputs(those, sides["training"], settings)
    probed = []
    for arm in those:
        with SILENT.stage("") as stage:
            made = train(
                arm, sides["training"], settings, read=reads[arm.label], metadata={}, stage=stage
            )
        probed.append(
            _probe(arm, made.sae, sides["corpus"], world, folder / arm.label, source=source)
        )
    samples = {name: [p.sample() for p in probed if p.arm == name] for name in arms}
    first, *others = arms
    return Tiny(
        taken,
        fitted.penalty,
        probed,
        {
            other: difference(samples[first], samples[other], names=(first, other))
            for other in others
        },
    )


def _probe(arm, sae, corpus, world, folder, *, source):
    """Encode the documents measured on, write the codes, and probe them at the embedding."""
    opened = open_sae(sae, name=arm.label, less=arm.less)
    (rows,) = corpus.chunks()
    codes = opened.codes(subtract_prediction(arm.less, rows, source=source))
    dense = np.zeros((len(corpus), opened.info.d_sae), np.float32)
    dense[np.repeat(np.arange(len(corpus)), np.diff(codes.indptr)), codes.indices] = codes.values
    data = probe_data_of(folder, np.split(corpus.ids, len(corpus) // LENGTH), dense)
    (result,) = probe_all(
        data,
        [at_embedding(data, world.vectors)],
        sae=arm.label,
        model="tiny",
        settings=PROBE,
        validated_on=None,
        memory=2**30,
        progress=SILENT,
    )
    row = {"sae": arm.label, "arm": arm.name, "seed": arm.seed, "draw": arm.draw}
    return from_tables(
        row,
        result.table,
        result.draws,
        features=opened.info.d_sae,
        left_out=result.left_out,
        documents=result.documents,
    )
