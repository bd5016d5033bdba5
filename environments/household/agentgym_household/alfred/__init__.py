"""The household: ALFWorld's engine memoised, task generator, a user's own games, scripted experts."""
