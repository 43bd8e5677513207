// title: Chains of effects
// question: Which features change a feature of a later SAE that changes one of a third SAE?
// topic: Logits and effects
// param sae_a (SAE, such as 'tiny-a-l1-s0'): the SAE at the first site
// param sae_b (SAE, such as 'tiny-a-l1-s1'): the SAE between
// param sae_c (SAE, such as 'tiny-a-l1-wide'): the SAE at the last site
// param limit (int64, default 20): number of rows at most
// answer: second, third, first_mean, second_mean
// column first (string): feature of the first SAE
// column second (string): its target
// column third (string): the target of the second
// column first_token (string): token on which the first is active most often
// column second_token (string): the same for the second
// column third_token (string): the same for the third
// column first_mean (double): change of the second as the first is ablated, a sum over tokens
// column second_mean (double): the same of the third as the second is ablated
// column direct (bool): the third is a target of the first, too
MATCH (a:Feature {sae: 'tiny-a-l1-s0' /* $sae_a */})-[x:AFFECTS]->(b:Feature)
WHERE b.sae = 'tiny-a-l1-s1' /* $sae_b */
WITH a, x, b
MATCH (b)-[y:AFFECTS]->(c:Feature)
WHERE c.sae = 'tiny-a-l1-wide' /* $sae_c */
RETURN a.id AS first, b.id AS second, c.id AS third, a.top_token AS first_token,
       b.top_token AS second_token, c.top_token AS third_token,
       x.mean AS first_mean, y.mean AS second_mean,
       EXISTS { MATCH (a)-[:AFFECTS]->(c) } AS direct
ORDER BY abs(x.mean) DESC, abs(y.mean) DESC, a.idx, b.idx, c.idx
LIMIT 20 /* $limit */
