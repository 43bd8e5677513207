// title: Top examples of a feature
// question: In which passages of the text is this feature most active?
// topic: One feature
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param limit (int64, default 20): number of rows at most
// column rank (int64): 0 is the highest activation
// column activation (double): the activation on the sampled token
// column text (string): the text around the sampled token
// column tokens (string[]): the same as tokens
// column activations (double[]): the feature's activation on each token
// column peak (int64): index of the sampled token in `tokens`, from 0
// column document (int64): which document of the corpus, from 0
// column start (int64): where the sampled token begins in the document, in characters
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[:SHOWN_BY]->(e:Example)
WHERE e.kind = 'top'
RETURN e.rank AS rank, e.activation AS activation, e.text AS text, e.tokens AS tokens,
       e.activations AS activations, e.peak AS peak, e.document AS document, e.start AS start
ORDER BY rank
LIMIT 20 /* $limit */
