// title: The SAEs of the atlas
// question: Models, the sites that SAEs read, and which SAEs were compared; 50 SAEs at most.
MATCH p = (:Model)<-[:OF_MODEL]-(:Site)<-[:READS]-(s:SAE)
RETURN p
ORDER BY s.name
LIMIT 50
