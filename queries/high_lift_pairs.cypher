// title: Pairs of high lift on few tokens
// question: Which pairs have a high lift from only a few tokens, which may be due to chance?
// topic: Co-activation
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param min_lift (double, default 5.0): smallest lift
// param max_joint (int64, default 10): most tokens on which both are active
// param limit (int64, default 20): number of rows at most
// answer: lift, joint_count, expected_joint
// column feature_a (string): the one feature
// column token_a (string): the token it is active on most often
// column feature_b (string): the other feature
// column token_b (string): the token that one is active on most often
// column lift (double): `joint_count` / `expected_joint`
// column joint_count (int64): tokens on which both are active: the basis of the lift
// column expected_joint (double): the same by chance; far below 1, one shared token is a high lift
// column active_a (int64): tokens on which the one is active
// column active_b (int64): tokens on which the other is active
// column phi (double): phi coefficient of being active, less inflated by few tokens than lift
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[r:CO_ACTIVATES]->(g:Feature)
WHERE r.lift >= 5.0 /* $min_lift */ AND r.joint_count <= 10 /* $max_joint */
RETURN f.id AS feature_a, f.top_token AS token_a, g.id AS feature_b, g.top_token AS token_b,
       r.lift AS lift, r.joint_count AS joint_count,
       1.0 * f.active_tokens * g.active_tokens / s.tokens AS expected_joint,
       f.active_tokens AS active_a, g.active_tokens AS active_b, r.phi AS phi
ORDER BY lift DESC, joint_count DESC, f.idx, g.idx
LIMIT 20 /* $limit */
