// title: Conserved edges
// question: Which pairs are active together in one SAE, and their counterparts in another too?
// topic: Counterparts in other SAEs
// param sae_a (SAE, such as 'tiny-a-l1-s0'): name of the one SAE
// param sae_b (SAE, such as 'tiny-a-l1-s1'): name of the other SAE
// param max_q (double, default 0.05): largest q of a counterpart; 1.0 includes those not tested
// param min_count (int64, default 3): only edges of the one SAE of at least N tokens
// param limit (int64, default 100): number of rows at most
// matched: sae_a, sae_b
// answer: one_b, two_b
// column one_a (string): the one feature of the pair
// column two_a (string): the other feature of the pair
// column tokens (string[]): the tokens these two are active on most often
// column one_b (string): the counterpart of the one in the other SAE
// column two_b (string): the counterpart of the other there
// column weight_a (double): weight of the edge in the one SAE
// column weight_b (double): weight of the edge in the other SAE
// column count_a (int64): tokens of the edge in the one SAE
// column count_b (int64): tokens of the edge in the other SAE; the same text gives both
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae_a */})<-[:IN_SAE]-(a:Feature)
MATCH (a)-[m:MATCHES]-(c:Feature)-[:IN_SAE]->(o:SAE {name: 'tiny-a-l1-s1' /* $sae_b */})
WITH a, c, o, m, 0.05 /* $max_q */ AS max_q
WHERE m.one_to_one = true AND coalesce(m.q, 1.0) <= max_q
WITH a, c, o, max_q
MATCH (a)-[r:CO_ACTIVATES]->(b:Feature)
WHERE r.count >= 3 /* $min_count */
WITH a, b, c, o, r, max_q
MATCH (b)-[n:MATCHES]-(d:Feature)-[:IN_SAE]->(o)
WHERE n.one_to_one = true AND coalesce(n.q, 1.0) <= max_q
WITH a, b, c, d, r
MATCH (c)-[t:CO_ACTIVATES]-(d)
RETURN a.id AS one_a, b.id AS two_a, [a.top_token, b.top_token] AS tokens, c.id AS one_b,
       d.id AS two_b, r.weight AS weight_a, t.weight AS weight_b, r.count AS count_a,
       t.count AS count_b
ORDER BY weight_a DESC, a.idx, b.idx
LIMIT 100 /* $limit */
