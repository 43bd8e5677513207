// title: Topology of decoders
// question: Which decoders have clusters, loops or voids beyond random directions?
// topic: Directions
// column sae (string): name of the SAE
// column homology_p (double): p of persistent homology, under the null that it exceeds least
// column mapper_p (double): p of Mapper graphs, under the null that they exceed least
// column h0 (double): longest death / median death of H0; geometric mean over repeats
// column h1 (double): longest death / birth of H1; geometric mean
// column h2 (double): longest death / birth of H2; geometric mean
MATCH (s:SAE)
WHERE s.homology_p IS NOT NULL
RETURN s.name AS sae, s.homology_p AS homology_p, s.mapper_p AS mapper_p, s.homology_h0 AS h0,
       s.homology_h1 AS h1, s.homology_h2 AS h2
ORDER BY homology_p, sae
