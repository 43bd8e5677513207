"""Train SAEs on a tiny model with a checkpoint after each buffer; a program to kill, and helpers of tests."""

import hashlib
import random
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from random_models import TEXT, random_model, small_tokenizer

from atlas.errors import AtlasError
from atlas.progress import Silent
from ingest.train import loop
from ingest.train.run import train_saes
from ingest.train.settings import TrainSettings

SITES = ("blocks.1.hook_resid_post", "blocks.0.hook_mlp_out")


def texts(documents=400, *, seed=0):
    draw = random.Random(seed)
    return [
        f"{i} " + " ".join(draw.choices(TEXT.split(), k=draw.randint(5, 30)))
        for i in range(documents)
    ]


def model():
    return random_model("llama", seed=0)


def settings(**more):
    return TrainSettings(
        **(
            {
                "sites": SITES,
                "widths": (32,),
                "k": (4,),
                "steps": 40,
                "batch": 64,
                "buffer": 512,
                "context": 16,
                "quality_tokens": 300,
                "device": "cpu",
            }
            | more
        )
    )


def trained(out, **more):
    documents = more.pop("documents", None) or texts()
    rest = {k: more.pop(k) for k in ("replace", "progress", "atlas") if k in more}
    return train_saes(
        out,
        model=model(),
        tokenizer=small_tokenizer(),
        text=documents,
        settings=settings(**more),
        **rest,
    )


def hashes(out):
    """Return the checksum of every file below a folder, except the lock."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(out).rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


FAMILY = {
    "architectures": ("topk", "batchtopk", "jumprelu", "standard", "gated", "matryoshka"),
    "baselines": ("frozen-decoder", "untrained"),
    "steps": 96,
}


class Lines(Silent):
    """Progress that prints a line for each unit of work."""

    @contextmanager
    def stage(self, title, *, total=None, unit=""):
        yield self

    def advance(self, by=1):
        print("one", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    loop.CHECKPOINT_SECONDS = 0.0
    try:
        trained(sys.argv[1], progress=Lines(), **FAMILY)
    except AtlasError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
