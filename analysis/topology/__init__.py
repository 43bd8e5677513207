"""Topology of sets of directions: persistent homology and Mapper graphs, compared with nulls."""
