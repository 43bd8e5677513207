"""Language models: loading, sites, activations, identity."""
