// title: Busiest tokens
// question: Which tokens are among the commonest of the most features of an SAE?
// topic: Tokens and text
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param limit (int64, default 20): number of rows at most
// column token (string): text of the token, its leading space included
// column token_id (int64): its number in the vocabulary
// column features (int64): number of features that have it among their commonest tokens
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)-[:FIRES_ON]->(t:Token)
RETURN t.text AS token, t.token_id AS token_id, count(f) AS features
ORDER BY features DESC, token_id
LIMIT 20 /* $limit */
