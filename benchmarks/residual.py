"""A residual study, maps to all layers and the report of both: the time of stages, and memory against tokens.

The model and the text are those of the demo; with ``--shape`` they are random, of a real
architecture's shape (of Gemma 2 2B, two blocks). Nothing is downloaded. Memory is what the
process holds by itself: pages of files that are mapped into it, which the system takes
back, do not count.

    python -m benchmarks.residual
    python -m benchmarks.residual --shape gemma-2-2b --device cuda --tokens 10240
    python -m benchmarks.residual --memory
"""

import argparse
import multiprocessing
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from analysis.residual.activations import Reader, store_activations
from analysis.residual.fit import draw_components, fit_all
from analysis.residual.report.findings import find
from analysis.residual.report.report import html
from analysis.residual.settings import ResidualSettings
from analysis.residual.study import residual_study
from analysis.residual.train import all_arms, read_inputs, train
from analysis.transcoder.study import map_sites
from atlas.api import Atlas
from atlas.progress import SILENT, Stage
from benchmarks.full_ingest import SHAPES, random_model, random_text
from ingest.demo.build import demo_text
from ingest.model.language_model import LanguageModel, open_model
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings, token_counts

TEXT = Path(str(demo_text().source))
SOURCE, TARGET = "hook_embed", "blocks.1.hook_resid_post"


class Stopwatch:
    """Progress that notes how long each kind of stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.steps: dict[str, float] = {}
        self.began = self.last = time.perf_counter()

    @contextmanager
    def stage(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Stage]:
        """Note the time since the stage before ended, too."""
        with SILENT.stage(title) as stage:
            yield stage
        now = time.perf_counter()
        kind = re.split(r" (?:tiny-a|random)-| [\w-]+-s\d|:", title)[0]
        kind = "Reducing" if title.endswith("reducing") else kind
        kind = "Matching" if kind.endswith(" and") or kind.startswith("drawing both") else kind
        self.seconds[kind] = self.seconds.get(kind, 0.0) + now - self.last
        self.last = now

    def report(self, sentence: str) -> None:
        """Print the results."""
        print(f"  {sentence}")

    def end(self, name: str) -> None:
        """Note the time since this began, or the last such end, as one stage of this name."""
        now = time.perf_counter()
        self.steps[name] = now - self.began
        self.began = self.last = now


def random_setting(name: str, tokens: int, device: str) -> tuple[LanguageModel, list[str], str]:
    """Return a random model of a shape, random text in documents of a context, and the hook that SAEs read."""
    shape = SHAPES[name]
    text = random_text(replace(shape, tokens=tokens + 256, context=256))
    return random_model(shape, "float32", device=device), text, shape.hook


def complete_study(
    tokens: int, draws: int, *, device: str, inputs: tuple[Any, Any, str] = ("tiny-a", TEXT, TARGET)
) -> None:
    """Time a study from the text to its part, then maps to all layers, then the page."""
    model, text, target = inputs
    watch, used = Stopwatch(), time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "a.atlas"
        found = residual_study(
            path,
            model=model,
            text=text,
            device=device,
            settings=ResidualSettings(SOURCE, target, text_tokens=tokens, draws=draws),
            progress=watch,
        )
        watch.end("residual study")
        of_study = dict(watch.seconds)
        # The atlas cannot open these inputs again by itself.
        maps = map_sites(
            path, model=None if isinstance(model, str) else model, device=device, progress=watch
        )
        watch.end("maps to all layers")
        with Atlas.open(path) as atlas:
            page = html(find(atlas), where="a.atlas")
        watch.end("report page")
    for kind, those in of_study.items():
        print(f"  {kind:<26} {those:7.1f} s")
    for kind, those in watch.steps.items():
        print(f"{kind:<28} {those:7.1f} s")
    for row in found["arms"]:
        print(
            f"{row['sae']:<40} taken {row['removed_share']:.3f}  FVU {row['fvu']:.3f}  "
            f"dead {row['dead_share']:.3f}"
        )
    for row in found["probes"]:
        print(f"{row['sae']:<40} {row['features']} probed, {row['balanced_accuracy']:.4f}")
    seconds, processor = sum(watch.steps.values()), time.process_time() - used
    print(
        f"{tokens:,} tokens, {len(found['arms'])} SAEs, {len(maps)} maps, a page of {len(page):,} "
        f"characters, on {device}: {seconds / 60:.1f} minutes by the clock, {processor / 60:.1f} "
        "of processor time"
    )


def _anonymous() -> float:
    """Return what this process holds by itself now, in MiB."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def _watch(peak: list[float], done: threading.Event) -> None:
    while not done.wait(0.02):
        peak[0] = max(peak[0], _anonymous())


def _parts(model: LanguageModel, tokens: int, folder: Path) -> None:
    """Fit, keep and train as a study does, all documents on both sides."""
    settings = ResidualSettings(SOURCE, TARGET, draws=1, train_tokens=50 * 1024)
    count = partial(token_counts, tokenizer=model.tokenizer)
    corpus = Corpus.gather(TEXT, folder / "text.parquet", tokens=tokens, count=count)
    reader = Reader(model, SOURCE, TARGET, ContextSettings(256, prepend_bos=True), 4096)
    rows = reader.stream(corpus, title="", progress=SILENT)
    fitted = fit_all(rows, settings, progress=SILENT)
    activations = store_activations(
        reader, corpus, folder / "activations", tokens=tokens, progress=SILENT
    )
    drawn, _ = draw_components(fitted, activations, settings)
    arms = all_arms(settings, fitted, drawn)
    reads = read_inputs(arms, activations, settings)
    with SILENT.stage("") as stage:
        for arm in arms:
            train(arm, activations, settings, read=reads[arm.label], metadata={}, stage=stage)


def memory(tokens: int) -> None:
    """Print the most that fitting and training hold beyond the model."""
    import sae_lens  # noqa: F401 - so that its import does not count

    model = open_model("tiny-a", hooks=[SOURCE, TARGET], device="cpu")
    before, peak, done = _anonymous(), [0.0], threading.Event()
    thread = threading.Thread(target=_watch, args=(peak, done))
    thread.start()
    with tempfile.TemporaryDirectory() as scratch:
        _parts(model, tokens, Path(scratch))
    done.set()
    thread.join()
    print(f"{tokens:>9,} tokens: {peak[0] - before:6.0f} MiB beyond the model")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shape", choices=SHAPES, help="Random weights and text; the demo's if none is named."
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    if not args.memory:
        if args.shape is None:
            complete_study(args.tokens, args.draws, device=args.device)
        else:
            inputs = random_setting(args.shape, args.tokens, args.device)
            complete_study(args.tokens, args.draws, device=args.device, inputs=inputs)
        return
    for tokens in (37_500, 75_000, 150_000, 300_000):
        process = multiprocessing.get_context("spawn").Process(target=memory, args=(tokens,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
