"""Features of one SAE found in another by graph structure, beside baselines."""
