// title: Most split features
// question: Which features of an SAE have the most children in a wider SAE?
// topic: Splitting
// param sae (SAE, such as 'tiny-a-l1-s0'): the narrow SAE
// param other (SAE, such as 'tiny-a-l1-wide'): the wider SAE
// param limit (int64, default 20): number of rows at most
// column feature (string): the parent
// column top_token (string): token on which it is active most often
// column frequency (double): share of tokens on which it is active
// column children (int64): its children in the wider SAE
// column coverage (double): share of its tokens that they cover together
// column coverage_null (double): this share in the shifted-documents null
// column class (string): 'same', 'split', 'absorbed' or 'partial'
MATCH (f:Feature {sae: 'tiny-a-l1-s0' /* $sae */})-[e:SPLITS_INTO]->(g:Feature)
WHERE g.sae = 'tiny-a-l1-wide' /* $other */
RETURN f.id AS feature, f.top_token AS top_token, f.frequency AS frequency, count(e) AS children,
       max(e.coverage) AS coverage, max(e.coverage_null) AS coverage_null,
       max(e.parent_class) AS class
ORDER BY children DESC, coverage DESC, feature
LIMIT 20 /* $limit */
