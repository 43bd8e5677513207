// title: Features of a list of tokens
// question: Which features have the largest share of their active tokens among these tokens?
// topic: Tokens and text
// param tokens (string[], such as [' he', ' she', ' him', ' her']): texts of the tokens
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param min_active (int64, default 20): only features active on at least this many tokens
// param min_rate (double, default 0.05): only features active on this share of their occurrences
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature; those of floors are last
// column share (double): share of its active tokens that are these; of its commonest tokens only
// column expected_share (double): share of all tokens of the text that are the tokens found
// column rate (double): share of the occurrences of the tokens found on which it is active
// column found (int64): how many texts of the list are among its commonest tokens
// column frequency (double): share of tokens on which it is active
// column top_token (string): the token it is active on most often
// column floor (bool): whether its SAE was not trained completely, or its model has random weights
MATCH (t:Token)<-[r:FIRES_ON]-(f:Feature)-[:IN_SAE]->(s:SAE)
WHERE t.text IN [' he', ' she', ' him', ' her'] /* $tokens */ AND '' /* $sae */ IN ['', s.name]
  AND f.active_tokens >= 20 /* $min_active */
WITH f, coalesce(s.role, 'trained') <> 'trained' OR coalesce(s.random_model, false) AS floor,
     round(sum(r.share), 6) AS share,
     round(sum(f.frequency * r.share / r.rate), 6) AS expected_share,
     round(f.frequency * sum(r.share) / sum(f.frequency * r.share / r.rate), 6) AS rate,
     count(DISTINCT t.text) AS found
WHERE rate >= 0.05 /* $min_rate */
RETURN f.id AS feature, share, expected_share, rate, found, f.frequency AS frequency,
       f.top_token AS top_token, floor
ORDER BY floor, share DESC, found DESC, f.sae, f.idx
LIMIT 20 /* $limit */
