// title: Features whose direct logits predict their effect
// question: For which features do direct logits agree with the measured change by ablation?
// topic: Logits and effects
// param sae (SAE, such as 'tiny-a-l1-s0'): the SAE
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column agreement (double): rank correlation of direct logits and measured changes
// column control (double): mean correlation with direct logits of other features
// column p (double): p of the agreement among other features; null if it is not defined
// column positions (int64): tokens on which the feature was ablated
// column promotes (string): the token with the highest direct logit; null without one
// column frequency (double): share of tokens on which the feature is active
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})
WHERE f.logit_agreement IS NOT NULL
OPTIONAL MATCH (f)-[:PROMOTES {rank: 0}]->(t:Token)
RETURN f.id AS feature, f.logit_agreement AS agreement, f.logit_agreement_control AS control,
       f.logit_agreement_p AS p, f.logit_positions AS positions, t.text AS promotes,
       f.frequency AS frequency
ORDER BY agreement DESC, f.idx
LIMIT 20 /* $limit */
