"""The run of one group of SAEs: compute and checkpoint every shard, then write the parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from atlas.amounts import counted
from atlas.disk.parts import read_manifest
from atlas.progress import Pace, Progress, Stage
from ingest.codes.store import read_shard, write_shard
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.forecast import Forecast
from ingest.forward.part_writer import PartWriter
from ingest.forward.shards import (
    Compute,
    Group,
    Results,
    Shard,
    ShardResult,
    compute_shard,
    shard_blocks,
)
from ingest.reduce import on_activations, on_codes
from ingest.reduce.protocol import CodeReduction, ReducedSae, Sizes, State
from ingest.reduce.runner import fold_shard, plan_all, reduce_shards
from ingest.sae.autoencoder import Autoencoder
from ingest.settings import Settings
from ingest.text.corpus import Corpus

__all__ = ["ShardRunner", "recompute_reductions"]

Texts: TypeAlias = Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True)
class ShardRunner:
    """A run of a group over the corpus.

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
        # Finished shards of an interrupted run may still have to be merged.
        self._count_in_finished()
        with (
            self._ready(todo, progress) as compute,
            pace.stage(
                title,
                kind="run",
                seconds=expected.run,
                total=len(self.corpus),
                done=done,
                unit="blocks",
            ) as stage,
        ):
            for shard, results in compute(todo, stage):
                for sae in self.group.only(shard.saes).saes:
                    self._finish(sae, shard, results[sae.info.name])
                self._count_in_finished()

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
        for reduction in (*on_codes(self.settings), *on_activations()):
            delivery.reduction(reduction, finals[reduction.name], sae=part, subject=subject)
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
        for shard in todo:
            blocks = ((n, self.corpus.block(n)) for n in shard.blocks)
            group = self.group.only(shard.saes)
            yield shard, compute_shard(group, blocks, shard=shard.number, stage=stage)

    def _finish(self, sae: Autoencoder, shard: Shard, result: ShardResult) -> None:
        run, info = self.runs[sae.info.name], sae.info
        path = run.shard(shard.number)
        write_shard(path, result.blocks, sae=info.name, d_sae=info.d_sae, first=shard.blocks.start)
        run.save_states(shard.number, result.states)

    def _count_in_finished(self) -> None:
        """If codes are not stored, merge finished shards in order, up to the first unfinished one."""
        if self.settings.keep_codes:
            return
        for sae in self.group.saes:
            run = self.runs[sae.info.name]
            for number in range(run.counted_in, self.shards):
                if not run.finished(number):
                    break
                self._count_in(sae, number)

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
    for reduction in reductions:
        delivery.reduction(reduction, finals[reduction.name], sae=part, subject=subject)


def _subject(sae: Autoencoder, delivery: PartWriter, texts: Texts) -> ReducedSae:
    return ReducedSae(sae.info.name, sae.info.d_sae, delivery.group.model.tokenizer_key, texts)


def _reduce(
    shards: Sequence[Path],
    reductions: Sequence[CodeReduction],
    sizes: Sizes,
    *,
    memory: int,
    title: str,
    seconds: float,
    pace: Pace,
) -> dict[str, list[State]]:
    plans = plan_all(reductions, sizes, memory=memory)
    passes = max(plan.passes for plan in plans.values())
    total = passes * len(shards)
    with pace.stage(
        f"{title}: reducing", kind="reduce", seconds=seconds, total=total, unit="shards"
    ) as stage:
        return reduce_shards(shards, reductions, plans, sizes=sizes, stage=stage)


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
        d_in=sae.info.d_in,
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
