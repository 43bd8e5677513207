// title: Comparisons of SAEs
// question: How much do matched SAEs have in common, and how much do null models explain?
// topic: Counterparts in other SAEs
// answer: sae_b, one_to_one, beyond_token
// column sae_a (string): the one SAE
// column sae_b (string): the other SAE
// column one_to_one (int64): pairs that are partners in the best one-to-one assignment
// column beyond_token (int64): one to one, q <= 0.05 in all three nulls; null: no third null
// column undecided (int64): one to one; the third null cannot move most activations; null: no third
// column best_ab (double): mean, over live features of the one, of the best correlation
// column token_document_null_best_ab (double): best_ab, shuffled within documents; null: not drawn
// column significant (int64): one to one, q <= 0.05 when documents are shifted; null: not drawn
// column mutual (int64): pairs of features, each the other's best
// column matches (int64): pairs of features stored
// column null_best_ab (double): best_ab when documents are shifted; null: not drawn
// column token_null_best_ab (double): best_ab when occurrences are shuffled; null: not drawn
// column best_ba (double): mean, over live features of the other, of the best correlation
// column token_document_null_best_ba (double): best_ba, shuffled within documents; null: not drawn
// column null_best_ba (double): best_ba when documents are shifted; null: not drawn
// column token_null_best_ba (double): best_ba when occurrences are shuffled; null: not drawn
// column null_threshold (double): best correlation that 5% pass, documents shifted; null: not drawn
// column token_null_threshold (double): the same, occurrences shuffled; null: not drawn
// column token_document_null_threshold (double): the same, within documents; null: not drawn
// column draws (int64): draws of each null
// column p_floor (double): lowest p that this number of draws can give
// column draws_needed (int64): draws with which 10 matches can get q <= 0.05 in each null
// column tokens (int64): tokens (or words) over which they were correlated
// column alignment (string): 'tokens', or 'words' where the tokenizers differ
MATCH (a:SAE)-[r:COMPARED_WITH]->(b:SAE)
RETURN a.name AS sae_a, b.name AS sae_b, r.one_to_one AS one_to_one,
       r.beyond_token AS beyond_token, r.undecided AS undecided, r.best_ab AS best_ab,
       r.token_document_null_best_ab AS token_document_null_best_ab, r.significant AS significant,
       r.mutual AS mutual, r.matches AS matches, r.null_best_ab AS null_best_ab,
       r.token_null_best_ab AS token_null_best_ab, r.best_ba AS best_ba,
       r.token_document_null_best_ba AS token_document_null_best_ba,
       r.null_best_ba AS null_best_ba, r.token_null_best_ba AS token_null_best_ba,
       r.null_threshold AS null_threshold, r.token_null_threshold AS token_null_threshold,
       r.token_document_null_threshold AS token_document_null_threshold, r.draws AS draws,
       r.p_floor AS p_floor, r.draws_needed AS draws_needed, r.tokens AS tokens,
       r.alignment AS alignment
ORDER BY sae_a, sae_b
