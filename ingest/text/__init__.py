"""Text: files and data sets, cut into documents and tokens."""
