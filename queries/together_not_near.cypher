// title: Active together, orthogonal in direction
// question: Which features are active together, with nearly orthogonal decoder directions?
// topic: Directions
// param sae (SAE, such as 'tiny-a-l1-s0'): the SAE, after `atlas directions`
// param min_count (int64, default 1): only pairs of at least N tokens
// param max_cosine (double, default 0.1): largest absolute cosine of the decoder rows
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature of lower index
// column other (string): the feature that is active with it
// column weight (double): mean cosine of both activations around the tokens of `count`
// column count (int64): tokens among whose most active features both are
// column lift (double): tokens with both active / its expected value
// column cosine (double): cosine of both decoder rows
// column top_token (string): the token the feature is active on most often
// column other_top_token (string): the token the other is active on most often
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})-[c:CO_ACTIVATES]->(g:Feature)
WHERE c.count >= 1 /* $min_count */ AND abs(c.decoder_cosine) <= 0.1 /* $max_cosine */
RETURN f.id AS feature, g.id AS other, c.weight AS weight, c.count AS count, c.lift AS lift,
       c.decoder_cosine AS cosine, f.top_token AS top_token, g.top_token AS other_top_token
ORDER BY weight DESC, count DESC, f.idx, g.idx
LIMIT 20 /* $limit */
