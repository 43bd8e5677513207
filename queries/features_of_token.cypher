// title: Features of a token
// question: Which features have exactly this token among their commonest, by share times rate?
// topic: Tokens and text
// param token (string, such as ' girl'): text of the token, its leading space included
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column share_times_rate (double): share × rate, the order of the rows
// column share (double): share of the feature's active tokens that are this token
// column rate (double): share of the token's occurrences on which the feature is active
// column count (int64): times the feature is active on the token
// column rank (int64): rank among the feature's tokens, 0 for the commonest
// column mean_activation (double): mean activation on the token, where active
MATCH (t:Token {text: ' girl' /* $token */})<-[r:FIRES_ON]-(f:Feature)-[:IN_SAE]->(s:SAE)
WHERE '' /* $sae */ IN ['', s.name]
RETURN f.id AS feature, r.share * r.rate AS share_times_rate, r.share AS share, r.rate AS rate,
       r.count AS count, r.rank AS rank, r.mean_activation AS mean_activation
ORDER BY r.share * r.rate DESC, f.sae, f.idx, rank
LIMIT 20 /* $limit */
