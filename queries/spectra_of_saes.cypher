// title: Spectra of decoders
// question: How many dimensions do the decoder directions of each SAE span?
// topic: Directions
// column sae (string): name of the SAE
// column model (string): the model it reads
// column hook (string): the site, by TransformerLens name
// column participation_ratio (double): (Σλ)² / Σλ² of their variances λ, in dimensions
// column p (double): two-sided p of it against isotropic directions
// column stable_rank (double): sum of the variances divided by the largest
// column slope (double): slope of log variance against log rank
// column mean_share (double): share of the sum of squares that is due to the mean direction
MATCH (s:SAE)
WHERE s.decoder_participation_ratio IS NOT NULL
RETURN s.name AS sae, s.model AS model, s.hook AS hook,
       s.decoder_participation_ratio AS participation_ratio,
       s.decoder_participation_p AS p,
       s.decoder_stable_rank AS stable_rank, s.decoder_slope AS slope,
       s.decoder_mean_share AS mean_share
ORDER BY participation_ratio DESC, sae
