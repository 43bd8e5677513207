"""The demo: two tiny models, six SAEs and a text one of the models wrote, as package data."""
