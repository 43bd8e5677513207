// title: Counterparts that share a concept
// question: Which features of a concept have a counterpart in another SAE that separates it too?
// topic: Concepts
// param sae_a (SAE, such as 'tiny-a-l1-s0'): the SAE
// param sae_b (SAE, such as 'tiny-a-l1-s1'): the other SAE
// param concept (concept, default ''): only this concept, as `set/label`; '' for all
// param limit (int64, default 20): number of rows at most
// matched: sae_a, sae_b
// answer: feature, counterpart, counterpart_auroc
// column concept (string): the concept
// column feature (string): the feature of the one SAE
// column counterpart (string): its one-to-one match in the other SAE
// column pearson (double): correlation of both activations over the text
// column token_document_null_pearson (double): best of either, shuffled in document; null: no draws
// column token_document_q (double): small, where `q` is: more than that null; null: not tested
// column q (double): q of the match: small is a match; null: not tested
// column auroc (double): held-out AUROC of the feature
// column counterpart_auroc (double): held-out AUROC of the counterpart; null: it has no edge
// column same_direction (bool): both are higher on the same class; null: no edge
// column words (string): id of the concept, with the hash of its words
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae_a */})-[e:SEPARATES]->(c:Concept)
WHERE '' /* $concept */ IN ['', c.name]
MATCH (f)-[m:MATCHES]-(g:Feature {sae: 'tiny-a-l1-s1' /* $sae_b */})
WHERE m.one_to_one = true
WITH f, e, c, m, g
OPTIONAL MATCH (g)-[d:SEPARATES]->(c)
RETURN c.name AS concept, f.id AS feature, g.id AS counterpart, m.pearson AS pearson,
       m.token_document_null_pearson AS token_document_null_pearson,
       m.token_document_q AS token_document_q, m.q AS q, e.auroc_held_out AS auroc,
       d.auroc_held_out AS counterpart_auroc, d.direction = e.direction AS same_direction,
       c.id AS words
ORDER BY concept, auroc DESC, f.idx, g.idx, words
LIMIT 20 /* $limit */
