"""Select the models to map, from the atlas or passed by the user, with their text layouts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from atlas.disk.folder import DESCRIBED, Sound
from atlas.disk.parts import stored_digests
from atlas.errors import BadInput, Mismatch, UnknownName
from atlas.progress import Progress
from atlas.schema import arrow_schema, node
from ingest.forward.site_vectors import EMBEDDING
from ingest.model.language_model import LanguageModel, open_model
from ingest.sae.record import SaeRecord, open_sae_record, reopen
from ingest.settings import Settings
from ingest.text.tokenization import ContextSettings, check_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["MappedModel", "subjects"]

#: Default length of contexts without an SAE.
CONTEXT = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?")


@dataclass(frozen=True, eq=False)
class MappedModel:
    """A model to map.

    Parameters
    ----------
    model
        Row of the table Model.
    noted
        The step that recorded the model, as a clause: ``"top was ingested"``.
    contexts, batch_tokens
        Settings of contexts and batches.
    passed
        Source passed by the user. The model is opened from it later, so that only one model is
        in memory.
    parameters
        Digests of its parameters, as stored in parts of the atlas.
    """

    model: Mapping[str, Any]
    noted: str
    contexts: ContextSettings
    batch_tokens: int
    passed: Any = None
    parameters: tuple[str, ...] = ()

    def open(self, *, hooks: Sequence[str], tokenizer: object | None, device: str) -> LanguageModel:
        """Open the model up to the deepest of the hooks.

        Raises
        ------
        BadInput
            If the model was in memory, and was not passed again.
        Mismatch
            If it differs from the model that the atlas recorded, or lacks a BOS that contexts need.
        UnknownName, Missing, OutOfSpace
            As ``open_model`` does.
        """
        opened = reopen(
            self.model,
            self.passed,
            noted=self.noted,
            hooks=hooks,
            tokenizer=tokenizer,
            device=device,
            parameters=self.parameters,
        )
        check_tokenizer(opened.tokenizer, settings=self.contexts)
        return opened

    def table(self, opened: LanguageModel) -> pa.Table:
        """Return the table ``model`` of its parts: its node, and its limits of contexts."""
        longest, bos = _takes(opened)
        row = dict(self.model) | {"longest": longest, "bos": bos}
        fields = [("longest", pa.int64()), ("bos", pa.bool_())]
        return pa.Table.from_pylist([row], schema=pa.schema([*arrow_schema("Model"), *fields]))


def subjects(
    sound: Sound,
    names: Sequence[str] | None,
    passed: "Sequence[str | Path | PreTrainedModel | LanguageModel]",
    *,
    like: str | None,
    tokenizer: object | None,
    progress: Progress,
) -> list[MappedModel]:
    """Select the models to map.

    A passed model is a model of the atlas if its weights and tokenizer are equal, whatever its
    name there. Otherwise it is new, under its own name or the name that was passed with it.

    Parameters
    ----------
    sound
        The atlas.
    names
        Names of models of the atlas or of passed models. If None, the passed models, or else
        the model that ``like`` reads, or else all of the atlas.
    passed
        Models by name, folder, ``NAME=FOLDER``, or in memory.
    like
        SAE whose text layout is used. If None, the first that reads the model, or else the
        first of the atlas.
    tokenizer
        Tokenizer of models in memory.
    progress
        Receives the text layout of new models.

    Raises
    ------
    UnknownName
        If there is no model or SAE of this name.
    Mismatch
        If a passed model has the name of another model of the atlas.
    BadInput
        If there is no model, or two passed models have the same name.
    """
    layout = _TextLayout(sound, like)
    known = {each.model["name"]: each for each in _stored_models(sound, layout)}
    found: dict[str, MappedModel] = {}
    for one in passed:
        opened, source, named = _open_embedding(one, layout.dtype, tokenizer)
        each = _same(opened, known, named) or _new(opened, known, layout, progress)
        if each.model["name"] in found:
            raise BadInput(
                f"Two of `model` have the name {each.model['name']}; pass another name for one of them, as in "
                f"`model={f'other={opened.source}'!r}`."
            )
        found[each.model["name"]] = replace(each, passed=source)
    every = known | found
    for name in names or ():
        if name not in every:
            hint = "To map a model that is not in the atlas, pass its folder with `model`."
            raise UnknownName("model", name, known=every, hint=hint)
    if not every:
        raise BadInput("This atlas has no SAE, and so no model; pass one with `model`.")
    if names is None and not found:
        names = list(known) if like is None else [layout.like.model["name"]]  # type: ignore[union-attr]
    return [every[name] for name in dict.fromkeys([*(names or ()), *found])]


class _TextLayout:
    """Text layout: that of an SAE, or the default if there is no SAE."""

    def __init__(self, sound: Sound, like: str | None) -> None:
        name = like or next(iter(sound.saes), None)
        self.requested = like is not None
        self.like: SaeRecord | None = None if name is None else open_sae_record(sound, name)

    @property
    def dtype(self) -> str:
        """The dtype of models that no SAE reads."""
        return "auto" if self.like is None else str(self.like.model["dtype"])

    def of(self, longest: int | None, bos: bool) -> tuple[ContextSettings, int]:
        """Return the layout for a model that no SAE reads, within its context length and with its BOS."""
        contexts, batch = ContextSettings(CONTEXT, prepend_bos=True), Settings().batch_tokens
        if self.like is not None:
            contexts, batch = self.like.contexts, self.like.batch_tokens
        size = min(contexts.context_size, longest or contexts.context_size)
        return ContextSettings(size, prepend_bos=contexts.prepend_bos and bos), batch


def _stored_models(sound: Sound, layout: _TextLayout) -> Iterator[MappedModel]:
    """Yield the models of the atlas: those that SAEs read, then those that were only mapped."""
    seen = set()
    for name in sound.saes:
        own = open_sae_record(sound, name)
        if own.model["name"] not in seen:
            seen.add(own.model["name"])
            like = layout.like if layout.requested and layout.like is not None else own
            yield MappedModel(
                own.model,
                f"{name} was ingested",
                like.contexts,
                like.batch_tokens,
                parameters=own.parameters,
            )
    for part in sound.of("transcoder"):
        if DESCRIBED in part.manifest.tables:
            (row,) = part.table(DESCRIBED).to_pylist()
            longest, bos = row.pop("longest"), row.pop("bos")
            if row["name"] not in seen:
                seen.add(row["name"])
                digests = stored_digests((p.manifest for p in sound.parts.values()), row["name"])
                yield MappedModel(
                    row, "its maps were computed", *layout.of(longest, bos), parameters=digests
                )


def _open_embedding(one: Any, dtype: str, tokenizer: Any) -> tuple[LanguageModel, Any, bool]:
    """Open a model up to its embedding; return it, its source, and whether a name was passed."""
    if isinstance(one, LanguageModel):
        return one, one, False
    name = None
    if isinstance(one, str) and not Path(one).exists() and "=" in one:
        name, _, one = one.partition("=")
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"A `model` has the name {name!r}; expected NAME=FOLDER with a name of letters, digits, '.', '_' and "
                "'-'."
            )
    opened = open_model(
        one, name=name, tokenizer=tokenizer, hooks=[EMBEDDING], dtype=dtype, cached_digests=True
    )
    return opened, one, name is not None


def _takes(opened: LanguageModel) -> tuple[int | None, bool]:
    """Return the largest length of contexts, if any, and whether the tokenizer has BOS."""
    longest = getattr(opened.base.config, "max_position_embeddings", None)
    return longest, opened.tokenizer.bos_token_id is not None


def _same(
    opened: LanguageModel, known: Mapping[str, MappedModel], named: bool
) -> MappedModel | None:
    """Return the equal model of the atlas, if any; if a name was passed, with this name."""
    same = [
        each
        for each in known.values()
        if (each.model["weights"], each.model["tokenizer"])
        == (opened.weights, opened.tokenizer_key)
        and not opened.differs_from(each.parameters)
        and (not named or each.model["name"] == opened.name)
    ]
    return min(same, key=lambda each: each.model["name"] != opened.name, default=None)


def _new(
    opened: LanguageModel, known: Mapping[str, MappedModel], layout: _TextLayout, progress: Progress
) -> MappedModel:
    """Return a new model; raise an error if the atlas has another model of that name."""
    if other := known.get(opened.name):
        what = (
            "weights, or their dtype,"
            if other.model["weights"] != opened.weights or opened.differs_from(other.parameters)
            else "tokenizer"
        )
        raise Mismatch(
            f"{opened.name} is not the model that {other.noted} with in this atlas (its {what} differ). Pass "
            f"another name, as in `model={f'other={opened.source}'!r}`."
        )
    contexts, batch = layout.of(*_takes(opened))
    names = (p.name for p in node("Model").properties if p.name != "tokenizer")
    row = {name: getattr(opened, name) for name in names}
    as_for = (
        "" if layout.like is None else f", as for {layout.like.name} within the limits of the model"
    )
    begins = " with BOS" if contexts.prepend_bos else " without BOS"
    progress.report(
        f"No SAE of this atlas reads {opened.name}; its contexts have {contexts.context_size} tokens"
        f"{begins}{as_for}."
    )
    return MappedModel(row | {"tokenizer": opened.tokenizer_key}, "it was passed", contexts, batch)
