"""Settings of the study of topology."""

from dataclasses import dataclass

from atlas.studies.settings import check_settings, documented, setting

__all__ = ["TopologySettings"]


@documented
@dataclass(frozen=True)
class TopologySettings:
    """Settings of ``measure_topology``."""

    landmarks: int = setting(
        100, "Directions on which H0 and H1 are computed, far from each other.", least=4
    )
    void_landmarks: int = setting(
        50, "Directions on which H2 is computed; its cost grows with their fourth power.", least=5
    )
    repeats: int = setting(3, "Sets of landmarks, each from another random start.", least=1)
    draws: int = setting(39, "Draws from each null for persistent homology.", least=19, paper=199)
    points: int = setting(500, "Random directions of which Mapper graphs are computed.", least=10)
    cubes: tuple[int, ...] = setting(
        (5, 8), "Intervals of a Mapper cover in each of two dimensions.", least=1, most=1000
    )
    overlap: tuple[float, ...] = setting(
        (0.3, 0.5),
        "Overlap of neighbouring intervals, as a share of their length.",
        above=0,
        below=1,
    )
    eps: tuple[float, ...] = setting(
        (1.0, 2.0),
        "Angle of DBSCAN, as a multiple of the median angle within which a core point has its neighbours.",
        above=0,
    )
    min_samples: int = setting(3, "Directions within this angle that make a core point.", least=1)
    mapper_draws: int = setting(20, "Draws from each null for Mapper graphs.", least=19, paper=199)
    subsamples: int = setting(
        5, "Random samples of 80% of the directions that measure the stability of a graph.", least=1
    )
    seed: int = setting(0, "Seed of landmarks, samples and draws.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
