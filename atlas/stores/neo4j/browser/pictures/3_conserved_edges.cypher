// title: Its conserved edges
// question: Neighbours whose counterparts are also active together with its own counterpart; 25 at most.
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
MATCH p = (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:CO_ACTIVATES]-(g:Feature)
MATCH q = (f)-[:MATCHES {one_to_one: true}]-(:Feature)-[:CO_ACTIVATES]-(h:Feature)
MATCH s = (h)-[:MATCHES {one_to_one: true}]-(g)
RETURN p, q, s
ORDER BY r.weight DESC, g.id, h.id
LIMIT 25
