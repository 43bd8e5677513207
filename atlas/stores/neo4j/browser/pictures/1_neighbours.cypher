// title: A feature and its neighbours
// question: The 20 features that are most strongly active together with it, and for each of them its two strongest edges to the others.
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:CO_ACTIVATES]-(g:Feature)
WITH f, r, g
ORDER BY r.weight DESC, g.idx
LIMIT 20
WITH f, collect(g) AS near
UNWIND near AS g
MATCH p = (f)-[:CO_ACTIVATES]-(g)
RETURN p, COLLECT {
  MATCH q = (g)-[s:CO_ACTIVATES]-(h:Feature)
  WHERE h IN near
  RETURN q
  ORDER BY s.weight DESC, h.idx
  LIMIT 2
} AS among
