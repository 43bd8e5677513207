// title: Most token-like features
// question: Which features of an SAE are active almost only on one token?
// topic: Features of an SAE
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param min_tokens (int64, default 10): only features active on at least N tokens
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column token (string): the token it is active on most often
// column share (double): share of the feature's active tokens that are this token
// column rate (double): share of the token's occurrences on which the feature is active
// column active_tokens (int64): tokens on which the feature is active
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)-[r:FIRES_ON]->(t:Token)
WHERE r.rank = 0 AND f.active_tokens >= 10 /* $min_tokens */
RETURN f.id AS feature, t.text AS token, r.share AS share, r.rate AS rate,
       f.active_tokens AS active_tokens
ORDER BY share DESC, active_tokens DESC, f.idx
LIMIT 20 /* $limit */
