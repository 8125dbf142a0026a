"""A Reddit reply bot that generates candidate replies and ranks them."""
