"""How the published tables are made again, and what that costs."""
