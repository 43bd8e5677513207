"""Spectra of weight matrices: singular values of SAEs and of the models they read."""
