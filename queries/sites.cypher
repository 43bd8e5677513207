// title: Sites with SAEs
// question: Which sites of which models does the atlas store, and how many SAEs read each?
// topic: SAEs and sites
// column site (string): the site, as `model/hook name`
// column model (string): name of the model
// column layer (int64): the block of the site, from 0; null at the embedding
// column width (int64): length of the vectors there
// column saes (int64): number of SAEs that read it
MATCH (s:SAE)-[:READS]->(p:Site)-[:OF_MODEL]->(m:Model)
RETURN p.id AS site, m.name AS model, p.layer AS layer, p.width AS width, count(s) AS saes
ORDER BY model, coalesce(layer, -1), site
