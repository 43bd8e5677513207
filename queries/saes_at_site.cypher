// title: SAEs at a site
// question: Which SAEs read this site of the model?
// topic: SAEs and sites
// param site (site, such as 'tiny-a/blocks.1.hook_resid_post'): the site, as `model/hook name`
// column sae (string): name of the SAE
// column architecture (string): standard, gated, topk, jumprelu, …
// column d_sae (int64): number of features
// column seed (int64): training seed, if known
// column l0 (double): mean number of active features per token
// column fvu (double): fraction of variance unexplained
// column dead_share (double): share of features never active
MATCH (s:SAE)-[:READS]->(p:Site {id: 'tiny-a/blocks.1.hook_resid_post' /* $site */})
RETURN s.name AS sae, s.architecture AS architecture, s.d_sae AS d_sae, s.seed AS seed,
       s.l0 AS l0, s.fvu AS fvu, s.dead_share AS dead_share
ORDER BY sae
