"""What commands print: text, verdicts, JSON and tables, cut to one screen on a terminal."""
