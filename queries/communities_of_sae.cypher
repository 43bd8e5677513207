// title: Communities of an SAE
// question: Which groups of features are active together, and how stable are these groups?
// topic: Co-activation
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param min_size (int64, default 3): only communities of at least N features
// param limit (int64, default 50): number of rows at most
// column community (int64): number of the community; 0 is the largest
// column size (int64): features in it
// column tokens (string[]): tokens that distinguish it from the others, most first
// column stability_halves (double): overlap with those of half the documents; null: no codes
// column stability_null (double): the same of one of similar size in a null graph; null as there
// column stability_null_high (double): highest in any null graph; null: older result
// column stability (double): overlap with the most similar community of Leiden runs of other seeds
// column edges (int64): edges between its features
// column inner_share (double): weight of these / of all edges its features have, both by ends
// column conductance (double): weight of edges that leave it / of the lesser side; null: that is 0
// column weighted_by (string): edge weight used to find communities
// column min_count (int64): only edges of at least N tokens were used
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[:IN_COMMUNITY]->(c:Community)
WHERE c.size >= 3 /* $min_size */
WITH c, count(*) AS features
RETURN c.number AS community, c.size AS size, c.tokens AS tokens,
       c.stability_halves AS stability_halves, c.stability_null AS stability_null,
       c.stability_null_high AS stability_null_high, c.stability AS stability, c.edges AS edges,
       c.inner_share AS inner_share, c.conductance AS conductance,
       c.weighted_by AS weighted_by, c.min_count AS min_count
ORDER BY community
LIMIT 50 /* $limit */
