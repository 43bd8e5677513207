// title: Chain of counterparts over three SAEs
// question: Do one-to-one matches over a second SAE lead to the same feature as the direct match?
// topic: Counterparts in other SAEs
// param sae_a (SAE, such as 'tiny-a-l1-s0'): name of the one SAE
// param sae_b (SAE, such as 'tiny-a-l1-s1'): name of the next SAE
// param sae_c (SAE, such as 'tiny-a-l1-wide'): name of the third SAE
// param limit (int64, default 100): number of rows at most
// matched: sae_a, sae_b
// matched: sae_b, sae_c
// answer: feature_c, direct, closes
// column feature_a (string): the feature of the one SAE
// column token_a (string): the token it is active on most often
// column feature_b (string): its counterpart in the next
// column feature_c (string): the counterpart of that in the third
// column token_c (string): the token that one is active on most often
// column direct (string): the counterpart of the first in the third; null if none, or not matched
// column closes (bool): whether `direct` is `feature_c`
// column pearson_ab (double): correlation of the first step
// column pearson_bc (double): correlation of the second step
// column pearson_ac (double): correlation with `direct`; null as there
MATCH (x:SAE {name: 'tiny-a-l1-s0' /* $sae_a */})<-[:IN_SAE]-(a:Feature)
MATCH (a)-[ab:MATCHES]-(b:Feature)-[:IN_SAE]->(y:SAE {name: 'tiny-a-l1-s1' /* $sae_b */})
MATCH (b)-[bc:MATCHES]-(c:Feature)-[:IN_SAE]->(z:SAE {name: 'tiny-a-l1-wide' /* $sae_c */})
WHERE ab.one_to_one = true AND bc.one_to_one = true
OPTIONAL MATCH (a)-[ac:MATCHES]-(d:Feature)-[:IN_SAE]->(z)
WHERE ac.one_to_one = true
RETURN a.id AS feature_a, a.top_token AS token_a, b.id AS feature_b, c.id AS feature_c,
       c.top_token AS token_c, d.id AS direct, coalesce(d.id = c.id, false) AS closes,
       ab.pearson AS pearson_ab, bc.pearson AS pearson_bc, ac.pearson AS pearson_ac
ORDER BY pearson_ab DESC, pearson_bc DESC, a.idx, c.idx
LIMIT 100 /* $limit */
