// title: Common tokens of two features
// question: Which tokens are among the commonest of both features (of any SAEs, by their text)?
// topic: Tokens and text
// param feature_a (feature, such as 'tiny-a-l1-s0/7'): the one feature, as `sae/index`
// param feature_b (feature, such as 'tiny-a-l1-s0/1'): the other feature
// column token (string): text of the token, its leading space included
// column rank_a (int64): 0 is the token the one is active on most often
// column rank_b (int64): the same of the other
// column share_a (double): share of the one's active tokens that are the token
// column share_b (double): share of the other's active tokens that are the token
// column rate_a (double): share of the token's occurrences on which the one is active
// column rate_b (double): share of the token's occurrences on which the other is active
MATCH (a:Feature {id: 'tiny-a-l1-s0/7' /* $feature_a */})-[ra:FIRES_ON]->(t:Token)
MATCH (b:Feature {id: 'tiny-a-l1-s0/1' /* $feature_b */})-[rb:FIRES_ON]->(u:Token)
WHERE t.id = u.id OR (t.tokenizer <> u.tokenizer AND t.text = u.text)
RETURN t.text AS token, ra.rank AS rank_a, rb.rank AS rank_b, ra.share AS share_a,
       rb.share AS share_b, ra.rate AS rate_a, rb.rate AS rate_b
ORDER BY rank_a, rank_b
