"""How easily features are described by their tokens: marks that need no judge, with controls."""
