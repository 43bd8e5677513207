// title: Narrow features
// question: Which features have many partners, but are mostly active with a few of them?
// topic: Co-activation
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param min_degree (int64, default 10): only features with at least N partners
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column partner_diversity (double): 1: it meets all partners equally often; near 0: one of them
// column degree (int64): features it co-activates with
// column partners_expected (double): the same by chance, as often at the top; null without codes
// column frequency (double): share of tokens it is active on
// column community (int64): number of its community
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
WHERE f.degree >= 10 /* $min_degree */ AND f.partner_diversity IS NOT NULL
RETURN f.id AS feature, f.top_token AS top_token, f.partner_diversity AS partner_diversity,
       f.degree AS degree, f.partners_expected AS partners_expected, f.frequency AS frequency,
       f.community AS community
ORDER BY partner_diversity, f.idx
LIMIT 20 /* $limit */
