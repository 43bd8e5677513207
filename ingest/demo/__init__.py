"""The demo: two tiny models, seven SAEs and a text, as package data."""
