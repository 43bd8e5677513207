// title: Context features
// question: Which features of an SAE can no function of the token predict?
// topic: Probes and maps
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param site (site, such as 'tiny-a/hook_embed'): the site probed, as `model/hook name`
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column token_ceiling (double): best score of any function of the token id; 0.5 is chance
// column token_ceiling_high (double): upper limit of its 95% interval
// column context_by (string): 'position' or 'bigram' where that table predicts it; null: neither
// column position_table (double): score of a table of training counts by position
// column bigram_table (double): the same by this token and the one before it
// column balanced_accuracy (double): score of the probe
// column active_tokens (int64): tokens on which the feature is active
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[e:PREDICTED_FROM]->(p:Site {id: 'tiny-a/hook_embed' /* $site */})
WHERE e.run = 'document/active/l2=0.001' /* $run */ AND e.verdict = 'context'
RETURN f.id AS feature, f.top_token AS top_token, e.token_ceiling AS token_ceiling,
       e.token_ceiling_high AS token_ceiling_high, e.context_by AS context_by,
       e.position_table AS position_table, e.bigram_table AS bigram_table,
       e.balanced_accuracy AS balanced_accuracy, f.active_tokens AS active_tokens
ORDER BY token_ceiling, f.idx
LIMIT 20 /* $limit */
