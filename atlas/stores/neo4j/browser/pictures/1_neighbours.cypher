// title: A feature and its neighbours
// question: The 25 features that are most strongly active together with it, and the edges among them.
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
MATCH p = (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:CO_ACTIVATES]-(g:Feature)
RETURN p
ORDER BY r.weight DESC
LIMIT 25
