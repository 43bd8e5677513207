// title: Effect by frequency
// question: Do frequent features change the predictions more than rare ones, and than controls?
// topic: Logits and effects
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// column bin (int64): number of the bin, rising with frequency
// column frequency (string): the bin's range; the lower end belongs to it
// column features (int64): number of features measured in it; empty bins have no row
// column kl (double): mean over features of KL, summed over the ablated token and later ones
// column random (double): the same for random directions of equal norm
// column other (double): the same for other features at the same tokens
// column ce (double): mean change of the cross-entropy, summed in the same way
// column above_random (int64): features of which the KL exceeds random directions, q ≤ 0.05
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})
WHERE f.effect_kl IS NOT NULL AND f.frequency > 0.0
WITH f, CASE WHEN f.frequency < 0.00001 THEN 1 WHEN f.frequency < 0.0001 THEN 2
             WHEN f.frequency < 0.001 THEN 3 WHEN f.frequency < 0.01 THEN 4
             WHEN f.frequency < 0.1 THEN 5 ELSE 6 END AS bin
WITH bin, count(*) AS features, avg(f.effect_kl + f.effect_kl_later) AS kl,
     avg(f.effect_kl_random) AS random, avg(f.effect_kl_other) AS other,
     avg(f.effect_ce + f.effect_ce_later) AS ce,
     count(CASE WHEN f.effect_q <= 0.05 THEN 1 END) AS above_random
RETURN bin,
       CASE bin WHEN 1 THEN '< 0.00001' WHEN 2 THEN '0.00001 - 0.0001'
                WHEN 3 THEN '0.0001 - 0.001' WHEN 4 THEN '0.001 - 0.01' WHEN 5 THEN '0.01 - 0.1'
                ELSE '0.1 - 1' END AS frequency,
       features, round(kl, 6) AS kl, round(random, 6) AS random, round(other, 6) AS other,
       round(ce, 6) AS ce, above_random
ORDER BY bin
