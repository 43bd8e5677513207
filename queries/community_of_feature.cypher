// title: Community of a feature
// question: To which community does this feature belong, and is that community stable?
// topic: Co-activation
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// column community (int64): number of the community; 0 is the largest
// column tokens (string[]): tokens that distinguish it from other communities
// column size (int64): its features
// column inner_share (double): of the feature: weight of its edges within the community / of all
// column stability_halves (double): overlap with the best of half the documents; null: not computed
// column stability_null (double): the same of a community of a null graph; null as before
// column stability_null_high (double): highest in any null graph; null: older result
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[m:IN_COMMUNITY]->(c:Community)
RETURN c.number AS community, c.tokens AS tokens, c.size AS size, m.inner_share AS inner_share,
       c.stability_halves AS stability_halves, c.stability_null AS stability_null,
       c.stability_null_high AS stability_null_high
ORDER BY community
