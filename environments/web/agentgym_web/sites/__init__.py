"""Sites of several pages over a database: a shop, a forum and a tracker of tickets."""
