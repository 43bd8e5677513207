// title: Common neighbours of two features
// question: With which features are both of these active together?
// topic: Co-activation
// param feature_a (feature, such as 'tiny-a-l1-s0/7'): the one feature, as `sae/index`
// param feature_b (feature, such as 'tiny-a-l1-s0/1'): another feature of the same SAE
// param limit (int64, default 20): number of rows at most
// column neighbour (string): the feature that both are active with
// column top_token (string): the token it is active on most often
// column weight_a (double): weight of its edge to the one feature
// column weight_b (double): weight of its edge to the other; the smaller of both gives the order
// column count_a (int64): tokens of its edge to the one feature
// column count_b (int64): tokens of its edge to the other
MATCH (a:Feature {id: 'tiny-a-l1-s0/7' /* $feature_a */})-[ra:CO_ACTIVATES]-(n:Feature)
MATCH (n)-[rb:CO_ACTIVATES]-(b:Feature {id: 'tiny-a-l1-s0/1' /* $feature_b */})
WITH n, ra, rb, CASE WHEN ra.weight < rb.weight THEN ra.weight ELSE rb.weight END AS least
RETURN n.id AS neighbour, n.top_token AS top_token, ra.weight AS weight_a, rb.weight AS weight_b,
       ra.count AS count_a, rb.count AS count_b
ORDER BY least DESC, n.idx
LIMIT 20 /* $limit */
