"""The bot's rules of conduct, as pure functions. Every refusal has a name and the phrase that pages show.

    where.py   may the bot reply to this comment? (the subreddit, the thread, the author, the comment itself)
    what.py    may this text be posted? (links, slurs, threats, copies, another language, …)
    when.py    may it be posted now? (pause, caps, permissions, the state of the ledger)
    asks.py    does a text ask the bot to stop, or to delete its reply?
    words.py   the word lists of where.py and what.py, one text file each

where.py uses reasons.py (names), topics.py and titles.py (what texts are about) and accounts.py (bots). These and asks.py match the
patterns in topics/*.txt against text normalized by plain.py; what.py matches those in phrases/*.txt against text normalized by letters.py.
matching.py reads both kinds of files.

To add a refusal, change one of the first three files: add a member to its enumeration and a line to its function. To add a word, phrase or
subreddit, change only a text file. Nothing here reads Reddit, the ledger or our models: callers pass in all facts.
"""
