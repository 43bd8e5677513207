// title: Matches of a feature, and its one-to-one counterparts
// question: Which features of other SAEs (seed, width, layer, model) are active on the same tokens?
// topic: Counterparts in other SAEs
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// matched: feature, sae
// answer: one_to_one, pearson
// column match (string): a feature of another SAE among the best matches of either
// column one_to_one (bool): it is the counterpart: the partner in the best assignment
// column pearson (double): correlation of both activations
// column token_document_null_pearson (double): best of either, shuffled in document; null: no draws
// column token_document_q (double): small, where `q` is: more than that null; null: not tested
// column q (double): false discovery rate under shifted documents; null: not tested
// column token_q (double): small, where `q` is: more than a shared token; null: not tested
// column top_token (string): the token the match is active on most often
// column rank (int64): 0: no feature of its SAE correlates better with this one; null: not stored
// column rank_back (int64): 0: no feature of this SAE correlates better with it; null: not stored
// column mutual (bool): each is the other's best
// column claims (int64): features of this feature's SAE whose best match is this match
// column joint_count (int64): tokens (or words) on which both are active
// column shared_tokens (int64): texts among the five commonest tokens of both
// column decoder_cosine (double): cosine of the decoder vectors; null where spaces differ
// column p_pooled (double): the p of `q`, from all draws of similar frequency; null: not tested
// column token_document_p_pooled (double): the p of `token_document_q`; null: not tested
// column alignment (string): 'tokens', or 'words' where the tokenizers differ
// column sae (string): the other SAE
// column model (string): the model it reads
// column hook (string): the site, by TransformerLens name
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[m:MATCHES]-(g:Feature)-[:IN_SAE]->(s:SAE)
WHERE '' /* $sae */ IN ['', s.name]
WITH m, g, s, EXISTS { MATCH (f)-[:MATCHES]->(g) } AS forward
RETURN g.id AS match, m.one_to_one AS one_to_one, m.pearson AS pearson,
       m.token_document_null_pearson AS token_document_null_pearson,
       m.token_document_q AS token_document_q, m.q AS q, m.token_q AS token_q,
       g.top_token AS top_token,
       CASE WHEN forward = true THEN m.rank_ab ELSE m.rank_ba END AS rank,
       CASE WHEN forward = true THEN m.rank_ba ELSE m.rank_ab END AS rank_back, m.mutual AS mutual,
       CASE WHEN forward = true THEN m.claims_on_target ELSE m.claims_on_source END AS claims,
       m.joint_count AS joint_count, m.shared_tokens AS shared_tokens,
       m.decoder_cosine AS decoder_cosine, m.p_pooled AS p_pooled,
       m.token_document_p_pooled AS token_document_p_pooled, m.alignment AS alignment,
       s.name AS sae, s.model AS model, s.hook AS hook
ORDER BY pearson DESC, sae, g.idx
LIMIT 20 /* $limit */
