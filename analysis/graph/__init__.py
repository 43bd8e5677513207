"""Co-activation graphs: statistics, distributions and growth, beside nulls."""
