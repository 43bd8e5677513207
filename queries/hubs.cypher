// title: Hubs
// question: Which features co-activate with more features than their frequency explains?
// topic: Co-activation
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param min_degree (int64, default 10): only features with at least N partners
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column ratio (double): `degree` / `partners_expected`; null without codes
// column degree (int64): features it co-activates with
// column partners_expected (double): the same by chance, as often at the top; null without codes
// column frequency (double): share of tokens it is active on
// column pagerank (double): PageRank on the weighted graph
// column core (int64): core number
// column community (int64): number of its community
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
WHERE f.degree >= 10 /* $min_degree */
WITH f, CASE WHEN f.partners_expected > 0.0 THEN f.degree / f.partners_expected END AS ratio
RETURN f.id AS feature, f.top_token AS top_token, ratio, f.degree AS degree,
       f.partners_expected AS partners_expected, f.frequency AS frequency,
       f.pagerank AS pagerank, f.core AS core, f.community AS community
ORDER BY coalesce(ratio, -1.0) DESC, degree DESC, f.idx
LIMIT 20 /* $limit */
