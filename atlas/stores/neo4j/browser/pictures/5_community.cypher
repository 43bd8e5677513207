// title: Its community
// question: The community of the feature, and the 25 members with the largest share of their edges inside.
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[:IN_COMMUNITY]->(c:Community)
MATCH p = (c)<-[m:IN_COMMUNITY]-(:Feature)
RETURN p
ORDER BY m.inner_share DESC
LIMIT 25
