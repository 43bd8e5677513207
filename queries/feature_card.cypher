// title: Card of a feature
// question: What does the atlas store about this feature?
// topic: One feature
// param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
// column feature (string): the feature
// column sae (string): its SAE
// column model (string): the model the SAE reads
// column hook (string): the site, by TransformerLens name
// column frequency (double): share of tokens on which it is active
// column active_tokens (int64): tokens on which it is active
// column mean_activation (double): mean activation where active; null if dead
// column std_activation (double): standard deviation of the activation where active; null if dead
// column max_activation (double): largest activation; null if dead
// column dead (bool): never active in the tokens counted
// column top_tokens (string[]): up to ten tokens it is active on most often, the commonest first
// column neuronpedia (string): address of its page at Neuronpedia, if any
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[:IN_SAE]->(s:SAE)
OPTIONAL MATCH (f)-[r:FIRES_ON]->(t:Token)
WITH f, s, r, t ORDER BY r.rank LIMIT 10
WITH f, s, collect(t.text) AS tokens
RETURN f.id AS feature, s.name AS sae, s.model AS model, s.hook AS hook,
       f.frequency AS frequency, f.active_tokens AS active_tokens,
       f.mean_activation AS mean_activation, f.std_activation AS std_activation,
       f.max_activation AS max_activation, f.dead AS dead,
       coalesce(tokens, []) AS top_tokens, f.neuronpedia AS neuronpedia
ORDER BY feature
