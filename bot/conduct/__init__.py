"""The bot's conduct. Pure functions; every refusal has a name and, beside it, the phrase that pages show.

    where.py   may the bot reply to this comment? (the subreddit, the thread, the author, the comment itself)
    what.py    may this text be posted? (links, slurs, threats, copies, another language, …)
    when.py    may it be posted now? (pause, caps, permissions, what the ledger knows)
    words.py   the lists that where.py and what.py look things up in, one text file each

A new refusal touches one of the first three files: a member of its enumeration and a line in its function. A new word or subreddit
touches a text file only. Nothing here reads Reddit, the ledger or a model of ours: callers pass in what is known.
"""
