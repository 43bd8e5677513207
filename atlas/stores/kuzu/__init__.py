"""The kuzu store: the file, its build and updates."""
