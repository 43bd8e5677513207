"""Matches: features of two SAEs that are active on the same tokens, compared with nulls."""
