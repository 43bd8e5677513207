// title: Features predicted beyond the token
// question: Which features does a later site predict better than any function of the token could?
// topic: Probes and maps
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param site (site, such as 'tiny-a/blocks.1.hook_resid_post'): site probed, not the embedding
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column balanced_accuracy (double): score of the probe; 0.5 is chance
// column low (double): lower limit of its 95% interval
// column token_ceiling (double): best score of any function of the token id
// column lead (double): `low` - `token_ceiling`
// column bigram_table (double): score of a table by this token and the one before it
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[e:PREDICTED_FROM]->(p:Site {id: 'tiny-a/blocks.1.hook_resid_post' /* $site */})
WHERE e.run = 'document/active/l2=0.001' /* $run */ AND e.verdict = 'beyond token'
RETURN f.id AS feature, f.top_token AS top_token, e.balanced_accuracy AS balanced_accuracy,
       e.low AS low, e.token_ceiling AS token_ceiling, e.low - e.token_ceiling AS lead,
       e.bigram_table AS bigram_table
ORDER BY lead DESC, f.idx
LIMIT 20 /* $limit */
