"""The kuzu store: the file, its build and updates, and the faults of its engine that queries avoid."""
