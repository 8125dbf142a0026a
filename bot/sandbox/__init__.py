"""A local Reddit for demos and tests: the real PRAW talks to it over HTTP, on loopback only, and its state is one SQLite file.

    python run_bot.py sandbox --db FILE --port 0       program.py
    with sandbox_process(folder) as url: ...           the same as a process that ends with the caller
    with server.serve(db_path) as box: box.url         in a thread of a test; `box.store` is its state

A new call of Reddit's goes into api.py, a new way to misbehave into faults.py, a new thread into seed.py. Its only account and client are
the fixed ones below; they open nothing else.
"""

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
USERNAME = "sandbox_reply_bot"
PASSWORD = "sandbox-password"
SUBREDDITS = ["sandbox_books", "sandbox_home", "sandbox_college"]  # those that are open to the account
