"""Codes: the sparse activations of SAEs, stored shard by shard."""
