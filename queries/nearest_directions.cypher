// title: Nearest directions of a feature
// question: Which features have the most similar decoder direction, in this SAE and in others?
// topic: Directions
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// column feature (string): the other feature
// column cosine (double): cosine of both decoder rows
// column rank (int64): 0 is the nearest of its SAE
// column p (double): p of a nearest random direction with at least this cosine; null without draws
// column q (double): Benjamini-Hochberg value of `p`; null without draws
// column frequency (double): share of tokens on which the other feature is active
// column top_token (string): the token the other feature is active on most often
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:NEAR_DIRECTION]->(g:Feature)
WHERE '' /* $sae */ IN ['', g.sae]
RETURN g.id AS feature, r.cosine AS cosine, r.rank AS rank, r.p AS p, r.q AS q,
       g.frequency AS frequency, g.top_token AS top_token
ORDER BY cosine DESC, g.sae, g.idx
LIMIT 20 /* $limit */
