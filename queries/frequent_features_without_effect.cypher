// title: Frequent features without a detected effect
// question: Which features are active often, without a detected effect on the predictions?
// topic: Logits and effects
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param min_frequency (double, default 0.01): lowest frequency
// param min_q (double, default 0.5): lowest false discovery rate of an effect
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column top_token (string): token on which it is active most often
// column frequency (double): share of tokens on which it is active
// column kl (double): mean KL, summed over the ablated token and later ones
// column random (double): the same for random directions of equal norm
// column other (double): the same for other features at the same tokens
// column edges (int64): targets in later SAEs
// column q (double): false discovery rate of an effect
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})
WHERE f.frequency >= 0.01 /* $min_frequency */ AND f.effect_q >= 0.5 /* $min_q */
OPTIONAL MATCH (f)-[e:AFFECTS]->(:Feature)
WITH f, count(e) AS edges
RETURN f.id AS feature, f.top_token AS top_token, f.frequency AS frequency,
       f.effect_kl + f.effect_kl_later AS kl, f.effect_kl_random AS random,
       f.effect_kl_other AS other, edges, f.effect_q AS q
ORDER BY f.frequency DESC, f.idx
LIMIT 20 /* $limit */
