// title: Features of a concept
// question: Which features of an SAE separate two classes of words?
// topic: Concepts
// param concept (concept, such as 'gender/female'): name of the concept, as `set/label`
// param sae (SAE, default ''): only features of this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// answer: auroc_held_out, p_max, q
// column sae (string): the SAE
// column feature (string): the feature, as `sae/index`
// column top_token (string): token on which it is active most often
// column direction (string): class on which its activation is higher
// column class (string): label of that class
// column auroc_held_out (double): AUROC on held-out words
// column auroc (double): AUROC on all words
// column effect (double): Hedges' g
// column active_positive (double): share of the positive words on which it is active
// column active_negative (double): share of the negative words on which it is active
// column p_max (double): family-wise p
// column q (double): false discovery rate
// column words (string): id of the concept, with the hash of its words
MATCH (f:Feature)-[e:SEPARATES]->(c:Concept {name: 'gender/female' /* $concept */})
WHERE '' /* $sae */ IN ['', f.sae]
RETURN f.sae AS sae, f.id AS feature, f.top_token AS top_token, e.direction AS direction,
       CASE WHEN e.direction = 'positive' THEN c.positive ELSE c.negative END AS class,
       e.auroc_held_out AS auroc_held_out, e.auroc AS auroc, e.effect AS effect,
       e.active_positive AS active_positive, e.active_negative AS active_negative,
       e.p_max AS p_max, e.q AS q, c.id AS words
ORDER BY sae, auroc_held_out DESC, f.idx, words
LIMIT 20 /* $limit */
