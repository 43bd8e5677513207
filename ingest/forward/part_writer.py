"""Final states into parts: what an ingest leaves in the atlas for each SAE."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from atlas import schema
from atlas.atomic_files import discard, sha256
from atlas.errors import Mismatch
from atlas.folder import Folder
from atlas.parts import Manifest, Part, TableFile, stored_digests, write_manifest, write_part
from ingest.codes.store import count_rows
from ingest.model.site_tables import site_tables
from ingest.reduce.protocol import Reduction, State, Subject
from ingest.sae.info import neuronpedia_url

if TYPE_CHECKING:
    from ingest.forward.shards import Group
    from ingest.model.language_model import LanguageModel
    from ingest.sae.info import SaeInfo
    from ingest.text.corpus import CorpusInfo

__all__ = ["PartWriter", "check_model"]


@dataclass(frozen=True)
class PartWriter:
    """Writes the parts of the SAEs of one group.

    Parameters
    ----------
    folder
        The atlas.
    group
        The model and its SAEs.
    corpus
        The text they were run on.
    """

    folder: Folder
    group: "Group"
    corpus: "CorpusInfo"

    def sae_manifest(self, info: "SaeInfo") -> Manifest:
        """Return what the part of kind ``sae`` will say of itself."""
        model, contexts = self.group.model, self.group.contexts
        return Manifest(
            kind="sae",
            name=info.name,
            saes=(info.name,),
            settings={**asdict(contexts), "batch_tokens": self.group.batch_tokens},
            sources={
                "sae": {
                    "source": info.source,
                    "weights": info.weights,
                    "hook": info.hook,
                    "model_kwargs": dict(info.model_kwargs),
                },
                "model": {
                    "name": model.name,
                    "source": model.source,
                    "revision": model.revision,
                    "weights": model.weights,
                    "parameters": list(model.parameters(info.hooks)),
                    "tokenizer": model.tokenizer_key,
                },
                "corpus": {"id": self.corpus.id, "source": self.corpus.source},
            },
            dtypes={"model": model.dtype, "sae": info.dtype, "device": model.device.type},
        )

    def check_shared(self) -> None:
        """Make sure, before any work, that the atlas means the same by this model's name.

        Raises
        ------
        Mismatch
            As ``check_model`` does.
        """
        check_model(self.folder, self.group.model, besides=self._own)

    @property
    def _own(self) -> set[str]:
        return {sae.info.name for sae in self.group.saes}

    def sae(self, info: "SaeInfo") -> Part:
        """Write who the SAE is: its own node, its features', and where it belongs."""
        return write_part(
            self.folder.part("sae", info.name), self.sae_manifest(info), self._sae_tables(info)
        )

    def reduction(
        self,
        reduction: Reduction,
        finals: Sequence[State],
        *,
        sae: Part,
        subject: Subject,
    ) -> Part:
        """Write what a reduction found of an SAE."""
        settings = asdict(reduction)  # type: ignore[call-overload]
        manifest = Manifest(
            kind=reduction.name,
            name=subject.sae,
            version=reduction.version,
            saes=(subject.sae,),
            settings=settings,
            seed=settings.get("seed"),
            made_from={sae.manifest.key: sae.manifest.hash},
        )
        tables = ((t.name, t.data) for t in reduction.tables(finals, subject))
        return write_part(self.folder.part(reduction.name, subject.sae), manifest, tables)

    def codes(self, folder: Path, *, sae: Part) -> None:
        """Put the codes of an ended run where they are kept, as one part."""
        info = sae.manifest
        files = {
            path.stem: TableFile(path.name, count_rows(path), sha256(path))
            for path in sorted(folder.glob("*.arrow"))
        }
        write_manifest(
            folder,
            Manifest(
                kind="codes",
                name=info.name,
                saes=(info.name,),
                made_from={info.key: info.hash},
                tables=files,
            ),
        )
        place = self.folder.codes(info.name)
        discard(place)
        place.parent.mkdir(exist_ok=True)
        folder.replace(place)

    def drop_codes(self, info: "SaeInfo") -> None:
        """Remove codes that an earlier ingest of the SAE has kept; they are another's now."""
        discard(self.folder.codes(info.name))

    def _sae_tables(self, info: "SaeInfo") -> "Iterable[tuple[str, pa.Table]]":
        model, corpus = self.group.model, self.corpus
        site = f"{model.name}/{info.hook}"
        # The same model may have been named by another path before: the first name stays.
        yield _rows("Model", _model_there(self.folder, model, self._own) or _model_row(model))
        yield from site_tables(model.name, [model.site(info.hook)])
        said = asdict(corpus)
        yield _rows("Corpus", {p.name: said[p.name] for p in schema.node("Corpus").properties})
        yield _rows("SAE", self._sae_row(info))
        yield "Feature", _features(info)
        yield _rows("READS", {"source": info.name, "target": site})
        yield _rows("MEASURED_ON", {"source": info.name, "target": corpus.id})
        ids = _ids(info)
        yield "IN_SAE", pa.table({"source": ids, "target": pa.array([info.name] * len(ids))})

    def _sae_row(self, info: "SaeInfo") -> dict[str, Any]:
        contexts = self.group.contexts
        own = {
            name: getattr(info, name)
            for name in (
                "name", "source", "release", "sae_id", "architecture", "d_in", "d_sae", "seed",
                "neuronpedia_id", "hook", "less", "dtype", "weights",
            )
        }  # fmt: skip
        return own | {
            "atlas": self.folder.uuid,
            "model": self.group.model.name,
            "context_size": contexts.context_size,
            "prepend_bos": contexts.prepend_bos,
        }


