// title: Its best matches
// question: Its 25 best matches in other SAEs, with those SAEs.
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
MATCH p = (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[m:MATCHES]-(g:Feature)-[:IN_SAE]->(s:SAE)
RETURN p
ORDER BY m.pearson DESC, g.id
LIMIT 25
