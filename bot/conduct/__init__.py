"""The bot's conduct. Pure functions; every refusal has a name and, beside it, the phrase that pages show.

    where.py   may the bot reply to this comment? (the subreddit, the thread, the author, the comment itself)
    what.py    may this text be posted? (links, slurs, threats, copies, another language, …)
    when.py    may it be posted now? (pause, caps, permissions, what the ledger knows)
    asks.py    does somebody ask the bot to stop, or to delete its reply?
    words.py   the lists that where.py and what.py look things up in, one text file each

where.py asks reasons.py (names), topics.py and titles.py (what texts are about), accounts.py (bots); these and asks.py read
topics/*.txt, over plain.py words, and what.py asks phrases/*.txt, over letters.py text, both through matching.py.

A new refusal touches one of the first three files: a member of its enumeration and a line in its function. A new word, phrase or subreddit
touches a text file only. Nothing here reads Reddit, the ledger or a model of ours: callers pass in what is known.
"""
