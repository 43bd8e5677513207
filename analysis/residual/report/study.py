"""Read a residual study from an atlas: its arms, and the probes of their SAEs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.residual.report.arm_difference import Sample
from analysis.residual.settings import ALL_PRIOR
from atlas.disk.folder import Folder, Sound
from atlas.disk.parts import Part
from atlas.errors import Mismatch, UnknownName
from ingest.probe.bootstrap import CLUSTERS
from ingest.probe.part_tables import ProbeRun
from ingest.probe.settings import ProbeSettings

__all__ = [
    "ARMS",
    "EMBEDDING",
    "PAIRS",
    "SHRUNK_SINCE",
    "Probed",
    "ResidualStudy",
    "from_tables",
    "open_study",
    "site_name",
    "studies",
]

#: The arms in the order of display, with the input of each.
ARMS: dict[str, str] = {
    "baseline": "the target's activations",
    "residual": "the target minus the prediction of the affine map from the source",
    "components": "the target minus random principal components of equal variance",
    "token-means": "the target minus the mean of each token id",
}

#: Study parts below this version have token means with another shrinkage, or with none.
SHRUNK_SINCE = 3

#: Default site of the probes.
EMBEDDING = "hook_embed"

#: Pairs of arms whose difference is reported: each arm with the baseline, then residual with the controls.
PAIRS: tuple[tuple[str, str], ...] = (
    ("residual", "baseline"),
    ("components", "baseline"),
    ("token-means", "baseline"),
    ("residual", "components"),
    ("residual", "token-means"),
)


@dataclass(frozen=True, eq=False)
class Probed:
    """One SAE of a study and its probes.

    Parameters
    ----------
    sae, arm, seed, draw
        As in the study's table of arms.
    features
        Number of features of the SAE.
    requested
        Number of these features that the filter was applied to: all, or a random sample.
    left_out
        Number of features that did not pass the filter, by reason.
    table
        A row for each probed feature: the columns of PREDICTED_FROM, and ``idx``.
    draws
        float32, (draws, rows of the table). Balanced accuracy over bootstrap draws of documents;
        None if there are no draws.
    documents
        Number of validation documents, or clusters of them, in the bootstrap; None if the
        version of the probes did not record it.
    """

    sae: str
    arm: str
    seed: int
    draw: int | None
    features: int
    requested: int
    left_out: Mapping[str, int]
    table: pd.DataFrame
    draws: "np.ndarray[Any, np.dtype[np.float32]] | None"
    documents: int | None = None

    @property
    def passed(self) -> float:
        """Share of the SAE's features that pass the filter."""
        return len(self.table) / self.requested if self.requested else float("nan")

    def sample(self, score: str = "balanced_accuracy") -> Sample:
        """Return the scores for a comparison; only balanced accuracy has bootstrap draws."""
        values = self.table[score].to_numpy(float)
        finite = ~np.isnan(values)
        draws = self.draws if score == "balanced_accuracy" else None
        return Sample(
            self.seed,
            values[finite],
            self.table["positives"].to_numpy(np.int64)[finite],
            None if draws is None else draws[:, finite],
            self.draw,
            self.documents,
        )


@dataclass(frozen=True, eq=False)
class ResidualStudy:
    """A residual study.

    Parameters
    ----------
    name
        Name of the study in the atlas.
    settings
        Settings as stored in its part; nested ones have names such as ``probe.tau``.
    sources
        Origin of its model and documents, as stored in its part.
    arms
        Table of arms of the study's part, with a row for each SAE.
    split
        Split of the documents: role, documents, tokens.
    site
        The requested site of the probes.
    run
        Run of the probes from that site; empty if no SAE of the study has one.
    probed
        SAEs with probes of that run, by arm and seed.
    unprobed
        Names of the SAEs without probes of that run.
    runs
        All runs of the study's SAEs from that site.
    others
        Names of the other studies of the atlas.
    version
        Version of the study's part.
    probing
        Stored settings of that run, and ``seed``; empty if there is no run.
    """

    name: str
    settings: Mapping[str, Any]
    sources: Mapping[str, Any]
    arms: pd.DataFrame
    split: pd.DataFrame
    site: str = ""
    run: str = ""
    probed: tuple[Probed, ...] = ()
    unprobed: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    version: int = SHRUNK_SINCE
    probing: Mapping[str, Any] = field(default_factory=dict)

    def of(self, arm: str) -> list[Probed]:
        """Return the probed SAEs of an arm."""
        return [p for p in self.probed if p.arm == arm]

    @property
    def arms_there(self) -> list[str]:
        """The probed arms, in the order of display."""
        probed = {p.arm for p in self.probed}
        return [arm for arm in ARMS if arm in probed] + sorted(probed - set(ARMS))

    @property
    def old_means(self) -> bool:
        """Whether an earlier version computed the token means."""
        return self.version < SHRUNK_SINCE

    @property
    def shrunk(self) -> float | None:
        """Weight of the prior in each token mean, in tokens; None if unknown."""
        stored = self.sources.get("token_means", {}).get("shrunk")
        return None if stored is None or self.old_means else float(stored)

    @property
    def chosen(self) -> bool:
        """Whether the shrinkage could be chosen; otherwise the prior has the weight of one token."""
        stored = self.sources.get("token_means", {"shrunk": 0.0})
        return self.old_means or stored.get("shrunk") is not None

    @property
    def read_from(self) -> str:
        """The source of the study's map."""
        return str(self.settings.get("source", EMBEDDING))

    @property
    def all_prior(self) -> bool:
        """Whether the token means are their prior: nothing was found in the token beyond it."""
        return self.shrunk is not None and self.shrunk >= ALL_PRIOR


