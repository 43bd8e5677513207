"""The features that are active on a typed text: ``atlas fire``."""
