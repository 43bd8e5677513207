// title: Probes of a feature
// question: From which sites of the model is this feature predictable, and how well?
// topic: Probes and maps
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// answer: balanced_accuracy, token_ceiling, r2, verdict
// column site (string): the site probed, as `model/hook name`
// column layer (int64): the block of the site, from 0; null at the embedding
// column run (string): which probe, as `split/kind/l2=penalty`
// column positives (int64): validation tokens on which the feature is active
// column balanced_accuracy (double): the probe's score, 0.5 is chance; null for an amount
// column low (double): lower limit of the 95% interval of the score; null: not computed
// column high (double): upper limit of that interval; null: not computed
// column token_table (double): score of a table of training counts by token id; null for an amount
// column token_ceiling (double): best score of any function of the token id; null for an amount
// column control (double): mean score of probes of random tasks on token ids; null: none drawn
// column selectivity (double): score on the same tokens - `control`; null: none drawn
// column r2 (double): share of the activation's variance predicted; null: not of an amount
// column r2_token_ceiling (double): most that the token id predicts; null: not of an amount
// column verdict (string): 'token', 'beyond token', 'context' or 'undecided'; null for an amount
// column how (string): for 'token': 'linear' or 'lookup'; null: another verdict
// column context_by (string): for 'context': 'position' or 'bigram' predicts it; null: neither
// column generalises (bool): also predictable on token ids not trained on; null: not tested
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[e:PREDICTED_FROM]->(p:Site)
RETURN p.id AS site, p.layer AS layer, e.run AS run, e.positives AS positives,
       e.balanced_accuracy AS balanced_accuracy, e.low AS low, e.high AS high,
       e.token_table AS token_table, e.token_ceiling AS token_ceiling, e.control AS control,
       e.selectivity AS selectivity, e.r2 AS r2, e.r2_token_ceiling AS r2_token_ceiling,
       e.verdict AS verdict, e.how AS how, e.context_by AS context_by,
       e.generalises AS generalises
ORDER BY coalesce(layer, -1), site, run
