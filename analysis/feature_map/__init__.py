"""Maps of features in two dimensions, and the nearest features by direction."""
