// title: Most frequent features
// question: Which features of an SAE are active on the most tokens?
// topic: Features of an SAE
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column frequency (double): share of tokens on which it is active
// column active_tokens (int64): tokens on which it is active
// column mean_activation (double): mean activation where active
// column max_activation (double): largest activation
// column top_token (string): the token it is active on most often
MATCH (f:Feature)-[:IN_SAE]->(s:SAE {name: 'tiny-a-l1-s0' /* $sae */})
WHERE f.active_tokens > 0
RETURN f.id AS feature, f.frequency AS frequency, f.active_tokens AS active_tokens,
       f.mean_activation AS mean_activation, f.max_activation AS max_activation,
       f.top_token AS top_token
ORDER BY active_tokens DESC, f.idx
LIMIT 20 /* $limit */
