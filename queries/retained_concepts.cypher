// title: Worth of SAEs on a concept
// question: How much of the information of its layer does each SAE retain, in how few features?
// topic: Concepts
// param concept (concept, default ''): name of the concept, as `set/label`; '' for all
// param limit (int64, default 50): number of rows at most
// answer: sae, auc, layer_auc, permuted_auc, retained, k90
// column concept (string): the concept
// column sae (string): the SAE
// column role (string): 'trained', or the kind of floor; null if not recorded
// column hook (string): the site it reads
// column auc (double): held-out AUROC of its features
// column layer_auc (double): the same of the layer
// column permuted_auc (double): the same of the features with permuted labels
// column retained (double): R of all features; null: the layer does not separate the classes
// column k90 (int64): features that retain 90%; null: all together do not
// column effective_features (double): effective number of features; null: no feature matters
// column area (double): area under R over log k; null: R is null
// column area_low (double): lower limit of its 95% interval; null: R is null
// column area_high (double): upper limit of that interval; null: R is null
// column random_area (double): area of random directions that are active as often
// column words (string): id of the concept, with the hash of its words
MATCH (s:SAE)-[e:RETAINS]->(c:Concept)
WHERE '' /* $concept */ IN ['', c.name]
RETURN c.name AS concept, s.name AS sae, s.role AS role, s.hook AS hook, e.auc AS auc,
       e.layer_auc AS layer_auc, e.permuted_auc AS permuted_auc, e.retained AS retained,
       e.k90 AS k90, e.effective_features AS effective_features, e.area AS area,
       e.area_low AS area_low, e.area_high AS area_high, e.random_area AS random_area,
       c.id AS words
ORDER BY concept, words, coalesce(area, -1000.0) DESC, sae
LIMIT 50 /* $limit */
