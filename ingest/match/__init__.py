"""Matching: which features of two SAEs are active on the same tokens, and whether chance would do as well."""
