// title: Neighbours of a feature
// question: With which features of its SAE is this feature active, by weight or another measure?
// topic: Co-activation
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param by (string, default 'weight', or 'count', 'cosine', 'jaccard', 'phi', 'lift'): the order
// param min_count (int64, default 1): only edges of at least N tokens
// param limit (int64, default 20): number of rows at most
// column feature (string): the other feature
// column top_token (string): the token it is active on most often
// column weight (double): mean cosine of both activations around the tokens of `count`
// column count (int64): tokens among whose most active features both are
// column expected (double): `count` expected by chance; a `count` near it is no evidence
// column cosine (double): cosine of both activations over all tokens
// column joint_count (int64): tokens on which both are active
// column jaccard (double): `joint_count` / tokens on which either is active
// column phi (double): phi coefficient of being active; null where one always is, and then last
// column lift (double): `joint_count` / its expected value; unreliable where that is below a few
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:CO_ACTIVATES]-(g:Feature)
WHERE r.count >= 1 /* $min_count */
WITH g, r, CASE 'weight' /* $by */
       WHEN 'weight' THEN r.weight WHEN 'count' THEN 1.0 * r.count WHEN 'cosine' THEN r.cosine
       WHEN 'jaccard' THEN r.jaccard WHEN 'phi' THEN coalesce(r.phi, -2.0)
       WHEN 'lift' THEN r.lift END AS value
WHERE value IS NOT NULL
RETURN g.id AS feature, g.top_token AS top_token, r.weight AS weight, r.count AS count,
       r.expected AS expected, r.cosine AS cosine, r.joint_count AS joint_count,
       r.jaccard AS jaccard, r.phi AS phi, r.lift AS lift
ORDER BY value DESC, g.idx
LIMIT 20 /* $limit */
