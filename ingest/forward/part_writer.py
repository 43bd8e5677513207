"""Writing of parts: the results that an ingest stores in the atlas for each SAE."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from atlas import schema
from atlas.disk.atomic_files import discard, sha256
from atlas.disk.folder import Folder, Sound
from atlas.disk.parts import Manifest, Part, TableFile, stored_digests, write_manifest, write_part
from atlas.errors import Mismatch
from ingest.codes.store import count_rows
from ingest.model.site_tables import site_tables
from ingest.precision import arithmetic
from ingest.reduce.protocol import ReducedSae, Reduction, State
from ingest.sae.info import neuronpedia_url

if TYPE_CHECKING:
    from ingest.forward.format_check import Flips
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
    sound
        The sound parts of the atlas before any of these parts is written.
    group
        The model and its SAEs.
    corpus
        The text.
    flips
        Codes that the number format of the model changes, by SAE; none for float32.
    """

    folder: Folder
    sound: Sound
    group: "Group"
    corpus: "CorpusInfo"
    flips: "Mapping[str, Flips]" = field(default_factory=dict)

    def sae_manifest(self, info: "SaeInfo") -> Manifest:
        """Return the manifest of the part of kind ``sae``."""
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
                    # Only if recorded, so that SAEs of older atlases are recognised.
                    **{k: v for k in ("role", "floor_of") if (v := getattr(info, k)) is not None},
                    **({"output_hook": info.output.hook} if info.output else {}),
                },
                "model": {
                    "name": model.name,
                    "source": model.source,
                    "revision": model.revision,
                    "weights": model.weights,
                    "parameters": list(model.parameters(info.ingested_hooks)),
                    "tokenizer": model.tokenizer_key,
                    **({"random": True} if model.random else {}),
                },
                "corpus": {"id": self.corpus.id, "source": self.corpus.source},
            },
            dtypes={"model": model.dtype, "sae": info.dtype, "device": model.device.type},
            # Not part of the hash, so parts of older versions are not stale.
            versions={
                **arithmetic(model.device),
                **(self.flips[info.name].entries if info.name in self.flips else {}),
            },
        )

    def check_shared(self) -> None:
        """Check, before any work, that the atlas has no other model of this name.

        Raises
        ------
        Mismatch
            As ``check_model`` does.
        """
        check_model(self.sound, self.group.model, besides=self._own)

    @property
    def _own(self) -> set[str]:
        return {sae.info.name for sae in self.group.saes}

    def sae(self, info: "SaeInfo") -> Part:
        """Write the part of kind ``sae``: nodes of the SAE and its features, and their edges."""
        return write_part(
            self.folder.part("sae", info.name), self.sae_manifest(info), self._sae_tables(info)
        )

    def reduction(
        self,
        reduction: Reduction,
        finals: Sequence[State],
        *,
        sae: Part,
        subject: ReducedSae,
    ) -> Part:
        """Write the part of a reduction of an SAE."""
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
        """Move the codes of a finished run into the atlas, as one part."""
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
        target = self.folder.codes(info.name)
        discard(target)
        target.parent.mkdir(exist_ok=True)
        folder.replace(target)

    def drop_codes(self, info: "SaeInfo") -> None:
        """Remove the codes of an earlier ingest of the SAE, which are out of date."""
        discard(self.folder.codes(info.name))

    def _sae_tables(self, info: "SaeInfo") -> "Iterable[tuple[str, pa.Table]]":
        model, corpus = self.group.model, self.corpus
        site = f"{model.name}/{info.hook}"
        # The same model may have been loaded from another path before: its first row is retained.
        yield _rows("Model", _stored_model(self.sound, model, self._own) or _model_row(model))
        yield from site_tables(model.name, [model.site(info.hook)])
        values = asdict(corpus)
        yield _rows("Corpus", {p.name: values[p.name] for p in schema.node("Corpus").properties})
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
                "name",
                "source",
                "release",
                "sae_id",
                "architecture",
                "d_in",
                "d_sae",
                "seed",
                "neuronpedia_id",
                "hook",
                "less",
                "dtype",
                "weights",
                "role",
                "floor_of",
                "k",
            )
        }
        return own | {
            "atlas": self.folder.uuid,
            "output_hook": info.output.hook if info.output else None,
            "d_out": info.output.width if info.output else None,
            "random_model": self.group.model.random or None,
            "model": self.group.model.name,
            "context_size": contexts.context_size,
            "prepend_bos": contexts.prepend_bos,
        }


def check_model(sound: Sound, model: "LanguageModel", *, besides: Collection[str]) -> None:
    """Check that the SAEs of an atlas, excluding some, have no other model of this name.

    Raises
    ------
    Mismatch
        If an SAE was measured on another model, tokenizer or number format of this name.
    """
    stored, new = _stored_model(sound, model, besides), _model_row(model)
    others = [
        part.manifest
        for part in sound.parts.values()
        if part.manifest.saes and not {*part.manifest.saes} & {*besides}
    ]  # a map that involves no SAE becomes stale instead
    differing = (
        []
        if stored is None
        else [k for k in new if k not in ("source", "revision") and new[k] != stored[k]]
    )
    if stored is not None and differing:
        differences = "; ".join(f"{k}: {stored[k]} stored, {new[k]} now" for k in differing)
        raise Mismatch(
            f"The atlas has another model named {new['name']} ({differences}). Use the same model and "
            "`dtype` for all SAEs of an atlas, or create another atlas with `atlas`."
        )
    if model.differs_from(stored_digests(others, model.name)):
        raise Mismatch(
            f"The atlas has another model named {model.name}: the parameters of the two differ. A model in "
            "a folder is named after the folder. Rename that folder, or create another atlas with `atlas`."
        )


def _stored_model(
    sound: Sound, model: "LanguageModel", besides: Collection[str]
) -> dict[str, Any] | None:
    """Return the row of this model that another SAE of the atlas stores."""
    for part in sound.of("sae"):
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
