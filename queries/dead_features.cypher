// title: Dead features
// question: Which features of an SAE were never active in the tokens counted?
// topic: Features of an SAE
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param limit (int64, default 100): number of rows at most
// column feature (string): the feature
// column idx (int64): its index in the SAE
// column neuronpedia (string): address of its page at Neuronpedia, if any
MATCH (f:Feature)-[:IN_SAE]->(s:SAE {name: 'tiny-a-l1-s0' /* $sae */})
WHERE f.dead = true
RETURN f.id AS feature, f.idx AS idx, f.neuronpedia AS neuronpedia
ORDER BY idx
LIMIT 100 /* $limit */
