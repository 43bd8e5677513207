// title: Corpora
// question: On which texts were the SAEs measured?
// topic: SAEs and sites
// answer: source, documents, saes
// column corpus (string): name of the corpus
// column id (string): its id, made from the documents
// column source (string): file, folder or data set it was read from
// column revision (string): revision of the data set, if any
// column documents (int64): number of documents
// column characters (int64): length of all documents
// column saes (int64): number of SAEs measured on it
MATCH (s:SAE)-[:MEASURED_ON]->(c:Corpus)
RETURN c.name AS corpus, c.id AS id, c.source AS source, c.revision AS revision,
       c.documents AS documents, c.characters AS characters, count(s) AS saes
ORDER BY corpus, id
