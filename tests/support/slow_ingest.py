"""An ingest that a test may kill: as a program, or by a ``ForkServer``.

Arguments: folder, shard_blocks, ``keep`` or ``drop`` for the codes, and optionally ``wait``: after
the first shard is written, wait for a signal.
"""

import sys
import time
from pathlib import Path

from small_ingest import model, texts, topk

from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings


class Announce:
    """Prints a line when a stage moves, so that the test can choose the moment.

    Parameters
    ----------
    waits
        Returns, after each line, whether to print "waiting" and wait for a signal.
    """

    def __init__(self, waits=lambda: False):
        self._waits = waits

    def report(self, sentence):
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
        if self._waits():
            print("waiting", flush=True)
            while True:  # a signal just before signal.pause() would be lost
                time.sleep(0.05)


def documents():
    return texts(450, seed=5, words=(50, 120))


def work(folder, *, shard_blocks=1, keep=True, waits=lambda: False):
    saes = [open_sae(topk(seed=seed), name=f"top{seed}") for seed in (0, 1)]
    return ingest(
        folder,
        saes=saes,
        text=documents(),
        model=model(),
        settings=Settings(shard_blocks=shard_blocks, keep_codes=keep),
        progress=Announce(waits),
    )


def main(words):
    folder, shard_blocks, codes, *wait = words
    path = Path(folder)
    work(
        path,
        shard_blocks=int(shard_blocks),
        keep=codes == "keep",
        waits=lambda: bool(wait) and any(path.glob("runs/*/codes/*.arrow")),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
