"""A Reddit reply bot that generates, then ranks."""
