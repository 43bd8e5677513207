"""The numbers of a feature: values of its node, next to their controls and to the other features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas import schema

if TYPE_CHECKING:
    from atlas.features.open_atlas import OpenAtlas

__all__ = ["FeatureNumber", "feature_numbers"]

#: Numbers that have controls: the properties that hold them, each with what it is measured on.
_CONTROLS: Mapping[str, Mapping[str, str]] = {
    "degree": {"partners_expected": "null graphs"},
    "example_agreement": {"example_agreement_control": "other features"},
    "detection": {"detection_control": "other features"},
    "logit_agreement": {
        "logit_agreement_control": "other features",
        "logit_agreement_p": "p, other features",
    },
    "effect_kl_with_later": {
        "effect_kl_random": "random directions",
        "effect_kl_other": "other features",
        "effect_q": "q, random directions",
    },
}

#: Properties that are controls, or that the heading, the tables or only plots show.
_HIDDEN = frozenset(
    (
        "id",
        "sae",
        "idx",
        "neuronpedia",
        "dead",
        "map_x",
        "map_y",
        "top_token",
        "community",
        "component",
    )
) | {name for controls in _CONTROLS.values() for name in controls}

#: A sum that has a control, unlike its terms.
_SUM, _TERMS = "effect_kl_with_later", ("effect_kl", "effect_kl_later")


@dataclass(frozen=True)
class FeatureNumber:
    """A number of a feature.

    Parameters
    ----------
    name
        Name of the property.
    value
        Its value.
    unit, meaning
        As in the schema.
    controls
        Values of the same number under its controls, by what they are measured on.
    share_below
        Share of the live features of the SAE with a smaller value; None if none has a value.
    """

    name: str
    value: float
    unit: str
    meaning: str
    controls: Mapping[str, float]
    share_below: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the number as plain values, for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "meaning": self.meaning,
            "controls": dict(self.controls),
            "share_below": self.share_below,
        }


def feature_numbers(
    atlas: "OpenAtlas", sae: str, properties: Mapping[str, Any]
) -> list[FeatureNumber]:
    """Return the numbers of a feature that are stored, in the order of the schema.

    Parameters
    ----------
    atlas
        An open atlas.
    sae
        Name of the SAE.
    properties
        Properties of the feature by name.
    """
    features = atlas.features(sae)
    found = []
    for one in schema.table("Feature").properties:
        value = properties.get(one.name)
        if one.name in _HIDDEN or value is None or isinstance(value, str | bool):
            continue
        column = features[one.name] if one.name in features.column_names else None
        below = None if column is None else _share_below(column, features["dead"], value)
        controls = _controls(one.name, properties)
        found.append(FeatureNumber(one.name, value, one.unit, one.meaning, controls, below))
        if one.name == _TERMS[-1] and properties.get(_TERMS[0]) is not None:
            total = sum(properties[name] for name in _TERMS)
            meaning = "`effect_kl` + `effect_kl_later`"
            controls = _controls(_SUM, properties)
            found.append(FeatureNumber(_SUM, total, one.unit, meaning, controls, None))
    return found


def _controls(name: str, properties: Mapping[str, Any]) -> dict[str, float]:
    names = _CONTROLS.get(name, {})
    return {
        what: properties[control]
        for control, what in names.items()
        if properties.get(control) is not None
    }


def _share_below(column: Any, dead: Any, value: float) -> float | None:
    """Return the share of live features with a smaller value, among those that have one."""
    import numpy as np
    import pyarrow.compute as pc

    live = pc.or_kleene(pc.invert(dead), pc.is_null(dead))
    # Neither `fill_null` nor `less`: a scalar of Arrow imports pandas.
    values = np.from_dlpack(column.filter(live).drop_null().combine_chunks())
    return float((values.astype(np.float64) < value).mean()) if len(values) else None
