"""An SAE of an atlas as an object: ``atlas["A"]``."""

from typing import TYPE_CHECKING, Any, Literal

from atlas.cli.output.drawn_text import drawn_text
from atlas.errors import UnknownName
from atlas.plugins import find_reader
from atlas.safe_text import shown

if TYPE_CHECKING:
    import igraph
    import networkx
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from scipy import sparse

    from atlas.features.card import FeatureCard
    from atlas.features.open_atlas import OpenAtlas

__all__ = ["SaeView"]


class SaeView:
    """An SAE of an atlas.

    Create one with ``atlas["A"]``.

    Parameters
    ----------
    atlas
        The open atlas.
    name
        Name of the SAE.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.

    Examples
    --------
    >>> from atlas import Atlas
    >>> sae = Atlas("demo.atlas")["tiny-a-l1-s0"]
    >>> sae[7].id
    'tiny-a-l1-s0/7'
    >>> len(sae.features.nlargest(5, "frequency"))
    5
    >>> sae.codes.shape[1], sae.decoder.shape
    (512, (512, 96))
    >>> sae.matches("tiny-a-l1-s1").query("one_to_one")["mutual"].dtype
    dtype('bool')
    """

    def __init__(self, atlas: "OpenAtlas", name: str) -> None:
        if name not in atlas.saes:
            raise UnknownName("SAE", name, known=atlas.saes)
        self.atlas = atlas
        self.name = name

    def __getitem__(self, index: int) -> "FeatureCard":
        """Return the card of a feature by its index, as ``atlas["A/561"]`` does.

        Raises
        ------
        UnknownName
            If the SAE has no such feature.
        """
        from atlas.features.card import feature_card

        return feature_card(self.atlas, f"{self.name}/{index}")

    # Otherwise Python would iterate by index, over cards of all features and beyond the last.
    __iter__ = None

    @property
    def properties(self) -> dict[str, Any]:
        """Its properties that are not null, as in the table SAE."""
        row = next(r for r in self.atlas.table("SAE").to_pylist() if r["name"] == self.name)
        return {name: value for name, value in row.items() if value is not None}

    @property
    def features(self) -> "pd.DataFrame":
        """Its features, one row each, sorted by index.

        Columns without a value for any feature are omitted, such as those of studies that did not
        run on this SAE. ``atlas.frame("Feature", sae="A")`` has all columns of the schema.
        """
        frame: pd.DataFrame = self.atlas.features(self.name).to_pandas()
        return frame.dropna(axis="columns", how="all")

    @property
    def examples(self) -> "pd.DataFrame":
        """Text excerpts on which its features are active."""
        frame: pd.DataFrame = self.atlas.table("Example", sae=self.name).to_pandas()
        return frame

    @property
    def codes(self) -> "sparse.csr_array":
        """Its stored activations, SciPy CSR of shape (tokens, d_sae), in the order of the corpus."""
        matrix: sparse.csr_array = find_reader("codes")(self.atlas, self.name)
        return matrix

    @property
    def decoder(self) -> "NDArray[np.float32] | None":
        """Its decoder vectors, (d_sae, d_in); None if it has no decoder matrix."""
        vectors: NDArray[np.float32] | None = find_reader("decoder")(self.atlas, self.name)
        return vectors

    def graph(
        self, *, kind: Literal["igraph", "networkx"] = "igraph", min_count: int = 1
    ) -> "igraph.Graph | networkx.Graph[int]":
        """Return its co-activation graph, as ``Atlas.graph`` does."""
        return self.atlas.graph(self.name, kind=kind, min_count=min_count)

    def matches(self, other: "str | SaeView") -> "pd.DataFrame":
        """Return its matches with the features of another SAE, best first.

        Parameters
        ----------
        other
            The other SAE, or its name.

        Returns
        -------
        pandas.DataFrame
            ``feature`` of this SAE, ``match`` of the other, and the properties of MATCHES. The pairs
            of properties named after the direction, such as ``rank_ab``, refer to the SAE whose
            name sorts first as a.

        Raises
        ------
        UnknownName
            If the atlas has no such SAE.
        BadInput
            If both SAEs were never matched, so that the matches are unknown.
        """
        if isinstance(other, SaeView):
            other = other.name
        if other not in self.atlas.saes:
            raise UnknownName("SAE", other, known=self.atlas.saes)
        self.atlas.check_matched(self.name, other)
        # Matches are stored from the SAE whose name sorts first.
        frame: pd.DataFrame = self.atlas.table("MATCHES", sae=min(self.name, other)).to_pandas()
        ends = ("source", "target") if self.name < other else ("target", "source")
        frame = frame[frame[ends[1]].str.rsplit("/", n=1).str[0] == other]
        frame = frame[frame[ends[0]].str.rsplit("/", n=1).str[0] == self.name]
        frame = frame.rename(columns={ends[0]: "feature", ends[1]: "match"})
        columns = [
            "feature",
            "match",
            *(c for c in frame if c not in ("feature", "match")),
        ]
        return frame[columns].sort_values("pearson", ascending=False, ignore_index=True)

    def __str__(self) -> str:
        from atlas.features.overview import print_sae

        return drawn_text(lambda: print_sae(self.atlas, self.name))

    def __repr__(self) -> str:
        row = self.properties
        numbers = [f"{name} {row[name]:.3g}" for name in ("l0", "fvu", "dead_share") if name in row]
        parts = [f"{row['d_sae']:,} features at {row['hook']} of {row['model']}", *numbers]
        return shown(f"<SAE {self.name}: {', '.join(parts)}>")

    def _repr_html_(self) -> str:
        import pandas as pd

        rows = {k: shown(v) if isinstance(v, str) else v for k, v in self.properties.items()}
        html: str = pd.Series(rows).to_frame(shown(self.name)).to_html(escape=True)
        return html
