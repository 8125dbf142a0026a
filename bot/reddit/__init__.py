"""Reddit over PRAW; the only folder that imports it.

client.py      what the bot asks of Reddit, a function each: a new question or action goes here
threads.py     the rows that it gives back
outcomes.py    what Reddit can answer: a new kind of refusal goes here
calls.py       one call, with PRAW's exceptions turned into outcomes
requestor.py   how a request is sent: time limits, and each POST once
"""
