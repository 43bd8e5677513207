"""What Neo4j Browser needs for an atlas: a style sheet, pictures, and a page of links."""
