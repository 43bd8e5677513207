// title: Least predictable features
// question: Which features of an SAE does a site predict worst?
// topic: Probes and maps
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param site (site, such as 'tiny-a/hook_embed'): the site probed, as `model/hook name`
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column balanced_accuracy (double): the probe's score on validation; 0.5 is chance
// column token_table (double): score of a table of training counts by token id
// column token_ceiling (double): best score of any function of the token id
// column selectivity (double): score less that of random tasks on token ids; null: none drawn
// column positives (int64): validation tokens on which the feature is active
// column verdict (string): 'token', 'beyond token', 'context' or 'undecided'
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[e:PREDICTED_FROM]->(p:Site {id: 'tiny-a/hook_embed' /* $site */})
WHERE e.run = 'document/active/l2=0.001' /* $run */ AND e.balanced_accuracy IS NOT NULL
RETURN f.id AS feature, f.top_token AS top_token, e.balanced_accuracy AS balanced_accuracy,
       e.token_table AS token_table, e.token_ceiling AS token_ceiling,
       e.selectivity AS selectivity, e.positives AS positives, e.verdict AS verdict
ORDER BY balanced_accuracy, f.idx
LIMIT 20 /* $limit */
