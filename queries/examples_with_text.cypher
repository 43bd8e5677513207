// title: Features by the text of their examples
// question: Which features have this text (in any case) in their top examples?
// topic: Tokens and text
// param text (string, such as 'once upon a time'): what the example should contain
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// column feature (string): the feature
// column rank (int64): rank among the feature's examples, 0 for its highest activation
// column activation (double): the activation on the sampled token
// column text (string): the example
// column top_token (string): the token the feature is active on most often
MATCH (s:SAE)<-[:IN_SAE]-(f:Feature)-[:SHOWN_BY]->(e:Example)
WHERE e.kind = 'top' AND toLower(e.text) CONTAINS toLower('once upon a time' /* $text */)
  AND '' /* $sae */ IN ['', s.name]
RETURN f.id AS feature, e.rank AS rank, e.activation AS activation, e.text AS text,
       f.top_token AS top_token
ORDER BY rank, activation DESC, f.sae, f.idx
LIMIT 20 /* $limit */
