// title: Dead share by SAE
// question: Which SAEs have the most features that never fire?
// topic: SAEs and sites
// column sae (string): name of the SAE
// column dead_share (double): share of features never active
// column dead (int64): features never active
// column d_sae (int64): number of features
// column tokens (int64): tokens counted; fewer tokens leave more features dead
MATCH (s:SAE)
WHERE s.dead_share IS NOT NULL
RETURN s.name AS sae, s.dead_share AS dead_share, s.dead AS dead, s.d_sae AS d_sae,
       s.tokens AS tokens
ORDER BY dead_share DESC, sae
