// title: Parents of a feature
// question: Which features of narrower SAEs at the same site does this feature split?
// topic: Splitting
// param feature (feature, such as 'tiny-a-l1-wide/1'): the child, as `sae/index`
// param sae (SAE, default ''): only parents in this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// answer: parent, parent_given_child, q
// column sae (string): SAE of the parent
// column parent (string): the parent
// column top_token (string): token on which the parent is active most often
// column parent_given_child (double): share of the child's tokens on which the parent is active
// column child_given_parent (double): share of the parent's tokens on which the child is active
// column decoder_cosine (double): cosine of the decoder vectors
// column parent_class (string): 'same', 'split', 'absorbed' or 'partial'
// column child_class (string): 'same', 'split', 'absorbing' or 'partial'
// column q (double): false discovery rate
MATCH (f:Feature)-[e:SPLITS_INTO]->(g:Feature {id: 'tiny-a-l1-wide/1' /* $feature */})
WHERE '' /* $sae */ IN ['', f.sae]
RETURN f.sae AS sae, f.id AS parent, f.top_token AS top_token,
       e.parent_given_child AS parent_given_child, e.child_given_parent AS child_given_parent,
       e.decoder_cosine AS decoder_cosine, e.parent_class AS parent_class,
       e.child_class AS child_class, e.q AS q
ORDER BY sae, parent_given_child DESC, f.idx
LIMIT 20 /* $limit */
