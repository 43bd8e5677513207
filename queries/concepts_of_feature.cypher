// title: Concepts of a feature
// question: Which classes of words does this feature separate?
// topic: Concepts
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param limit (int64, default 20): number of rows at most
// answer: auroc_held_out, p_max, q
// column concept (string): the concept, as `set/label`
// column positive (string): label of its positive class
// column negative (string): label of its negative class
// column direction (string): class on which the activation is higher
// column t (double): Welch's t
// column auroc_held_out (double): AUROC on held-out words
// column effect (double): Hedges' g
// column p_max (double): family-wise p
// column q (double): false discovery rate
// column words (string): id of the concept, with the hash of its words
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[e:SEPARATES]->(c:Concept)
RETURN c.name AS concept, c.positive AS positive, c.negative AS negative,
       e.direction AS direction, e.t AS t, e.auroc_held_out AS auroc_held_out,
       e.effect AS effect, e.p_max AS p_max, e.q AS q, c.id AS words
ORDER BY auroc_held_out DESC, concept, words
LIMIT 20 /* $limit */
