// title: Counterpart of a community
// question: In which communities of another SAE are the counterparts of a community's features?
// topic: Counterparts in other SAEs
// param sae_a (SAE, such as 'tiny-a-l1-s0'): name of the one SAE
// param sae_b (SAE, such as 'tiny-a-l1-s1'): name of the other SAE
// param community (int64, default 0): number of the community in the one SAE
// param max_q (double, default 0.05): largest q of a counterpart; 1.0 includes those not tested
// param max_token_q (double, default 0.05): the same of the shuffle within tokens; 1.0 for all
// matched: sae_a, sae_b
// column other (int64): number of the community in the other SAE
// column tokens (string[]): tokens that distinguish that community
// column size (int64): features in that one
// column pairs (int64): one-to-one matches between both communities
// column share (double): `pairs` / matches of this community
// column by_size (double): the same by chance: matches of that community / all matches
// column lift (double): `share` / `by_size`
// column overlap (double): `pairs` / matches of either community
MATCH (one:SAE {name: 'tiny-a-l1-s0' /* $sae_a */})<-[:IN_SAE]-(a:Feature)
MATCH (a)-[m:MATCHES]-(b:Feature)-[:IN_SAE]->(two:SAE {name: 'tiny-a-l1-s1' /* $sae_b */})
WITH one, two, a, b, m, 0 /* $community */ AS wanted, 0.05 /* $max_q */ AS max_q,
     0.05 /* $max_token_q */ AS max_token_q
WHERE m.one_to_one = true AND coalesce(m.q, 1.0) <= max_q
  AND coalesce(m.token_q, 1.0) <= max_token_q
  AND a.community IS NOT NULL AND b.community IS NOT NULL
WITH one, two, wanted, max_q, max_token_q, count(*) AS known,
     count(CASE WHEN a.community = wanted THEN 1 END) AS mine
MATCH (one)<-[:IN_SAE]-(a:Feature)
MATCH (a)-[m:MATCHES]-(b:Feature)-[:IN_SAE]->(two)
WHERE m.one_to_one = true AND coalesce(m.q, 1.0) <= max_q
  AND coalesce(m.token_q, 1.0) <= max_token_q AND a.community IS NOT NULL
WITH a, b, wanted, known, mine
MATCH (b)-[:IN_COMMUNITY]->(c:Community)
WITH c, known, mine, count(*) AS there, count(CASE WHEN a.community = wanted THEN 1 END) AS pairs
WHERE pairs > 0
WITH c, pairs, mine, there, 1.0 * pairs / mine AS share, 1.0 * there / known AS by_size
RETURN c.number AS other, c.tokens AS tokens, c.size AS size, pairs, share, by_size,
       share / by_size AS lift, 1.0 * pairs / (mine + there - pairs) AS overlap
ORDER BY pairs DESC, other
