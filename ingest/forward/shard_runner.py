"""The run of one group of SAEs: compute and checkpoint every shard, then write the parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import TypeAlias

from atlas.amounts import counted
from atlas.disk.parts import Part, read_manifest
from atlas.errors import OutOfSpace
from atlas.progress import Pace, Progress, Stage
from ingest.codes.store import read_shard, write_shard
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.forecast import Forecast
from ingest.forward.overlap import InOrder, has_idle_core, in_order, prefetched
from ingest.forward.part_writer import PartWriter
from ingest.forward.shards import (
    Compute,
    Group,
    Results,
    Shard,
    ShardResult,
    compute_shard,
    shard_blocks,
    tokenized,
)
from ingest.reduce import on_activations, on_codes
from ingest.reduce.protocol import CodeReduction, ReducedSae, Reduction, Sizes, State
from ingest.reduce.runner import FirstPass, fold_shard, plan_all, reduce_shards
from ingest.sae.autoencoder import Autoencoder
from ingest.settings import Settings
from ingest.text.corpus import Corpus

__all__ = ["ShardRunner", "recompute_reductions"]

#: Parts that are written at once. Each has its tables in memory.
WRITERS = 2

Texts: TypeAlias = Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True)
class ShardRunner:
    """A run of a group over the corpus.

    If a processor core is idle, a thread stores and reduces finished shards while the next is
    computed. Reductions of most ingests need a second pass, which begins after the last shard.

    Parameters
    ----------
    group
        The model and its SAEs.
    corpus
        The text.
    runs
        The checkpoint of each SAE, by name.
    settings
        The settings of the ingest.
    """

    group: Group
    corpus: Corpus
    runs: Mapping[str, Checkpoint]
    settings: Settings
    _first: dict[str, FirstPass | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-len(self.corpus) // self.settings.shard_blocks)

    def unfinished(self, sae: str) -> int:
        """Return the number of shards of an SAE that are not finished."""
        return sum(not self.runs[sae].finished(n) for n in range(self.shards))

    def run(self, progress: Progress, *, expected: Forecast, pace: Pace) -> None:
        """Run the shards that are not finished, in this process or on workers.

        Parameters
        ----------
        progress
            Receives reports on workers.
        expected
            The forecast.
        pace
            Corrects the forecast, and shows the stage.
        """
        todo = [shard for shard in map(self._shard, range(self.shards)) if shard.saes]
        done = len(self.corpus) - sum(len(shard.blocks) for shard in todo)
        title = f"{self.group.model.name}: {counted(len(self.group.saes), 'SAE')}"
        idle = has_idle_core(self.group.model.device, self.settings)
        with (
            self._ready(todo, progress) as compute,
            in_order(on_thread=idle) as finished,
            pace.stage(
                title,
                kind="run",
                seconds=expected.run,
                total=len(self.corpus),
                done=done,
                unit="blocks",
            ) as stage,
        ):
            # Finished shards of an interrupted run may still have to be reduced.
            reduce = partial(self._reduce_finished, finished, first_pass=idle)
            finished.submit(reduce)
            for shard, results in compute(todo, stage):
                finished.submit(partial(self._store, shard, results), always=True)
                finished.submit(reduce)

    def deliver(
        self,
        sae: Autoencoder,
        delivery: PartWriter,
        *,
        texts: Texts,
        expected: Forecast,
        pace: Pace,
    ) -> None:
        """Reduce the codes of an SAE, write its parts, and end its run."""
        name = sae.info.name
        run = self.runs[name]
        finals = self._finals(sae, run, seconds=expected.reduce.get(name, 0.0), pace=pace)
        pace.skip()
        part = delivery.sae(sae.info)
        subject = _subject(sae, delivery, texts)
        reductions = (*on_codes(self.settings), *on_activations())
        _write_parts(reductions, finals, delivery, sae=part, subject=subject)
        if self.settings.keep_codes:
            delivery.codes(run.codes_folder, sae=part)
        else:
            delivery.drop_codes(sae.info)
        run.end()
        pace.lap("parts", expected.parts.get(name, 0.0))

    def _shard(self, number: int) -> Shard:
        """Return a shard, with the SAEs for which it is not finished."""
        blocks = shard_blocks(number, size=self.settings.shard_blocks, blocks=len(self.corpus))
        unfinished = [name for name, run in self.runs.items() if not run.finished(number)]
        return Shard(number, blocks, tuple(unfinished))

    def _ready(self, todo: Sequence[Shard], progress: Progress) -> AbstractContextManager[Compute]:
        """Return the function that computes shards: in this process, or on workers if requested."""
        if todo and (self.settings.workers or self.settings.ray):
            from ingest.forward.workers import workers_ready

            return workers_ready(self.group, self.corpus, self.settings, progress=progress)
        return nullcontext(self._compute)

    def _compute(self, todo: Sequence[Shard], stage: Stage) -> Iterator[tuple[Shard, Results]]:
        blocks = ((n, self.corpus.block(n)) for shard in todo for n in shard.blocks)
        # One for all shards, so that the first block of each is ready, too.
        with closing(prefetched(tokenized(self.group, blocks))) as text:
            for shard in todo:
                own = islice(text, len(shard.blocks))
                group = self.group.only(shard.saes)
                yield shard, compute_shard(group, own, shard=shard.number, stage=stage)

    def _store(self, shard: Shard, results: Results) -> None:
        for sae in self.group.only(shard.saes).saes:
            self._finish(sae, shard, results[sae.info.name])

    def _finish(self, sae: Autoencoder, shard: Shard, result: ShardResult) -> None:
        run, info = self.runs[sae.info.name], sae.info
        path = run.shard(shard.number)
        write_shard(path, result.blocks, sae=info.name, d_sae=info.d_sae, first=shard.blocks.start)
        run.save_states(shard.number, result.states)

    def _reduce_finished(self, work: InOrder, *, first_pass: bool) -> None:
        """Reduce finished shards in order, up to the first unfinished one.

        If codes are stored, this is the first pass, which ``deliver`` computes otherwise.
        """
        for sae in self.group.saes:
            run = self.runs[sae.info.name]
            if not self.settings.keep_codes:
                begin, reduce = run.counted_in, partial(self._count_in, sae)
            elif first_pass and run.finished(0) and (first := self._first_pass(sae)):
                begin, reduce = first.shards, partial(_add, first, run)
            else:
                continue
            for number in takewhile(run.finished, range(begin, self.shards)):
                if work.stopping:
                    return
                reduce(number)

    def _first_pass(self, sae: Autoencoder) -> FirstPass | None:
        """Return the first pass of an SAE; None if memory does not suffice for it and those begun."""
        name = sae.info.name
        if name not in self._first:
            # Those of all SAEs are in memory together.
            used = sum(first.bytes for first in self._first.values() if first)
            shards = [self.runs[name].shard(0)]
            sizes, reductions = self._sizes(sae, shards, share=self.shards), on_codes(self.settings)
            self._first[name] = None
            with suppress(OutOfSpace):  # these sizes are a forecast; see ``_finals``
                plans = plan_all(reductions, sizes, memory=self.settings.memory)
                first = FirstPass(reductions, plans, sizes=sizes)
                if used + first.bytes <= self.settings.memory:
                    self._first[name] = first
        return self._first[name]

    def _count_in(self, sae: Autoencoder, shard: int) -> None:
        """Merge the reductions of a shard into the stored states, and remove its codes."""
        run = self.runs[sae.info.name]
        states = run.reduced()
        reductions = on_codes(self.settings)
        sizes = self._sizes(sae, [run.shard(shard)], share=self.shards)
        fold_shard(
            states,
            run.shard(shard),
            reductions,
            plans=plan_all(reductions, sizes, memory=self.settings.memory),
            sizes=sizes,
            before={r.name: [] for r in reductions},
        )
        _merge_activations(states, run.states(shard))
        run.count_in(states, number=shard)

    def _finals(
        self, sae: Autoencoder, run: Checkpoint, *, seconds: float, pace: Pace
    ) -> dict[str, list[State]]:
        if not self.settings.keep_codes:
            return {name: [state] for name, state in run.reduced().items()}
        shards = [run.shard(n) for n in range(self.shards)]
        finals = _reduce(
            shards,
            on_codes(self.settings),
            self._sizes(sae, shards),
            memory=self.settings.memory,
            title=sae.info.name,
            seconds=seconds,
            pace=pace,
            first=self._first.pop(sae.info.name, None),
        )
        states: dict[str, State] = {}
        for number in range(self.shards):
            _merge_activations(states, run.states(number))
        return finals | {name: [state] for name, state in states.items()}

    def _sizes(self, sae: Autoencoder, shards: Sequence[Path], *, share: int = 1) -> Sizes:
        """Measure some shards; ``share`` is the factor from their tokens to those of the text."""
        stored, vocabulary = self.settings.keep_codes, self.group.model.vocabulary
        return _sizes(sae, shards, vocabulary=vocabulary, codes_stored=stored, share=share)


def recompute_reductions(
    sae: Autoencoder,
    reductions: Sequence[CodeReduction],
    delivery: PartWriter,
    *,
    settings: Settings,
    texts: Texts,
    progress: Progress,
) -> None:
    """Compute the missing parts of an SAE from its stored codes, without its model."""
    name, folder = sae.info.name, delivery.folder
    read_manifest(folder.codes(name)).check()
    shards = sorted(folder.codes(name).glob("*.arrow"))
    finals = _reduce(
        shards,
        reductions,
        _sizes(sae, shards, vocabulary=delivery.group.model.vocabulary, codes_stored=True),
        memory=settings.memory,
        title=name,
        seconds=0.0,
        pace=Pace({"reduce": 0.0}, progress=progress),
    )
    part, subject = read_manifest(folder.part("sae", name)), _subject(sae, delivery, texts)
    _write_parts(reductions, finals, delivery, sae=part, subject=subject)


def _subject(sae: Autoencoder, delivery: PartWriter, texts: Texts) -> ReducedSae:
    return ReducedSae(sae.info.name, sae.info.d_sae, delivery.group.model.tokenizer_key, texts)


def _add(first: FirstPass, run: Checkpoint, shard: int) -> None:
    first.add(run.shard(shard))


def _write_parts(
    reductions: Sequence[Reduction],
    finals: Mapping[str, Sequence[State]],
    delivery: PartWriter,
    *,
    sae: Part,
    subject: ReducedSae,
) -> None:
    """Write the part of each reduction, ``WRITERS`` at a time."""
    with ThreadPoolExecutor(WRITERS) as pool:
        jobs = [
            pool.submit(delivery.reduction, r, finals[r.name], sae=sae, subject=subject)
            for r in reductions
        ]
        for job in jobs:
            job.result()


def _reduce(
    shards: Sequence[Path],
    reductions: Sequence[CodeReduction],
    sizes: Sizes,
    *,
    memory: int,
    title: str,
    seconds: float,
    pace: Pace,
    first: FirstPass | None = None,
) -> dict[str, list[State]]:
    plans = plan_all(reductions, sizes, memory=memory)
    passes = max(plan.passes for plan in plans.values())
    total = passes * len(shards)
    with pace.stage(
        f"{title}: reducing", kind="reduce", seconds=seconds, total=total, unit="shards"
    ) as stage:
        return reduce_shards(shards, reductions, plans, sizes=sizes, stage=stage, first=first)


def _sizes(
    sae: Autoencoder,
    shards: Sequence[Path],
    *,
    vocabulary: int,
    codes_stored: bool,
    share: int = 1,
) -> Sizes:
    tokens = entries = 0
    for path in shards:
        for block in read_shard(path):
            tokens += len(block)
            entries += len(block.values)
    return Sizes(
        d_in=sae.info.d_out,
        d_sae=sae.info.d_sae,
        tokens=tokens * share,
        l0=entries / tokens if tokens else 0.0,
        vocabulary=vocabulary,
        codes_stored=codes_stored,
    )


def _merge_activations(states: dict[str, State], more: Mapping[str, State]) -> None:
    for reduction in on_activations():
        name = reduction.name
        states[name] = reduction.merge(states[name], more[name]) if name in states else more[name]
