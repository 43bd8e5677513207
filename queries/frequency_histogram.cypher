// title: Histogram of feature frequency
// question: How are the frequencies of an SAE's features spread, by powers of ten?
// topic: SAEs and sites
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// column bin (int64): number of the bin, 0 for dead features, then rising with frequency
// column frequency (string): the bin's range; the lower end belongs to it
// column features (int64): number of features in it; empty bins have no row
// column share (double): `features` / the SAE's number of features
MATCH (f:Feature)-[:IN_SAE]->(s:SAE {name: 'tiny-a-l1-s0' /* $sae */})
WHERE f.frequency IS NOT NULL
WITH s.d_sae AS d_sae,
     CASE WHEN f.frequency = 0.0 THEN 0 WHEN f.frequency < 0.00001 THEN 1
          WHEN f.frequency < 0.0001 THEN 2 WHEN f.frequency < 0.001 THEN 3
          WHEN f.frequency < 0.01 THEN 4 WHEN f.frequency < 0.1 THEN 5 ELSE 6 END AS bin
WITH d_sae, bin, count(*) AS features
RETURN bin,
       CASE bin WHEN 0 THEN '0' WHEN 1 THEN '< 0.00001' WHEN 2 THEN '0.00001 - 0.0001'
                WHEN 3 THEN '0.0001 - 0.001' WHEN 4 THEN '0.001 - 0.01' WHEN 5 THEN '0.01 - 0.1'
                ELSE '0.1 - 1' END AS frequency,
       features, 1.0 * features / d_sae AS share
ORDER BY bin
