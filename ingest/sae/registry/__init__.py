"""The SAEs that sae-lens knows: their list, short names, suggestions, and the cache of the hub."""
