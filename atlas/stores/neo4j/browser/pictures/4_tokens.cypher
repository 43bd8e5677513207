// title: Its tokens
// question: The 15 tokens on which it is active most often.
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
MATCH p = (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:FIRES_ON]->(:Token)
RETURN p
ORDER BY r.rank
LIMIT 15
