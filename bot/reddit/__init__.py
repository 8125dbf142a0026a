"""Reddit over PRAW; the only folder that imports it.

client.py      the bot's queries and actions, one function each; add new ones here
threads.py     the rows that they return
outcomes.py    Reddit's possible answers; add a new kind of refusal here
calls.py       a single call, with PRAW's exceptions converted to outcomes
requestor.py   how a request is sent: time limits, and each POST only once
"""
