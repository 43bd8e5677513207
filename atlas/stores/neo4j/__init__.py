"""The Neo4j store: connection, shared nodes, staged swaps and files for neo4j-admin."""
