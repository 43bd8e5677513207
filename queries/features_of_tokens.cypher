// title: Features of a list of tokens
// question: Which features have most of these tokens among their commonest?
// topic: Tokens and text
// param tokens (string[], such as [' he', ' she', ' him', ' her']): texts of the tokens
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column found (int64): how many texts of the list are among its commonest tokens
// column frequency (double): share of tokens on which it is active
// column top_token (string): the token it is active on most often
MATCH (t:Token)<-[:FIRES_ON]-(f:Feature)-[:IN_SAE]->(s:SAE)
WHERE t.text IN [' he', ' she', ' him', ' her'] /* $tokens */ AND '' /* $sae */ IN ['', s.name]
WITH f, count(DISTINCT t.text) AS found
RETURN f.id AS feature, found, f.frequency AS frequency, f.top_token AS top_token
ORDER BY found DESC, frequency, f.sae, f.idx
LIMIT 20 /* $limit */
