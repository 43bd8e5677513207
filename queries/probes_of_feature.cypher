// title: Probes of a feature
// question: From which sites of the model is this feature predictable, and how well?
// topic: Probes and maps
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// column site (string): the site probed, as `model/hook name`
// column layer (int64): the block of the site, from 0; null at the embedding
// column run (string): which probe, as `split/kind/l2=penalty`
// column positives (int64): validation tokens on which the feature is active
// column balanced_accuracy (double): the probe's score, 0.5 is chance; null for an amount
// column low (double): lower limit of its 95% interval
// column high (double): upper limit of its 95% interval
// column token_table (double): score of a table of training counts by token id
// column token_ceiling (double): best score of any function of the token id
// column control (double): mean score of probes of random tasks on token ids
// column selectivity (double): the probe's score on the same tokens - `control`
// column r2 (double): of an amount: share of the activation's variance predicted
// column r2_token_ceiling (double): the most that any function of the token id predicts
// column verdict (string): 'token', 'beyond token', 'context' or 'undecided'; null for an amount
// column how (string): for 'token': 'linear' or 'lookup'
// column context_by (string): for 'context': 'position' or 'bigram', if either predicts it
// column generalises (bool): also predictable on token ids not trained on; null: not tested
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[e:PREDICTED_FROM]->(p:Site)
RETURN p.id AS site, p.layer AS layer, e.run AS run, e.positives AS positives,
       e.balanced_accuracy AS balanced_accuracy, e.low AS low, e.high AS high,
       e.token_table AS token_table, e.token_ceiling AS token_ceiling, e.control AS control,
       e.selectivity AS selectivity, e.r2 AS r2, e.r2_token_ceiling AS r2_token_ceiling,
       e.verdict AS verdict, e.how AS how, e.context_by AS context_by,
       e.generalises AS generalises
ORDER BY coalesce(layer, -1), site, run
