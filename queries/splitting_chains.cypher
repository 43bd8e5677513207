// title: Splitting over three widths
// question: Which features split into features of a wider SAE that split again in a third?
// topic: Splitting
// param sae_a (SAE, such as 'tiny-a-l1-s1'): the narrowest SAE
// param sae_b (SAE, such as 'tiny-a-l1-s0'): the SAE between
// param sae_c (SAE, such as 'tiny-a-l1-wide'): the widest SAE
// param limit (int64, default 20): number of rows at most
// answer: second, third, first_given_second, second_given_third
// column first (string): feature of the narrowest SAE
// column second (string): its child
// column third (string): the child of the child
// column first_token (string): token on which the first is active most often
// column second_token (string): the same for the second
// column third_token (string): the same for the third
// column first_given_second (double): share of the second's tokens on which the first is active
// column second_given_third (double): share of the third's tokens on which the second is active
// column direct (bool): the first is a parent of the third, too
MATCH (a:Feature {sae: 'tiny-a-l1-s1' /* $sae_a */})-[x:SPLITS_INTO]->(b:Feature)
WHERE b.sae = 'tiny-a-l1-s0' /* $sae_b */
WITH a, x, b
MATCH (b)-[y:SPLITS_INTO]->(c:Feature)
WHERE c.sae = 'tiny-a-l1-wide' /* $sae_c */
RETURN a.id AS first, b.id AS second, c.id AS third, a.top_token AS first_token,
       b.top_token AS second_token, c.top_token AS third_token,
       x.parent_given_child AS first_given_second, y.parent_given_child AS second_given_third,
       EXISTS { MATCH (a)-[:SPLITS_INTO]->(c) } AS direct
ORDER BY a.idx, b.idx, c.idx
LIMIT 20 /* $limit */
