// title: Children of a feature
// question: Into which features of a wider SAE at the same site does this feature split?
// topic: Splitting
// param feature (feature, such as 'tiny-a-l1-s0/7'): the parent, as `sae/index`
// param sae (SAE, default ''): only children in this SAE; '' for all SAEs
// param limit (int64, default 20): number of rows at most
// answer: child, parent_given_child, q
// column sae (string): SAE of the child
// column child (string): the child
// column top_token (string): token on which the child is active most often
// column child_given_parent (double): share of the parent's tokens on which the child is active
// column parent_given_child (double): share of the child's tokens on which the parent is active
// column decoder_cosine (double): cosine of the decoder vectors
// column joint_count (int64): tokens on which both are active
// column main (bool): no other child has a higher Jaccard index with the parent
// column main_absent (int64): of these tokens, those on which the main child is not active
// column coverage (double): share of the parent's tokens that its children there cover
// column parent_class (string): 'same', 'split', 'absorbed' or 'partial'
// column q (double): false discovery rate
MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[e:SPLITS_INTO]->(g:Feature)
WHERE '' /* $sae */ IN ['', g.sae]
RETURN g.sae AS sae, g.id AS child, g.top_token AS top_token,
       e.child_given_parent AS child_given_parent, e.parent_given_child AS parent_given_child,
       e.decoder_cosine AS decoder_cosine, e.joint_count AS joint_count, e.main AS main,
       e.main_absent AS main_absent, e.coverage AS coverage, e.parent_class AS parent_class,
       e.q AS q
ORDER BY sae, child_given_parent DESC, g.idx
LIMIT 20 /* $limit */
