"""What features do: change of the loss and of later features when a feature is ablated."""
