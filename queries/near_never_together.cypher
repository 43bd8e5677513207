// title: Near in direction, never active together
// question: Which features have similar decoder directions but are never active together?
// topic: Directions
// param sae (SAE, such as 'tiny-a-l1-s0'): the SAE
// param min_cosine (double, default 0.5): lowest cosine of the decoder rows
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column near (string): the other feature; both are never among the most active of one token
// column cosine (double): cosine of both decoder rows
// column q (double): Benjamini-Hochberg value against random directions; null without draws
// column top_token (string): the token the feature is active on most often
// column near_top_token (string): the token the other is active on most often
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})-[r:NEAR_DIRECTION]-(g:Feature)
WHERE g.sae = f.sae AND f.idx < g.idx AND r.cosine >= 0.5 /* $min_cosine */
WITH f, g, max(r.cosine) AS cosine, min(r.q) AS q
WHERE NOT EXISTS { MATCH (f)-[:CO_ACTIVATES]-(g) }
RETURN f.id AS feature, g.id AS near, cosine, q, f.top_token AS top_token,
       g.top_token AS near_top_token
ORDER BY cosine DESC, f.idx, g.idx
LIMIT 20 /* $limit */
