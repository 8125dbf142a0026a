"""Access to Reddit over PRAW; no other folder imports PRAW.

client.py      the bot's queries and actions, one function each; add new calls here
threads.py     the rows that they return
outcomes.py    Reddit's possible answers; add new kinds of refusals here
calls.py       a single call, with PRAW's exceptions converted to outcomes
requestor.py   sends requests, with a time limit and each POST only once
"""
