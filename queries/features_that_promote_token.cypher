// title: Features that promote a token
// question: Which features make this token more likely directly, and was that measured?
// topic: Logits and effects
// param token (string, such as ' girl'): text of the token, its leading space included
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column value (double): logit that one unit of activation adds directly
// column rank (int64): 0 if the feature promotes no token more
// column ablated_change (double): mean change of its log-probability by ablation; null: not sampled
// column frequency (double): share of tokens on which the feature is active
// column top_token (string): the token the feature is active on most often
MATCH (t:Token {text: ' girl' /* $token */})<-[r:PROMOTES]-(f:Feature)-[:IN_SAE]->(s:SAE)
WHERE '' /* $sae */ IN ['', s.name]
RETURN f.id AS feature, r.value AS value, r.rank AS rank, r.ablated_change AS ablated_change,
       f.frequency AS frequency, f.top_token AS top_token
ORDER BY value DESC, f.sae, f.idx, rank
LIMIT 20 /* $limit */
