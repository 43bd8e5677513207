"""The documents of a text divided: some for the map, some for training, the rest for the atlas."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from analysis.residual.settings import ResidualSettings
from atlas.errors import BadInput
from atlas.progress import Progress
from ingest.text.corpus import Corpus
from ingest.text.readers import Texts
from ingest.text.tokenization import token_counts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LEAST", "ROLES", "Division", "Role", "divide"]

Role: TypeAlias = Literal["map", "training", "corpus"]

ROLES: tuple[Role, ...] = ("map", "training", "corpus")
"""What documents are for: to fit what is taken away, to train SAEs, to measure them."""

LEAST: dict[Role, int] = {"map": 3, "training": 1, "corpus": 2}
"""Documents that each needs: a map leaves some out to choose its penalty, probes validate on some."""


@dataclass(frozen=True)
class Division:
    """The side of each document, by its text alone: copies of a text are on one side.

    Parameters
    ----------
    settings
        The shares and the seed.
    known
        Digests of the documents of an atlas that has its corpus already. They are on no
        side, and no others go to the corpus.
    """

    settings: ResidualSettings
    known: frozenset[bytes] | None = None

    @staticmethod
    def digest(text: str) -> bytes:
        """Return what stands for a text among those known."""
        return hashlib.sha256(text.encode()).digest()[:16]

    def role(self, text: str) -> Role | None:
        """Return the side of a document; None if it is in the atlas already."""
        shares = self.settings.map_share, self.settings.train_share
        if self.known is None:
            if self._number(text, "corpus") >= sum(shares):
                return "corpus"
        elif self.digest(text) in self.known:
            return None
        # Drawn apart from the above: so documents stay on their sides once the corpus is there.
        return "map" if self._number(text, "map") * sum(shares) < shares[0] else "training"

    def _number(self, text: str, purpose: str) -> float:
        """Return a number from 0 to 1, drawn for a text."""
        drawn = hashlib.sha256(f"{self.settings.split_seed} {purpose} ".encode() + text.encode())
        return int.from_bytes(drawn.digest()[:8], "big") / 2**64


@dataclass(frozen=True, eq=False)
class Divided:
    """A text that has been divided.

    Parameters
    ----------
    corpora
        By role, the documents: those of ``"corpus"`` only where the atlas had none.
    left_out
        Documents that were in the atlas already.
    tokens
        By role, the tokens.
    """

    corpora: dict[Role, Corpus]
    left_out: int = 0
    tokens: dict[Role, int] = field(default_factory=dict)


def divide(
    whole: Corpus,
    settings: ResidualSettings,
    *,
    own: Corpus | None,
    mine: bool = False,
    tokenizer: "PreTrainedTokenizerBase",
    into: Path,
    progress: Progress,
) -> Divided:
    """Divide the documents of a text into files.

    Parameters
    ----------
    whole
        The text.
    settings
        The shares and the seed.
    own
        The corpus of the atlas, if it has one.
    mine
        Whether that came from such a division before: it is then not told as left out.
    tokenizer
        Counts the tokens of each side.
    into
        A folder for the files.
    progress
        Told how many documents were in the atlas already.

    Raises
    ------
    BadInput
        If a side would have fewer documents than it needs, or no token.
    """
    known = None if own is None else frozenset(map(Division.digest, _texts(own)))
    division = Division(settings, known)
    found: dict[Role | None, int] = dict.fromkeys((*ROLES, None), 0)
    for text in _texts(whole):
        found[division.role(text)] += 1
    left_out = found.pop(None) * (not mine)
    if left_out:
        progress.report(
            f"{left_out:,} of {whole.info.documents:,} documents are in the atlas already, and are left out "
            "of fitting and training."
        )
    wanted: list[Role] = [r for r in ROLES if own is None or r != "corpus"]
    _check_enough(whole, {role: found[role] for role in wanted}, sum(found.values()))
    if own is not None and own.info.documents < LEAST["corpus"]:
        raise BadInput(
            f"The atlas' corpus has {own.info.documents} document, and probes need {LEAST['corpus']} or more, to "
            "be fitted on some and validated on others: begin a new atlas with a longer text."
        )
    made = Divided({}, left_out)
    for role in wanted:
        made.corpora[role] = _gathered(whole, division, role, into / f"{role}.parquet")
        made.tokens[role] = _count(made.corpora[role], tokenizer)
        if not made.tokens[role]:
            raise BadInput(
                f"The documents of {whole.info.source} that fell to the {role} side have no token: give a longer "
                "text."
            )
    return made


def _check_enough(whole: Corpus, found: dict[Role, int], there: int) -> None:
    few = [f"{n} to the {role} side ({LEAST[role]} needed)" for role, n in found.items()
           if n < LEAST[role]]  # fmt: skip
    if few:
        raise BadInput(
            f"{whole.info.source} has {there:,} documents that are not in the atlas, and too few of them fell "
            f"{', '.join(few)}: give a text of more documents (--split-on divides a file into more), or other "
            "shares."
        )


def _texts(corpus: Corpus) -> Iterator[str]:
    for number in range(len(corpus)):
        for document in corpus.block(number):
            yield document.text


def _gathered(whole: Corpus, division: Division, role: Role, into: Path) -> Corpus:
    documents = (text for text in _texts(whole) if division.role(text) == role)
    info = whole.info
    name = info.name if role == "corpus" else f"{info.name}, {role}"
    return Corpus.gather(Texts(name, info.source, info.revision, documents), into)


def _count(corpus: Corpus, tokenizer: "PreTrainedTokenizerBase") -> int:
    return sum(
        sum(token_counts([d.text for d in corpus.block(n)], tokenizer)) for n in range(len(corpus))
    )
