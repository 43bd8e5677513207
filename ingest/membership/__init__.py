"""Which features are among the most active of each token: what the edges CO_ACTIVATES count, and its nulls."""
