// title: Tokens that a feature promotes
// question: Which tokens does this feature make more likely directly, and was that measured?
// topic: Logits and effects
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param limit (int64, default 10): number of rows at most
// column rank (int64): 0 is the token with the highest value
// column token (string): text of the token, including a leading space
// column value (double): logit that one unit of activation adds directly
// column ablated_change (double): change of its log-probability by ablation; null if not sampled
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:PROMOTES]->(t:Token)
RETURN r.rank AS rank, t.text AS token, r.value AS value, r.ablated_change AS ablated_change
ORDER BY rank
LIMIT 10 /* $limit */
