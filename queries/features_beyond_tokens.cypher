// title: Features that tokens do not describe
// question: Which features of an SAE depend most on the context of their tokens?
// topic: Features of an SAE
// param sae (SAE, such as 'tiny-a-l1-s0'): the SAE
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column top_token (string): token on which it is active most often
// column context_dependence (double): share of other occurrences on which it is inactive
// column detection (double): balanced accuracy of a description by tokens, on held-out documents
// column control (double): the same with the description of another feature
// column token_entropy (double): entropy of the token ids of active tokens, in bits
// column frequency (double): share of tokens on which it is active
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})
WHERE f.context_dependence IS NOT NULL
RETURN f.id AS feature, f.top_token AS top_token, f.context_dependence AS context_dependence,
       f.detection AS detection, f.detection_control AS control,
       f.token_entropy AS token_entropy, f.frequency AS frequency
ORDER BY context_dependence DESC, f.idx
LIMIT 20 /* $limit */
