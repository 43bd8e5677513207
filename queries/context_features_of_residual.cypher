// title: Context features of the residual only
// question: Which features need context in the residual SAE only, not in the baseline SAE?
// topic: Probes and maps
// param sae (SAE, such as 'tiny-a-l1-s0'): SAE that reads the residual of the activations
// param sae_baseline (SAE, such as 'tiny-a-l1-s1'): SAE that reads the activations as they are
// param site (site, such as 'tiny-a/hook_embed'): the site probed, as `model/hook name`
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// param max_q (double, default 0.05): largest q of a counterpart; 1.0 includes those not tested
// param limit (int64, default 100): number of rows at most
// matched: sae, sae_baseline
// answer: counterpart, counterpart_verdict
// column feature (string): the feature of the residual
// column top_token (string): the token it is active on most often
// column token_ceiling (double): best score of any function of the token id; 0.5 is chance
// column balanced_accuracy (double): score of the probe
// column counterpart (string): its one-to-one counterpart in the baseline; null: it has none
// column counterpart_verdict (string): of that one; null: it has none, or was not probed
// column active_tokens (int64): tokens on which the feature is active
MATCH (r:SAE {name: 'tiny-a-l1-s0' /* $sae */})-[:COMPARED_WITH]-(b:SAE)
WHERE b.name = 'tiny-a-l1-s1' /* $sae_baseline */
WITH r, b.name AS baseline
MATCH (r)<-[:IN_SAE]-(f:Feature)-[e:PREDICTED_FROM]->(p:Site)
WHERE p.id = 'tiny-a/hook_embed' /* $site */ AND e.verdict = 'context'
WITH f, e, p.id AS site, baseline, 'document/active/l2=0.001' /* $run */ AS run,
     0.05 /* $max_q */ AS max_q
WHERE e.run = run
OPTIONAL MATCH (f)-[m:MATCHES]-(g:Feature {sae: baseline})
WHERE m.one_to_one = true AND coalesce(m.q, 1.0) <= max_q
WITH f, e, site, run, g.id AS counterpart
OPTIONAL MATCH (c:Feature {id: counterpart})-[d:PREDICTED_FROM]->(q:Site)
WHERE q.id = site AND d.run = run
WITH f, e, counterpart, d
WHERE d.verdict IS NULL OR d.verdict <> 'context'
RETURN f.id AS feature, f.top_token AS top_token, e.token_ceiling AS token_ceiling,
       e.balanced_accuracy AS balanced_accuracy, counterpart, d.verdict AS counterpart_verdict,
       f.active_tokens AS active_tokens
ORDER BY token_ceiling, f.idx
LIMIT 100 /* $limit */
