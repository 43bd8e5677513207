// title: Active together, not near in direction
// question: Which features are active together, though their decoder directions are not near?
// param sae (SAE, such as 'tiny-a-l1-s0'): the SAE, with nearest directions
// param min_count (int64, default 1): only pairs of at least N tokens
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature of lower index
// column other (string): the feature that is active with it
// column weight (double): mean cosine of both activations around the tokens of `count`
// column count (int64): tokens among whose most active features both are
// column lift (double): tokens with both active / its expected value
// column bound (double): upper bound of the cosine of both decoder rows, from the stored edges
// column top_token (string): the token the feature is active on most often
// column other_top_token (string): the token the other is active on most often
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})-[c:CO_ACTIVATES]->(g:Feature)
WHERE c.count >= 1 /* $min_count */ AND NOT EXISTS { MATCH (f)-[:NEAR_DIRECTION]-(g) }
WITH f, g, c
MATCH (f)-[r:NEAR_DIRECTION]->(x:Feature)
WHERE x.sae = f.sae
WITH f, g, c, min(r.cosine) AS bound_f
MATCH (g)-[s:NEAR_DIRECTION]->(y:Feature)
WHERE y.sae = g.sae
WITH f, g, c, bound_f, min(s.cosine) AS bound_g
RETURN f.id AS feature, g.id AS other, c.weight AS weight, c.count AS count, c.lift AS lift,
       CASE WHEN bound_f < bound_g THEN bound_f ELSE bound_g END AS bound,
       f.top_token AS top_token, g.top_token AS other_top_token
ORDER BY weight DESC, count DESC, f.idx, g.idx
LIMIT 20 /* $limit */
