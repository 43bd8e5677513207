// title: Similarity of the spaces of SAEs
// question: Which matched SAEs have similar spaces, and how similar are they under a null?
// topic: Counterparts in other SAEs
// answer: sae_b
// column sae_a (string): the one SAE
// column sae_b (string): the other SAE
// column pairs (int64): one-to-one matches that were compared
// column decoder_svcca (double): SVCCA of decoder rows; null: not defined
// column decoder_svcca_null (double): mean for shuffled pairs
// column decoder_svcca_p (double): p under shuffled pairs
// column decoder_cka (double): linear CKA of decoder rows; null: not defined
// column decoder_cka_null (double): mean for shuffled pairs
// column decoder_cka_p (double): p under shuffled pairs
// column decoder_rsa (double): RSA of decoder rows; null: not defined
// column decoder_rsa_null (double): mean for shuffled pairs
// column decoder_rsa_p (double): p under shuffled pairs
// column decoder_knn_jaccard (double): neighbour overlap of decoder rows; null: not defined
// column decoder_knn_jaccard_null (double): mean for shuffled pairs
// column decoder_knn_jaccard_p (double): p under shuffled pairs
// column activation_svcca (double): SVCCA of activations; null: not defined
// column activation_svcca_null (double): mean with documents shifted: its points are tokens
// column activation_svcca_p (double): p with documents shifted
// column activation_cka (double): linear CKA of activations; null: not defined
// column activation_cka_null (double): mean with documents shifted: its points are tokens
// column activation_cka_p (double): p with documents shifted
// column activation_rsa (double): RSA of activations; null: not defined
// column activation_rsa_null (double): mean for shuffled pairs
// column activation_rsa_p (double): p under shuffled pairs
// column activation_knn_jaccard (double): neighbour overlap of activations; null: not defined
// column activation_knn_jaccard_null (double): mean for shuffled pairs
// column activation_knn_jaccard_p (double): p under shuffled pairs
// column unique_ab (double): different best partners in B / features of A with a best partner
// column unique_ab_null (double): `unique_ab` of random partners; null: none has a partner
// column unique_ba (double): the same, from B to A; null: none has a partner
// column unique_ba_null (double): `unique_ba` of random partners; null: none has a partner
MATCH (a:SAE)-[r:COMPARED_WITH]->(b:SAE)
WHERE r.similarity_pairs IS NOT NULL
RETURN a.name AS sae_a, b.name AS sae_b, r.similarity_pairs AS pairs,
       r.decoder_svcca AS decoder_svcca, r.decoder_svcca_null AS decoder_svcca_null,
       r.decoder_svcca_p AS decoder_svcca_p,
       r.decoder_cka AS decoder_cka, r.decoder_cka_null AS decoder_cka_null,
       r.decoder_cka_p AS decoder_cka_p,
       r.decoder_rsa AS decoder_rsa, r.decoder_rsa_null AS decoder_rsa_null,
       r.decoder_rsa_p AS decoder_rsa_p,
       r.decoder_knn_jaccard AS decoder_knn_jaccard,
       r.decoder_knn_jaccard_null AS decoder_knn_jaccard_null,
       r.decoder_knn_jaccard_p AS decoder_knn_jaccard_p,
       r.activation_svcca AS activation_svcca, r.activation_svcca_null AS activation_svcca_null,
       r.activation_svcca_p AS activation_svcca_p,
       r.activation_cka AS activation_cka, r.activation_cka_null AS activation_cka_null,
       r.activation_cka_p AS activation_cka_p,
       r.activation_rsa AS activation_rsa, r.activation_rsa_null AS activation_rsa_null,
       r.activation_rsa_p AS activation_rsa_p,
       r.activation_knn_jaccard AS activation_knn_jaccard,
       r.activation_knn_jaccard_null AS activation_knn_jaccard_null,
       r.activation_knn_jaccard_p AS activation_knn_jaccard_p,
       r.unique_ab AS unique_ab, r.unique_ab_null AS unique_ab_null, r.unique_ba AS unique_ba,
       r.unique_ba_null AS unique_ba_null
ORDER BY sae_a, sae_b
