"""Run as a program: an ingest that a test may kill. Arguments: folder, shard_blocks, keep or drop."""

import sys
from pathlib import Path

from small_ingest import model, texts, topk

from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings


class Announce:
    """Prints a line when a stage moves, so that the test can choose the moment."""

    def say(self, sentence):
        print(sentence, flush=True)

    def stage(self, title, **_):
        print(title, flush=True)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, by=1):
        print("on", flush=True)


def documents():
    return texts(900, seed=5, words=(50, 120))


def work(folder, *, shard_blocks=1, keep=True):
    saes = [open_sae(topk(seed=seed), name=f"top{seed}") for seed in (0, 1)]
    return ingest(
        folder,
        saes=saes,
        text=documents(),
        model=model(),
        settings=Settings(shard_blocks=shard_blocks, keep_codes=keep),
        progress=Announce(),
    )


if __name__ == "__main__":
    work(Path(sys.argv[1]), shard_blocks=int(sys.argv[2]), keep=sys.argv[3] == "keep")
