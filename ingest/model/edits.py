"""Edits of activations: hooks that change sites of a transformers model, also in generation with a cache.

An edit changes the activations of one site at the tokens that SAEs read: attended tokens that
are not special tokens. Everything after the site is computed from the new activations. An edit
that changes no activation changes no bit of the output.

An edit of features is a delta, ``x + decode(changed) - decode(original)``: the reconstruction
error of the SAE stays in the activations. See ``ingest.model.feature_edits``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch

from ingest.model.sites import SiteModule, depth, find_site_module, layout_of, parse_hook

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["AddVector", "Edit", "SiteEdit", "Tokens", "Where", "editing", "recording"]

Edit: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Returns the new activations of a site, both of shape (batch, position, width)."""

Where = Literal["all", "last", "active"]
"""Positions of an edit: all tokens that SAEs read, the last token, or where a feature is active.

In generation, ``last`` is the last token of the prompt and each token after it.
"""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a forward pass, as an edit sees them.

    Parameters
    ----------
    ids
        (batch, position). Token ids.
    read
        (batch, position). True at tokens that SAEs read: attended, and not special.
    last
        (batch, position). True at the last attended token of each row; in generation, at the
        last token of the prompt and all tokens after it.
    start
        Position of the first column: 0, or the number of tokens in the cache.
    others
        By hook, the activations at the other sites that the edit needs, after edits of them.
    """

    ids: torch.Tensor
    read: torch.Tensor
    last: torch.Tensor
    start: int = 0
    others: Mapping[str, torch.Tensor] = field(default_factory=dict)


@runtime_checkable
class SiteEdit(Protocol):
    """A change of the activations at one site."""

    @property
    def hook(self) -> str:
        """TransformerLens name of the site."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Other sites, at or before this one, whose activations it reads."""

    def apply(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Return the new activations of the site.

        Parameters
        ----------
        x
            (batch, position, width). It is not changed in place.
        tokens
            The tokens of these positions.

        Returns
        -------
            Of the shape and number format of ``x``; ``x`` itself where nothing changes.
        """


@dataclass(frozen=True, eq=False)
class AddVector:
    """Add one vector at a site, such as a difference of means.

    Parameters
    ----------
    hook
        TransformerLens name of the site.
    vector
        (width,).
    at
        ``"all"`` or ``"last"``.
    """

    hook: str
    vector: torch.Tensor
    at: Literal["all", "last"] = "all"

    @property
    def needs(self) -> tuple[str, ...]:
        """No other sites."""
        return ()

    def apply(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Return the activations with the vector added; see ``SiteEdit``."""
        at = tokens.read & tokens.last if self.at == "last" else tokens.read
        if not at.any() or not self.vector.any():
            return x
        new = x.clone()
        new[at] = (x[at].float() + self.vector.to(x.device, torch.float32)).to(x.dtype)
        return new


@contextmanager
def editing(
    causal: "PreTrainedModel",
    edits: "Mapping[str, Edit] | Iterable[SiteEdit]",
    *,
    name: str,
    special: Sequence[int] = (),
    first: int | None = None,
) -> Iterator[None]:
    """Edit the activations of a model in every forward pass within a block.

    Afterwards the hooks are removed and the training mode of each module is restored.

    Parameters
    ----------
    causal
        A causal language model of transformers; it can be called directly or by its ``generate``.
    edits
        Edits, or by hook name functions that replace all activations of a site. Edits of one
        site are applied in order; their deltas are computed from the unedited activations and
        summed. Edits of later sites see the effect of earlier ones.
    name
        Name of the model, for messages.
    special
        Ids of special tokens, which edits leave unchanged.
    first
        In generation, the position of the last token of the prompt, from which on a token
        counts as last. By default the last attended token of each row of each call.

    Raises
    ------
    UnknownName, Mismatch
        If the model has no such site.
    """
    base, layout, layers = _base_of(causal)
    with ExitStack() as undo:
        for module in [m for m in causal.modules() if m.training]:
            undo.callback(setattr, module, "training", True)
            module.training = False
        seen = _Seen(tuple(special), first)
        undo.callback(causal.register_forward_pre_hook(seen.begin, with_kwargs=True).remove)
        by_hook, needed = _by_hook(edits, seen)
        # A block's edit of hook_resid_mid changes the stream that its hook_resid_post edit reads.
        by_depth = sorted(by_hook, key=lambda hook: depth(hook, model=name, layers=layers))
        for hook, edit in ((hook, by_hook[hook]) for hook in by_depth):
            site = find_site_module(base, layout, hook, name=name, layers=layers)
            undo.callback(_replace(site, edit).remove)
            layer, rest = parse_hook(hook, model=name, layers=layers)
            if rest == "hook_resid_mid":
                block = base.get_submodule(f"{layout.blocks}.{layer}")
                undo.enter_context(_carried(site, block))
        # Hooks of a site run in the order of their registration, so these record edited activations.
        for hook in needed:
            site = find_site_module(base, layout, hook, name=name, layers=layers)
            undo.callback(_record(site, seen.record(hook)).remove)
        yield


@contextmanager
def recording(
    causal: "PreTrainedModel", hooks: Iterable[str], *, name: str
) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the activations at sites during each forward pass within a block.

    Within ``editing`` the recorded activations are the edited ones.

    Yields
    ------
        By hook, the activations of the last forward pass: (batch, position, width).
    """
    base, layout, layers = _base_of(causal)
    seen: dict[str, torch.Tensor] = {}
    with ExitStack() as undo:
        for hook in dict.fromkeys(hooks):
            site = find_site_module(base, layout, hook, name=name, layers=layers)

            def store(x: torch.Tensor, hook: str = hook) -> None:
                # A copy: some blocks add to the stream in place afterwards.
                seen[hook] = x.clone()

            undo.callback(_record(site, store).remove)
        yield seen


class _Seen:
    """The tokens of the current forward pass, and the activations that edits need."""

    def __init__(self, special: tuple[int, ...], first: int | None) -> None:
        self._special, self._first = special, first
        self._tokens: Tokens | None = None
        self._others: dict[str, torch.Tensor] = {}

    def begin(self, _: Any, args: Any, named: Any) -> None:
        """Note the tokens of a call of the causal model."""
        ids = args[0] if args else named["input_ids"]
        start = _cached(named.get("past_key_values"))
        mask = args[1] if len(args) > 1 else named.get("attention_mask")
        columns = ids.shape[1]
        attended = torch.ones_like(ids, dtype=torch.bool)
        if isinstance(mask, torch.Tensor) and mask.ndim == 2:
            attended = mask[:, -columns:].bool()
        special = torch.tensor(self._special, dtype=ids.dtype, device=ids.device)
        read = attended & ~torch.isin(ids, special)
        position = torch.arange(columns, device=ids.device)
        if self._first is None:
            end = (attended * (position + 1)).argmax(1)
            last = position == end[:, None]
        else:
            last = (position + start >= self._first).expand_as(ids)
        self._others = {}
        self._tokens = Tokens(ids, read, last, start, self._others)

    def record(self, hook: str) -> Callable[[torch.Tensor], None]:
        """Return a function that stores the activations of a site."""

        def store(x: torch.Tensor) -> None:
            self._others[hook] = x.clone()

        return store

    def tokens(self, x: torch.Tensor) -> Tokens:
        """Return the tokens of this pass, on the device of some activations."""
        assert self._tokens is not None
        known = self._tokens
        if known.ids.device == x.device:
            return known
        ids, read, last = (part.to(x.device) for part in (known.ids, known.read, known.last))
        return Tokens(ids, read, last, known.start, known.others)


def _base_of(causal: "PreTrainedModel") -> tuple[Any, Any, int]:
    """Return the model without its head, its layout, and its number of blocks."""
    base: Any = causal.base_model
    base = getattr(base, "language_model", base)
    return base, layout_of(base), int(base.config.num_hidden_layers)


def _cached(cache: Any) -> int:
    """Return the number of tokens in a cache."""
    return int(cache.get_seq_length()) if cache is not None else 0


def _by_hook(
    edits: "Mapping[str, Edit] | Iterable[SiteEdit]", seen: _Seen
) -> tuple[dict[str, Edit], list[str]]:
    """Return the function of each edited site, and the other sites that edits need."""
    if isinstance(edits, Mapping):
        return dict(edits), []
    found: dict[str, list[SiteEdit]] = {}
    for edit in edits:
        found.setdefault(edit.hook, []).append(edit)
    needed = {other for group in found.values() for edit in group for other in edit.needs}
    return {hook: _joined(group, seen) for hook, group in found.items()}, sorted(needed)


def _joined(group: Sequence[SiteEdit], seen: _Seen) -> Edit:
    """Return the sum of the changes of several edits of one site."""

    def edit(x: torch.Tensor) -> torch.Tensor:
        tokens = seen.tokens(x)
        results = [one.apply(x, tokens) for one in group]
        changed = [new for new in results if new is not x]
        if len(changed) < 2:
            return changed[0] if changed else x
        total = x.float()
        for new in changed:
            total = total + (new.float() - x.float())
        return total.to(x.dtype)

    return edit


def _record(site: SiteModule, store: Callable[[torch.Tensor], None]) -> Any:
    """Pass the activations of a site to a function; return the handle of the hook."""

    def watch(x: torch.Tensor) -> torch.Tensor:
        store(x)
        return x

    return _replace(site, watch)


def _replace(site: SiteModule, edit: Edit) -> Any:
    """Replace the input or the first output of a module; return the handle of the hook."""
    if site.side == "input":

        def before(_: Any, args: Any, named: Any) -> Any:
            if args:
                return (edit(args[0]), *args[1:]), named
            return args, named | {"hidden_states": edit(named["hidden_states"])}

        return site.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_: Any, __: Any, output: Any) -> Any:
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

    return site.module.register_forward_hook(after)


@contextmanager
def _carried(site: SiteModule, block: Any) -> Iterator[None]:
    """Add an edit of the stream after attention to the output of the block.

    The module of that site is the norm before the MLP, and the block adds the unedited stream
    to the output of the MLP.
    """
    changes: list[torch.Tensor] = []
    original: list[torch.Tensor] = []

    def first(_: Any, args: Any, named: Any) -> None:
        original.append(args[0] if args else named["hidden_states"])

    def last(_: Any, args: Any, named: Any) -> None:
        changes.append((args[0] if args else named["hidden_states"]) - original.pop())

    before = site.module.register_forward_pre_hook(first, with_kwargs=True, prepend=True)
    after = site.module.register_forward_pre_hook(last, with_kwargs=True)

    def add(x: torch.Tensor) -> torch.Tensor:
        return x + changes.pop()

    outer = _replace(SiteModule(block, "output", site.width), add)
    try:
        yield
    finally:
        for handle in (before, after, outer):
            handle.remove()
