// title: Features by the start of a token
// question: Which features have a token that starts with this text, case and space included?
// topic: Tokens and text
// param text (string, such as ' th'): how the token should start
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column token (string): text of the token, its leading space included
// column share (double): share of the feature's active tokens that are this token
// column count (int64): times the feature is active on the token
// column rank (int64): rank among the feature's tokens, 0 for the commonest
MATCH (t:Token)<-[r:FIRES_ON]-(f:Feature)-[:IN_SAE]->(s:SAE)
WHERE t.text STARTS WITH ' th' /* $text */ AND '' /* $sae */ IN ['', s.name]
RETURN f.id AS feature, t.text AS token, r.share AS share, r.count AS count, r.rank AS rank
ORDER BY share DESC, f.sae, f.idx, rank
LIMIT 20 /* $limit */
