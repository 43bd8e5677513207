"""Ingest a text file of one line of 100 MB, with a limit on memory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from attacks import Try

TITLE = "a text of one line of 100 MB, 20,000 tokens of it requested, in 8 GiB of address space"
CLAIM = "an ingest, or one message"
TRIES = 2

LINE, LIMIT, TOKENS, SECONDS = 100_000_000, 8 << 30, 20_000, 1200
WORDS = ("the cat sat on the mat ", "a")

PROGRAM = """
import json, resource, sys
from small_ingest import model, topk
from atlas.errors import AtlasError
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings

text, atlas, limit, tokens = json.loads(sys.argv[1])
saes = [open_sae(topk(), name="top")]
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    ingest(atlas, saes=saes, text=text, model=model(), settings=Settings(tokens=tokens))
except AtlasError as error:
    print("message:", error)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"{peak // 1024} MiB at most")
"""


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Ingest a line of words and a line without a space, in turn."""
    for number in range(count):
        words = WORDS[number % len(WORDS)]
        text = folder / f"{number}.txt"
        text.write_text(words * (LINE // len(words)) + "\n", "utf-8")
        arguments = [str(text), str(folder / f"{number}.atlas"), LIMIT, TOKENS]
        try:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
                env=os.environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            yield Try(f"{words[:10]!r} repeated", False, f"longer than {SECONDS} s")
            continue
        note = (done.stdout if not done.returncode else done.stderr)[-150:].strip()
        yield Try(f"{words[:10]!r} repeated", done.returncode == 0, note.replace("\n", " "))
        text.unlink()
