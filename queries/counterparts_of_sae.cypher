// title: Counterparts of two SAEs
// question: Which features of two SAEs are one-to-one counterparts?
// topic: Counterparts in other SAEs
// param sae_a (SAE, such as 'tiny-a-l1-s0'): name of the one SAE
// param sae_b (SAE, such as 'tiny-a-l1-s1'): name of the other SAE
// param max_q (double, default 0.05): largest q; 1.0 for all, those not tested included
// param limit (int64, default 100): number of rows at most
// matched: sae_a, sae_b
// column feature_a (string): the feature of the one SAE
// column token_a (string): the token it is active on most often
// column feature_b (string): its partner in the other SAE
// column token_b (string): the token the partner is active on most often
// column pearson (double): correlation of both activations
// column token_document_null_pearson (double): best of either, shuffled in document; null: no draws
// column token_document_q (double): small, where `q` is: more than that null; null: not tested
// column q (double): false discovery rate under shifted documents; null: not tested
// column token_q (double): small, where `q` is: more than a shared token; null: not tested
// column mutual (bool): each is the other's best
// column joint_count (int64): tokens (or words) on which both are active
// column shared_tokens (int64): texts among the five commonest tokens of both
// column decoder_cosine (double): cosine of the decoder vectors; null where spaces differ
MATCH (one:SAE {name: 'tiny-a-l1-s0' /* $sae_a */})<-[:IN_SAE]-(a:Feature)
MATCH (a)-[m:MATCHES]-(b:Feature)-[:IN_SAE]->(two:SAE {name: 'tiny-a-l1-s1' /* $sae_b */})
WHERE m.one_to_one = true AND coalesce(m.q, 1.0) <= 0.05 /* $max_q */
RETURN a.id AS feature_a, a.top_token AS token_a, b.id AS feature_b, b.top_token AS token_b,
       m.pearson AS pearson, m.token_document_null_pearson AS token_document_null_pearson,
       m.token_document_q AS token_document_q, m.q AS q, m.token_q AS token_q, m.mutual AS mutual,
       m.joint_count AS joint_count, m.shared_tokens AS shared_tokens,
       m.decoder_cosine AS decoder_cosine
ORDER BY pearson DESC, a.idx, b.idx
LIMIT 100 /* $limit */
