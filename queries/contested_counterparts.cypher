// title: Contested best matches
// question: Which features of the other SAE are the best match of several of the one?
// topic: Counterparts in other SAEs
// param sae_a (SAE, such as 'tiny-a-l1-s0'): name of the one SAE, whose features claim
// param sae_b (SAE, such as 'tiny-a-l1-s1'): name of the other SAE, whose features are claimed
// param min_claims (int64, default 2): only features claimed by at least N
// param limit (int64, default 100): number of rows at most
// matched: sae_a, sae_b
// answer: claims, claimant
// column claimed (string): the feature of the other SAE
// column claimed_token (string): the token it is active on most often
// column claims (int64): features of the one SAE whose best match it is; a row for each
// column claimant (string): one of these
// column claimant_token (string): the token the claimant is active on most often
// column pearson (double): correlation of both activations
// column token_document_null_pearson (double): best of either, shuffled in document; null: no draws
// column token_document_q (double): small, where `q` is: more than that null; null: not tested
// column rank_back (int64): 0: the claimant is its best in return; null if not stored
// column one_to_one (bool): whether the assignment gave it to this claimant
MATCH (one:SAE {name: 'tiny-a-l1-s0' /* $sae_a */})<-[:IN_SAE]-(a:Feature)
MATCH (a)-[m:MATCHES]-(b:Feature)-[:IN_SAE]->(two:SAE {name: 'tiny-a-l1-s1' /* $sae_b */})
WITH a, b, m, EXISTS { MATCH (a)-[:MATCHES]->(b) } AS forward
WITH a, b, m, CASE WHEN forward = true THEN m.rank_ab ELSE m.rank_ba END AS rank,
     CASE WHEN forward = true THEN m.rank_ba ELSE m.rank_ab END AS rank_back,
     CASE WHEN forward = true THEN m.claims_on_target ELSE m.claims_on_source END AS claims
WHERE rank = 0 AND claims >= 2 /* $min_claims */
RETURN b.id AS claimed, b.top_token AS claimed_token, claims, a.id AS claimant,
       a.top_token AS claimant_token, m.pearson AS pearson,
       m.token_document_null_pearson AS token_document_null_pearson,
       m.token_document_q AS token_document_q, rank_back, m.one_to_one AS one_to_one
ORDER BY claims DESC, b.idx, pearson DESC, a.idx
LIMIT 100 /* $limit */
