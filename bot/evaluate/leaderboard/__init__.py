"""The leaderboard: every generator and ranker in one table, measured on the same rows. See command.py."""
