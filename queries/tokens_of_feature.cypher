// title: Tokens of a feature
// question: On which tokens is this feature active most often?
// topic: One feature
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// param limit (int64, default 20): number of rows at most
// column rank (int64): 0 is the token it is active on most often
// column token (string): text of the token, its leading space included
// column count (int64): times the feature is active on it
// column share (double): `count` / all tokens the feature is active on
// column expected_share (double): times the token occurs / all tokens of the text
// column rate (double): `count` / times the token occurs
// column mean_activation (double): mean activation on it, where active
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:FIRES_ON]->(t:Token)
RETURN r.rank AS rank, t.text AS token, r.count AS count, r.share AS share,
       round(f.frequency * r.share / r.rate, 9) AS expected_share, r.rate AS rate,
       r.mean_activation AS mean_activation
ORDER BY rank
LIMIT 20 /* $limit */
