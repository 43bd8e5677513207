// title: Residual features without a counterpart
// question: Which live features of a residual SAE have no counterpart in the baseline SAE?
// topic: Counterparts in other SAEs
// param sae (SAE, such as 'tiny-a-l1-wide'): SAE that reads the residual of the activations
// param sae_baseline (SAE, such as 'tiny-a-l1-s0'): SAE that reads the activations as they are
// param site (site, such as 'tiny-a/hook_embed'): the site probed, as `model/hook name`
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// param max_q (double, default 0.05): largest q of a counterpart; 1.0 includes those not tested
// param limit (int64, default 100): number of rows at most
// matched: sae, sae_baseline
// column feature (string): the feature of the residual
// column top_token (string): the token it is active on most often
// column less (string): what is subtracted from the activations that its SAE reads; null: nothing
// column active_tokens (int64): tokens on which it is active; on few, a match is hard to show
// column best_pearson (double): correlation with its best match in the baseline; null: none
// column balanced_accuracy (double): score of its probe; null: not probed
// column token_ceiling (double): best score of any function of the token id; null: not probed
// column verdict (string): 'token', 'beyond token', 'context' or 'undecided'; null: not probed
MATCH (f:Feature)-[:IN_SAE]->(r:SAE {name: 'tiny-a-l1-wide' /* $sae */})
MATCH (r)-[:COMPARED_WITH]-(b:SAE {name: 'tiny-a-l1-s0' /* $sae_baseline */})
WHERE f.active_tokens > 0
WITH f, r.less AS less, b.name AS baseline, 0.05 /* $max_q */ AS max_q
OPTIONAL MATCH (f)-[m:MATCHES]-(g:Feature {sae: baseline})
WITH f, less, max(m.pearson) AS best_pearson,
     max(CASE WHEN m.one_to_one = true AND coalesce(m.q, 1.0) <= max_q
              THEN 1 ELSE 0 END) AS partners
WHERE partners = 0
WITH f.id AS feature, less, best_pearson, 'tiny-a/hook_embed' /* $site */ AS site,
     'document/active/l2=0.001' /* $run */ AS run
MATCH (h:Feature {id: feature})
OPTIONAL MATCH (h)-[e:PREDICTED_FROM {run: run}]->(p:Site {id: site})
RETURN h.id AS feature, h.top_token AS top_token, less, h.active_tokens AS active_tokens,
       best_pearson, e.balanced_accuracy AS balanced_accuracy, e.token_ceiling AS token_ceiling,
       e.verdict AS verdict
ORDER BY active_tokens DESC, h.idx
LIMIT 100 /* $limit */
