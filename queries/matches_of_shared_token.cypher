// title: Matches that may be only a shared token
// question: Which one-to-one counterparts may correlate no more than shared tokens could give?
// topic: Counterparts in other SAEs
// param sae_a (SAE, such as 'tiny-a-l1-s0'): name of the one SAE
// param sae_b (SAE, such as 'tiny-a-l1-s1'): name of the other SAE
// param max_q (double, default 0.05): largest q when documents are shifted; another q is above it
// param limit (int64, default 100): number of rows at most
// matched: sae_a, sae_b
// column feature_a (string): the feature of the one SAE
// column token_a (string): the token it is active on most often
// column feature_b (string): its partner in the other SAE
// column token_b (string): the token the partner is active on most often
// column pearson (double): correlation of both activations
// column token_document_null_pearson (double): best of either, shuffled in document; null: no draws
// column token_document_q (double): false discovery rate under that null
// column q (double): the same when documents are shifted
// column token_q (double): the same when activations are shuffled among occurrences of a token
// column token_null_pearson (double): best of either, tokens shuffled; mean over draws
// column shared_tokens (int64): texts among the five commonest tokens of both
// column fixed_share (double): share of activations that the strictest null cannot move
MATCH (one:SAE {name: 'tiny-a-l1-s0' /* $sae_a */})<-[:IN_SAE]-(a:Feature)
MATCH (a)-[m:MATCHES]-(b:Feature)-[:IN_SAE]->(two:SAE {name: 'tiny-a-l1-s1' /* $sae_b */})
WITH a, b, m, 0.05 /* $max_q */ AS max_q
WHERE m.one_to_one = true AND m.q <= max_q
  AND (m.token_q > max_q OR m.token_document_q > max_q)
RETURN a.id AS feature_a, a.top_token AS token_a, b.id AS feature_b, b.top_token AS token_b,
       m.pearson AS pearson, m.token_document_null_pearson AS token_document_null_pearson,
       m.token_document_q AS token_document_q, m.q AS q, m.token_q AS token_q,
       m.token_null_pearson AS token_null_pearson, m.shared_tokens AS shared_tokens,
       m.fixed_share AS fixed_share
ORDER BY pearson DESC, a.idx, b.idx
LIMIT 100 /* $limit */
