"""A study whose worker sends Ctrl-C as a terminal does; ``interrupted_study.py FOLDER`` runs it."""

import os
import signal
import sys
from dataclasses import dataclass
from typing import ClassVar

import click
from counting_study import CountStudy

import atlas.cli.main
from atlas.studies.runner import run_study


@dataclass(frozen=True)
class InterruptedStudy(CountStudy):
    """Sends SIGINT to all processes of its group, and then computes without end."""

    kind: ClassVar[str] = "interrupted"

    def run(self, task, at):
        (at.scratch / "unfinished").touch()
        os.killpg(os.getpgrp(), signal.SIGINT)
        while True:
            signal.pause()


def main() -> None:
    """Run the study as a command with two workers."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    study = click.Command(
        "interrupted",
        callback=lambda: run_study(InterruptedStudy(), sys.argv[1], "all", workers=2),
    )
    atlas.cli.main.command = lambda: study
    atlas.cli.main.main([])


if __name__ == "__main__":
    main()
