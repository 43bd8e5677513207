"""Which models are mapped, and how text is laid out for each: those of the atlas, and others beside them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from atlas.errors import BadInput, Mismatch, UnknownName
from atlas.folder import DESCRIBED, Sound
from atlas.parts import stored_digests
from atlas.progress import Progress
from atlas.schema import arrow_schema, node
from ingest.forward.site_vectors import EMBEDDING
from ingest.model.language_model import LanguageModel, open_model
from ingest.sae.record import SaeRecord, open_sae_record, reopen
from ingest.settings import Settings
from ingest.text.tokenization import ContextSettings, check_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Subject", "subjects"]

#: Tokens of a context where no SAE says it.
CONTEXT = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?")


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to be mapped.

    Parameters
    ----------
    model
        Its row of the table Model.
    noted
        What was done with it, as a clause: ``"top was ingested"``.
    contexts, batch_tokens
        How text is laid out for it.
    given
        What it is opened from, if it was given: so only one model is in memory at a time.
    parameters
        Digests of its parameters that parts of the atlas store.
    """

    model: Mapping[str, Any]
    noted: str
    contexts: ContextSettings
    batch_tokens: int
    given: Any = None
    parameters: tuple[str, ...] = ()

    def open(self, *, hooks: Sequence[str], tokenizer: object | None, device: str) -> LanguageModel:
        """Return the model, opened as deep as some places.

        Raises
        ------
        BadInput
            If it lived in memory, and was not given.
        Mismatch
            If it is no longer the one that the atlas notes, or has no BOS where one is wanted.
        UnknownName, Missing, OutOfRoom
            As ``open_model`` does.
        """
        opened = reopen(
            self.model,
            self.given,
            noted=self.noted,
            hooks=hooks,
            tokenizer=tokenizer,
            device=device,
            parameters=self.parameters,
        )
        check_tokenizer(opened.tokenizer, settings=self.contexts)
        return opened

    def table(self, opened: LanguageModel) -> pa.Table:
        """Return the table ``model`` of its parts: its node, and what contexts it takes."""
        longest, bos = _takes(opened)
        row = dict(self.model) | {"longest": longest, "bos": bos}
        fields = [("longest", pa.int64()), ("bos", pa.bool_())]
        return pa.Table.from_pylist([row], schema=pa.schema([*arrow_schema("Model"), *fields]))


def subjects(
    sound: Sound,
    names: Sequence[str] | None,
    given: "Sequence[str | Path | PreTrainedModel | LanguageModel]",
    *,
    like: str | None,
    tokenizer: object | None,
    progress: Progress,
) -> list[Subject]:
    """Find the models to be mapped.

    A model that was given is one of the atlas if its weights and tokenizer are, whatever it
    is called there; else it is new, under its own name or the one it was given with.

    Parameters
    ----------
    sound
        The atlas.
    names
        Models of the atlas, or of those given. If None: those given, else the one that
        ``like`` reads, else all of the atlas.
    given
        Models by name, folder, ``NAME=FOLDER``, or in memory.
    like
        An SAE: text is laid out as it was for this one. If None: for the first that reads
        the model, else for the first of the atlas.
    tokenizer
        Of models in memory.
    progress
        Told how text is laid out for a model that is new.

    Raises
    ------
    UnknownName
        If there is no model or SAE of a name.
    Mismatch
        If a model given has the name of another one of the atlas.
    BadInput
        If there is no model at all, or two of those given have one name.
    """
    layout = _Layout(sound, like)
    known = {each.model["name"]: each for each in _known(sound, layout)}
    found: dict[str, Subject] = {}
    for one in given:
        opened, source, named = _look(one, layout.dtype, tokenizer)
        each = _same(opened, known, named) or _new(opened, known, layout, progress)
        if each.model["name"] in found:
            raise BadInput(
                f"Two of the models given are {each.model['name']}; where they are two, name one as in "
                f"--model other={opened.source}."
            )
        found[each.model["name"]] = replace(each, given=source)
    every = known | found
    for name in names or ():
        if name not in every:
            hint = "`--model FOLDER` maps one that the atlas does not have."
            raise UnknownName("model", name, known=every, hint=hint)
    if not every:
        raise BadInput("There is no SAE in this atlas, so no model; name one with --model.")
    if names is None and not found:
        names = list(known) if like is None else [layout.like.model["name"]]  # type: ignore[union-attr]
    return [every[name] for name in dict.fromkeys([*(names or ()), *found])]


