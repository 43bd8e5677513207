"""Text before and after steering, with the same edit along a random feature, and the damage of both."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import torch

from analysis.steering.scoring import damage
from analysis.steering.settings import SteeringSettings
from analysis.steering.study import features_by_sae
from analysis.steering.subject import Subject, open_subject
from atlas.disk.folder import Folder
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.provenance import with_provenance
from atlas.studies.results import Result
from atlas.studies.study import TaskContext
from ingest.model.edits import AddVector
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record
from ingest.text.context_text import prompt_ids

__all__ = ["steer_text"]


def steer_text(
    atlas: str | Path,
    prompt: str,
    features: Sequence[str],
    *,
    times: float = 1.0,
    new_tokens: int = 40,
    settings: SteeringSettings = SteeringSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    model: Any = None,
    tokenizer: Any = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Result:
    """Continue a prompt without and with steering, and measure the damage on neutral text.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    prompt
        The text to continue.
    features
        Features of one SAE, ``sae/index``. Each is added at every strength along its decoder vector.
    times
        Strength, in multiples of the maximum activation of each feature; it can be below 0, not 0.
    new_tokens
        Number of tokens to generate, greedily.
    settings
        Edited tokens, size of the neutral text, and the seed of the random feature.
    opened, model, tokenizer, device, progress
        As for ``steer_task``.

    Returns
    -------
        Its table ``texts`` has a row for each arm: ``nothing``, ``features`` and ``random features``
        (similar in frequency, at equal norm), with the text, the mean KL and the mean
        log-probability lost on neutral text of the atlas, in nats per token.

    Raises
    ------
    BadInput
        If there is no prompt, it is longer than the context of the model, the features are not of
        one SAE or never active, or the strength is 0, not finite or produces NaN.
    UnknownName, Mismatch, Missing
        As ``steer_task`` does.

    Examples
    --------
    >>> from analysis import SteeringSettings, steer_text
    >>> settings = SteeringSettings(neutral_tokens=200)
    >>> steer_text("demo.atlas", "One day, a", ["tiny-a-l1-s0/7"], times=2, settings=settings).kind
    'steered_text'
    """
    folder = Folder.open(Path(atlas))
    sound = folder.sound()
    own = features_by_sae(sound.saes, features)
    if len(own) != 1:
        raise BadInput(
            f"The features are of {len(own)} SAEs; expected one feature or more of one SAE, SAE/INDEX."
        )
    if not prompt.strip():
        raise BadInput(f"The prompt is {prompt[:40]!r}; expected a text to continue.")
    if not 0 < abs(times) < float("inf"):
        raise BadInput(f"The strength is {times}; expected a finite number other than 0.")
    if new_tokens < 1:
        raise BadInput(f"The number of new tokens is {new_tokens}; expected 1 or more.")
    for name, indices in own.items():
        open_sae_record(sound, name).check_features(indices)
    ((sae, indices),) = own.items()
    with TemporaryDirectory(prefix="atlas-steering-") as room:
        at = TaskContext(folder, sound, Path(room), progress)
        subject = open_subject(
            at, sae, opened=opened, model=model, tokenizer=tokenizer, device=device
        )
        subject.check_live(indices)
        rows = _rows(
            subject,
            prompt,
            indices,
            times=times,
            new_tokens=new_tokens,
            settings=settings,
            progress=progress,
        )
    table = pa.Table.from_pylist(rows)
    summary = {"sae": sae, "features": list(features), "strength": times, "prompt": prompt}
    summary |= {f"loss_{row['arm'].replace(' ', '_')}": row["loss"] for row in rows[1:]}
    result = Result(
        "steered_text",
        "-".join([sae, *map(str, indices)]),
        summary,
        verdict=_verdict(rows),
        tables=(("texts",), lambda _: table),
    )
    return with_provenance(
        result,
        at,
        saes=[sae],
        settings=settings,
        steered=list(features),
        prompt=prompt,
        times=times,
        new_tokens=new_tokens,
    )


def _rows(
    subject: Subject,
    prompt: str,
    features: Sequence[int],
    *,
    times: float,
    new_tokens: int,
    settings: SteeringSettings,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Return a row for each arm."""
    vector = _summed(subject, features, times)
    arms: list[tuple[str, Sequence[int], torch.Tensor | None]] = [
        ("nothing", (), None),
        ("features", features, vector),
    ]
    for group in subject.similar_sets(features, number=1, seed=settings.seed):
        other = _summed(subject, group, times)
        arms.append(("random features", group, other * (vector.norm() / other.norm())))
    bos = subject.text.contexts.prepend_bos
    ids = torch.tensor([prompt_ids(subject.model.tokenizer, prompt, bos=bos)])
    subject.complete.check_length(ids.shape[1] + new_tokens)
    text = list(subject.neutral(settings.neutral_tokens, seed=settings.seed))
    everywhere = [[] if x is None else [AddVector(subject.hook, x)] for _, _, x in arms]
    harm = damage(subject, text, everywhere, progress=progress)
    rows = []
    for (name, members, added), harmed in zip(arms, harm, strict=True):
        edits = [] if added is None else [AddVector(subject.hook, added, settings.at)]
        out = subject.complete.generate(ids, new_tokens=new_tokens, edits=edits)
        rows.append(
            {
                "arm": name,
                "features": [f"{subject.name}/{i}" for i in members],
                "text": subject.model.tokenizer.decode(
                    out[0, ids.shape[1] :], skip_special_tokens=True
                ),
                "kl": sum(harmed.kl) / 2,
                "loss": sum(harmed.loss) / 2,
            }
        )
    return rows


def _summed(subject: Subject, features: Sequence[int], times: float) -> torch.Tensor:
    """Return the sum of decoder vectors, each times its maximum activation and the strength."""
    rows = subject.rows(features)
    maximum = torch.from_numpy(subject.maximum[list(features)]).to(rows.device, rows.dtype)
    total: torch.Tensor = times * (maximum[:, None] * rows).sum(0)
    return total


def _verdict(rows: Sequence[dict[str, Any]]) -> list[str]:
    plain, steered = rows[0]["text"], rows[1]["text"]
    changed = "changes" if plain != steered else "does not change"
    found = [
        f"Steering {changed} the text. On neutral text it loses {rows[1]['loss']:.3g} nats of log-probability per token "
        f"(KL {rows[1]['kl']:.3g})."
    ]
    if len(rows) > 2:
        other = "also changes" if rows[2]["text"] != plain else "does not change"
        found.append(
            f"The random feature {', '.join(rows[2]['features'])} of equal norm {other} the text, and loses "
            f"{rows[2]['loss']:.3g} nats. One text is no evidence: score a task with `atlas steer --task`."
        )
    return found
