// title: Predictable, but not in the other SAE
// question: Which features does the token predict, but not their counterpart in another SAE?
// topic: Probes and maps
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param other (SAE, such as 'tiny-a-l1-s1'): name of an SAE it was matched with
// param site (site, such as 'tiny-a/hook_embed'): site probed; of another model, the same hook
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// param max_q (double, default 0.05): largest q of a counterpart; 1.0 includes those not tested
// param limit (int64, default 100): number of rows at most
// matched: sae, other
// answer: counterpart, reason
// column feature (string): the feature
// column top_token (string): the token it is active on most often
// column balanced_accuracy (double): score of the probe; 0.5 is chance
// column token_table (double): score of a table of training counts by token id
// column counterpart (string): its one-to-one counterpart in the other SAE, if any
// column pearson (double): correlation of both activations; null: no counterpart
// column reason (string): 'no counterpart', 'not probed' or 'not predictable'
// column counterpart_balanced_accuracy (double): its probe's score; null: not probed
// column counterpart_token_table (double): score of its table; null: not probed
// column counterpart_verdict (string): verdict on its probe; null: not probed
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})-[:COMPARED_WITH]-(o:SAE)
WHERE o.name = 'tiny-a-l1-s1' /* $other */
WITH s, o.name AS other
MATCH (s)<-[:IN_SAE]-(f:Feature)-[e:PREDICTED_FROM]->(p:Site)
WHERE p.id = 'tiny-a/hook_embed' /* $site */ AND e.verdict = 'token'
WITH f, e, p.hook AS hook, other, 'document/active/l2=0.001' /* $run */ AS run,
     0.05 /* $max_q */ AS max_q
WHERE e.run = run
OPTIONAL MATCH (f)-[m:MATCHES]-(g:Feature {sae: other})
WHERE m.one_to_one = true AND coalesce(m.q, 1.0) <= max_q
WITH f, e, hook, run, m.pearson AS pearson, g.id AS counterpart
OPTIONAL MATCH (c:Feature {id: counterpart})-[d:PREDICTED_FROM]->(q:Site)
WHERE q.hook = hook AND d.run = run
WITH f, e, pearson, counterpart, d
WHERE d.verdict IS NULL OR d.verdict <> 'token'
RETURN f.id AS feature, f.top_token AS top_token, e.balanced_accuracy AS balanced_accuracy,
       e.token_table AS token_table, counterpart, pearson,
       CASE WHEN counterpart IS NULL THEN 'no counterpart' WHEN d.run IS NULL THEN 'not probed'
            ELSE 'not predictable' END AS reason,
       d.balanced_accuracy AS counterpart_balanced_accuracy,
       d.token_table AS counterpart_token_table, d.verdict AS counterpart_verdict
ORDER BY token_table DESC, f.idx
LIMIT 100 /* $limit */
