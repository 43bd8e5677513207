// title: Drivers of a feature
// question: Which features of SAEs at earlier sites change this feature most as they are ablated?
// topic: Logits and effects
// param feature (feature, such as 'tiny-a-l1-s0/7'): the target, as `sae/index`
// param sae (SAE, default ''): only sources in this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// answer: mean, q
// column hook (string): site that the SAE of the source reads
// column source (string): the source
// column top_token (string): token on which the source is active most often; null: none stored
// column mean (double): change summed over the ablated token and later ones; < 0: raised by source
// column low (double): lower limit of its 95% interval over documents
// column high (double): upper limit
// column share (double): share of tokens with this sign, above a random direction
// column rank (int64): number of stronger targets of the source
// column q (double): false discovery rate
MATCH (s:SAE)<-[:IN_SAE]-(f:Feature)-[e:AFFECTS]->(g:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})
WHERE '' /* $sae */ IN ['', f.sae]
MATCH (s)-[:READS]->(p:Site)
RETURN p.hook AS hook, f.id AS source, f.top_token AS top_token, e.mean AS mean, e.low AS low,
       e.high AS high, e.share AS share, e.rank AS rank, e.q AS q
ORDER BY abs(e.mean) DESC, f.sae, f.idx
LIMIT 20 /* $limit */
