"""How fast a model is identified: parameters in memory, blocks only in its files, unchanged files.

Run ``python -m benchmarks.model_digests``. SHA-256 alone over as many bytes is the bare limit.
Files count as unchanged two seconds after they were written, so the benchmark waits that long.
"""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ingest.model.language_model import LanguageModel, open_model


def main() -> None:
    """Measure a model of random weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    deepest = f"blocks.{args.layers - 1}.hook_resid_post"
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), width=args.width, layers=args.layers)
        complete = open_model(folder, dtype=args.dtype)
        shallow = open_model(folder, hooks=["hook_embed"], dtype=args.dtype)
        stored = complete.parameters([deepest])
        again = open_model(folder, dtype=args.dtype)
        report("in memory", complete, seconds(lambda: again.parameters([deepest])))
        report(
            "one block in memory, the others in files",
            complete,
            seconds(lambda: shallow.differs_from(stored)),
        )
        with_cache(Path(folder), deepest, dtype=args.dtype)
        alone = b"\1" * size(complete)
        report("SHA-256 alone", complete, seconds(lambda: hashlib.sha256(alone)))


def with_cache(folder: Path, deepest: str, *, dtype: str) -> None:
    """Measure two runs of a command on unchanged files: the first writes the cache."""
    time.sleep(2.1)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        first, later = (open_model(folder, dtype=dtype, cached_digests=True) for _ in range(2))
        report("first run with a cache", first, seconds(partial(first.parameters, [deepest])))
        report("next run with a cache", later, seconds(partial(later.parameters, [deepest])))
        shallow = open_model(folder, hooks=["hook_embed"], dtype=dtype, cached_digests=True)
        compared = seconds(partial(shallow.differs_from, first.parameters([deepest])))
        report("next run with a cache, one block in memory", first, compared)


def save(folder: Path, *, width: int, layers: int) -> None:
    """Save a llama of random weights with the tokenizer of the demo."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = open_model("tiny-a", hooks=["hook_embed"]).tokenizer
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=16,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def size(model: LanguageModel) -> int:
    """Return the bytes of all parameters."""
    return sum(tensor.nbytes for tensor in model.base.state_dict().values())


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def report(what: str, model: LanguageModel, taken: float) -> None:
    """Print how fast it was."""
    bytes_ = size(model)
    print(f"{what}: {bytes_ / 1e9:.2f} GB in {taken:.4f} s, {bytes_ / taken / 1e9:.2f} GB/s")


if __name__ == "__main__":
    main()
