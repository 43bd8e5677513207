// title: Comparisons of SAEs
// question: How much do matched SAEs have in common, and how much do null models explain?
// topic: Counterparts in other SAEs
// column sae_a (string): the one SAE
// column sae_b (string): the other SAE
// column alignment (string): 'tokens', or 'words' where the tokenizers differ
// column tokens (int64): tokens (or words) over which they were correlated
// column matches (int64): pairs of features stored
// column mutual (int64): of these, each the other's best
// column one_to_one (int64): of these, partners in the best assignment
// column significant (int64): one to one, with q <= 0.05 when documents are shifted
// column beyond_token (int64): of these, with q <= 0.05 in all; null: matched without the third
// column undecided (int64): clear two nulls, and the third cannot move most activations
// column best_ab (double): mean, over live features of the one, of the best correlation
// column null_best_ab (double): the same when documents are shifted (null)
// column token_null_best_ab (double): the same when occurrences are shuffled
// column token_document_null_best_ab (double): the same when shuffled within each document
// column best_ba (double): mean, over live features of the other, of the best correlation
// column null_best_ba (double): the same when documents are shifted
// column token_null_best_ba (double): the same when occurrences are shuffled
// column token_document_null_best_ba (double): the same when shuffled within each document
// column null_threshold (double): best correlation that 5% of features pass by chance
// column token_null_threshold (double): the same when occurrences are shuffled
// column token_document_null_threshold (double): the same when shuffled within each document
// column draws (int64): draws of each null
// column p_floor (double): lowest p that this number of draws can give
// column draws_needed (int64): draws with which 10 matches can get q <= 0.05 in each null
MATCH (a:SAE)-[r:COMPARED_WITH]->(b:SAE)
RETURN a.name AS sae_a, b.name AS sae_b, r.alignment AS alignment, r.tokens AS tokens,
       r.matches AS matches, r.mutual AS mutual, r.one_to_one AS one_to_one,
       r.significant AS significant, r.beyond_token AS beyond_token, r.undecided AS undecided,
       r.best_ab AS best_ab, r.null_best_ab AS null_best_ab,
       r.token_null_best_ab AS token_null_best_ab,
       r.token_document_null_best_ab AS token_document_null_best_ab,
       r.best_ba AS best_ba, r.null_best_ba AS null_best_ba,
       r.token_null_best_ba AS token_null_best_ba,
       r.token_document_null_best_ba AS token_document_null_best_ba,
       r.null_threshold AS null_threshold, r.token_null_threshold AS token_null_threshold,
       r.token_document_null_threshold AS token_document_null_threshold,
       r.draws AS draws, r.p_floor AS p_floor, r.draws_needed AS draws_needed
ORDER BY sae_a, sae_b
