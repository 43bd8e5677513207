"""The causal check: ablation of the best features of a concept, and what later probes lose."""
