// title: Bridges
// question: Which features are on many shortest paths, with most edges outside their community?
// topic: Co-activation
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param max_inner_share (double, default 0.5): most of its weight within its own community
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column betweenness (double): share of shortest paths between other features that pass through it
// column inner_share (double): weight of its edges within its community / of all its edges
// column degree (int64): features it co-activates with
// column frequency (double): share of tokens it is active on; frequent ones are on many paths
// column community (int64): number of its community
// column tokens (string[]): tokens that distinguish this community
// column reaches (int64): other communities in which it has a partner, of all edges stored
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[m:IN_COMMUNITY]->(c:Community)
WHERE m.inner_share <= 0.5 /* $max_inner_share */
WITH f, m, c
MATCH (f)-[:CO_ACTIVATES]-(g:Feature)
WITH f, m.inner_share AS inner_share, c.tokens AS tokens,
     count(DISTINCT CASE WHEN g.community <> f.community THEN g.community END) AS reaches
RETURN f.id AS feature, f.top_token AS top_token, f.betweenness AS betweenness, inner_share,
       f.degree AS degree, f.frequency AS frequency, f.community AS community, tokens, reaches
ORDER BY betweenness DESC, f.idx
LIMIT 20 /* $limit */
