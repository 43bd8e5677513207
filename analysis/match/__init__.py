"""Plot of the matches of two SAEs."""
