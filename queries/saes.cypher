// title: All SAEs
// question: Which SAEs are in the atlas, and how good are they?
// topic: SAEs and sites
// answer: l0, fvu, dead_share
// column sae (string): name of the SAE
// column model (string): the model it reads
// column hook (string): the site, by TransformerLens name
// column architecture (string): standard, gated, topk, jumprelu, …
// column d_sae (int64): number of features
// column role (string): trained, or the kind of floor; null if not recorded
// column floor_of (string): the trained SAE of which it is a floor, if any
// column tokens (int64): tokens counted; null: no statistics
// column l0 (double): mean number of active features per token; null: no statistics
// column fvu (double): fraction of variance unexplained; null: not measured
// column dead_share (double): share of features never active; null: no statistics
MATCH (s:SAE)
RETURN s.name AS sae, s.model AS model, s.hook AS hook, s.architecture AS architecture,
       s.d_sae AS d_sae, s.role AS role, s.floor_of AS floor_of, s.tokens AS tokens, s.l0 AS l0,
       s.fvu AS fvu, s.dead_share AS dead_share
ORDER BY sae
