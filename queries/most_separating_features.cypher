// title: Most separating features
// question: Which features of an SAE separate any concept best on held-out words?
// topic: Concepts
// param sae (SAE, such as 'tiny-a-l1-s0'): the SAE
// param limit (int64, default 20): number of rows at most
// answer: concept, auroc_held_out, p_max
// column feature (string): the feature, as `sae/index`
// column top_token (string): token on which it is active most often
// column frequency (double): share of the tokens of the text on which it is active
// column concept (string): the concept, as `set/label`
// column direction (string): class on which the activation is higher
// column auroc_held_out (double): AUROC on held-out words
// column effect (double): Hedges' g
// column p_max (double): family-wise p
// column words (string): id of the concept, with the hash of its words
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})-[e:SEPARATES]->(c:Concept)
RETURN f.id AS feature, f.top_token AS top_token, f.frequency AS frequency, c.name AS concept,
       e.direction AS direction, e.auroc_held_out AS auroc_held_out, e.effect AS effect,
       e.p_max AS p_max, c.id AS words
ORDER BY auroc_held_out DESC, f.idx, words
LIMIT 20 /* $limit */
