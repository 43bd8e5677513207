"""Feature matching between two SAEs by graph structure, with baselines."""
