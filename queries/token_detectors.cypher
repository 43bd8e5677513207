// title: Token detectors
// question: Which features of an SAE are active whenever a token occurs, and on few other tokens?
// topic: Features of an SAE
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param min_share (double, default 0.5): smallest share of the feature's active tokens
// param min_rate (double, default 0.5): smallest share of the token's occurrences
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column token (string): text of the token, its leading space included
// column share (double): share of the feature's active tokens that are this token
// column rate (double): share of the token's occurrences on which the feature is active
// column count (int64): times the feature is active on the token
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)-[r:FIRES_ON]->(t:Token)
WHERE r.share >= 0.5 /* $min_share */ AND r.rate >= 0.5 /* $min_rate */
RETURN f.id AS feature, t.text AS token, r.share AS share, r.rate AS rate, r.count AS count
ORDER BY rate DESC, share DESC, f.idx, r.rank
LIMIT 20 /* $limit */
