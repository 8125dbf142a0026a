"""A local Reddit for demos and tests: the real PRAW connects to it over HTTP, on loopback only. Its state is one SQLite file.

    python run_bot.py sandbox --db FILE --port 0       program.py
    with sandbox_process(folder) as url: ...           the same as a process that ends with the caller
    with server.serve(db_path) as box: box.url         in a thread, for tests; `box.store` is its state

Add calls of Reddit's API to api.py, faults to faults.py, and threads to seed.py. Its only account and client are the fixed ones below,
which are valid nowhere else.
"""

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
USERNAME = "sandbox_reply_bot"
PASSWORD = "sandbox-password"
SUBREDDITS = ["sandbox_books", "sandbox_home", "sandbox_college"]  # those that the account may read and post in