class _Layout:
    """How text is laid out: as for an SAE, or, without any, by default."""

    def __init__(self, sound: Sound, like: str | None) -> None:
        name = like or next(iter(sound.saes), None)
        self.asked = like is not None
        self.like: SaeRecord | None = None if name is None else open_sae_record(sound, name)

    @property
    def dtype(self) -> str:
        """The number format in which models are opened that are beside those of SAEs."""
        return "auto" if self.like is None else str(self.like.model["dtype"])

    def of(self, longest: int | None, bos: bool) -> tuple[ContextSettings, int]:
        """Return it for a model that no SAE reads: contexts as long as it takes, with BOS if it has one."""
        contexts, batch = ContextSettings(CONTEXT, prepend_bos=True), Settings().batch_tokens
        if self.like is not None:
            contexts, batch = self.like.contexts, self.like.batch_tokens
        size = min(contexts.context_size, longest or contexts.context_size)
        return ContextSettings(size, prepend_bos=contexts.prepend_bos and bos), batch


def _known(sound: Sound, layout: _Layout) -> Iterator[Subject]:
    """Yield the models of the atlas: those that SAEs read, then those that were mapped alone."""
    seen = set()
    for name in sound.saes:
        own = open_sae_record(sound, name)
        if own.model["name"] not in seen:
            seen.add(own.model["name"])
            like = layout.like if layout.asked and layout.like is not None else own
            yield Subject(
                own.model, f"{name} was ingested", like.contexts, like.batch_tokens,
                parameters=own.parameters,
            )  # fmt: skip
    for part in sound.of("transcoder"):
        if DESCRIBED in part.manifest.tables:
            (row,) = part.table(DESCRIBED).to_pylist()
            longest, bos = row.pop("longest"), row.pop("bos")
            if row["name"] not in seen:
                seen.add(row["name"])
                digests = stored_digests((p.manifest for p in sound.parts.values()), row["name"])
                yield Subject(
                    row, "its maps were made", *layout.of(longest, bos), parameters=digests
                )


def _look(one: Any, dtype: str, tokenizer: Any) -> tuple[LanguageModel, Any, bool]:
    """Open the first block of a model; return it, what it is opened from, and whether it was named."""
    if isinstance(one, LanguageModel):
        return one, one, False
    name = None
    if isinstance(one, str) and not Path(one).exists() and "=" in one:
        name, _, one = one.partition("=")
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"--model takes NAME=FOLDER, and the name {name!r} was given; a name has letters, digits, "
                "'.', '_' and '-'."
            )
    opened = open_model(one, name=name, tokenizer=tokenizer, hooks=[EMBEDDING], dtype=dtype)
    return opened, one, name is not None


def _takes(opened: LanguageModel) -> tuple[int | None, bool]:
    """Return how long contexts may be, if it is limited, and whether the tokenizer has BOS."""
    longest = getattr(opened.base.config, "max_position_embeddings", None)
    return longest, opened.tokenizer.bos_token_id is not None


def _same(opened: LanguageModel, known: Mapping[str, Subject], named: bool) -> Subject | None:
    """Return the model of the atlas that this is: of its name, or, if none was given, of any."""
    same = [
        each
        for each in known.values()
        if (each.model["weights"], each.model["tokenizer"])
        == (opened.weights, opened.tokenizer_key)
        and not opened.is_another(each.parameters)
        and (not named or each.model["name"] == opened.name)
    ]
    return min(same, key=lambda each: each.model["name"] != opened.name, default=None)


def _new(
    opened: LanguageModel, known: Mapping[str, Subject], layout: _Layout, progress: Progress
) -> Subject:
    """Return a model that the atlas does not have, unless it has another one of that name."""
    if other := known.get(opened.name):
        what = (
            "weights, or the format they are read in,"
            if other.model["weights"] != opened.weights or opened.is_another(other.parameters)
            else "tokenizer"
        )
        raise Mismatch(
            f"{opened.name} is not the model that {other.noted} with in this atlas (its {what} differ): give "
            f"it another name, as in --model other={opened.source}."
        )
    contexts, batch = layout.of(*_takes(opened))
    names = (p.name for p in node("Model").properties if p.name != "tokenizer")
    row = {name: getattr(opened, name) for name in names}
    as_for = "" if layout.like is None else f" as for {layout.like.name}, as far as it takes them"
    begins = " that begin with BOS" if contexts.prepend_bos else ", without BOS"
    progress.report(
        f"No SAE of this atlas reads {opened.name}; it gets contexts of {contexts.context_size} tokens"
        f"{begins}{as_for}."
    )
    return Subject(row | {"tokenizer": opened.tokenizer_key}, "it was given", contexts, batch)
