"""The demo: two tiny models, six SAEs and a text, as package data."""
