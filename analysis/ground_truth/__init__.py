"""Recovery of known features by the SAEs of a synthetic model."""
