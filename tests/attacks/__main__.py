"""Run attacks and print their table: ``python -m attacks [NAME …] [--tries N] [--seed S] [--markdown]``."""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attacks import ATTACKS, Try, Unavailable


@dataclass(frozen=True)
class Row:
    """The outcome of one attack."""

    name: str
    title: str
    claim: str
    tries: Sequence[Try]
    seconds: float
    skipped: str = ""

    @property
    def survived(self) -> int:
        return sum(t.survived for t in self.tries)


def attack(name: str, *, seed: int, count: int | None) -> Row:
    """Run one attack in a new folder and report each try on stderr."""
    module = importlib.import_module(f"attacks.{name}")
    done: list[Try] = []
    begun, skipped = time.monotonic(), ""
    with tempfile.TemporaryDirectory(prefix=f"attack-{name}-") as folder:
        try:
            for each in module.tries(Path(folder), seed=seed, count=count or module.TRIES):
                done.append(each)
                verdict = "survived" if each.survived else "FAILED"
                print(f"{name}: {each.name}: {verdict} {each.note}".rstrip(), file=sys.stderr)
        except Unavailable as error:
            skipped = str(error)
    return Row(name, module.TITLE, module.CLAIM, done, time.monotonic() - begun, skipped)


def table(rows: Sequence[Row], *, markdown: bool) -> str:
    """Return the outcomes as lines of text, or as a Markdown table."""
    cells = [("attack", "claim", "tries", "survived")]
    cells += [
        (
            r.title,
            r.claim,
            str(len(r.tries)),
            (r.skipped and "not run: " + r.skipped) or str(r.survived),
        )
        for r in rows
    ]
    if markdown:
        lines = [f"| {' | '.join(c)} |" for c in cells]
        return "\n".join([lines[0], "|---|---|---|---|", *lines[1:]])
    return "\n".join(
        f"{r.name:<16} {r.survived:>5} of {len(r.tries):<5} {r.seconds:6.0f} s  {r.skipped or r.title}"
        for r in rows
    )


def main() -> int:
    """Run the attacks that are named, or all."""
    parser = argparse.ArgumentParser(prog="attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(ATTACKS)}")
    parser.add_argument(
        "--tries", type=int, help="number of tries of each attack, instead of its own"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--markdown", action="store_true", help="print the table of docs/attacks.md"
    )
    args = parser.parse_args()
    if unknown := set(args.names) - set(ATTACKS):
        parser.error(f"no attack is named {', '.join(sorted(unknown))}")
    rows = [attack(n, seed=args.seed, count=args.tries) for n in args.names or ATTACKS]
    print(table(rows, markdown=args.markdown))
    return 0 if all(r.survived == len(r.tries) for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
