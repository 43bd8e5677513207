// title: Features without a counterpart
// question: Which live features of an SAE have no counterpart in another SAE, and why?
// topic: Counterparts in other SAEs
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param other (SAE, such as 'tiny-a-l1-s1'): name of the SAE that might have counterparts
// param max_q (double, default 0.05): largest q of a counterpart; 1.0 includes those not tested
// param limit (int64, default 100): number of rows at most
// matched: sae, other
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column active_tokens (int64): tokens on which it is active; on few, a match is hard to show
// column reason (string): 'no match', 'not one to one', 'not tested' (no q) or 'by chance' (q high)
// column matches (int64): its matches in the other SAE; none if too few tokens or filtered out
// column best_pearson (double): correlation with the best of them; null: it has none
// column q (double): q of its one-to-one match; null: it has none, or it was not tested
MATCH (f:Feature)-[:IN_SAE]->(s:SAE {name: 'tiny-a-l1-s0' /* $sae */})
MATCH (s)-[:COMPARED_WITH]-(o:SAE {name: 'tiny-a-l1-s1' /* $other */})
WHERE f.active_tokens > 0
WITH f, o.name AS other
OPTIONAL MATCH (f)-[m:MATCHES]-(g:Feature {sae: other})
WITH f, count(g) AS matches, max(m.pearson) AS best_pearson,
     max(CASE WHEN m.one_to_one = true THEN 1 ELSE 0 END) AS partners,
     min(CASE WHEN m.one_to_one = true THEN m.q END) AS q
WHERE partners = 0 OR coalesce(q, 1.0) > 0.05 /* $max_q */
RETURN f.id AS feature, f.top_token AS top_token, f.active_tokens AS active_tokens,
       CASE WHEN matches = 0 THEN 'no match' WHEN partners = 0 THEN 'not one to one'
            WHEN q IS NULL THEN 'not tested' ELSE 'by chance' END AS reason,
       matches, best_pearson, q
ORDER BY active_tokens DESC, f.idx
LIMIT 100 /* $limit */
