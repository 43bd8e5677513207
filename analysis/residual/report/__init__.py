"""The report on maps, residual SAEs and their controls."""
