// title: Strongest effects of an SAE
// question: Which ablated features of an SAE change a feature of a later SAE most?
// topic: Logits and effects
// param sae (SAE, such as 'tiny-a-l1-s0'): the SAE of the ablated features
// param other (SAE, default ''): only targets in this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// column source (string): the ablated feature
// column source_token (string): token on which it is active most often
// column target (string): the feature that changes
// column target_token (string): token on which that is active most often
// column mean (double): mean change of its activation, summed over the ablated token and later ones
// column random (double): mean size of the same sum for random directions of equal norm
// column other (double): the same sum for other features that are active at the same tokens
// column q (double): false discovery rate
// column low (double): lower limit of the 95% interval of `mean` over documents
// column high (double): upper limit
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})-[e:AFFECTS]->(g:Feature)
WHERE '' /* $other */ IN ['', g.sae]
RETURN f.id AS source, f.top_token AS source_token, g.id AS target, g.top_token AS target_token,
       e.mean AS mean, e.random AS random, e.other AS other, e.q AS q, e.low AS low, e.high AS high
ORDER BY abs(e.mean) DESC, f.idx, g.sae, g.idx
LIMIT 20 /* $limit */
