// title: Features in a range of frequency
// question: Which features of an SAE have a frequency within these limits?
// topic: Features of an SAE
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// param low (double, default 0.001): smallest frequency, itself included
// param high (double, default 0.01): largest frequency, itself included
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column frequency (double): share of tokens on which it is active
// column active_tokens (int64): tokens on which it is active
// column mean_activation (double): mean activation where active
// column max_activation (double): largest activation
// column top_token (string): the token it is active on most often
MATCH (f:Feature)-[:IN_SAE]->(s:SAE {name: 'tiny-a-l1-s0' /* $sae */})
WHERE f.frequency >= 0.001 /* $low */ AND f.frequency <= 0.01 /* $high */
RETURN f.id AS feature, f.frequency AS frequency, f.active_tokens AS active_tokens,
       f.mean_activation AS mean_activation, f.max_activation AS max_activation,
       f.top_token AS top_token
ORDER BY active_tokens DESC, f.idx
LIMIT 20 /* $limit */
