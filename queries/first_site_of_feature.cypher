// title: First site of a feature
// question: Which is the first site that predicts this feature about as well as the best site?
// topic: Probes and maps
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// param delta (double, default 0.02): largest difference from the feature's best score
// column site (string): the first site, in the model's order, whose score is near the best
// column layer (int64): the block of that site, from 0; null at the embedding
// column balanced_accuracy (double): score there; 0.5 is chance
// column best (double): highest score at any site
// column sites (int64): sites it was probed at, two or more
// column verdict (string): verdict at the first site
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[e:PREDICTED_FROM]->(p:Site)
WITH f, e, 'document/active/l2=0.001' /* $run */ AS run, 0.02 /* $delta */ AS delta
WHERE e.run = run AND e.balanced_accuracy IS NOT NULL
WITH f, run, delta + 0.000000000001 AS delta, max(e.balanced_accuracy) AS best, count(*) AS sites
WHERE sites > 1
MATCH (f)-[e:PREDICTED_FROM]->(p:Site)
WHERE e.run = run AND best - e.balanced_accuracy <= delta
WITH f, run, best, sites, p.id AS id, 10 * coalesce(p.layer, -1) + CASE
       WHEN p.hook ENDS WITH 'hook_resid_pre' THEN 0 WHEN p.hook ENDS WITH 'attn.hook_z' THEN 1
       WHEN p.hook ENDS WITH 'hook_attn_out' THEN 2 WHEN p.hook ENDS WITH 'hook_resid_mid' THEN 3
       WHEN p.hook ENDS WITH 'mlp.hook_post' THEN 4 WHEN p.hook ENDS WITH 'hook_mlp_out' THEN 5
       WHEN p.hook ENDS WITH 'hook_resid_post' THEN 6 ELSE 7 END AS depth
WITH f, run, best, sites, min(depth) AS first, collect({depth: depth, id: id}) AS near
UNWIND near AS one
WITH f, run, best, sites, first, one
WHERE one.depth = first
WITH f, run, best, sites, first, min(one.id) AS site
MATCH (f)-[e:PREDICTED_FROM]->(p:Site {id: site})
WHERE e.run = run
RETURN site, p.layer AS layer, e.balanced_accuracy AS balanced_accuracy, best, sites,
       e.verdict AS verdict
ORDER BY site