def check_model(folder: Folder, model: "LanguageModel", *, besides: Collection[str]) -> None:
    """Make sure that SAEs of an atlas, besides some, mean this model by its name.

    Raises
    ------
    Mismatch
        If one was measured on another model, tokenizer or number format of this name.
    """
    there, now = _model_there(folder, model, besides), _model_row(model)
    others = [
        part.manifest
        for part in folder.sound().parts.values()
        if part.manifest.saes and not {*part.manifest.saes} & {*besides}
    ]  # a map that touches no SAE becomes stale instead
    differing = [] if there is None else [
        k for k in now if k not in ("source", "revision") and now[k] != there[k]
    ]  # fmt: skip
    if there is not None and differing:
        said = "; ".join(f"{k}: {there[k]} there, {now[k]} now" for k in differing)
        raise Mismatch(
            f"The atlas has another model named {now['name']} ({said}). Use the same model and "
            "--dtype for all SAEs of an atlas, or begin another with --atlas."
        )
    if model.is_another(stored_digests(others, model.name)):
        raise Mismatch(
            f"The atlas has another model named {model.name}: parameters of the two differ, though not "
            "those of its first block alone. A model goes by the name of its folder: rename that folder, or "
            "begin another atlas with --atlas."
        )


def _model_there(
    folder: Folder, model: "LanguageModel", besides: Collection[str]
) -> dict[str, Any] | None:
    """Return the row of this model that the atlas has from another SAE."""
    for part in folder.sound().of("sae"):
        row: dict[str, Any] = part.table("Model").to_pylist()[0]
        if row["name"] == model.name and part.manifest.name not in besides:
            return row
    return None


def _model_row(model: "LanguageModel") -> dict[str, Any]:
    return {
        "name": model.name,
        "source": model.source,
        "revision": model.revision,
        "weights": model.weights,
        "architecture": model.architecture,
        "d_model": model.d_model,
        "layers": model.layers,
        "dtype": model.dtype,
        "tokenizer": model.tokenizer_key,
    }


def _rows(name: str, *rows: Mapping[str, Any]) -> "tuple[str, pa.Table]":
    kind = schema.table(name).owner
    return name, pa.Table.from_pylist(
        [dict(r) for r in rows], schema=schema.arrow_schema(name, kind)
    )


def _features(info: "SaeInfo") -> "pa.Table":
    count = info.d_sae
    return pa.table(
        {
            "id": _ids(info),
            "sae": pa.array([info.name] * count),
            "idx": pa.array(np.arange(count, dtype=np.int64)),
            "neuronpedia": pa.array([neuronpedia_url(info, i) for i in range(count)], pa.string()),
        }
    )


def _ids(info: "SaeInfo") -> "pa.Array":
    return pa.array([f"{info.name}/{i}" for i in range(info.d_sae)])
