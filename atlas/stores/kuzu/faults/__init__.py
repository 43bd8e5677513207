"""Faults of kuzu: the queries that it answers wrongly, each rewritten or refused."""
