// title: Strongest edges
// question: Which pairs of features of an SAE are most strongly active together?
// topic: Co-activation
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param by (string, default 'weight', or 'count', 'cosine', 'jaccard', 'phi', 'lift'): the order
// param min_count (int64, default 10): only edges of at least N tokens
// param limit (int64, default 20): number of rows at most
// column feature_a (string): the one feature
// column token_a (string): the token it is active on most often
// column feature_b (string): the other feature
// column token_b (string): the token that one is active on most often
// column weight (double): mean cosine of both activations around the tokens of `count`
// column count (int64): tokens among whose most active features both are
// column expected (double): `count` expected by chance; a `count` near it is no evidence
// column cosine (double): cosine of both activations over all tokens
// column joint_count (int64): tokens on which both are active
// column jaccard (double): `joint_count` / tokens on which either is active
// column phi (double): phi coefficient of being active; null where one always is, and then last
// column lift (double): `joint_count` / its expected value; unreliable where that is below a few
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[r:CO_ACTIVATES]->(g:Feature)
WHERE r.count >= 10 /* $min_count */
WITH f, g, r, CASE 'weight' /* $by */
       WHEN 'weight' THEN r.weight WHEN 'count' THEN 1.0 * r.count WHEN 'cosine' THEN r.cosine
       WHEN 'jaccard' THEN r.jaccard WHEN 'phi' THEN coalesce(r.phi, -2.0)
       WHEN 'lift' THEN r.lift END AS value
WHERE value IS NOT NULL
RETURN f.id AS feature_a, f.top_token AS token_a, g.id AS feature_b, g.top_token AS token_b,
       r.weight AS weight, r.count AS count, r.expected AS expected, r.cosine AS cosine,
       r.joint_count AS joint_count, r.jaccard AS jaccard, r.phi AS phi, r.lift AS lift
ORDER BY value DESC, f.idx, g.idx
LIMIT 20 /* $limit */
