// title: Features of two SAEs on the same token
// question: Which features of two SAEs (of one tokenizer) are active most often on the same token?
// topic: Tokens and text
// param sae_a (SAE, such as 'tiny-a-l1-s0'): name of the one SAE
// param sae_b (SAE, such as 'tiny-a-l1-s1'): name of the other SAE
// param limit (int64, default 20): number of rows at most
// column token (string): text of the token, its leading space included
// column feature_a (string): the feature of the one SAE
// column feature_b (string): the feature of the other SAE
// column share_a (double): share of `feature_a`'s active tokens that are the token
// column share_b (double): share of `feature_b`'s active tokens that are the token
// column rate_a (double): share of the token's occurrences on which `feature_a` is active
// column rate_b (double): share of the token's occurrences on which `feature_b` is active
MATCH (one:SAE {name: 'tiny-a-l1-s0' /* $sae_a */})<-[:IN_SAE]-(a:Feature)-[ra:FIRES_ON]->(t:Token)
MATCH (t)<-[rb:FIRES_ON]-(b:Feature)-[:IN_SAE]->(two:SAE {name: 'tiny-a-l1-s1' /* $sae_b */})
WHERE ra.rank = 0 AND rb.rank = 0 AND a.id <> b.id
RETURN t.text AS token, a.id AS feature_a, b.id AS feature_b, ra.share AS share_a,
       rb.share AS share_b, ra.rate AS rate_a, rb.rate AS rate_b
ORDER BY share_a DESC, share_b DESC, a.idx, b.idx
LIMIT 20 /* $limit */
