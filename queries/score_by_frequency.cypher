// title: Probes' scores by frequency
// question: Are rare features of an SAE harder to predict than frequent ones?
// topic: Probes and maps
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param site (site, such as 'tiny-a/hook_embed'): the site probed, as `model/hook name`
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// column bin (int64): number of the bin, rising with frequency
// column frequency (string): the bin's range; the lower end belongs to it
// column features (int64): number of features probed in it; empty bins have no row
// column balanced_accuracy (double): mean score of their probes; 0.5 is chance
// column token_ceiling (double): mean of the best scores of any function of the token id
// column token (int64): features of verdict 'token'
// column beyond_token (int64): features of verdict 'beyond token'
// column context (int64): features of verdict 'context'
// column undecided (int64): features of verdict 'undecided'
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[e:PREDICTED_FROM]->(p:Site {id: 'tiny-a/hook_embed' /* $site */})
WHERE e.run = 'document/active/l2=0.001' /* $run */ AND e.balanced_accuracy IS NOT NULL
WITH e, CASE WHEN f.frequency < 0.00001 THEN 1 WHEN f.frequency < 0.0001 THEN 2
             WHEN f.frequency < 0.001 THEN 3 WHEN f.frequency < 0.01 THEN 4
             WHEN f.frequency < 0.1 THEN 5 ELSE 6 END AS bin
WITH bin, count(*) AS features, avg(e.balanced_accuracy) AS score, avg(e.token_ceiling) AS best,
     count(CASE WHEN e.verdict = 'token' THEN 1 END) AS token,
     count(CASE WHEN e.verdict = 'beyond token' THEN 1 END) AS beyond_token,
     count(CASE WHEN e.verdict = 'context' THEN 1 END) AS context,
     count(CASE WHEN e.verdict = 'undecided' THEN 1 END) AS undecided
RETURN bin,
       CASE bin WHEN 1 THEN '< 0.00001' WHEN 2 THEN '0.00001 - 0.0001'
                WHEN 3 THEN '0.0001 - 0.001' WHEN 4 THEN '0.001 - 0.01' WHEN 5 THEN '0.01 - 0.1'
                ELSE '0.1 - 1' END AS frequency,
       features, round(score, 6) AS balanced_accuracy, round(best, 6) AS token_ceiling,
       token, beyond_token, context, undecided
ORDER BY bin
