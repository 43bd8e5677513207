"""Projections of a complete ingest and of all probes, from two sizes of an ingest and some probes.

An ingest has costs that do not grow with its text, such as its forecast and the tables of its
features. A line through two sizes separates them, so that only the rest is multiplied.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csc_array

from benchmarks.full_ingest import Shape, complete_ingest, random_text
from ingest import LogisticProbes, ProbeSettings
from ingest.model.language_model import LanguageModel
from ingest.sae.autoencoder import Autoencoder

__all__ = [
    "CORPUS",
    "FEATURES",
    "FITS",
    "GOAL",
    "IDS",
    "Line",
    "ProbeTimes",
    "measure_ingest",
    "probe_ids",
]

#: Tokens of the corpus to which times are projected, its distinct token ids, and features probed.
CORPUS, IDS, FEATURES = 2_551_843, 60_000, 16_384

#: Fits of each feature in a study with default settings: the label and its controls, on each split.
FITS = len(ProbeSettings().splits) * (1 + ProbeSettings().controls)

#: Seconds in which an ingest of the corpus and the probes of all features should end.
GOAL = 600.0

#: Share of the text in the smaller of two ingests.
PART = 4


@dataclass(frozen=True)
class Line:
    """Seconds of an ingest as a line: a fixed part, and a part for each token.

    Parameters
    ----------
    fixed
        Seconds that do not grow with the text; at least 0.
    each
        Seconds for each token.
    bare
        Seconds of the model and the encoder for each token.
    l0
        Active features for each token.
    """

    fixed: float
    each: float
    bare: float
    l0: float = 0.0

    @classmethod
    def through(
        cls, few: tuple[int, float, float], many: tuple[int, float, float], *, l0: float = 0.0
    ) -> "Line":
        """Return the line through two ingests: tokens, seconds, and bare seconds of each.

        Examples
        --------
        >>> Line.through((100, 12.0, 8.0), (200, 14.0, 9.5))
        Line(fixed=10.0, each=0.02, bare=0.015, l0=0.0)
        """
        tokens = many[0] - few[0]
        each, bare = (many[1] - few[1]) / tokens, (many[2] - few[2]) / tokens
        return cls(max(0.0, many[1] - each * many[0]), each, bare, l0)

    @property
    def sound(self) -> bool:
        """Whether more text took longer; otherwise other work on the machine decided the times."""
        return self.each > 0 and self.bare > 0

    @property
    def ratio(self) -> float:
        """Seconds of a token relative to those of the model and the encoder."""
        return self.each / self.bare

    def seconds(self, tokens: int) -> float:
        """Return the seconds of an ingest of some tokens."""
        return self.fixed + self.each * tokens


@dataclass(frozen=True)
class ProbeTimes:
    """Seconds of probes at the embedding.

    Parameters
    ----------
    seconds
        Seconds to fit the measured labels.
    projected
        Seconds for ``FITS`` fits of each of ``FEATURES`` features.
    converged
        Share of labels that converged.
    """

    seconds: float
    projected: float
    converged: float


def measure_ingest(
    shape: Shape, model: LanguageModel, sae: Autoencoder, *, batch_tokens: int
) -> Line:
    """Ingest a part of a text and all of it, after a warm-up, and return the line through both."""
    texts = random_text(shape)
    complete_ingest(model, sae, texts[:8], batch_tokens)  # loads kernels, compiles loops
    points, l0 = [], 0.0
    for some in (texts[: len(texts) // PART], texts):
        seconds, bare, _, l0 = complete_ingest(model, sae, some, batch_tokens)
        points.append((len(some) * (shape.context - 1), float(seconds[0]), float(bare[0])))
    return Line.through(points[0], points[1], l0=l0)


def probe_ids(*, rows: int, width: int, labels: int, device: str) -> ProbeTimes:
    """Fit probes of token ids, as at the embedding, and project the time to all features.

    Frequencies follow Zipf's law. Whether a label is active depends on the embedding of the id by
    a logistic model. The time includes counts on the processor and their copies; data that are
    drawn, baselines and scores are excluded. A fit of a control is assumed to take as long.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, width), dtype=np.float32)
    totals = np.maximum(1.0, CORPUS / (np.arange(rows) + 3.0) / np.log(rows)).round()
    blocks = []
    for first in range(0, labels, 256):
        number = min(256, labels - first)
        planted = rng.standard_normal((width, number), dtype=np.float32) * (2.4 / width**0.5)
        share = 1 / (1 + np.exp(3 - x @ planted))
        active = rng.random(share.shape, dtype=np.float32) < share
        blocks.append(active * totals[:, None])
    positives = csc_array(np.concatenate(blocks, axis=1))
    tolerance = ProbeSettings().gradient_tolerance(1e-3)
    probes = LogisticProbes(1e-3, tol=tolerance, device=device, block=2048)
    LogisticProbes(1e-3, tol=tolerance, device=device).fit(x[:512, :8], x[:512, :4] > 0)  # warm-up
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    began = time.perf_counter()
    probes.fit_counts(x, positives, totals)
    seconds = time.perf_counter() - began
    return ProbeTimes(seconds, seconds * FITS * FEATURES / labels, float(probes.converged_.mean()))
