// title: Effects of a feature
// question: Which features of later SAEs change most as this feature is ablated?
// topic: Logits and effects
// param feature (feature, such as 'tiny-a-l1-s0/7'): the ablated feature, as `sae/index`
// param sae (SAE, default ''): only targets in this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// answer: mean, random, q
// column sae (string): SAE of the target
// column target (string): the target
// column top_token (string): token on which the target is active most often
// column mean (double): mean change of its activation, summed over the ablated token and later ones
// column low (double): lower limit of its 95% interval over documents
// column high (double): upper limit
// column share (double): share of tokens with this sign, above a random direction
// column here (double): mean change at the ablated token alone
// column random (double): mean size of the same sum for random directions of equal norm
// column q (double): false discovery rate
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[e:AFFECTS]->(g:Feature)
WHERE '' /* $sae */ IN ['', g.sae]
RETURN g.sae AS sae, g.id AS target, g.top_token AS top_token, e.mean AS mean, e.low AS low,
       e.high AS high, e.share AS share, e.here AS here, e.random AS random, e.q AS q
ORDER BY abs(e.mean) DESC, sae, g.idx
LIMIT 20 /* $limit */
