"""TextWorld games: their options, their generation and cache, the engine that plays them, the expert that wins them."""
