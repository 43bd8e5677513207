// title: Verdicts on the features of an SAE
// question: How many features of an SAE depend on the token, need context, or are undecided?
// topic: Probes and maps
// param sae (SAE, such as 'tiny-a-l1-s0'): name of the SAE
// answer: verdict, features
// column site (string): the site probed, as `model/hook name`
// column layer (int64): the block of the site, from 0; null at the embedding
// column run (string): which probe, as `split/kind/l2=penalty`
// column verdict (string): 'token', 'beyond token', 'context' or 'undecided'; null for an amount
// column how (string): for 'token': 'linear' or 'lookup'; null: another verdict
// column context_by (string): for 'context': 'position' or 'bigram' predicts it; null: neither
// column features (int64): number of features
// column balanced_accuracy (double): mean of their scores; null for an amount
MATCH (s:SAE {name: 'tiny-a-l1-s0' /* $sae */})<-[:IN_SAE]-(f:Feature)
MATCH (f)-[e:PREDICTED_FROM]->(p:Site)
RETURN p.id AS site, p.layer AS layer, e.run AS run, e.verdict AS verdict, e.how AS how,
       e.context_by AS context_by, count(*) AS features,
       round(avg(e.balanced_accuracy), 6) AS balanced_accuracy
ORDER BY coalesce(layer, -1), site, run, features DESC, coalesce(verdict, ''),
         coalesce(how, ''), coalesce(context_by, '')
