// title: Absorbed features
// question: Which features of a wider SAE are active in place of a feature that both SAEs have?
// topic: Splitting
// param sae (SAE, such as 'tiny-a-l1-s0'): the narrow SAE
// param other (SAE, such as 'tiny-a-l1-wide'): the wider SAE
// param limit (int64, default 20): number of rows at most
// answer: child, main_absent
// column parent (string): the feature of the narrow SAE
// column parent_token (string): token on which it is active most often
// column main (string): its main child: the same feature in the wider SAE
// column child (string): the child that is active in place of the main child
// column child_token (string): token on which the child is active most often
// column main_absent (int64): tokens on which parent and child are active and the main child is not
// column joint_count (int64): tokens on which parent and child are active
// column parent_given_child (double): share of the child's tokens on which the parent is active
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})-[e:SPLITS_INTO]->(g:Feature)
WHERE g.sae = 'tiny-a-l1-wide' /* $other */ AND e.main = false
      AND e.parent_class = 'absorbed' AND e.child_class = 'absorbing'
WITH f, e, g
MATCH (f)-[m:SPLITS_INTO]->(h:Feature)
WHERE m.main = true AND h.sae = g.sae
RETURN f.id AS parent, f.top_token AS parent_token, h.id AS main, g.id AS child,
       g.top_token AS child_token, e.main_absent AS main_absent, e.joint_count AS joint_count,
       e.parent_given_child AS parent_given_child
ORDER BY main_absent DESC, f.idx, g.idx, main
LIMIT 20 /* $limit */
