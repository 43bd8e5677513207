"""Co-activation graphs: what their shape says, and what of it chance would give."""
