// title: Features with similar tokens
// question: Whose commonest tokens overlap with this feature's (which is not co-activation)?
// topic: One feature
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// column feature (string): the other feature
// column jaccard (double): `shared` / tokens that are among the commonest of either
// column shared (int64): tokens that are among the commonest of both
// column frequency (double): share of tokens on which the other feature is active
// column top_token (string): the token the other feature is active on most often
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[:FIRES_ON]->(t:Token)
MATCH (t)<-[:FIRES_ON]-(g:Feature)-[:IN_SAE]->(s:SAE)
WHERE g.id <> f.id AND '' /* $sae */ IN ['', s.name]
WITH f, g, count(t) AS shared
WITH g, shared, COUNT { MATCH (f)-[:FIRES_ON]->(x:Token) } AS mine,
     COUNT { MATCH (g)-[:FIRES_ON]->(y:Token) } AS theirs
RETURN g.id AS feature, 1.0 * shared / (mine + theirs - shared) AS jaccard, shared,
       g.frequency AS frequency, g.top_token AS top_token
ORDER BY jaccard DESC, shared DESC, g.sae, g.idx
LIMIT 20 /* $limit */
