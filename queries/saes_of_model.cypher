// title: SAEs of a model
// question: Which SAEs read this model, and where, from the first block to the last?
// topic: SAEs and sites
// param model (model, such as 'tiny-a'): name of the model
// column layer (int64): the block of the site, from 0; null at the embedding
// column hook (string): the site, by TransformerLens name
// column sae (string): name of the SAE
// column architecture (string): standard, gated, topk, jumprelu, …
// column d_sae (int64): number of features
// column l0 (double): mean number of active features per token; null: no statistics
// column fvu (double): fraction of variance unexplained; null: not measured
// column dead_share (double): share of features never active; null: no statistics
MATCH (s:SAE)-[:READS]->(p:Site)-[:OF_MODEL]->(m:Model {name: 'tiny-a' /* $model */})
RETURN p.layer AS layer, p.hook AS hook, s.name AS sae, s.architecture AS architecture,
       s.d_sae AS d_sae, s.l0 AS l0, s.fvu AS fvu, s.dead_share AS dead_share
ORDER BY coalesce(layer, -1), hook, sae
