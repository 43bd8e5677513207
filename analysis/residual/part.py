"""The part of a residual study: origins, SAEs, the split of documents, and the result."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.residual.evaluate import all_pairs
from analysis.residual.settings import DEMO_TEXT
from analysis.residual.split import ROLES, Divided, Role
from analysis.residual.study_context import StudyContext
from analysis.residual.train import Arm, Facts
from atlas.disk.folder import Folder, Sound
from atlas.disk.parts import Part
from atlas.studies.results import Result, Results
from atlas.studies.settings import read_settings
from atlas.studies.study import Found
from ingest.demo.build import demo_text
from ingest.match.settings import MatchSettings
from ingest.match.study import MatchStudy, match_name
from ingest.probe.settings import ProbeSettings
from ingest.probe.study import stored_probes
from ingest.text.atlas_corpus import Text
from ingest.text.corpus import Corpus, CorpusInfo

__all__ = ["STUDY", "VERSION", "found_of", "result_of", "text_settings"]

STUDY = "residual"
"""Kind of the part of a residual study."""

#: Increased when the same texts and settings give other numbers. Token means were not shrunk in
#: version 1, and only towards the overall mean in version 2.
VERSION = 3


def found_of(
    study: StudyContext, divided: Divided, trained: Mapping[str, tuple[Arm, Facts]]
) -> Found:
    """Return the tables of a study's part, with the origins of its SAEs."""
    parts = study.folder.sound().parts
    arms = [
        {
            "sae": name,
            "arm": arm.name,
            "seed": arm.seed,
            "draw": arm.draw,
            "k": study.settings.k,
            **asdict(facts),
        }
        for name, (arm, facts) in trained.items()
    ]
    reader, model = study.reader, study.reader.model
    shrunk = [f.shrunk for arm, f in trained.values() if arm.name == "token-means"]
    sources: dict[str, Any] = {
        "model": {
            "name": model.name,
            "source": model.source,
            "revision": model.revision,
            "weights": model.weights,
            "parameters": list(model.parameters([reader.source, reader.target])),
        },
        "text": text_settings(study.text),
        **{
            role: {"corpus": info.id, "source": info.source}
            for role, info in _infos(study, divided).items()
        },
        "left_out": {"documents in the atlas already": divided.left_out},
        "token_means": {"shrunk": next(iter(shrunk), None)},
    }
    counted = parts[f"statistics/{next(iter(trained))}"].table("SAE")["tokens"][0].as_py()
    return Found(
        [("arms", _arms_table(arms)), ("split", _split_table(study, divided, counted))],
        sources=sources,
        dtypes={"model": model.dtype, "sae": "float32", "device": model.device.type},
        seed=study.settings.split_seed,
        made_from=tuple(f"sae/{name}" for name in trained),
    )


def result_of(part: Part) -> Result:
    """Return the result of a stored study, with the stored probes and matches of its SAEs.

    Parameters
    ----------
    part
        The part of the study, in the folder of its atlas.
    """
    stored = part.manifest.settings
    sound = Folder.open(part.folder.parents[2]).sound()
    arms = [row | _measured(sound.parts, row["sae"]) for row in part.table("arms").to_pylist()]
    probes = stored_probes(
        sound,
        part.manifest.saes,
        site=stored["source"],
        settings=read_settings(ProbeSettings, stored["probe"]),
    )
    summary = {
        "study": part.manifest.name,
        "arms": arms,
        "probes": probes.rows,
        "matches": _matches(sound, arms, stored["match"]).rows,
    }
    return Result(
        STUDY,
        part.manifest.name,
        summary,
        verdict=_verdict(summary, stored["source"]),
        tables=(part.manifest.tables, part.table),
    )


def _matches(
    sound: Sound, arms: Sequence[Mapping[str, Any]], settings: Mapping[str, Any] | None
) -> Results:
    """Return the stored matches of a study; none if its SAEs were not matched."""
    if settings is None:
        return Results()
    by_name: dict[str, tuple[Arm, Facts | None]] = {
        row["sae"]: (Arm(row["arm"], row["seed"], row["draw"]), None) for row in arms
    }
    study = MatchStudy(read_settings(MatchSettings, settings))
    keys = (f"match/{match_name(a, b)}" for a, b in all_pairs(by_name))
    return Results(study.result(sound.parts[key]) for key in keys if key in sound.parts)


def _verdict(summary: Mapping[str, Any], source: str) -> list[str]:
    """State the mean balanced accuracy of the probes of each arm."""
    arm_of = {row["sae"]: row["arm"] for row in summary["arms"]}
    scores: dict[str, list[float]] = {}
    for row in summary["probes"]:
        if row["balanced_accuracy"] is not None:
            scores.setdefault(arm_of[row["sae"]], []).append(row["balanced_accuracy"])
    if not scores:
        return [f"{summary['study']}: no feature could be probed from {source}."]
    means = ", ".join(f"{np.mean(values):.3f} for {arm}" for arm, values in scores.items())
    return [
        f"{summary['study']}: mean balanced accuracy of probes from {source} is {means}. "
        "`atlas report geometry` tests the differences."
    ]


def text_settings(text: Text) -> dict[str, Any]:
    """Return the user's description of the text, so that the text can be read again."""
    source = str(text.source) if isinstance(text.source, str | Path) else "memory"
    if source == str(demo_text().source):
        source = DEMO_TEXT
    return {
        "source": source,
        "name": text.name,
        "field": text.field,
        "split": text.split,
        "revision": text.revision,
        "split_on": text.split_on,
    }


def _measured(parts: Mapping[str, Any], sae: str) -> dict[str, Any]:
    """Return FVU, L0 and share of dead features of an SAE."""
    fvu = parts[f"fidelity/{sae}"].table("SAE")["fvu"][0].as_py()
    (row,) = parts[f"statistics/{sae}"].table("SAE").to_pylist()
    return {"fvu": fvu} | {name: row[name] for name in ("l0", "dead_share")}


def _arms_table(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {
        "sae": pa.string(),
        "arm": pa.string(),
        "final_loss": pa.float64(),
        "input_variance": pa.float64(),
        "removed_share": pa.float64(),
        "shrunk": pa.float64(),
    }
    return pa.Table.from_pylist(
        rows, schema=pa.schema([(name, kinds.get(name, pa.int64())) for name in rows[0]])
    )


def _infos(study: StudyContext, divided: Divided) -> dict[Role, CorpusInfo]:
    """Return the corpus record of each role; the role ``corpus`` is stored in the atlas by now."""
    own = Corpus.open(study.folder.corpus_file)
    return {role: divided.corpora.get(role, own).info for role in ROLES[:-1]} | {
        ROLES[-1]: own.info
    }


def _split_table(study: StudyContext, divided: Divided, counted: int) -> pa.Table:
    """Return the table of roles, with documents and tokens of each."""
    rows = [
        {"role": role, "documents": info.documents, "tokens": divided.tokens.get(role, counted)}
        for role, info in _infos(study, divided).items()
    ]
    kinds = [("role", pa.string()), ("documents", pa.int64()), ("tokens", pa.int64())]
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))
