"""The bot's rules of conduct, as pure functions. Every refusal has a name and the phrase that pages show.

    where.py   may the bot reply to this comment? (the subreddit, the thread, the author, the comment itself)
    what.py    may this text be posted? (links, slurs, threats, copies, another language, …)
    when.py    may it be posted now? (pause, caps, permissions, the state of the ledger)
    asks.py    does somebody ask the bot to stop, or to delete its reply?
    words.py   the word lists of where.py and what.py, one text file each

where.py asks reasons.py (names), topics.py and titles.py (what texts are about), accounts.py (bots); these and asks.py read
topics/*.txt, over plain.py words, and what.py asks phrases/*.txt, over letters.py text, both through matching.py.

To add a refusal, change one of the first three files: add a member to its enumeration and a line to its function. To add a word, phrase or
subreddit, change only a text file. Nothing here reads Reddit, the ledger or our models: callers pass in the facts.
"""
