"""The worth of an SAE: information retained by few units, localisation, and rank."""
