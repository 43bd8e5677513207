"""A read-only server of an atlas for assistants, by the Model Context Protocol: ``atlas mcp``."""
