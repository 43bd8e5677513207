"""SAEs trained together, compared with sae-lens' runner one by one, with the bare work, and memory by tokens.

Both sides train TopK SAEs of the same shapes on the same number of tokens of the demo text,
with the demo model tiny-a. The bare work is one run of the model and the steps of sae-lens'
trainer, timed within the run. Model loading is outside all times.

    python -m benchmarks.train
    python -m benchmarks.train --memory
"""

import argparse
import multiprocessing
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.residual import _anonymous, _watch
from benchmarks.within import clocks, timed
from ingest.demo.build import demo_text
from ingest.model.language_model import LanguageModel, open_model
from ingest.model.loading import locate
from ingest.train import job, run
from ingest.train.buffer import Buffers
from ingest.train.settings import TrainSettings

SITE = "blocks.1.hook_resid_post"
BATCH, CONTEXT, K = 1024, 256, 20


def settings(steps: int, saes: int, width: int, buffer: int) -> TrainSettings:
    """Return the settings of SAEs that differ in their seeds."""
    return TrainSettings(
        sites=(SITE,),
        widths=(width,),
        seeds=tuple(range(saes)),
        k=(K,),
        steps=steps,
        epochs=100,
        batch=BATCH,
        buffer=buffer,
        context=CONTEXT,
        quality_tokens=0,
        device="cpu",
    )


def together(model: LanguageModel, wanted: TrainSettings) -> dict[str, np.ndarray]:
    """Train all SAEs in one run; return the times of all of it, and of the bare work in it."""
    took: dict[str, np.ndarray] = {"fill": np.zeros(2), "all": np.zeros(2)}
    with ExitStack() as open_, tempfile.TemporaryDirectory() as out:
        # The forecast runs two batches, which are no work of the training.
        forward = open_.enter_context(timed((model, "run"), skip=2))
        steps: list[np.ndarray] = []
        new_trainer, fill, train_all = job.new_trainer, Buffers.fill, run.train_all

        def watched(*args: Any, **named: Any) -> Any:
            trainer = new_trainer(*args, **named)
            steps.append(open_.enter_context(timed((trainer, "step"))))
            return trainer

        def filled(self: Buffers, number: int) -> Any:
            began = clocks()
            found = fill(self, number)
            took["fill"] += clocks() - began
            return found

        def complete(*args: Any, **named: Any) -> None:
            began = clocks()
            train_all(*args, **named)
            took["all"] += clocks() - began

        job.new_trainer, Buffers.fill, run.train_all = watched, filled, complete  # type: ignore[method-assign]
        try:
            run.train_saes(out, model=model, text=demo_text(), settings=wanted)
        finally:
            job.new_trainer, Buffers.fill, run.train_all = new_trainer, fill, train_all  # type: ignore[method-assign]
        return took | {"forward": forward.copy(), "steps": np.sum(steps, axis=0)}


def one_by_one(texts: list[str], wanted: TrainSettings, width: int) -> np.ndarray:
    """Train the same SAEs with sae-lens' runner, one after the other."""
    from datasets import Dataset
    from sae_lens import (
        LanguageModelSAERunnerConfig,
        LanguageModelSAETrainingRunner,
        LoggingConfig,
        TopKTrainingSAEConfig,
    )

    steps, total = wanted.steps or 0, np.zeros(2)
    for seed in wanted.seeds:
        config: Any = LanguageModelSAERunnerConfig(
            sae=TopKTrainingSAEConfig(
                d_in=96, d_sae=width, k=K, normalize_activations="expected_average_only_in"
            ),
            model_name=locate("tiny-a").path,
            model_class_name="AutoModelForCausalLM",
            hook_name="model.layers.1",
            is_dataset_tokenized=False,
            streaming=False,
            context_size=CONTEXT,
            training_tokens=steps * BATCH,
            train_batch_size_tokens=BATCH,
            store_batch_size_prompts=16,
            n_batches_in_buffer=max(2, wanted.buffer // (16 * CONTEXT)),
            n_batches_for_norm_estimate=10,
            lr=wanted.learning_rate,
            lr_warm_up_steps=min(100, steps // 10),
            lr_decay_steps=steps // 2,
            dead_feature_window=max(1, min(200, steps // 4)),
            device="cpu",
            seed=seed,
            logger=LoggingConfig(log_to_wandb=False),
            checkpoint_path=None,
            output_path=None,
            verbose=False,
        )
        data = Dataset.from_dict({"text": texts})
        runner = LanguageModelSAETrainingRunner(config, override_dataset=data)
        began = clocks()
        runner.run()
        total += clocks() - began
    return total


def speed(steps: int, saes: int, width: int, buffer: int) -> None:
    """Print the times of both sides and their ratios, by the clock and of the processor."""
    from ingest.text import readers

    wanted = settings(steps, saes, width, buffer)
    texts = list(readers.read(demo_text().source).documents)
    model = open_model("tiny-a", hooks=[SITE], device="cpu")
    took = together(model, wanted)
    peer = one_by_one(texts, wanted, width)
    bare = took["forward"] + took["steps"]
    for name, values in {
        "together, all": took["all"],
        "  of which the model": took["forward"],
        "  of which steps of sae-lens' trainer": took["steps"],
        "one by one, sae-lens' runner": peer,
    }.items():
        print(f"{name:<40} {values[0]:8.1f} s, {values[1]:8.1f} s of processor time")
    for name, ratio in {
        "one by one / together": peer / took["all"],
        "together / bare work": took["all"] / bare,
        "reading activations / bare forward": took["fill"] / took["forward"],
    }.items():
        print(f"{name:<40} {ratio[0]:8.2f},   {ratio[1]:8.2f} of processor time")


def memory(steps: int, width: int, buffer: int) -> None:
    """Print the most that a run holds beyond the model."""
    import threading

    import sae_lens  # noqa: F401 - so that its import does not count

    model = open_model("tiny-a", hooks=[SITE], device="cpu")
    before, peak, done = _anonymous(), [0.0], threading.Event()
    thread = threading.Thread(target=_watch, args=(peak, done))
    thread.start()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        run.train_saes(
            Path(out), model=model, text=demo_text(), settings=settings(steps, 1, width, buffer)
        )
    done.set()
    thread.join()
    print(
        f"{steps * BATCH:>9,} tokens: {peak[0] - before:6.0f} MiB beyond the model, "
        f"{time.perf_counter() - began:.0f} s"
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--saes", type=int, default=4)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--buffer", type=int, default=65_536)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    if not args.memory:
        speed(args.steps, args.saes, args.width, args.buffer)
        return
    for steps in (100, 200, 400):
        process = multiprocessing.get_context("spawn").Process(
            target=memory, args=(steps, args.width, 32_768)
        )
        process.start()
        process.join()


if __name__ == "__main__":
    main()
