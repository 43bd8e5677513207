// title: Quality of transcoders
// question: How much of each site do an affine map of another site and the token id predict?
// topic: Probes and maps
// param model (model, such as 'tiny-a'): name of the model
// answer: target, r2_weighted, token_r2_weighted
// column source_layer (int64): block of the site that is mapped from; null at the embedding
// column source (string): that site, as `model/hook name`
// column target_layer (int64): block of the site that is mapped to; null at the embedding
// column target (string): that site
// column run (string): `method/corpus`
// column tokens (int64): tokens in all
// column r2_weighted (double): variance that the map predicts, held out; null: not scored
// column r2_low (double): lower limit of its 95% interval; null: not scored
// column r2_high (double): upper limit of its 95% interval; null: not scored
// column token_r2_weighted (double): what means of each token id predict; null: not scored
// column token_r2_low (double): lower limit of its 95% interval; null: not scored
// column token_r2_high (double): upper limit of its 95% interval; null: not scored
// column token_difference (double): `r2_weighted` - `token_r2_weighted`; null: one is null
// column token_difference_low (double): lower limit, paired by documents; null: not scored
// column token_difference_high (double): upper limit of that interval; null: not scored
// column r2 (double): mean over dimensions, held out; null: not scored
// column token_r2 (double): the same of the means of each token id; null: not scored
// column r2_in_sample_weighted (double): on the tokens it was fitted on; null: not scored
// column token_eta2_weighted (double): in sample, limit of maps of the embedding; null: not scored
// column token_omega2_weighted (double): corrected for the number of ids; null: not scored
// column r2_with_bos_weighted (double): with BOS among the tokens; null: no BOS, or not scored
// column r2_published (double): as the original study: BOS, one mean, in sample; null: not scored
// column bos_share (double): share of the error of the map with BOS that is on BOS tokens
MATCH (m:Model {name: 'tiny-a' /* $model */})<-[:OF_MODEL]-(a:Site)-[e:MAPS_TO]->(b:Site)
RETURN DISTINCT
       a.layer AS source_layer, a.id AS source, b.layer AS target_layer, b.id AS target,
       e.run AS run, e.tokens AS tokens, e.r2_weighted AS r2_weighted, e.r2_low AS r2_low,
       e.r2_high AS r2_high, e.token_r2_weighted AS token_r2_weighted,
       e.token_r2_low AS token_r2_low, e.token_r2_high AS token_r2_high,
       e.r2_weighted - e.token_r2_weighted AS token_difference,
       e.token_difference_low AS token_difference_low,
       e.token_difference_high AS token_difference_high, e.r2 AS r2, e.token_r2 AS token_r2,
       e.r2_in_sample_weighted AS r2_in_sample_weighted,
       e.token_eta2_weighted AS token_eta2_weighted,
       e.token_omega2_weighted AS token_omega2_weighted,
       e.r2_with_bos_weighted AS r2_with_bos_weighted, e.r2_published AS r2_published,
       e.bos_share AS bos_share
ORDER BY coalesce(source_layer, -1), source, coalesce(target_layer, -1), target, run
