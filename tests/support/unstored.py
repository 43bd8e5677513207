"""The provenance of a result that no part stores."""

import json

import atlas


def assert_unstored_provenance(result, path, *, sae, settings):
    """Assert that a result records its SAE, its settings and its atlas, but neither hash nor time."""
    found = result.provenance
    record = json.loads((path / "atlas.json").read_text())
    manifest = json.loads((path / "parts" / "sae" / sae / "manifest.json").read_text())
    assert (found["hash"], found["created"]) == (None, None)
    assert found["version"] == atlas.__version__
    assert found["seed"] == 0
    assert found["saes"] == {sae: manifest["sources"]["sae"]["weights"]}
    assert found["atlas"] == {"name": record["name"], "uuid": record["uuid"]}
    assert found["text"]["digest"] == record["corpus"]["id"]
    assert settings.items() <= found["settings"].items()
    assert result.saes == (sae,)
