// title: Features of a community
// question: Which features belong to this community, those with most partners within it first?
// topic: Co-activation
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param community (int64, default 0): number of the community; 0 is the largest
// param limit (int64, default 50): number of rows at most
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column frequency (double): share of tokens it is active on
// column inner_degree (int64): features of the community it co-activates with
// column degree (int64): features it co-activates with
// column inner_share (double): weight of its edges within the community / of all its edges
// column clustering (double): share of pairs of its partners that co-activate too
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[m:IN_COMMUNITY]->(c:Community)
WHERE c.number = 0 /* $community */
RETURN f.id AS feature, f.top_token AS top_token, f.frequency AS frequency,
       m.inner_degree AS inner_degree, f.degree AS degree, m.inner_share AS inner_share,
       f.clustering AS clustering
ORDER BY inner_degree DESC, f.idx
LIMIT 50 /* $limit */
