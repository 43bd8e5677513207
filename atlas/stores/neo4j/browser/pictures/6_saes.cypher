// title: The SAEs of the atlas
// question: Models, the sites that SAEs read, and which SAEs were compared; the first 50 SAEs by name.
MATCH (s:SAE)
WITH s
ORDER BY s.name
LIMIT 50
WITH collect(s) AS shown
UNWIND shown AS s
MATCH p = (s)-[:READS]->(:Site)-[:OF_MODEL]->(:Model)
RETURN p, COLLECT {
  MATCH q = (s)-[:COMPARED_WITH]->(t:SAE)
  WHERE t IN shown
  RETURN q
} AS compared
