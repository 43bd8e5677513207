"""Folders of SAEs and models that were damaged, mistyped or malicious: mutations of sound ones."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ingest.demo import __file__ as demo

DEMO = Path(demo).parent
SAE, MODEL = "tiny-a-l1-s0", "tiny-a"
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
BAD = (
    -1,
    0,
    1.5,
    float("nan"),
    float("inf"),
    10**30,
    "three",
    None,
    True,
    [],
    {},
    [1] * 3,
    "x" * 10_000,
)
"""Values that replace a field; some are valid for some fields."""

Damage = Callable[[Path], None]


def put(file: str, *keys: str, value: object) -> Damage:
    """Set one field of a JSON file."""

    def damage(folder: Path) -> None:
        config = json.loads((folder / file).read_text("utf-8"))
        at = config
        for key in keys[:-1]:
            at = at.setdefault(key, {})
        at[keys[-1]] = value
        (folder / file).write_text(json.dumps(config), "utf-8")

    return damage


def write(file: str, content: bytes) -> Damage:
    return lambda folder: (folder / file).write_bytes(content) and None  # type: ignore[func-returns-value]


def remove(file: str) -> Damage:
    return lambda folder: (folder / file).unlink()


def instead(file: str) -> Damage:
    """Replace a file by a folder."""

    def damage(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).mkdir()

    return damage


def loop(file: str) -> Damage:
    """Replace a file by a link to itself."""

    def damage(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).symlink_to(file)

    return damage


def cut(file: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: int(share * len(content))])

    return damage


def header(file: str, content: bytes) -> Damage:
    """Replace the header of a safetensors file."""

    def damage(folder: Path) -> None:
        original = (folder / file).read_bytes()
        size = int.from_bytes(original[:8], "little")
        data = len(content).to_bytes(8, "little") + content + original[8 + size :]
        (folder / file).write_bytes(data)

    return damage


def pickled(file: str, replaced: str) -> Damage:
    """Replace the weights by a pickle that would write a file."""

    def damage(folder: Path) -> None:
        (folder / replaced).unlink()
        proof = (folder.parent / "pickle-ran").as_posix()
        (folder / file).write_bytes(f"cbuiltins\nopen\n(S'{proof}'\nS'w'\ntR.".encode())

    return damage


def code(folder: Path) -> None:
    """Name code of the folder's own in its configuration."""
    put("config.json", "auto_map", value={"AutoModel": "evil.Evil", "AutoConfig": "evil.Config"})(
        folder
    )
    proof = (folder.parent / "code-ran").as_posix()
    (folder / "evil.py").write_text(f"open({proof!r}, 'w').close()\n", "utf-8")


def sae_damages() -> Iterator[tuple[str, Damage]]:
    for field in (
        "d_in",
        "d_sae",
        "k",
        "architecture",
        "normalize_activations",
        "metadata",
        "dtype",
    ):
        for value in BAD:
            yield f"{field} {value!r:.20}", put("cfg.json", field, value=value)
    for field in ("seed", "hook_name", "context_size", "model_name", "prepend_bos"):
        for value in (-1, float("nan"), 10**30, "three", [], {}, True):
            yield f"metadata.{field} {value!r:.20}", put("cfg.json", "metadata", field, value=value)
    weights = "sae_weights.safetensors"
    yield from _files("cfg.json")
    yield from _files(weights)
    yield "header of no JSON", header(weights, b"{" * 64)
    yield (
        "header of terabytes",
        header(
            weights,
            b'{"W_dec":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}',
        ),
    )
    yield "pickled weights", pickled("sae_weights.pt", weights)
    for scale in ('"x"', "-1", "NaN", "[]", "{"):
        yield f"scaler {scale}", _scaler(scale)


def _scaler(scale: str) -> Damage:
    def damage(folder: Path) -> None:
        put("cfg.json", "normalize_activations", value="expected_average_only_in")(folder)
        (folder / "activation_scaler.json").write_text(f'{{"scaling_factor": {scale}}}', "utf-8")

    return damage


def model_damages() -> Iterator[tuple[str, Damage]]:
    for field in (
        "hidden_size",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
        "model_type",
        "architectures",
        "intermediate_size",
    ):
        for value in (-1, 0, 1.5, 10**12, "three", [], {}):
            yield f"{field} {value!r:.20}", put("config.json", field, value=value)
    yield from _files("config.json")
    yield from _files("model.safetensors")
    yield from _files("tokenizer.json")
    yield "pickled weights", pickled("pytorch_model.bin", "model.safetensors")
    yield "code of its own", code


def _files(file: str) -> Iterator[tuple[str, Damage]]:
    yield f"{file} missing", remove(file)
    yield f"{file} empty", write(file, b"")
    yield f"{file} of NULs", write(file, b"\0" * 4096)
    yield f"{file} not UTF-8", write(file, b"\xff\xfe{\x80")
    yield f"{file} deep", write(file, DEEP.encode())
    yield f"{file} cut", cut(file, 0.6)
    yield f"{file} a folder", instead(file)
    yield f"{file} a loop", loop(file)


def make(folder: Path, kind: str, damage: Damage) -> tuple[Path, Path]:
    """Make a sound SAE folder and a sound model folder, damage one of them, and return both."""
    sae, model = folder / "sae", folder / "model"
    shutil.copytree(DEMO / "saes" / SAE, sae)
    shutil.copytree(DEMO / "models" / MODEL, model)
    damage(sae if kind == "sae" else model)
    return sae, model
