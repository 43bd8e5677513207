// title: Its community
// question: The community of the feature, and the 25 members with the largest share of their edges inside. Empty until `atlas communities SAE` and a push.
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
MATCH own = (:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[:IN_COMMUNITY]->(c:Community)
MATCH p = (c)<-[m:IN_COMMUNITY]-(g:Feature)
RETURN own, p
ORDER BY m.inner_share DESC, g.idx
LIMIT 25
