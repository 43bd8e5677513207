// title: Residual features with a counterpart
// question: Which features of a residual SAE have a counterpart in the baseline SAE?
// topic: Counterparts in other SAEs
// param sae (SAE, such as 'tiny-a-l1-wide'): SAE that reads the residual of the activations
// param sae_baseline (SAE, such as 'tiny-a-l1-s0'): SAE that reads the activations as they are
// param max_q (double, default 0.05): largest q; 1.0 for all, those not tested included
// param limit (int64, default 100): number of rows at most
// matched: sae, sae_baseline
// answer: counterpart, pearson
// column feature (string): the feature of the residual
// column top_token (string): the token it is active on most often
// column less (string): what is subtracted from the activations that its SAE reads; null: nothing
// column counterpart (string): its one-to-one counterpart in the baseline
// column counterpart_token (string): the token that one is active on most often
// column pearson (double): correlation of both activations
// column token_document_null_pearson (double): best of either, shuffled in document; null: no draws
// column token_document_q (double): small, where `q` is: more than that null; null: not tested
// column q (double): false discovery rate under shifted documents; null: not tested
// column token_q (double): small, where `q` is: more than a shared token; null: not tested
MATCH (r:SAE {name: 'tiny-a-l1-wide' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[m:MATCHES]-(g:Feature)-[:IN_SAE]->(b:SAE {name: 'tiny-a-l1-s0' /* $sae_baseline */})
WHERE m.one_to_one = true AND coalesce(m.q, 1.0) <= 0.05 /* $max_q */
RETURN f.id AS feature, f.top_token AS top_token, r.less AS less, g.id AS counterpart,
       g.top_token AS counterpart_token, m.pearson AS pearson,
       m.token_document_null_pearson AS token_document_null_pearson,
       m.token_document_q AS token_document_q, m.q AS q, m.token_q AS token_q
ORDER BY pearson DESC, f.idx, g.idx
LIMIT 100 /* $limit */
