// title: Probes' scores by layer
// question: How well does each site of a model predict the features of the SAEs of each layer?
// topic: Probes and maps
// param model (model, such as 'tiny-a'): name of the model
// param run (string, default 'document/active/l2=0.001'): which probe, as `split/kind/l2=penalty`
// answer: site, balanced_accuracy, token_ceiling
// column layer (int64): the block that the SAE reads, from 0; null at the embedding
// column sae (string): name of the SAE
// column site_layer (int64): the block of the site probed; null at the embedding
// column site (string): the site probed, as `model/hook name`
// column features (int64): number of features probed there
// column balanced_accuracy (double): mean score of their probes; 0.5 is chance
// column token_ceiling (double): mean of the best scores of any function of the token id
// column token (int64): features of verdict 'token'
// column beyond_token (int64): features of verdict 'beyond token'
MATCH (s:SAE)-[:READS]->(h:Site {model: 'tiny-a' /* $model */})
WITH s, h
MATCH (s)<-[:IN_SAE]-(f:Feature)-[e:PREDICTED_FROM]->(p:Site)
WHERE e.run = 'document/active/l2=0.001' /* $run */ AND e.balanced_accuracy IS NOT NULL
RETURN h.layer AS layer, s.name AS sae, p.layer AS site_layer, p.id AS site,
       count(*) AS features, round(avg(e.balanced_accuracy), 6) AS balanced_accuracy,
       round(avg(e.token_ceiling), 6) AS token_ceiling,
       count(CASE WHEN e.verdict = 'token' THEN 1 END) AS token,
       count(CASE WHEN e.verdict = 'beyond token' THEN 1 END) AS beyond_token
ORDER BY coalesce(layer, -1), sae, coalesce(site_layer, -1), site
