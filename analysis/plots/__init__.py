"""Pictures of what an atlas holds: one description each, drawn as PNG, SVG or interactive HTML."""
