"""State changes: what an edit of features changes in all features at its site and at later sites."""
