// title: Summary of an SAE
// question: What is this SAE, what does it read, and how well does it do on the corpus?
// topic: SAEs and sites
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// column sae (string): name of the SAE
// column source (string): where its weights came from
// column architecture (string): standard, gated, topk, jumprelu, …
// column model (string): the model it reads
// column hook (string): the site, by TransformerLens name
// column layer (int64): the block of the site, from 0; null at the embedding
// column d_in (int64): width of what it reads
// column d_sae (int64): number of features
// column seed (int64): training seed, if known
// column context_size (int64): tokens of a context, BOS included
// column prepend_bos (bool): whether each context begins with BOS
// column corpus (string): the text its numbers were measured on
// column tokens (int64): tokens counted
// column l0 (double): mean number of active features per token
// column fvu (double): fraction of variance unexplained
// column dead (int64): features never active
// column dead_share (double): share of features never active
// column neuronpedia_id (string): its name at Neuronpedia, if any
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})-[:READS]->(p:Site)
MATCH (s)-[:MEASURED_ON]->(c:Corpus)
RETURN s.name AS sae, s.source AS source, s.architecture AS architecture, s.model AS model,
       s.hook AS hook, p.layer AS layer, s.d_in AS d_in, s.d_sae AS d_sae, s.seed AS seed,
       s.context_size AS context_size, s.prepend_bos AS prepend_bos, c.name AS corpus,
       s.tokens AS tokens, s.l0 AS l0, s.fvu AS fvu, s.dead AS dead,
       s.dead_share AS dead_share, s.neuronpedia_id AS neuronpedia_id
ORDER BY sae, corpus