def site_name(site: str) -> str:
    """Return the name of a site in sentences."""
    return "the embedding" if site == EMBEDDING else site


def studies(folder: Folder) -> list[str]:
    """Return the names of the residual studies of an atlas."""
    return [part.manifest.name for part in folder.sound().of("residual")]


def open_study(
    folder: Folder,
    name: str | None = None,
    *,
    site: str | None = None,
    run: str | None = None,
) -> ResidualStudy | None:
    """Return a residual study with the probes of its SAEs.

    Parameters
    ----------
    folder
        The atlas.
    name
        Name of the study; the first one if None.
    site
        TransformerLens name of the probed site; the study's source if None.
    run
        Run of the probes, or the start of its name. If None, the runs that split by document and
        predict whether a feature is active; of these, the run that most SAEs have.

    Returns
    -------
    None if no name was passed and the atlas has no study.

    Raises
    ------
    UnknownName
        If there is no study of that name.
    Mismatch
        If its SAEs were probed with different settings, so that draws cannot be paired.
    """
    sound = folder.sound()
    parts = {part.manifest.name: part for part in sound.of("residual")}
    if name is not None and name not in parts:
        raise UnknownName(
            "residual study", name, known=parts, hint="Run `atlas residual` to create one."
        )
    if not parts:
        return None
    part = parts[name or sorted(parts)[0]]
    arms = part.table("arms").to_pandas()
    split = part.table("split").to_pandas() if "split" in part.manifest.tables else pd.DataFrame()
    settings = _flat(part.manifest.settings)
    site = site or str(settings.get("source") or EMBEDDING)
    found = _probes(sound, list(arms["sae"]), site)
    runs = tuple(sorted({r for of in found.values() for r in of}))
    chosen = _chosen(found, run)
    probed = tuple(
        _probed(row, found[row["sae"]][chosen], sound)
        for row in _in_order(arms)
        if chosen in found.get(row["sae"], {})
    )
    _check_same(found, chosen)
    of_run = next((of[chosen].manifest for of in found.values() if chosen in of), None)
    unprobed = tuple(sae for sae in arms["sae"] if chosen not in found.get(sae, {}))
    return ResidualStudy(
        part.manifest.name,
        settings,
        part.manifest.sources,
        arms,
        split,
        site,
        chosen,
        probed,
        unprobed,
        runs,
        tuple(sorted(parts.keys() - {part.manifest.name})),
        part.manifest.version,
        {} if of_run is None else dict(of_run.settings) | {"seed": of_run.seed},
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = value.items() if isinstance(value, Mapping) else ()
        flat |= {f"{name}.{k}": v for k, v in inner} if inner else {name: value}
    return flat


def _probes(sound: Sound, saes: Sequence[str], site: str) -> dict[str, dict[str, Part]]:
    """Return the parts of probes of kind 'active' from a site, by SAE and run."""
    found: dict[str, dict[str, Part]] = {}
    for part in sound.of("probe"):
        sae = part.manifest.saes[0]
        if sae not in saes or part.manifest.settings.get("kind") != "active":
            continue
        if site in part.table("Site")["hook"].to_pylist():
            found.setdefault(sae, {})[_run(part)] = part
    return found


def _run(part: Part) -> str:
    """Return the run of the probes; if no feature passed the filter, derive it from the settings."""
    table = part.table("PREDICTED_FROM")
    if table.num_rows:
        return str(table["run"][0].as_py())
    stored = part.manifest.settings
    known = {f.name: stored[f.name] for f in fields(ProbeSettings) if f.name in stored}
    settings = ProbeSettings(splits=("document",), kinds=(stored["kind"],), **known)
    return ProbeRun(
        stored["split"], stored["kind"], settings, stored.get("validated_on"), stored.get("corpus")
    ).name


def _chosen(found: Mapping[str, Mapping[str, Part]], run: str | None) -> str:
    """Return the requested run that most SAEs have; empty if there is none."""
    begins = "document/active" if run is None else run
    counts: dict[str, int] = {}
    for of in found.values():
        for name in of:
            if name.startswith(begins):
                counts[name] = counts.get(name, 0) + 1
    if run is not None and not counts and found:
        raise UnknownName("run", run, known={name for of in found.values() for name in of})
    if run is not None and run in counts:
        return run
    return max(sorted(counts), key=lambda name: counts[name], default="")


def _check_same(found: Mapping[str, Mapping[str, Part]], run: str) -> None:
    parts = [of[run] for of in found.values() if run in of]
    for part in parts[1:]:
        one, other = (dict(p.manifest.settings) for p in (parts[0], part))
        differ = sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
        if differ or parts[0].manifest.seed != part.manifest.seed:
            raise Mismatch(
                f"{part.manifest.name} and {parts[0].manifest.name} were probed with different settings "
                f"({', '.join(differ) or 'seed'}), so they cannot be compared. Probe all SAEs of the study with "
                "one `atlas probe --replace`."
            )


def _in_order(arms: pd.DataFrame) -> Iterable[dict[str, Any]]:
    ranks = {arm: rank for rank, arm in enumerate(ARMS)}
    rows: list[dict[str, Any]] = [
        {str(k): v for k, v in r.items()} for r in arms.to_dict("records")
    ]
    return sorted(rows, key=lambda r: (ranks.get(r["arm"], len(ranks)), r["seed"], str(r["sae"])))


def _probed(row: Mapping[str, Any], part: Part, sound: Sound) -> Probed:
    sources = part.manifest.sources
    drawn = part.table("draws") if "draws" in part.manifest.tables else None
    return from_tables(
        row,
        part.table("PREDICTED_FROM"),
        drawn,
        features=sound.parts[f"sae/{row['sae']}"].manifest.tables["Feature"].rows,
        left_out={k: int(v) for k, v in sources.get("left_out", {}).items()},
        documents=sources.get("validated", {}).get("documents"),
    )


def from_tables(
    row: Mapping[str, Any],
    predicted: pa.Table,
    draws: pa.Table | None,
    *,
    features: int,
    left_out: Mapping[str, int],
    documents: int | None,
) -> Probed:
    """Read the probes of one SAE from their tables, in any order of rows.

    Parameters
    ----------
    row
        Row of the study's table of arms: ``sae``, ``arm``, ``seed`` and ``draw``.
    predicted, draws
        The tables PREDICTED_FROM and ``draws``, the latter if there is one.
    features
        Number of features of the SAE.
    left_out
        Number of features that did not pass the filter, by reason.
    documents
        Number of documents with a validation token; None if unknown.
    """
    table: pd.DataFrame = predicted.to_pandas()
    idx = [int(source.rpartition("/")[2]) for source in table["source"]]
    table["idx"] = np.array(idx, dtype=np.int64)
    table = table.sort_values("idx", ignore_index=True)
    draw = row.get("draw")
    return Probed(
        row["sae"],
        row["arm"],
        int(row["seed"]),
        None if pd.isna(draw) else int(draw),
        features,
        len(table) + sum(left_out.values()) if left_out else features,
        left_out,
        table,
        _draws(draws, table["idx"].to_numpy(np.int64)),
        None if documents is None else min(CLUSTERS, documents),
    )


def _draws(
    table: pa.Table | None, features: "np.ndarray[Any, np.dtype[np.int64]]"
) -> "np.ndarray[Any, np.dtype[np.float32]] | None":
    """Return the bootstrap draws in the order of the features; (draws, features)."""
    if table is None or not len(features):
        return None
    lists = table["balanced_accuracy"].combine_chunks()
    scores = lists.flatten().to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)
    order = np.argsort(table["feature"].to_numpy())
    position = np.searchsorted(table["feature"].to_numpy()[order], features)
    drawn: np.ndarray[Any, np.dtype[np.float32]] = scores[order[position]].T.astype(np.float32)
    return drawn
